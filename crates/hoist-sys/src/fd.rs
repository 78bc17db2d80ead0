//! Ranges of file descriptors: close_range(2).

use std::io;

use crate::syscall;

/// Marks every fd from `first` up close-on-exec.
pub fn set_cloexec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    close_range(first, u32::MAX, CLOSE_RANGE_CLOEXEC)
}

/// Lets one fd stay open over exec. Of no harm to whoever owns it.
pub fn clear_cloexec(fd: u32) -> io::Result<()> {
    // SAFETY: F_SETFD takes no pointers.
    syscall::check(unsafe { libc::fcntl(fd.cast_signed(), libc::F_SETFD, 0) }).map(drop)
}

/// Closes every fd from `first` up except those in `keep`. For a freshly forked process that owns its whole fd table:
/// an `OwnedFd` that is closed here must be forgotten by its holder.
pub fn close_all_except(first: u32, keep: &mut [u32]) -> io::Result<()> {
    keep.sort_unstable();
    let mut from = first;
    for kept in keep.iter().copied().filter(|kept| *kept >= first) {
        if kept > from {
            close_range(from, kept - 1, 0)?;
        }
        from = kept + 1;
    }
    close_range(from, u32::MAX, 0)
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: close_range(2) touches no memory; what becomes of the closed fds' owners is the caller's documented part.
    syscall::check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}
