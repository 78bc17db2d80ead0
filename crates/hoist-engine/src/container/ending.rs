//! How runs end: failed starts, exits, lost supervisors, restarts by policy, removal.

use std::time::Duration;

use hoist_api::time::now_ns;
use hoist_runtime::protocol::{Exit, Failure, FailureKind, ToSupervisor};
use tokio::time::Instant;

use crate::container::driver::{Driver, FIRST_RESTART_DELAY, receive, signals};
use crate::container::handle::{ExecProgress, Reply};
use crate::container::record::Status;
use crate::container::state::{Request, admit};
use crate::error::Error;

const LONGEST_RESTART_DELAY: Duration = Duration::from_secs(60);
/// A run this long starts the back-off anew.
const GOOD_RUN_NS: i64 = 10_000_000_000;

/// A runtime's refusal with moby's additions: clients derive the exit code from the first, people learn from the second.
pub(crate) fn explained(text: String) -> String {
    if text.ends_with("is a directory") {
        format!("{text}: permission denied")
    } else if text.ends_with("not a directory") {
        format!(
            "{text}: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
        )
    } else {
        text
    }
}

/// The exit code of what could not be executed, if it is about that. A path through a file is not found, in Docker's eyes.
pub(crate) fn exit_code(failure: &Failure) -> Option<i32> {
    match failure.kind {
        FailureKind::NotFound => Some(127),
        _ if failure.message.ends_with("not a directory") => Some(127),
        FailureKind::NotExecutable => Some(126),
        FailureKind::Other => None,
    }
}

impl Driver {
    /// Notes a failed start: the network is given back, the record tells why.
    pub(super) fn start_failed(&mut self, error: Error, exit_code: i32) -> Error {
        self.link = None;
        self.waiting.clear();
        self.release_network();
        self.give_back_volumes();
        if self.record.fixed.host_config.ipc_mode == "shareable" {
            crate::ipc::unmount(&self.context.directory(self.record.id()));
        }
        self.record.state.error.clone_from(&error.message);
        self.record.state.exit_code = exit_code;
        self.record.state.exits += 1;
        if self.record.state.status == Status::Restarting {
            self.record.state.status = Status::Exited;
            self.record.state.finished_ns = now_ns();
        }
        self.save_state();
        self.publish();
        if self.record.fixed.host_config.auto_remove || self.never_recorded {
            self.delete_soon();
            self.leave(true);
        }
        error
    }

