//! capabilities(7): numbers and names, the five sets of the calling process.

use std::io;

use crate::syscall;

/// Names in the order of their numbers.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Set(pub u64);

impl Set {
    pub const SYS_ADMIN: Set = Set(1 << 21);

    /// The set with one member, by its `CAP_…` name.
    pub fn named(name: &str) -> Option<Set> {
        NAMES.iter().position(|known| *known == name).map(|number| Set(1 << number))
    }

    pub const fn union(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    pub const fn without(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Names of the members.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().enumerate().filter(move |(number, _)| self.0 >> number & 1 == 1).map(|(_, name)| name)
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// _LINUX_CAPABILITY_VERSION_3: 64 bits in two halves.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// What the calling process may use: its permitted set.
pub fn permitted() -> io::Result<Set> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 wants a header and two data structs, both outlive the call.
    syscall::check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(Set(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32))
}

/// capset(2).
pub fn set(effective: Set, permitted: Set, inheritable: Set) -> io::Result<()> {
    let half = |shift: u32| Data {
        effective: (effective.0 >> shift) as u32,
        permitted: (permitted.0 >> shift) as u32,
        inheritable: (inheritable.0 >> shift) as u32,
    };
    let header = Header { version: VERSION_3, pid: 0 };
    let data = [half(0), half(32)];
    // SAFETY: version 3 wants a header and two data structs, both outlive the call.
    syscall::check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Drops from the bounding set all that is not in `keep`. Stops at the first number that the kernel does not know.
pub fn limit_bounding(keep: Set) -> io::Result<()> {
    for number in 0..64u64 {
        if keep.0 >> number & 1 == 1 {
            continue;
        }
        // SAFETY: PR_CAPBSET_DROP takes no pointers.
        match syscall::check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the ambient set what is given; members must be permitted and inheritable.
pub fn set_ambient(ambient: Set) -> io::Result<()> {
    // SAFETY: PR_CAP_AMBIENT takes no pointers.
    syscall::check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
    for number in (0..64u64).filter(|number| ambient.0 >> number & 1 == 1) {
        // SAFETY: as above.
        syscall::check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) })?;
    }
    Ok(())
}

/// Whether permitted capabilities survive a change of user from root (PR_SET_KEEPCAPS).
pub fn keep_over_setuid(keep: bool) -> io::Result<()> {
    // SAFETY: PR_SET_KEEPCAPS takes no pointers.
    syscall::check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(keep), 0, 0, 0) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree_with_the_header_file() {
        assert_eq!(Set::named("CAP_SYS_ADMIN"), Some(Set::SYS_ADMIN));
        assert_eq!(Set::named("CAP_CHECKPOINT_RESTORE"), Some(Set(1 << 40)));
        assert_eq!(Set::named("SYS_ADMIN"), None);
        assert_eq!(Set(0b11).names().collect::<Vec<_>>(), ["CAP_CHOWN", "CAP_DAC_OVERRIDE"]);
    }

    #[test]
    fn the_permitted_set_is_that_of_proc() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).unwrap();
        assert_eq!(permitted().unwrap().0, u64::from_str_radix(line.trim(), 16).unwrap());
    }
}
