//! Entry points for the fuzzers in `fuzz/`: bytes in, no panic, hang or unbounded memory. Built for tests and with the
//! feature `fuzzing` only, so that what is private stays so.

#![expect(clippy::expect_used, reason = "what fails here is to be found")]

use oci_spec::runtime::{LinuxResources, Spec};

use crate::launch::Launch;
use crate::protocol::{Exit, FromSupervisor, ToSupervisor};
use crate::{cgroup, init, oci, seccomp, user};

/// Takes a fuzzer's bytes.
pub type Target = fn(&[u8]);

pub const TARGETS: &[(&str, Target)] = &[
    ("passwd", passwd),
    ("seccomp_profile", seccomp_profile),
    ("protocol", protocol),
    ("oci_spec", oci_spec),
    ("device_rules", device_rules),
];

/// More instructions than the kernel loads (BPF_MAXINSNS).
const PROGRAM_MAX_BYTES: usize = 4096 * 8;

/// passwd and group, and who is meant: the three parts end at NUL bytes.
pub fn passwd(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |&byte| byte == 0);
    let who = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (passwd, group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if let Ok(user) = user::resolve(passwd, group, &who, &[]) {
        let ids = [user.uid, user.gid].into_iter().chain(user.additional_gids);
        assert!(ids.into_iter().all(|id| i32::try_from(id).is_ok()), "an id that means something else to the kernel");
    }
}

/// A profile of Docker's or OCI's form, to BPF.
pub fn seccomp_profile(bytes: &[u8]) {
    let Ok(json) = str::from_utf8(bytes) else { return };
    for capabilities in [&[][..], &["CAP_SYS_ADMIN".to_owned()]] {
        let Ok(profile) = seccomp::parse_profile(json, capabilities) else { return };
        let Ok(program) = seccomp::compile(&profile) else { continue };
        assert!(program.len() % 8 == 0 && program.len() <= PROGRAM_MAX_BYTES, "{} bytes of program", program.len());
        let _ = seccomp::load_flags(&profile);
    }
}

/// Messages between engine and supervisor, launches and what is found on disk.
pub fn protocol(bytes: &[u8]) {
    if let Ok(message) = serde_json::from_slice::<ToSupervisor>(bytes) {
        serde_json::to_vec(&message).expect("what was read can be written");
    }
    if let Ok(message) = serde_json::from_slice::<FromSupervisor>(bytes) {
        serde_json::to_vec(&message).expect("what was read can be written");
    }
    let _ = serde_json::from_slice::<Exit>(bytes);
    if let Ok(launch) = serde_json::from_slice::<Launch>(bytes) {
        let _ = crate::supervisor::intake::check(&launch);
        serde_json::to_vec(&launch).expect("what was read can be written");
    }
}

/// A bundle's `config.json`, as far as nothing is made for it.
pub fn oci_spec(bytes: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<Spec>(bytes) else { return };
    for mount in spec.mounts().iter().flatten() {
        let _ = init::check_mount_options(mount.options().as_deref().unwrap_or_default());
    }
    if let Some(resources) = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
        cgroup::compile_rules(resources);
    }
    oci::check_configuration(spec);
}

/// Limits as `update` reads them, and what the rules about devices come to.
pub fn device_rules(bytes: &[u8]) {
    if let Ok(resources) = serde_json::from_slice::<LinuxResources>(bytes) {
        cgroup::compile_rules(&resources);
    }
    cgroup::read_list(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