    pub(super) fn on_start_failed(&mut self, failure: Failure) {
        let code = exit_code(&failure).unwrap_or(128);
        let text = explained(format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: {}",
            failure.message
        ));
        let error = match self.not_recorded.take() {
            Some(error) => error,
            None if code == 128 => Error::internal(text),
            None => Error::invalid(text),
        };
        let error = self.start_failed(error, code);
        if let Some(reply) = self.start_reply.take() {
            _ = reply.send(Err(error));
        }
    }

    /// The supervisor is gone without a word: its exit file tells, or it was killed.
    pub(super) fn on_link_lost(&mut self) {
        self.link = None;
        if self.start_reply.is_some() || self.record.state.status == Status::Restarting {
            // How far it had come nobody knows: the program may run already.
            self.end_unsupervised();
            self.on_start_failed(Failure {
                kind: FailureKind::Other,
                message: "the container's supervisor ended unexpectedly".to_owned(),
            });
            return;
        }
        if !self.record.state.status.alive() {
            self.end_unsupervised();
            self.release_network();
            self.give_back_volumes();
            self.save_state();
            return;
        }
        let exit = self.context.read_exit(&self.record);
        let exit = exit.unwrap_or_else(|| {
            self.end_unsupervised();
            "the container was killed because its supervisor ended unexpectedly"
                .clone_into(&mut self.record.state.error);
            Exit {
                exit_code: 137,
                oom_killed: false,
                started_at_ns: self.record.state.started_ns,
                finished_at_ns: now_ns(),
                log_entries_dropped: 0,
            }
        });
        self.on_exited(&exit);
    }

    /// Kills what a supervisor left behind: nobody reads its output, nobody would hear of its end.
    fn end_unsupervised(&self) {
        tracing::error!(
            container = self.record.id(),
            "the supervisor was lost; what is left of the container is killed"
        );
        if let Err(e) = hoist_runtime::cgroup::at(&self.context.cgroup_path(&self.record)).remove() {
            tracing::error!(container = self.record.id(), "cannot remove the control group: {e}");
        }
    }

    pub(super) fn on_exited(&mut self, exit: &Exit) {
        self.link = None;
        for (_, listener) in self.execs.drain() {
            _ = listener.send(ExecProgress::Exited(137));
        }
        if exit.log_entries_dropped > 0 {
            let (container, dropped) = (self.record.id(), exit.log_entries_dropped);
            tracing::warn!(
                container,
                dropped,
                "entries of the log were dropped: its buffer (max-buffer-size) was full"
            );
        }
        let state = &mut self.record.state;
        let ran_ns = exit.finished_at_ns - exit.started_at_ns;
        state.status = Status::Exited;
        state.pid = 0;
        state.exit_code = exit.exit_code;
        state.oom_killed = exit.oom_killed;
        state.finished_ns = exit.finished_at_ns;
        state.exits += 1;
        self.release_network();
        self.give_back_volumes();
        if self.record.fixed.host_config.ipc_mode == "shareable" {
            crate::ipc::unmount(&self.context.directory(self.record.id()));
        }
        let again = self.plan_restart(exit.exit_code, ran_ns);
        if again {
            self.record.state.status = Status::Restarting;
        }
        let auto_remove = self.record.fixed.host_config.auto_remove;
        if !auto_remove {
            self.save_state_soon();
        }
        self.publish();
        if std::mem::take(&mut self.stopping) {
            self.emit("stop", &[]);
        }
        self.emit(
            "die",
            &[("exitCode", exit.exit_code.to_string()), ("execDuration", (ran_ns / 1_000_000_000).to_string())],
        );
        if auto_remove {
            self.delete_soon();
            self.leave(true);
        }
    }

    /// Whether the restart policy starts it again, and when.
    pub(super) fn plan_restart(&mut self, exit_code: i32, ran_ns: i64) -> bool {
        let policy = self.record.restart_policy();
        let wanted = !self.record.state.manually_stopped
            && match policy.name.as_str() {
                "always" | "unless-stopped" => true,
                "on-failure" => {
                    exit_code != 0
                        && (policy.maximum_retry_count == 0
                            || self.record.state.restart_count < policy.maximum_retry_count)
                }
                _ => false,
            };
        if !wanted {
            return false;
        }
        self.restart_delay = if ran_ns >= GOOD_RUN_NS || self.record.state.restart_count == 0 {
            FIRST_RESTART_DELAY
        } else {
            (self.restart_delay * 2).min(LONGEST_RESTART_DELAY)
        };
        self.restart_at = Some(Instant::now() + self.restart_delay);
        true
    }

    pub(super) fn on_restart_due(&mut self) {
        self.restart_at = None;
        self.record.state.restart_count += 1;
        match self.launch() {
            Ok(link) => self.link = Some(link),
            Err(error) => {
                tracing::warn!(container = self.record.id(), "restart failed: {error}");
                _ = self.start_failed(error, 128);
            }
        }
    }

    pub(super) fn release_network(&mut self) {
        if let Some(endpoint) = self.record.state.endpoint.take() {
            self.context.networks.release(&endpoint);
            let attributes = [
                ("container".to_owned(), self.record.id().to_owned()),
                ("name".to_owned(), endpoint.network_name.clone()),
                ("type".to_owned(), "bridge".to_owned()),
            ];
            self.context.events.emit("network", "disconnect", &endpoint.network_id, attributes.into());
        }
    }

    pub(super) async fn on_remove(&mut self, force: bool, volumes: bool, reply: Reply) {
        if let Err(denied) = admit(&self.record, Request::Remove { force }) {
            _ = reply.send(Err(denied));
            return;
        }
        if self.record.state.status.alive() || self.link.is_some() {
            self.record.state.manually_stopped = true;
            let killed = self.send(&ToSupervisor::Signal { signal: signals::SIGKILL, all: false }, &[]);
            if killed.is_ok() {
                self.emit("kill", &[("signal", "9".to_owned())]);
            }
            if self.record.state.status == Status::Paused {
                _ = self.on_freeze(false);
            }
            if !self.await_exit().await {
                _ = reply.send(Err(Error::internal(format!(
                    "cannot remove container \"{}\": could not kill container: it did not end in 10 s",
                    self.record.name
                ))));
                return;
            }
        }
        self.restart_at = None;
        if !self.gone {
            self.delete();
            self.leave(volumes);
        }
        _ = reply.send(Ok(()));
    }

    /// Works off the supervisor's messages until the container has ended; false after ten seconds.
    pub(super) async fn await_exit(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.link.is_some() {
            let message = tokio::time::timeout_at(deadline, receive(self.link.as_ref())).await;
            match message {
                Ok(message) => self.on_supervisor(message),
                Err(_) => return false,
            }
        }
        true
    }

    fn delete(&self) {
        // One that goes by itself was not written for good either; after a power cut the next start takes it out again.
        if let Err(e) = self.context.records.delete(self.record.id(), self.record.durable()) {
            tracing::error!(container = self.record.id(), "cannot delete the container's record: {e}");
        }
    }

    /// For a container that removes itself: a later engine that finds its record finds out that it has ended, too.
    fn delete_soon(&self) {
        self.context.records.delete_later(self.record.id(), self.complain("cannot delete the container's record"));
    }

    /// Takes the container out of the books; its files go in the background.
    fn leave(&mut self, volumes: bool) {
        self.record.state.status = Status::Removing;
        self.context.forget(&self.record, volumes);
        self.emit("destroy", &[]);
        self.record.state.removed = true;
        self.publish();
        self.gone = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_executed_is_told_in_mobys_words() {
        assert_eq!(
            explained("exec: \"/etc\": is a directory".into()),
            "exec: \"/etc\": is a directory: permission denied"
        );
        assert!(explained("stat /etc/passwd/x: not a directory".into()).contains("directory: Are you trying to mount"));
        assert_eq!(explained("nope".into()), "nope");
        let code = |kind, message: &str| exit_code(&Failure { kind, message: message.into() });
        assert_eq!(code(FailureKind::NotFound, "nope"), Some(127));
        assert_eq!(code(FailureKind::NotExecutable, "exec: \"/etc\": is a directory"), Some(126));
        assert_eq!(code(FailureKind::NotExecutable, "stat /etc/passwd/x: not a directory"), Some(127));
        assert_eq!(code(FailureKind::Other, "x"), None);
    }
}
