//! This program in a form that nobody can write to. What a container finds behind `/proc/<pid>/exe` of one of our processes,
//! or gets executed by naming that as the interpreter of a script, must not lead to the file on the host (CVE-2019-5736).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use hoist_sys::mount::{Change, attribute};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::OpenTreeFlags;

const OWN: &str = "/proc/self/exe";
/// Name of a process that runs from the sealed form.
const SEALED_NAME: &str = "hoist-sealed";

/// This program's file on a detached read-only mount, or a sealed copy of it in memory where mounts are not allowed.
pub(crate) fn own_program() -> io::Result<OwnedFd> {
    let own = rustix::fs::open(OWN, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // The link leads to the mount namespace in which we were started, which need not be the present one.
    let mounted = mounted(Path::new(OWN)).or_else(|_| mounted(&std::env::current_exe()?));
    let is_own = |program: &OwnedFd| {
        let (program, own) = (rustix::fs::fstat(program)?, rustix::fs::fstat(&own)?);
        io::Result::Ok((program.st_dev, program.st_ino) == (own.st_dev, own.st_ino))
    };
    match mounted {
        Ok(program) if is_own(&program)? => Ok(program),
        _ => copied(),
    }
}

/// Executes this program once more from its sealed form, with the same arguments, unless it runs from there already.
/// Returns only if it does, or with what is in the way.
pub(crate) fn ensure() -> io::Result<()> {
    if is_sealed()? {
        return Ok(());
    }
    let mut arguments = std::env::args_os();
    if arguments.next().is_some_and(|name| name == SEALED_NAME) {
        return Err(io::Error::other("its sealed form can be written to"));
    }
    let program = own_program()?;
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    Err(Command::new(path).arg0(SEALED_NAME).args(arguments).exec())
}

fn is_sealed() -> io::Result<bool> {
    let own = rustix::fs::open(OWN, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let is_read_only = rustix::fs::fstatvfs(&own)?.f_flag.contains(StatVfsMountFlags::RDONLY);
    // Only files in memory have seals.
    Ok(is_read_only || rustix::fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

fn mounted(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = rustix::mount::open_tree(rustix::fs::CWD, path, flags)?;
    let set = attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEV;
    hoist_sys::mount::set_attributes(program.as_fd(), Change { set, ..Change::default() })?;
    Ok(program)
}

fn copied() -> io::Result<OwnedFd> {
    let copy = rustix::fs::memfd_create("hoist", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut copy = File::from(copy);
    io::copy(&mut File::open(OWN)?, &mut copy)?;
    rustix::fs::fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    // The kernel executes no file that is open for writing.
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_this_program_and_cannot_be_written() {
        let own = std::fs::read(OWN).unwrap();
        let forms = [("copy", copied()), ("mount", mounted(Path::new(OWN)))];
        for (name, program) in forms {
            let program = match program {
                Err(_) if name == "mount" && !rustix::process::geteuid().is_root() => continue,
                program => program.unwrap(),
            };
            let path = format!("/proc/self/fd/{}", program.as_raw_fd());
            assert!(std::fs::read(&path).unwrap() == own, "{name}");
            let written =
                File::options().write(true).open(&path).and_then(|mut file| io::Write::write_all(&mut file, b"x"));
            assert!(written.is_err(), "{name}");
        }
        assert_eq!(own, std::fs::read(OWN).unwrap());
    }
}
