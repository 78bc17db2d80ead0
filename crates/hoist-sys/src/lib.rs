//! The one crate that talks to the kernel below the level of safe libraries, and the only one that holds unsafe code.
//! One kernel interface per file; each exposes owned fds and typed flags. Knows nothing of containers.

pub mod netlink;
mod syscall;
