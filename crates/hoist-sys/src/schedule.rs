//! Scheduling and personality of the calling process: ioprio_set(2), sched_setattr(2), personality(2).

use std::io;

use crate::syscall;

/// `struct sched_attr` (sched_setattr(2)), version 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes {
    size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime_ns: u64,
    pub deadline_ns: u64,
    pub period_ns: u64,
}

/// sched_setattr(2) on the calling thread.
pub fn set_attributes(mut attributes: Attributes) -> io::Result<()> {
    attributes.size = size_of::<Attributes>() as u32;
    // SAFETY: `attributes` is a valid struct sched_attr that tells its own size.
    syscall::check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) }).map(drop)
}

/// ioprio_set(2) on the calling thread; class 1 real time, 2 best effort, 3 idle.
pub fn set_io_priority(class: u8, priority: u16) -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    let value = libc::c_long::from(class) << 13 | libc::c_long::from(priority & 0x1fff);
    // SAFETY: ioprio_set(2) takes no pointers.
    syscall::check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) }).map(drop)
}

/// personality(2).
pub fn set_personality(domain: u32) -> io::Result<()> {
    // SAFETY: personality(2) takes no pointers.
    syscall::check(unsafe { libc::personality(libc::c_ulong::from(domain)) }).map(drop)
}
