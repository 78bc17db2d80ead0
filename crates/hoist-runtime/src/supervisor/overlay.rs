//! The container's root as a detached mount: an overlay by the new mount API, or a directory.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use hoist_sys::mount::{self, Change, Propagation};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use crate::failure::{OrFail, Result};
use crate::init::RootSource;
use crate::launch::Rootfs;

/// fsconfig(2) takes strings of at most 256 bytes.
const MAX_STRING_BYTES: usize = 255;

pub(crate) fn open(rootfs: &Rootfs) -> Result<RootSource> {
    match rootfs {
        Rootfs::Directory(path) => directory(path).or_fail(|| format!("open rootfs {}", path.display())),
        Rootfs::Overlay { lower, upper, work, volatile } => {
            let overlay = Overlay { lower, upper, work, volatile: *volatile };
            if *volatile {
                overlay.forget_earlier_mount();
            }
            match overlay.mount().or_fail(|| format!("mount overlay of {}", upper.display()))? {
                Some(mount) => Ok(RootSource::Detached(mount)),
                None => Ok(overlay.legacy()),
            }
        }
    }
}

/// A copy of a shared mount would have all that is mounted in the container show up in the directory on the host, too.
fn directory(path: &Path) -> std::io::Result<RootSource> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let root = rustix::mount::open_tree(CWD, path, flags)?;
    let change = Change { propagation: Some(Propagation::Slave), recursive: true, ..Change::default() };
    mount::set_attributes(root.as_fd(), change)?;
    Ok(RootSource::Detached(root))
}

struct Overlay<'a> {
    lower: &'a [PathBuf],
    upper: &'a Path,
    work: &'a Path,
    volatile: bool,
}

impl Overlay<'_> {
    /// An earlier volatile mount leaves a mark that keeps later ones away, because the host may have crashed in between
    /// and lost a part of the changes. Who asks for volatile has taken that into account.
    fn forget_earlier_mount(&self) {
        let _ = std::fs::remove_dir_all(self.work.join("work/incompat/volatile"));
    }

    /// `None` when overlayfs of this kernel does not know `lowerdir+` (before 6.7).
    fn mount(&self) -> std::result::Result<Option<OwnedFd>, Errno> {
        if !knows_new_mount_api() {
            return Ok(None);
        }
        let context = match rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
            Err(Errno::NOSYS) => return Ok(None),
            result => result?,
        };
        rustix::mount::fsconfig_set_string(&context, "source", "overlay")?;
        // Long paths go by way of fds, which must stay open until the mount is made.
        let mut opened = Vec::new();
        for (index, layer) in self.lower.iter().enumerate() {
            match set_path(&context, "lowerdir+", layer, &mut opened) {
                Err(Errno::INVAL) if index == 0 => return Ok(None),
                result => result?,
            }
        }
        set_path(&context, "upperdir", self.upper, &mut opened)?;
        set_path(&context, "workdir", self.work, &mut opened)?;
        if self.volatile {
            rustix::mount::fsconfig_set_flag(&context, "volatile")?;
        }
        match rustix::mount::fsconfig_create(&context) {
            // Before 6.5 any option is taken down first and looked at only here. What is wrong in earnest mount(2) says.
            Err(Errno::INVAL) => return Ok(None),
            result => result?,
        }
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map(Some)
    }

    fn legacy(&self) -> RootSource {
        RootSource::Legacy {
            lower: self.lower.to_vec(),
            upper: self.upper.to_path_buf(),
            work: self.work.to_path_buf(),
            volatile: self.volatile,
        }
    }
}

/// Overlayfs got the new mount API in 6.5. Earlier ones would log a complaint for each try.
fn knows_new_mount_api() -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 5)
}

fn set_path(context: &OwnedFd, key: &str, path: &Path, opened: &mut Vec<OwnedFd>) -> std::result::Result<(), Errno> {
    if path.as_os_str().len() <= MAX_STRING_BYTES {
        return rustix::mount::fsconfig_set_string(context.as_fd(), key, path);
    }
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
    opened.push(fd);
    rustix::mount::fsconfig_set_string(context.as_fd(), key, name)
}
