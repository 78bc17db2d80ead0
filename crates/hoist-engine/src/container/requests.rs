//! What is asked of a container that is there: start, kill, pause, rename, update, attach, resize, exec.

use std::os::fd::AsFd;
use std::sync::Arc;

use hoist_runtime::protocol::ToSupervisor;

use crate::container::driver::{Driver, FIRST_RESTART_DELAY, signals};
use crate::container::handle::{PendingAttach, StartExec, StartReply};
use crate::container::record::{Fixed, Status};
use crate::container::state::{Request, admit};
use crate::error::{Error, Result};

impl Driver {
    pub(super) fn on_start(&mut self, reply: StartReply) {
        if let Err(denied) = admit(&self.record, Request::Start) {
            _ = reply.send(Err(denied));
            return;
        }
        if self.start_reply.is_some() {
            _ = reply.send(Err(Error::not_modified("")));
            return;
        }
        self.record.state.manually_stopped = false;
        self.record.state.restart_count = 0;
        self.restart_delay = FIRST_RESTART_DELAY;
        match self.launch() {
            Ok(link) => {
                self.link = Some(link);
                self.start_reply = Some(reply);
            }
            Err(error) => {
                let error = self.start_failed(error, 128);
                _ = reply.send(Err(error));
            }
        }
    }

    pub(super) fn on_kill(&mut self, signal: i32, stopping: bool) -> Result<()> {
        admit(&self.record, Request::Kill)?;
        if stopping || matches!(signal, signals::SIGKILL | signals::SIGTERM) {
            self.record.state.manually_stopped = stopping || self.record.state.manually_stopped;
            self.stopping = stopping;
        }
        if self.record.state.status == Status::Restarting && self.link.is_none() {
            self.restart_at = None;
            self.record.state.status = Status::Exited;
            self.record.state.exits += 1;
            self.save_state();
            self.publish();
            return Ok(());
        }
        self.send(&ToSupervisor::Signal { signal, all: false }, &[])?;
        self.emit("kill", &[("signal", signal.to_string())]);
        if self.record.state.status == Status::Paused {
            self.on_freeze(false)?;
        }
        Ok(())
    }

    pub(super) fn on_freeze(&mut self, frozen: bool) -> Result<()> {
        admit(&self.record, if frozen { Request::Pause } else { Request::Unpause })?;
        let group = hoist_runtime::cgroup::at(&self.context.cgroup_path(&self.record));
        let word = if frozen { "pause" } else { "unpause" };
        group
            .freeze(frozen)
            .map_err(|e| Error::internal(format!("cannot {word} container {}: {e}", self.record.id())))?;
        self.record.state.status = if frozen { Status::Paused } else { Status::Running };
        self.save_state();
        self.publish();
        self.emit(word, &[]);
        Ok(())
    }

    pub(super) fn on_rename(&mut self, name: String) -> Result<()> {
        let old = std::mem::replace(&mut self.record.name, name);
        if let Err(error) = self.context.records.save_all(&self.record) {
            self.record.name = old;
            return Err(error);
        }
        self.publish();
        self.emit("rename", &[("oldName", format!("/{old}"))]);
        Ok(())
    }

    pub(super) fn on_update(&mut self, fixed: Fixed) -> Result<()> {
        admit(&self.record, Request::Update)?;
        if self.record.state.status.alive() {
            let group = hoist_runtime::cgroup::at(&self.context.cgroup_path(&self.record));
            let limits =
                crate::lower::resources::limits(&fixed.host_config.resources, hoist_runtime::cgroup::version())?;
            group
                .update(&limits)
                .map_err(|e| Error::internal(format!("Cannot update container {}: {e}", self.record.id())))?;
        }
        self.keep(fixed)?;
        self.emit("update", &[]);
        Ok(())
    }

    /// Writes down what was decided anew and lets everybody see it; if it cannot be written, it is as it was.
    fn keep(&mut self, fixed: Fixed) -> Result<()> {
        let before = std::mem::replace(&mut self.record.fixed, Arc::new(fixed));
        if let Err(e) = self.context.records.save_all(&self.record) {
            self.record.fixed = before;
            return Err(e);
        }
        self.publish();
        Ok(())
    }

    /// `rm --link`: the container named so is not linked any more.
    pub(super) fn on_unlink(&mut self, alias: &str) -> Result<()> {
        let mut fixed = Fixed::clone(&self.record.fixed);
        crate::links::remove(&mut fixed.host_config, alias);
        self.keep(fixed)?;
        if self.record.state.status.alive() {
            crate::links::forget(&self.context.run_directory(self.record.id()), alias);
        }
        Ok(())
    }

    pub(super) fn on_attach(&mut self, attach: PendingAttach) -> Result<()> {
        admit(&self.record, Request::Attach)?;
        if self.link.is_some() {
            self.hand_over(&attach)?;
        } else {
            self.waiting.push_back(attach);
        }
        self.emit("attach", &[]);
        Ok(())
    }

    /// Gives an attachment to the supervisor.
    pub(super) fn hand_over(&self, attach: &PendingAttach) -> Result<()> {
        let message = ToSupervisor::Attach { stdin: attach.stdin, stdout: attach.stdout, stderr: attach.stderr };
        self.send(&message, &[attach.socket.as_fd()])
    }

    pub(super) fn on_resize(&mut self, rows: u16, columns: u16) -> Result<()> {
        admit(&self.record, Request::Resize)?;
        self.send(&ToSupervisor::Resize { rows, columns }, &[])?;
        self.emit("resize", &[("height", rows.to_string()), ("width", columns.to_string())]);
        Ok(())
    }

    pub(super) fn on_exec(&mut self, exec: StartExec) -> Result<()> {
        admit(&self.record, Request::Exec)?;
        let command = exec.process.process.args().clone().unwrap_or_default().join(" ");
        let message = ToSupervisor::Exec { exec_id: exec.exec_id.clone(), process: Box::new(exec.process) };
        let fds: Vec<_> = exec.fds.iter().map(AsFd::as_fd).collect();
        self.send(&message, &fds)?;
        self.emit(&format!("exec_start: {command}"), &[("execID", exec.exec_id.clone())]);
        self.execs.insert(exec.exec_id, exec.progress);
        Ok(())
    }
}
