//! bpf(2), as far as device rules of version 2 control groups need it: load, attach, list and detach programs of type
//! `BPF_PROG_TYPE_CGROUP_DEVICE`. What a program does is the caller's; the kernel verifies it.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

// Numbers of linux/bpf.h.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// Size of one instruction (`struct bpf_insn`).
const INSTRUCTION_BYTES: usize = 8;

/// Most programs that are looked at in one group; the kernel allows 64.
const MAX_PROGRAMS: usize = 64;

/// The start of `union bpf_attr` for loading; the kernel takes what is not given as zero.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
}

#[repr(C)]
struct AttachAttributes {
    target_fd: u32,
    program_fd: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct QueryAttributes {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    program_count: u32,
    padding: u32,
}

#[repr(C)]
struct IdAttributes {
    program_id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Loads a device program from native-endian `struct bpf_insn`s.
pub fn load_device_program(instructions: &[u8]) -> io::Result<OwnedFd> {
    let count = u32::try_from(instructions.len() / INSTRUCTION_BYTES).unwrap_or(u32::MAX);
    if count == 0 || !instructions.len().is_multiple_of(INSTRUCTION_BYTES) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a BPF program is whole instructions of 8 bytes"));
    }
    let mut attributes = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: count,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
    };
    // SAFETY: the instruction pointer covers `count` whole instructions of a borrowed slice and the license is a static
    // string with its terminator; both outlive the call, and the kernel only reads them.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attributes) }?;
    // SAFETY: on success the kernel returns a new fd that nobody else owns (it is close-on-exec).
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a loaded program to a group beside those that it has.
pub fn attach_device_program(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = attach_attributes(group, program.as_raw_fd(), BPF_F_ALLOW_MULTI);
    // SAFETY: the attributes hold no pointers.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attributes) }.map(drop)
}

/// Kernel ids of the device programs attached to a group itself.
pub fn device_programs(group: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MAX_PROGRAMS];
    let mut attributes = QueryAttributes {
        target_fd: group.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        program_ids: ids.as_mut_ptr() as u64,
        program_count: MAX_PROGRAMS as u32,
        padding: 0,
    };
    // SAFETY: the kernel writes at most `program_count` ids to a buffer of that length, which outlives the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut attributes) }?;
    ids.truncate(attributes.program_count as usize);
    Ok(ids)
}

/// Detaches the program with this id from a group; gone already is fine.
pub fn detach_device_program(group: BorrowedFd<'_>, id: u32) -> io::Result<()> {
    let mut by_id = IdAttributes { program_id: id, next_id: 0, open_flags: 0 };
    // SAFETY: the attributes hold no pointers.
    let fd = match unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut by_id) } {
        Ok(fd) => fd,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    // SAFETY: on success the kernel returns a new fd that nobody else owns.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut attributes = attach_attributes(group, program.as_raw_fd(), 0);
    // SAFETY: the attributes hold no pointers.
    match unsafe { bpf(BPF_PROG_DETACH, &mut attributes) } {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map(drop),
    }
}

fn attach_attributes(group: BorrowedFd<'_>, program: RawFd, flags: u32) -> AttachAttributes {
    AttachAttributes {
        target_fd: group.as_raw_fd().cast_unsigned(),
        program_fd: program.cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        flags,
    }
}

/// # Safety
/// Pointers in `attributes` must be valid for what `command` does with them, for as long as the call lasts.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<RawFd> {
    // SAFETY: the size tells the kernel how much of `attributes` there is; it reads and writes no more. The rest is the
    // caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(RawFd::try_from(result).unwrap_or(-1)) }
}
