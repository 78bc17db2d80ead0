//! Waits for everything at once: engines, streams, init's reports, children's ends.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use hoist_sys::poll::{Interest, Set};
use hoist_sys::{process, signal};

use super::control::Received;
use super::io::Wanted;
use super::{Supervisor, oom, time};
use crate::init;
use crate::init::channel::Report;
use crate::kit::Kit;
use crate::protocol::{Failure, FromSupervisor, PROTOCOL_VERSION, State, ToSupervisor};

/// cgroup v1 tells of an OOM before its killer has struck and counted.
const OOM_RECHECKS: u8 = 25;
const OOM_RECHECK_MS: i32 = 20;
/// A container that has run this long is one that stays: the supervisor makes itself small. Earlier it would cost a short
/// run more than it is worth.
const SETTLE_MS: i32 = 200;

/// How the loop ends.
pub(super) enum End {
    /// Init has ended.
    Exited { exit_code: i32 },
    /// There will be no container.
    Failed(Failure),
}

impl Supervisor {
    /// Runs the container to its end, and everything after it.
    pub(super) fn main_loop(mut self) {
        let mut set = Set::default();
        let greeting = self.hello();
        self.links.send_all(&greeting);
        if self.external.is_some() && self.init.go_given {
            self.init.go_given = false;
            if let Some(end) = self.go() {
                return self.finish(end);
            }
        }
        loop {
            set.clear();
            let signals = set.add(self.signals.as_fd(), Interest::Read);
            let channel = self.init.channel.as_ref().map(|channel| set.add(channel.as_fd(), Interest::Read));
            let oom = self.oom_watch.as_ref().map(|watch| watch.register(&mut set));
            self.links.register(&mut set);
            self.execs.register(&mut set);
            self.streams.register(&mut set);
            let timeout_ms = match self.oom_rechecks {
                0 => self.settles_at.map(|_| SETTLE_MS),
                _ => Some(OOM_RECHECK_MS),
            };
            if set.wait(timeout_ms).is_err() {
                continue;
            }
            if self.settles_at.is_some_and(|at| Instant::now() >= at) {
                self.settle();
            }
            let mut end = None;
            if channel.is_some_and(|index| set.ready(index).any()) {
                end = self.read_reports();
            }
            if end.is_none() {
                end = self.handle_engines(&set);
            }
            self.streams.handle(&set);
            for message in self.execs.handle(&set) {
                self.links.send_all(&message);
            }
            if oom.is_some_and(|index| set.ready(index).any()) {
                self.oom_rechecks = OOM_RECHECKS;
            }
            if self.oom_rechecks > 0 {
                self.oom_rechecks -= 1;
                self.check_oom();
            }
            if end.is_none() && set.ready(signals).any() {
                end = self.reap();
            }
            if let Some(end) = end {
                return self.finish(end);
            }
        }
    }

    fn hello(&self) -> FromSupervisor {
        FromSupervisor::Hello {
            version: PROTOCOL_VERSION,
            id: self.id.clone(),
            state: self.init.state.clone(),
            execs: self.execs.running(),
        }
    }

    /// What init has to say before its program runs.
    fn read_reports(&mut self) -> Option<End> {
        loop {
            match self.init.channel.as_ref()?.receive() {
                Ok(Some(Report::Prepared(phases))) => {
                    self.init.state = State::Prepared;
                    let names = ["isolate", "rootfs", "mounts", "process"];
                    self.phases.extend(names.map(str::to_owned).into_iter().zip(phases));
                }
                Ok(Some(Report::Terminal(master))) => self.streams.set_terminal(master),
                Ok(Some(Report::Failed(failure))) => return Some(End::Failed(failure)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
                Ok(None) | Err(_) if self.init.go_given && self.init.state == State::Prepared => {
                    self.started();
                    return None;
                }
                Ok(None) | Err(_) => {
                    return Some(End::Failed(Failure::other("container init ended before its program was started")));
                }
            }
        }
    }

    fn started(&mut self) {
        self.init.channel = None;
        let started_at_ns = time::now_ns();
        let pid = self.init.pid;
        self.init.state = State::Running { pid, started_at_ns };
        self.phases
            .push(("start to exec".to_owned(), u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)));
        let phases = std::mem::take(&mut self.phases);
        self.links.send_all(&FromSupervisor::Started { pid, started_at_ns, phases });
        self.held.extend(self.kit.take().and_then(Kit::into_ipc));
        // None where it has ended by now.
        self.held.extend(File::open(format!("/proc/{pid}/ns/mnt")).ok().map(OwnedFd::from));
        self.oom_watch = self.cgroup_path.take().and_then(|path| oom::Watch::new(&path));
        // It may have struck before the watch was set.
        self.check_oom();
        self.settles_at = Some(Instant::now() + Duration::from_millis(SETTLE_MS.unsigned_abs().into()));
    }

