//! OCI runtime spec in, supervised process out.
//!
//! The engine talks to the [`spawner::Spawner`], a small single-threaded process. Per container the spawner forks a
//! supervisor, which clones the container's init, holds its stdio and exit status, writes its log and listens on
//! `<run_dir>/supervisor.sock` for any later engine. Knows nothing of images, networks (it sends the netlink bytes that
//! it is given) or the Docker API.

#![forbid(unsafe_code)]

pub mod cgroup;
pub mod cpu_list;
pub mod defaults;
mod failure;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod init;
mod kit;
pub mod launch;
mod memory_file;
pub mod oci;
pub mod protocol;
mod sealed;
pub mod seccomp;
pub mod spawner;
mod supervisor;
pub mod user;
