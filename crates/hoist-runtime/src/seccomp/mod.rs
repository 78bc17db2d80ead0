//! Seccomp: Docker's default profile as data, and a compiler from OCI's `linux.seccomp` to BPF as a balanced tree.
//!
//! `default_rules` is the profile, `profile` resolves it (or a user's JSON) for a container, `rules` turns names into
//! numbers for each architecture with libseccomp's rules, `assemble` makes the tree. Loading a program is the container's
//! init, keeping compiled ones is the engine.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompFilterFlag};

mod assemble;
mod default_rules;
mod profile;
mod rules;
mod syscalls;
#[cfg(test)]
mod tests;

/// Docker's default profile for a container with these capabilities (`CAP_…` names): conditional rules resolved.
pub fn default_profile(capabilities: &[String]) -> LinuxSeccomp {
    profile::default(capabilities)
}

/// Docker's profile JSON (`--security-opt seccomp=file`: `defaultAction`, `archMap`, `syscalls` with includes/excludes) or
/// OCI's form, resolved for these capabilities.
pub fn parse_profile(json: &str, capabilities: &[String]) -> Result<LinuxSeccomp, String> {
    profile::parse(json, capabilities)
}

/// Compiles to native-endian `struct sock_filter`s (seccomp(2)). Error: what in the profile cannot be expressed.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>, String> {
    let machine = rules::resolve(profile)?;
    let program = assemble::assemble(&machine)?;
    Ok(program.iter().flat_map(|instruction| instruction.to_bytes()).collect())
}

/// `SECCOMP_FILTER_FLAG_*` bits for seccomp(2) that a profile asks for; without any word of flags runc's default, which
/// leaves speculation as it was.
pub fn load_flags(profile: &LinuxSeccomp) -> u32 {
    match profile.flags() {
        None => SPEC_ALLOW,
        Some(flags) => flags.iter().fold(0, |bits, flag| {
            bits | match flag {
                LinuxSeccompFilterFlag::SeccompFilterFlagLog => LOG,
                LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
                // One thread loads the filter before exec, and nothing is notified.
                LinuxSeccompFilterFlag::SeccompFilterFlagTsync
                | LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
            }
        }),
    }
}

// linux/seccomp.h
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
