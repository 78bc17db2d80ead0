//! Hostile trees: nothing outside of the root is opened or made.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Tree {
        let path = std::env::temp_dir().join(format!("hoist-rootfs-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("root")).unwrap();
        fs::create_dir_all(path.join("outside")).unwrap();
        Tree(path)
    }

    fn root(&self) -> OwnedFd {
        open_root(&self.0.join("root")).unwrap()
    }

    fn outside_is_empty(&self) -> bool {
        fs::read_dir(self.0.join("outside")).unwrap().next().is_none()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn links_that_point_out_of_the_root_stay_inside_of_it() {
    let tree = Tree::new("links");
    let outside = tree.0.join("outside");
    symlink(&outside, tree.0.join("root/absolute")).unwrap();
    symlink("../../../../outside", tree.0.join("root/relative")).unwrap();
    for path in ["/absolute/a/b", "relative/a/b", "/../../outside/c", "absolute/../../../outside/d"] {
        make_directories(tree.root().as_fd(), Path::new(path), Mode::from_raw_mode(0o755)).unwrap();
        mount_point(tree.root().as_fd(), &Path::new(path).join("file"), Kind::File).unwrap();
    }
    assert!(tree.outside_is_empty());
    let inside = tree.0.join("root").join(outside.strip_prefix("/").unwrap());
    assert!(inside.join("a/b/file").is_file());
}

#[test]
fn a_file_behind_a_dangling_link_is_made_inside() {
    let tree = Tree::new("dangling");
    symlink(tree.0.join("outside/new"), tree.0.join("root/link")).unwrap();
    mount_point(tree.root().as_fd(), Path::new("/link"), Kind::File).unwrap();
    assert!(tree.outside_is_empty());
    symlink("loop", tree.0.join("root/loop")).unwrap();
    let error = mount_point(tree.root().as_fd(), Path::new("/loop"), Kind::File).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
}

#[test]
fn the_wrong_kind_of_mount_point_is_refused() {
    let tree = Tree::new("kind");
    fs::create_dir(tree.0.join("root/dir")).unwrap();
    fs::write(tree.0.join("root/file"), "").unwrap();
    let root = tree.root();
    let error = mount_point(root.as_fd(), Path::new("/dir"), Kind::File).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
    let error = mount_point(root.as_fd(), Path::new("/file"), Kind::Directory).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR));
}

#[test]
fn magic_links_are_not_followed() {
    let root = open_root(Path::new("/")).unwrap();
    let error = open_in_root(root.as_fd(), Path::new("/proc/self/root/etc"), OFlags::PATH).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
}
