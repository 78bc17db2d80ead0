//! What is done with a launch before anything is made for it: it is read, refused if it asks for what we do not have, and its
//! filter unpacked. And the rehearsal of all that, by a supervisor that waits for a launch.

use std::path::PathBuf;

use hoist_sys::seccomp::Program;
use oci_spec::runtime::LinuxSeccompFilterFlag;

use crate::failure::{OrFail, Result};
use crate::init::{self, Filter};
use crate::launch::{Launch, Log, LogFile, Rootfs, Stdio};
use crate::protocol::Failure;
use crate::{cgroup, defaults};

/// About the length of the default profile's filter.
const USUAL_FILTER_BYTES: usize = 3200;

pub(super) fn read(payload: &[u8]) -> Result<Launch> {
    serde_json::from_slice(payload).map_err(|error| Failure::other(format!("unreadable launch request: {error}")))
}

/// What can be refused before anything is made.
pub(crate) fn check(launch: &Launch) -> Result<()> {
    let refuse = |what: &str| Err(Failure::other(format!("{what} is not supported")));
    let spec = &launch.spec;
    let process = spec.process().as_ref().ok_or_else(|| Failure::other("process is not set"))?;
    init::check_labels(process)?;
    init::check_sysctls(spec)?;
    let Some(linux) = spec.linux() else { return Ok(()) };
    if linux.intel_rdt().is_some() {
        return refuse("linux.intelRdt");
    }
    if linux.memory_policy().is_some() {
        return refuse("linux.memoryPolicy");
    }
    if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
        return refuse("linux.netDevices");
    }
    if linux.seccomp().as_ref().is_some_and(|seccomp| seccomp.listener_path().is_some()) {
        return refuse("linux.seccomp.listenerPath");
    }
    Ok(())
}

pub(crate) fn filter(launch: &mut Launch) -> Result<Option<Filter>> {
    let seccomp = launch.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let program = match (launch.seccomp_program.take(), seccomp) {
        (Some(program), _) => program,
        (None, Some(seccomp)) => {
            crate::seccomp::compile(seccomp).map_err(|error| Failure::other(format!("seccomp profile: {error}")))?
        }
        (None, None) => return Ok(None),
    };
    let flags = seccomp.and_then(|seccomp| seccomp.flags().as_ref()).into_iter().flatten().map(|flag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => hoist_sys::seccomp::flag::LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => hoist_sys::seccomp::flag::TSYNC,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => hoist_sys::seccomp::flag::SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => hoist_sys::seccomp::flag::WAIT_KILLABLE_RECV,
    });
    let flags = flags.fold(0, |all, flag| all | flag);
    let program = Program::from_bytes(&program).or_fail(|| "seccomp program")?;
    Ok(Some(Filter { program, flags }))
}

/// Takes in a launch that nobody wants. Memory and pages of the program that are used for the first time take a multiple of
/// the time, which nobody waits for now.
pub(super) fn rehearse() {
    let path = || PathBuf::from("/rehearsal");
    let launch = Launch {
        id: "0".repeat(64),
        spec: defaults::default_spec(cgroup::version()),
        subpaths: Vec::new(),
        rootfs: Rootfs::Overlay { lower: vec![path()], upper: path(), work: path(), volatile: true },
        seccomp_program: Some(vec![0; USUAL_FILTER_BYTES]),
        stdio: Stdio::default(),
        log: Log::File(LogFile::default()),
        network: Some(Default::default()),
        state_dir: path(),
        run_dir: path(),
        init: false,
        external_runtime: None,
    };
    let taken_in = serde_json::to_vec(&launch).map_err(|error| Failure::other(error.to_string()));
    let taken_in = taken_in.and_then(|payload| read(&payload)).and_then(|mut launch| {
        check(&launch)?;
        filter(&mut launch).map(drop)
    });
    if let Err(failure) = taken_in {
        tracing::warn!(failure = failure.message, "the rehearsal of a launch failed");
    }
}
