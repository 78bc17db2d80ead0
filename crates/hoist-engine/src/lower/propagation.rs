//! Whether the host lets mounts below a bind's source reach a container, as its propagation asks for.

use std::path::Path;

use crate::container::record::MountRecord;
use crate::error::{Error, Result};

/// Refuses a bind whose source is on a mount that nothing spreads from, in Docker's words.
pub(super) fn check(mount: &MountRecord) -> Result<()> {
    let (wanted, what): (&[&str], _) = match mount.point.propagation.as_str() {
        "shared" | "rshared" => (&["shared:"], "a shared mount"),
        "slave" | "rslave" => (&["shared:", "master:"], "a shared or slave mount"),
        _ => return Ok(()),
    };
    let failed = |e| Error::internal(format!("cannot look up the mount of {}: {e}", mount.source.display()));
    let source = mount.source.canonicalize().map_err(failed)?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
    match mount_of(&table, &source) {
        Some((point, options)) if !options.split(' ').any(|o| wanted.iter().any(|wanted| o.starts_with(wanted))) => {
            let source = mount.source.display();
            Err(Error::internal(format!("path {source} is mounted on {point} but it is not {what}")))
        }
        _ => Ok(()),
    }
}

/// The mount that a path is on, in a table of proc_pid_mountinfo(5): its place and its optional fields.
fn mount_of<'t>(table: &'t str, path: &Path) -> Option<(String, &'t str)> {
    let mounts = table.lines().filter_map(|line| {
        let (mount, _) = line.split_once(" -")?;
        let mut fields = mount.splitn(7, ' ').skip(4);
        let (point, _) = (hoist_sys::mount::unescape(fields.next()?), fields.next()?);
        path.starts_with(&point).then(|| (point, fields.next().unwrap_or_default()))
    });
    // Of several in one place the last is on top.
    mounts.max_by_key(|(point, _)| point.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
23 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
31 23 0:28 / /tmp rw - tmpfs tmpfs rw
32 23 0:29 / /a\\040b rw,nosuid master:3 propagate_from:2 - tmpfs tmpfs rw
";

    #[test]
    fn a_path_is_on_the_mount_with_the_longest_name() {
        let of = |path: &str| mount_of(TABLE, Path::new(path)).unwrap();
        assert_eq!(of("/tmpfiles/x"), ("/".to_owned(), "shared:1"));
        assert_eq!(of("/tmp/x"), ("/tmp".to_owned(), ""));
        assert_eq!(of("/a b"), ("/a b".to_owned(), "master:3 propagate_from:2"));
    }
}
