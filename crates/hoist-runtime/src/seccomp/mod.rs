//! Seccomp: Docker's default profile as data, and a compiler from OCI's `linux.seccomp` to BPF as a balanced tree.

use oci_spec::runtime::LinuxSeccomp;

/// Docker's default profile for a container with these capabilities (`CAP_…` names): conditional rules resolved.
pub fn default_profile(capabilities: &[String]) -> LinuxSeccomp { let _ = capabilities; todo!() }

/// Docker's profile JSON (`--security-opt seccomp=file`: `defaultAction`, `archMap`, `syscalls` with includes/excludes) or
/// OCI's form, resolved for these capabilities.
pub fn parse_profile(json: &str, capabilities: &[String]) -> Result<LinuxSeccomp, String> { let _ = (json, capabilities); todo!() }

/// Compiles to native-endian `struct sock_filter`s (seccomp(2)). Error: what in the profile cannot be expressed.
pub fn compile(profile: &LinuxSeccomp) -> Result<Vec<u8>, String> { let _ = profile; todo!() }