    fn settle(&mut self) {
        self.settles_at = None;
        process::trim_heap();
        process::trim_stack();
        process::trim_text();
    }

    /// Tells the engines when the OOM killer has struck since the last look.
    pub(super) fn check_oom(&mut self) {
        if let Some(watch) = &mut self.oom_watch {
            watch.consume();
        }
        let kills = self.cgroup.as_ref().and_then(|cgroup| cgroup.oom_kills().ok()).unwrap_or(self.oom_kills);
        if kills > self.oom_kills {
            self.oom_kills = kills;
            self.oom_rechecks = 0;
            self.oom_seen = true;
            self.links.send_all(&FromSupervisor::Oom);
        }
    }

    fn handle_engines(&mut self, set: &Set) -> Option<End> {
        if let Some(new) = self.links.handle(set) {
            let greeting = self.hello();
            self.links.send(new, &greeting);
        }
        if !self.links.readable(set) {
            return self.forsaken();
        }
        while let Some(received) = self.links.receive() {
            if let Some(end) = self.handle_message(received) {
                return Some(end);
            }
        }
        self.forsaken()
    }

    /// An engine that went before it gave the word to go may not have recorded the container: no other will give it.
    fn forsaken(&self) -> Option<End> {
        let forsaken = !self.init.go_given && self.links.is_empty();
        forsaken.then(|| End::Failed(Failure::other("the engine ended before the start")))
    }

    fn handle_message(&mut self, received: Received) -> Option<End> {
        let Received { message, fds, link } = received;
        match message {
            ToSupervisor::Attach { stdin, stdout, stderr } => {
                if let Some(socket) = fds.into_iter().next() {
                    self.streams.attach(socket, Wanted { stdin, stdout, stderr });
                }
            }
            ToSupervisor::Start => return self.go(),
            ToSupervisor::Signal { signal, all } => self.signal(signal, all),
            ToSupervisor::Resize { rows, columns } => {
                if let Some(terminal) = self.streams.terminal() {
                    let _ = init::set_terminal_size(terminal, (rows, columns));
                }
            }
            ToSupervisor::Exec { exec_id, process } => self.handle_exec(exec_id, *process, fds),
            ToSupervisor::ExecSignal { exec_id, signal } => self.execs.signal(&exec_id, signal),
            ToSupervisor::Status => {
                let greeting = self.hello();
                self.links.send(link, &greeting);
            }
            ToSupervisor::Abort => {
                if !self.init.go_given {
                    return Some(End::Failed(Failure::other("start was given up")));
                }
            }
            // Without its file.
            ToSupervisor::InFile => {}
        }
        None
    }

    fn handle_exec(&mut self, exec_id: String, request: crate::protocol::ExecProcess, fds: Vec<OwnedFd>) {
        if let Some(message) = self.exec(exec_id, request, fds) {
            self.links.send_all(&message);
        }
    }

    fn go(&mut self) -> Option<End> {
        if !std::mem::replace(&mut self.init.go_given, true)
            && let Some(channel) = &self.init.channel
        {
            // If init is gone, its report is there to be read.
            let _ = channel.go();
        } else if let Some(external) = self.external.as_ref().filter(|_| self.init.state == State::Prepared) {
            if let Err(failure) = external.start() {
                return Some(End::Failed(failure));
            }
            self.started();
        }
        None
    }

    fn signal(&self, number: i32, all: bool) {
        if !(1..=signal::MAX).contains(&number) {
            return;
        }
        let pids = self.cgroup.as_ref().filter(|_| all).and_then(|cgroup| cgroup.pids().ok());
        match pids {
            Some(pids) => {
                for pid in pids {
                    let _ = signal::send(pid, number);
                }
            }
            None => {
                let _ = signal::send_by_pidfd(self.init.pidfd.as_fd(), number);
                for pid in self.execs.pids().filter(|_| all) {
                    let _ = signal::send(pid, number);
                }
            }
        }
    }

    /// Takes note of children that ended. Also of those that are not ours by birth: we are a subreaper.
    fn reap(&mut self) -> Option<End> {
        while let Ok(Some(_)) = signal::read_descriptor(self.signals.as_fd()) {}
        let mut end = None;
        while let Ok(Some(ended)) = process::reap() {
            if ended.pid == self.init.pid {
                // What led to its end may still have to be read.
                let exited = End::Exited { exit_code: ended.exit_code };
                end = Some(if self.init.channel.is_some() { self.read_reports().unwrap_or(exited) } else { exited });
                continue;
            }
            for message in self.execs.ended(ended.pid, ended.exit_code) {
                self.links.send_all(&message);
            }
        }
        end
    }
}
