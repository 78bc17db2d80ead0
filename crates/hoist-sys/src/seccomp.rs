//! Loading a filter: seccomp(2). Compiling it is not done here.

use std::io;

use crate::syscall;

const INSTRUCTION_BYTES: usize = size_of::<libc::sock_filter>();
/// BPF_MAXINSNS.
const MAX_INSTRUCTIONS: usize = 4096;

/// Flags of SECCOMP_SET_MODE_FILTER.
pub mod flag {
    pub const TSYNC: u32 = 1;
    pub const LOG: u32 = 2;
    pub const SPEC_ALLOW: u32 = 4;
    pub const WAIT_KILLABLE_RECV: u32 = 32;
}

/// A filter ready to be loaded.
#[derive(Clone, Debug)]
pub struct Program {
    instructions: Vec<libc::sock_filter>,
}

impl Program {
    /// From native-endian `struct sock_filter`s; `InvalidInput` when the length cannot be one.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<Program> {
        let count = bytes.len() / INSTRUCTION_BYTES;
        if count == 0 || count > MAX_INSTRUCTIONS || !bytes.len().is_multiple_of(INSTRUCTION_BYTES) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "seccomp program has an impossible length"));
        }
        let instructions = bytes
            .chunks_exact(INSTRUCTION_BYTES)
            .map(|chunk| libc::sock_filter {
                code: u16::from_ne_bytes([chunk[0], chunk[1]]),
                jt: chunk[2],
                jf: chunk[3],
                k: u32::from_ne_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]),
            })
            .collect();
        Ok(Program { instructions })
    }

    /// Puts the filter on the calling process, for good. Needs CAP_SYS_ADMIN or no_new_privs.
    pub fn load(&self, flags: u32) -> io::Result<()> {
        let program =
            libc::sock_fprog { len: self.instructions.len() as u16, filter: self.instructions.as_ptr().cast_mut() };
        // SAFETY: `program` describes `instructions`, which outlive the call; the kernel only reads and checks them.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
        syscall::check(result).map(drop)
    }
}
