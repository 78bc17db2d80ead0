//! The terminal: a pty of the container's own devpts, verified to be one before anything is done with it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hoist_sys::mount::Change;
use hoist_sys::rootfs;
use oci_spec::runtime::Process;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::Context;
use super::mounts::bind_fd;
use crate::failure::{OrFail, Result};
use crate::protocol::Failure;

/// Filesystem magic of devpts (statfs(2)).
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// The size that a process asks for, (rows, columns); (0, 0) when it asks for none.
pub(crate) fn console_size(process: &Process) -> (u16, u16) {
    process.console_size().map_or((0, 0), |size| {
        let short = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
        (short(size.height()), short(size.width()))
    })
}

/// Opens a new pty pair in the devpts of `root`: (master, slave). Size (0, 0) leaves the kernel's default.
pub(crate) fn open_terminal(root: BorrowedFd<'_>, size: (u16, u16)) -> Result<(OwnedFd, OwnedFd)> {
    let path = Path::new("/dev/pts/ptmx");
    let master = rootfs::open_in_root(root, path, OFlags::RDWR | OFlags::NOCTTY)
        .or_fail(|| "open /dev/pts/ptmx of the container")?;
    let filesystem = rustix::fs::fstatfs(&master).or_fail(|| "check /dev/pts/ptmx")?;
    let stat = rustix::fs::fstat(&master).or_fail(|| "check /dev/pts/ptmx")?;
    let is_ptmx = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(5, 2)
        && filesystem.f_type == DEVPTS_SUPER_MAGIC;
    if !is_ptmx {
        return Err(Failure::other("/dev/pts/ptmx of the container is not a terminal multiplexer of devpts"));
    }
    rustix::pty::unlockpt(&master).or_fail(|| "unlock terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).or_fail(|| "open terminal")?;
    if size != (0, 0) {
        set_size(master.as_fd(), size).or_fail(|| "set terminal size")?;
    }
    Ok((master, slave))
}

pub(crate) fn set_size(master: BorrowedFd<'_>, (rows, columns): (u16, u16)) -> std::io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(master, size)?)
}

/// The container's terminal, if it has one: the master goes to the supervisor, the slave also becomes /dev/console.
pub(super) fn set_up(context: &Context<'_>, root: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    if !context.stdio().tty {
        return Ok(None);
    }
    let (master, slave) = open_terminal(root, context.stdio().console_size)?;
    mount_console(root, slave.as_fd())?;
    context.channel.terminal(master.as_fd())?;
    Ok(Some(slave))
}

fn mount_console(root: BorrowedFd<'_>, slave: BorrowedFd<'_>) -> Result<()> {
    let name = OsStr::new("console");
    let fail = || "mount /dev/console";
    let directory = rootfs::open_in_root(root, Path::new("/dev"), OFlags::PATH | OFlags::DIRECTORY).or_fail(fail)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
    match rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o666)) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error).or_fail(fail),
    }
    // A link in its place is refused here (ELOOP) instead of followed.
    let target = rootfs::open_child(directory.as_fd(), name, OFlags::PATH).or_fail(fail)?;
    bind_fd(slave, target.as_fd(), Change::default()).or_fail(fail)
}

/// Makes the terminal the controlling one of this session and puts it on fds 0 to 2.
pub(crate) fn make_controlling(slave: BorrowedFd<'_>) -> Result<()> {
    rustix::process::ioctl_tiocsctty(slave).or_fail(|| "set controlling terminal")?;
    super::process::set_streams([slave, slave, slave])
}
