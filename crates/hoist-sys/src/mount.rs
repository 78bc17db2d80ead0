//! mount_setattr(2), which rustix does not have, and the notation of mount tables. The rest of the mount API (fsopen, open_tree, move_mount) is safe there.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::syscall;

/// Mount attributes (`MOUNT_ATTR_…`), a set of bits.
pub mod attribute {
    pub const READ_ONLY: u64 = 0x1;
    pub const NO_SUID: u64 = 0x2;
    pub const NO_DEV: u64 = 0x4;
    pub const NO_EXEC: u64 = 0x8;
    /// The field of access time settings; clear it when one of them is set.
    pub const ACCESS_TIME_MASK: u64 = 0x70;
    pub const RELATIVE_ACCESS_TIME: u64 = 0x0;
    pub const NO_ACCESS_TIME: u64 = 0x10;
    pub const STRICT_ACCESS_TIME: u64 = 0x20;
    pub const NO_DIRECTORY_ACCESS_TIME: u64 = 0x80;
    pub const NO_SYMLINK_FOLLOW: u64 = 0x20_0000;
}

/// How mount events spread (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Shared,
    Slave,
    Unbindable,
}

/// A change of a mount's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub set: u64,
    pub clear: u64,
    pub propagation: Option<Propagation>,
    /// The whole tree below as well.
    pub recursive: bool,
}

#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the mount whose root `fd` is.
pub fn set_attributes(fd: BorrowedFd<'_>, change: Change) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: match change.propagation {
            None => 0,
            Some(Propagation::Private) => libc::MS_PRIVATE,
            Some(Propagation::Shared) => libc::MS_SHARED,
            Some(Propagation::Slave) => libc::MS_SLAVE,
            Some(Propagation::Unbindable) => libc::MS_UNBINDABLE,
        },
        userns_fd: 0,
    };
    set(fd, &attr, change.recursive)
}

/// Shows the owners of files in the detached mount whose root `fd` is through the maps of a user namespace.
pub fn map_owners(fd: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
    let userns_fd = user_namespace.as_raw_fd() as u64;
    set(fd, &MountAttr { attr_set: MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd }, recursive)
}

fn set(fd: BorrowedFd<'_>, attr: &MountAttr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, `attr` a valid struct mount_attr of the size told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const *attr,
            size_of::<MountAttr>(),
        )
    };
    syscall::check(result).map(drop)
}

/// A field of a table of mounts (`/proc/self/mountinfo`): blanks, tabs, line ends and backslashes are three octal digits
/// there.
pub fn unescape(field: &str) -> String {
    // Backslashes last: what follows them is no escape.
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(field.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[cfg(test)]
mod tests {
    #[test]
    fn blanks_and_backslashes_of_a_mount_table_are_read() {
        assert_eq!(super::unescape("/a\\040b\\011\\012\\134040"), "/a b\t\n\\040");
    }
}
