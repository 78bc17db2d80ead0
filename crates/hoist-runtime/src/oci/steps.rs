//! What a container's init does on top of the ordinary steps when the OCI runtime made it: hooks at two points, extra
//! fds, and waiting for a `start` that comes from another process, after the one that cloned it has ended.

use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::Spec;

use super::hooks;
use crate::failure::{OrFail, Result};
use crate::init::HostProc;
use crate::protocol::Failure;

/// The fds that init holds until exec; all close-on-exec.
#[derive(Debug)]
pub(crate) struct Steps {
    /// A socket to the creating process: one byte asks for the hooks of the runtime's namespaces, one answers.
    pub(super) hooks: OwnedFd,
    /// The fifo that `start` writes to, open both ways, so that it never reads as ended.
    pub(super) go: OwnedFd,
    /// The fifo that `start` reads failures from. Its end says that the program runs.
    pub(super) report: OwnedFd,
    /// OCI's state, for hooks; the pid is filled in by init, which has to ask the host's /proc for it.
    pub(super) state: serde_json::Value,
    /// Fds from 3 on that the program gets.
    pub(super) preserved_fds: u32,
    /// Join a new session keyring.
    pub(super) new_keyring: bool,
}

impl Steps {
    pub(crate) fn wants_keyring(&self) -> bool {
        self.new_keyring
    }

    /// After the mounts, before the pivot: the creating process runs `prestart` and `createRuntime`, then
    /// `createContainer` runs here, with the host's files still in sight.
    pub(crate) fn run_create_hooks(&mut self, spec: &Spec, proc: &HostProc) -> Result<()> {
        self.state["pid"] = proc.own_pid().or_fail(|| "read /proc/self")?.into();
        let Some(all) = spec.hooks() else { return Ok(()) };
        rustix::io::write(&self.hooks, b"H").or_fail(|| "ask for hooks")?;
        let mut answer = [0; 1];
        let answered = rustix::io::retry_on_intr(|| rustix::io::read(&self.hooks, &mut answer));
        if answered.or_fail(|| "wait for hooks")? == 0 {
            return Err(Failure::other("creation was given up"));
        }
        self.run("createContainer", all.create_container().as_ref(), "creating")
    }

    /// In the container, as its user, just before the program.
    pub(crate) fn run_start_hooks(&self, spec: &Spec) -> Result<()> {
        self.run("startContainer", spec.hooks().as_ref().and_then(|all| all.start_container().as_ref()), "created")
    }

    fn run(&self, kind: &str, list: Option<&Vec<oci_spec::runtime::Hook>>, status: &str) -> Result<()> {
        let mut state = self.state.clone();
        state["status"] = status.into();
        hooks::run(kind, list, &state).map_err(|fault| Failure::other(fault.message))
    }

    /// After everything else was marked close-on-exec.
    pub(crate) fn keep_fds(&self) -> Result<()> {
        let last = 3 + self.preserved_fds;
        for number in 3..last {
            // The number is all that is known of what the caller left open.
            let missing = || format!("preserved fd {number}");
            hoist_sys::fd::clear_cloexec(number).or_fail(missing)?;
        }
        Ok(())
    }

    /// read(2) and no more, because a seccomp filter is in force by now.
    pub(crate) fn wait_for_start(&self) -> Result<()> {
        let mut word = [0; 1];
        rustix::io::retry_on_intr(|| rustix::io::read(&self.go, &mut word)).or_fail(|| "wait for start").map(drop)
    }

    /// The creating process may be gone, so failures also go where `start` looks for them.
    pub(crate) fn failed(&self, failure: &Failure) {
        let _ = rustix::io::write(self.report.as_fd(), failure.message.as_bytes());
    }
}
