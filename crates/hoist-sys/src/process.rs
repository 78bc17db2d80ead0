//! clone3(2), waitid(2), and prctl(2) settings of the calling process. Everything here is for single-threaded processes:
//! a raw clone takes no notice of other threads' locks.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::namespace::Namespaces;
use crate::syscall;

/// What [`clone`] returned, once in each process.
#[derive(Debug)]
pub enum Cloned {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

/// `struct clone_args` up to `cgroup` (kernel 5.7).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks into new namespaces and, where `cgroup` is given (a cgroup v2 directory), into that control group.
///
/// The calling process must be single-threaded: the child goes on with a copy of its memory in which no other thread
/// exists that could release a lock. With several threads it is refused by [`single_threaded`]'s callers, not here.
pub fn clone(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    clone_with(u64::from(namespaces.bits()), libc::SIGCHLD as u64, cgroup)
}

/// [`clone`], but the new process is a child of the caller's parent (`CLONE_PARENT`), which is told of its end as it would
/// be of the caller's.
pub fn clone_for_parent(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    clone_with(u64::from(namespaces.bits()) | libc::CLONE_PARENT as u64, 0, cgroup)
}

fn clone_with(flags: u64, exit_signal: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: libc::CLONE_PIDFD as u64 | flags,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no caller passes CLONE_VM, so the child has its own copy of memory and stack; `args` is a valid clone_args of the size
    // told, and `pidfd` outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    let pid = syscall::check(result)?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: with CLONE_PIDFD the kernel stored a new fd that nobody else owns.
    Ok(Cloned::Parent { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// What [`fork`] returned, once in each process.
#[derive(Debug)]
pub enum Forked {
    Child,
    Parent { pid: i32 },
}

/// fork(2) by the old clone(2), which Docker's seccomp profile allows where it answers ENOSYS to clone3.
///
/// The calling process must be single-threaded, as for [`clone`].
pub fn fork() -> io::Result<Forked> {
    // SAFETY: only SIGCHLD as flags: the child has its own copy of memory and stack; no pointer is passed.
    let result = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    match syscall::check(result)? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent { pid: pid as i32 }),
    }
}

/// Whether the calling process has just one thread.
pub fn single_threaded() -> io::Result<bool> {
    Ok(std::fs::read_dir("/proc/self/task")?.count() == 1)
}

/// Ends the process at once: no destructors, no exit handlers (these belong to the process that was forked).
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) only ends the process.
    unsafe { libc::_exit(status) }
}

/// A child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub pid: i32,
    /// Exit status, or 128 + signal.
    pub exit_code: i32,
}

/// Reaps one child that has ended, if there is one; `ECHILD` reads as none.
pub fn reap() -> io::Result<Option<Ended>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        return match syscall::check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) }) {
            Ok(0) => Ok(None),
            Ok(pid) => Ok(Some(Ended { pid, exit_code: exit_code(status) })),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            Err(error) => Err(error),
        };
    }
}

/// Waits for one child to end.
pub fn wait(pid: i32) -> io::Result<Ended> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = syscall::retry(|| unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) })?;
    Ok(Ended { pid, exit_code: exit_code(status) })
}

/// Waits for any child to end.
pub fn wait_any() -> io::Result<Ended> {
    wait(-1)
}

fn exit_code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// PR_SET_DUMPABLE 0: not to be traced, `/proc/<pid>` not to be read by others; lasts until exec.
pub fn set_undumpable() -> io::Result<()> {
    // SAFETY: PR_SET_DUMPABLE takes no pointers.
    syscall::check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

/// PR_SET_CHILD_SUBREAPER.
pub fn set_subreaper() -> io::Result<()> {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes no pointers.
    syscall::check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// PR_SET_PDEATHSIG. Forgotten by the kernel when credentials change.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes no pointers.
    syscall::check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) }).map(drop)
}

/// Joins a new session keyring(7), so that the keys of whoever started us stay out of reach.
pub fn new_session_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is touched.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
    syscall::check(result).map(drop)
}

/// Allocations of 16 KiB and more come from the kernel one by one from now on: those that are zeroed are not touched until
/// they are used, those that are freed go back at once. For processes that rarely allocate that much; children inherit it.
pub fn map_large_allocations() {
    const LARGE_BYTES: libc::c_int = 16 * 1024;
    // SAFETY: mallopt(3) changes a parameter of later allocations.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES) };
}

/// Gives freed heap memory back to the kernel.
pub fn trim_heap() {
    // SAFETY: malloc_trim(3) is safe to call at any time.
    unsafe { libc::malloc_trim(0) };
}

/// Gives back the pages of the main thread's stack that earlier, deeper calls have left behind.
#[inline(never)]
pub fn trim_stack() {
    const PAGE_BYTES: usize = 4096;
    const RANGE_BYTES: usize = 256 * 1024;
    let here = 0u8;
    let end = ((&raw const here) as usize & !(PAGE_BYTES - 1)) - 4 * PAGE_BYTES;
    // SAFETY: the range lies four pages (more than the red zone and this call need) below the current frame, so nothing
    // in it is in use. It is the stack's own, or unmapped: the kernel keeps a gap of 1 MiB below a growing stack, and
    // for the unmapped part only ENOMEM is returned.
    unsafe { libc::madvise((end - RANGE_BYTES) as *mut libc::c_void, RANGE_BYTES, libc::MADV_DONTNEED) };
}

/// Unmaps the pages of the program's code and constants that are in memory; those that are needed come back from the page
/// cache. A process that mostly waits then does not count for what it once ran through.
pub fn trim_text() {
    unsafe extern "C" {
        /// Set by the linker (ld(1)): the first byte of the program, and the first one after its code.
        static __executable_start: u8;
        static etext: u8;
    }
    const PAGE_BYTES: usize = 4096;
    let start = (&raw const __executable_start) as usize & !(PAGE_BYTES - 1);
    let end = (&raw const etext) as usize & !(PAGE_BYTES - 1);
    // SAFETY: headers, constants and code are mapped from the file, read-only and never written: what is dropped is read
    // again, the same, when it is touched, this code included.
    unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_gives_pid_and_pidfd_and_its_exit_code() {
        // The test harness has threads; the child does nothing that could meet their locks.
        match clone(Namespaces::default(), None).unwrap() {
            Cloned::Child => exit_now(7),
            Cloned::Parent { pid, pidfd } => {
                assert_eq!(wait(pid).unwrap(), Ended { pid, exit_code: 7 });
                assert!(pidfd.as_raw_fd() > 2);
            }
        }
    }

    #[test]
    fn a_killed_child_counts_as_128_and_the_signal() {
        match clone(Namespaces::default(), None).unwrap() {
            Cloned::Child => loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            },
            Cloned::Parent { pid, pidfd } => {
                crate::signal::send_by_pidfd(std::os::fd::AsFd::as_fd(&pidfd), libc::SIGKILL).unwrap();
                assert_eq!(wait(pid).unwrap().exit_code, 137);
            }
        }
    }
}
