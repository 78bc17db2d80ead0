//! Volume names and the local driver's options (`type`, `o`, `device`): what is legal, and what to mount for them.

use std::collections::BTreeMap;

use crate::Error;

/// What to mount for a volume made with `type`, `o` and `device`; the fields are those of mount(8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// Filesystem type: `tmpfs`, `nfs`, `ext4`, …; `none` (or empty) with the option `bind`.
    pub fstype: String,
    /// What is mounted; for bind mounts an absolute path.
    pub source: String,
    /// The options of `o`, split at commas, in order.
    pub options: Vec<String>,
}

impl MountSpec {
    /// Whether a directory of the host is bind mounted.
    pub fn is_bind(&self) -> bool {
        self.options.iter().any(|option| option == "bind" || option == "rbind")
    }
}

pub(crate) fn mount_spec(options: &BTreeMap<String, String>) -> Option<MountSpec> {
    let value = |key: &str| options.get(key).cloned().unwrap_or_default();
    let (fstype, source) = (value("type"), value("device"));
    if fstype.is_empty() && source.is_empty() {
        return None;
    }
    let options = value("o").split(',').map(str::trim).filter(|o| !o.is_empty()).map(str::to_owned).collect();
    Some(MountSpec { fstype, source, options })
}

/// Docker's rule for names, with its texts.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if name.len() < 2 {
        let text = "volume name is too short, names should be at least two alphanumeric characters";
        return Err(Error::Invalid(format!("create {name}: {text}")));
    }
    let legal = name
        .bytes()
        .enumerate()
        .all(|(index, byte)| byte.is_ascii_alphanumeric() || (index > 0 && matches!(byte, b'_' | b'.' | b'-')));
    // Longer names cannot be directories (NAME_MAX), whatever they consist of.
    if !legal || name.len() > 255 {
        return Err(Error::Invalid(format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        )));
    }
    Ok(())
}

pub(crate) fn check(name: &str, options: &BTreeMap<String, String>) -> Result<(), Error> {
    let invalid = |text: String| Err(Error::Invalid(format!("create {name}: {text}")));
    for key in options.keys() {
        match key.as_str() {
            "type" | "o" | "device" => {}
            "size" => return invalid("quota size requested but no quota support".to_owned()),
            _ => return invalid(format!("invalid option: {key:?}")),
        }
    }
    if options.is_empty() {
        return Ok(());
    }
    for required in ["device", "type"] {
        if options.get(required).is_none_or(String::is_empty) {
            return invalid(format!("missing required option: {required:?}"));
        }
    }
    match mount_spec(options) {
        Some(spec) if spec.is_bind() && !spec.source.starts_with('/') => {
            invalid(format!("invalid option: \"device\": bind mounts need an absolute path, got {:?}", spec.source))
        }
        _ => Ok(()),
    }
}
