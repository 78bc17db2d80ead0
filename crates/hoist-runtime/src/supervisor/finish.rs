//! After init's end: the rest of the output, the exit file, the word to the engines, the clean-up.

use std::os::fd::{AsFd, OwnedFd};

use hoist_sys::poll::Set;
use hoist_sys::{file, process, signal};

use super::main_loop::End;
use super::{Supervisor, prepare, time};
use crate::protocol::{EXIT_FILE_NAME, Exit, Failure, FromSupervisor, State};

/// How long output is waited for from processes that outlive init (they do not with an own pid namespace).
const DRAIN_TIMEOUT_MS: i64 = 1000;
const DRAIN_STEP_MS: i32 = 10;
/// An attachment that takes nothing for this long does not get the rest.
const LINGER_TIMEOUT_MS: i32 = 600_000;

impl Supervisor {
    pub(super) fn finish(mut self, end: End) {
        match end {
            End::Failed(failure) => self.fail(failure),
            End::Exited { exit_code } => self.exited(exit_code),
        }
    }

    fn fail(&mut self, failure: Failure) {
        let _ = signal::send_by_pidfd(self.init.pidfd.as_fd(), signal::KILL);
        let _ = process::wait(self.init.pid);
        self.clean_up();
        self.links.send_all(&FromSupervisor::StartFailed(failure));
        self.links.wait_until_closed();
    }

    fn exited(&mut self, exit_code: i32) {
        let finished_at_ns = time::now_ns();
        self.kill_survivors();
        self.drain(finished_at_ns);
        self.check_oom();
        let oom_killed = self.oom_seen;
        let started_at_ns = match self.init.state {
            State::Running { started_at_ns, .. } => started_at_ns,
            State::Preparing | State::Prepared => finished_at_ns,
        };
        let mut exit = Exit { exit_code, oom_killed, started_at_ns, finished_at_ns, log_entries_dropped: 0 };
        self.write_exit(&exit);
        exit.log_entries_dropped = self.streams.finish_log();
        if exit.log_entries_dropped > 0 {
            self.write_exit(&exit);
        }
        self.links.send_all(&FromSupervisor::Exited(exit));
        self.clean_up();
        self.links.flush();
        self.links.close();
        self.linger();
    }

    /// Without an own pid namespace the kernel leaves the container's other processes alive.
    fn kill_survivors(&self) {
        if self.init.owns_pid_namespace {
            return;
        }
        for pid in self.cgroup.as_ref().and_then(|cgroup| cgroup.pids().ok()).unwrap_or_default() {
            let _ = signal::send(pid, signal::KILL);
        }
        for pid in self.execs.pids() {
            let _ = signal::send(pid, signal::KILL);
        }
    }

    fn drain(&mut self, since_ns: i64) {
        let deadline_ns = since_ns + DRAIN_TIMEOUT_MS * 1_000_000;
        while !self.streams.drain() && !self.init.owns_pid_namespace && time::now_ns() < deadline_ns {
            // Nothing to wait for in particular: who still holds a pipe is being killed.
            let _ = Set::default().wait(Some(DRAIN_STEP_MS));
        }
        self.streams.end_outputs();
        while let Ok(Some(ended)) = process::reap() {
            for message in self.execs.ended(ended.pid, ended.exit_code) {
                self.links.send_all(&message);
            }
        }
    }

    fn write_exit(&self, exit: &Exit) {
        let Ok(content) = serde_json::to_vec(exit) else { return };
        let write =
            |directory: &OwnedFd| file::write_atomic(directory.as_fd(), EXIT_FILE_NAME.as_ref(), &content, 0o600);
        if write(&self.state_dir).is_err() {
            // The disk is full, most likely: the run directory is memory mostly. Engines that listen hear of it anyway.
            let _ = write(&self.run_dir);
        }
    }

    /// Everything that the next run of this container would stumble over.
    fn clean_up(&mut self) {
        self.links.stop_listening();
        self.held.clear();
        if let Some(external) = self.external.take() {
            external.delete();
        }
        if let Some(cgroup) = self.cgroup.take() {
            let _ = cgroup.remove();
        }
        prepare::unlink_files(&self.run_dir);
        let _ = rustix::fs::flock(&self.run_dir, rustix::fs::FlockOperation::Unlock);
    }

    /// Attachments that read slowly get what is left.
    fn linger(&mut self) {
        let mut set = Set::default();
        while self.streams.send_backlogs() {
            set.clear();
            self.streams.register_backlogs(&mut set);
            if !set.wait(Some(LINGER_TIMEOUT_MS)).is_ok_and(|ready| ready > 0) {
                return;
            }
        }
    }
}
