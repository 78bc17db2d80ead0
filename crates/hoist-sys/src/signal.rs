//! Signals: masks, dispositions, signalfd(2), sending by pid and by pidfd.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::syscall;

/// Highest signal number (SIGRTMAX).
pub const MAX: i32 = 64;
/// SIGKILL.
pub const KILL: i32 = libc::SIGKILL;
/// SIGCHLD.
pub const CHILD: i32 = libc::SIGCHLD;

fn full_set() -> libc::sigset_t {
    // SAFETY: sigset_t is plain data; sigfillset(3) initialises it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        set
    }
}

fn empty_set() -> libc::sigset_t {
    // SAFETY: sigset_t is plain data; sigemptyset(3) initialises it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        set
    }
}

fn set_mask(set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is an initialised sigset_t.
    syscall::check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) }).map(drop)
}

/// Blocks every signal that can be blocked.
pub fn block_all() -> io::Result<()> {
    set_mask(&full_set())
}

/// Blocks none.
pub fn unblock_all() -> io::Result<()> {
    set_mask(&empty_set())
}

/// Sets every signal to its default action: ignored ones would stay ignored across exec (Rust ignores SIGPIPE).
pub fn reset_dispositions() {
    for signal in 1..=MAX {
        // SAFETY: SIG_DFL is a valid disposition; the kernel refuses KILL and STOP, glibc its two own, all harmless.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Sets one signal to its default action.
pub fn set_default(signal: i32) -> io::Result<()> {
    // SAFETY: SIG_DFL is a valid disposition.
    let previous = unsafe { libc::signal(signal, libc::SIG_DFL) };
    if previous == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ignores one signal. With SIGCHLD children are reaped by the kernel.
pub fn ignore(signal: i32) -> io::Result<()> {
    // SAFETY: SIG_IGN is a valid disposition.
    let previous = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if previous == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A non-blocking signalfd for these signals (which should be blocked); `None`: for all.
pub fn descriptor(signals: Option<&[i32]>) -> io::Result<OwnedFd> {
    let set = match signals {
        None => full_set(),
        Some(signals) => {
            let mut set = empty_set();
            for signal in signals {
                // SAFETY: `set` is initialised; a bad number is reported, not acted upon.
                syscall::check(unsafe { libc::sigaddset(&raw mut set, *signal) })?;
            }
            set
        }
    };
    // SAFETY: -1 asks for a new fd; `set` is initialised.
    let raw = syscall::check(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: `raw` is a new fd that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// The next pending signal's number, if there is one.
pub fn read_descriptor(fd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    // SAFETY: signalfd_siginfo is plain data.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    // SAFETY: pointer and length describe `info`.
    let result = syscall::retry(|| unsafe {
        libc::read(fd.as_raw_fd(), (&raw mut info).cast(), size_of::<libc::signalfd_siginfo>())
    });
    match result {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(info.ssi_signo as i32)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits for any (blocked) signal and returns its number.
pub fn wait() -> io::Result<i32> {
    let set = full_set();
    let mut signal = 0;
    // SAFETY: `set` is initialised, `signal` outlives the call.
    match unsafe { libc::sigwait(&raw const set, &raw mut signal) } {
        0 => Ok(signal),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// kill(2); negative pids are process groups, -1 is everybody in reach.
pub fn send(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill(2) takes no pointers.
    syscall::check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// pidfd_send_signal(2): never hits a later process with the same pid.
pub fn send_by_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks the kernel to fill in kill(2)'s.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    syscall::check(result).map(drop)
}
