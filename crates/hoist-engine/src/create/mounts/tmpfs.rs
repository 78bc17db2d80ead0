//! `--tmpfs` and mounts of type tmpfs: their options and records.

use std::path::PathBuf;

use hoist_api::container::MountPoint;
use hoist_api::host_config::TmpfsOptions;

use crate::container::record::MountRecord;
use crate::error::{Error, Result};

/// `--tmpfs /x:size=64m,mode=1777`.
pub(super) fn options(text: &str) -> Result<Vec<String>> {
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).to_vec();
    for option in text.split(',').filter(|o| !o.is_empty()) {
        let key = option.split('=').next().unwrap_or_default();
        let known = matches!(
            key,
            "size"
                | "mode"
                | "uid"
                | "gid"
                | "nr_inodes"
                | "nr_blocks"
                | "mpol"
                | "ro"
                | "rw"
                | "exec"
                | "noexec"
                | "suid"
                | "nosuid"
                | "dev"
                | "nodev"
                | "sync"
                | "async"
                | "dirsync"
                | "atime"
                | "noatime"
                | "diratime"
                | "nodiratime"
                | "relatime"
                | "norelatime"
                | "strictatime"
                | "nostrictatime"
                | "private"
                | "rprivate"
        );
        if !known {
            return Err(Error::invalid(format!("invalid tmpfs option \"{option}\"")));
        }
        let opposite = key.strip_prefix("no").map_or_else(|| format!("no{key}"), str::to_owned);
        options.retain(|o| *o != opposite && o != key);
        options.push(option.to_owned());
    }
    Ok(options)
}

pub(super) fn record(target: String, options: Vec<String>) -> MountRecord {
    let point = MountPoint {
        r#type: "tmpfs".to_owned(),
        destination: target,
        rw: !options.iter().any(|o| o == "ro"),
        ..MountPoint::default()
    };
    MountRecord { point, source: PathBuf::new(), subpath: String::new(), options, kind: "tmpfs".to_owned() }
}

/// The options of a `--mount type=tmpfs`.
pub(super) fn of_mount(given: &TmpfsOptions, read_only: bool) -> Vec<String> {
    let mut options = ["nosuid", "nodev", "noexec"].map(str::to_owned).to_vec();
    if given.size_bytes > 0 {
        options.push(format!("size={}", given.size_bytes));
    }
    if given.mode > 0 {
        options.push(format!("mode={:o}", given.mode & 0o7777));
    }
    options.extend(given.options.iter().flatten().map(|option| option.join("=")));
    if read_only {
        options.push("ro".to_owned());
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_options_override_the_defaults() {
        assert_eq!(options("exec,size=1m").unwrap(), ["nosuid", "nodev", "exec", "size=1m"]);
        assert!(options("bogus").is_err());
    }
}
