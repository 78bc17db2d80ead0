//! Names and numbers of system calls on the architectures that filters are made for. The table is `syscalls.txt`.

use std::collections::HashMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("syscalls.txt");

/// Bit that marks a call of the x32 ABI.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Architectures as libseccomp counts them: x32 is one of its own although the kernel reports it as x86_64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Abi {
    X86_64,
    I386,
    X32,
    Aarch64,
    Arm,
}

impl Abi {
    /// `seccomp_data.arch`, of linux/audit.h.
    pub(super) fn audit_arch(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::I386 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// Whether only the low halves of arguments count.
    pub(super) fn is_32_bit(self) -> bool {
        matches!(self, Abi::I386 | Abi::X32 | Abi::Arm)
    }

    /// The machine that this program was built for.
    pub(super) const NATIVE: Abi = if cfg!(target_arch = "aarch64") { Abi::Aarch64 } else { Abi::X86_64 };

    fn column(self) -> usize {
        self as usize
    }
}

/// The number of a call, with the x32 bit where it belongs; `None` if the architecture has no such call.
pub(super) fn number(name: &str, abi: Abi) -> Option<u32> {
    let number = table().get(name)?[abi.column()]?;
    Some(if abi == Abi::X32 { number | X32_BIT } else { number })
}

/// Whether any architecture has such a call; names of newer kernels are not known.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    table().keys().copied()
}

fn table() -> &'static HashMap<&'static str, [Option<u32>; 5]> {
    static PARSED: OnceLock<HashMap<&'static str, [Option<u32>; 5]>> = OnceLock::new();
    PARSED.get_or_init(|| {
        TABLE
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let mut words = line.split(' ');
                let name = words.next()?;
                Some((name, [(); 5].map(|()| words.next().and_then(|word| word.parse().ok()))))
            })
            .collect()
    })
}

/// Number of socketcall(2) on i386, and the number of each call that it carries.
pub(super) const SOCKETCALL: u32 = 102;
const SOCKETCALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// Number of ipc(2) on i386, and the number of each call that it carries.
pub(super) const IPC: u32 = 117;
const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// (carrying call, value of its first argument) for a call that i386 also makes through another one.
pub(super) fn carried(name: &str) -> Option<(u32, u64)> {
    if let Some(at) = SOCKETCALLS.iter().position(|&call| call == name) {
        return Some((SOCKETCALL, at as u64 + 1));
    }
    IPC_CALLS.iter().find(|(call, _)| *call == name).map(|&(_, value)| (IPC, value))
}
