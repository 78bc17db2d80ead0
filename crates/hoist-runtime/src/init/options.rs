//! Mount options of the OCI spec: which are attributes of the mount, which propagation, which data for the filesystem.

use hoist_sys::mount::{Change, Propagation, attribute};

/// A parsed option list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Attributes of the mount itself.
    pub(crate) top: Change,
    /// Attributes of the whole tree (`rro` and its like).
    pub(crate) tree: Change,
    /// Propagation and whether it is for the whole tree.
    pub(crate) propagation: Option<(Propagation, bool)>,
    /// `bind` or `rbind` (true).
    pub(crate) bind: Option<bool>,
    /// `tmpcopyup`: a tmpfs starts with what was there.
    pub(crate) copy_up: bool,
    /// `idmap` or `ridmap` (true): owners are shown through a user namespace's maps.
    pub(crate) map_owners: Option<bool>,
    /// What is for the filesystem: `key` or `key=value`.
    pub(crate) data: Vec<(String, Option<String>)>,
}

/// Options that set and clear an attribute (mount(8)).
const ATTRIBUTES: &[(&str, u64, bool)] = &[
    ("ro", attribute::READ_ONLY, true),
    ("rw", attribute::READ_ONLY, false),
    ("nosuid", attribute::NO_SUID, true),
    ("suid", attribute::NO_SUID, false),
    ("nodev", attribute::NO_DEV, true),
    ("dev", attribute::NO_DEV, false),
    ("noexec", attribute::NO_EXEC, true),
    ("exec", attribute::NO_EXEC, false),
    ("nodiratime", attribute::NO_DIRECTORY_ACCESS_TIME, true),
    ("diratime", attribute::NO_DIRECTORY_ACCESS_TIME, false),
    ("nosymfollow", attribute::NO_SYMLINK_FOLLOW, true),
    ("symfollow", attribute::NO_SYMLINK_FOLLOW, false),
];

/// Access times are one field with three values; the opposites go back to the kernel's default.
const ACCESS_TIMES: &[(&str, u64)] = &[
    ("relatime", attribute::RELATIVE_ACCESS_TIME),
    ("norelatime", attribute::RELATIVE_ACCESS_TIME),
    ("noatime", attribute::NO_ACCESS_TIME),
    ("atime", attribute::RELATIVE_ACCESS_TIME),
    ("strictatime", attribute::STRICT_ACCESS_TIME),
    ("nostrictatime", attribute::RELATIVE_ACCESS_TIME),
];

const PROPAGATIONS: &[(&str, Propagation)] = &[
    ("private", Propagation::Private),
    ("shared", Propagation::Shared),
    ("slave", Propagation::Slave),
    ("unbindable", Propagation::Unbindable),
];

/// Words that ask for nothing.
const NOTHING: &[&str] = &["defaults", "async", "nomand", "norelatime", "loud", "nolazytime"];

/// What runc knows and we do not do; accepting it silently would be worse.
const REFUSED: &[&str] = &["remount", "mand", "iversion", "noiversion"];

impl Options {
    /// The error is for the user.
    pub(crate) fn parse(options: &[String]) -> Result<Options, String> {
        let mut parsed = Options::default();
        for option in options {
            parsed.add(option)?;
        }
        Ok(parsed)
    }

    fn add(&mut self, option: &str) -> Result<(), String> {
        if let Some((name, _)) = option.split_once('=')
            && (REFUSED.contains(&name) || matches!(name, "idmap" | "ridmap"))
        {
            return Err(format!("mount option {option:?} is not supported"));
        }
        if option.is_empty() || NOTHING.contains(&option) {
            return Ok(());
        }
        if REFUSED.contains(&option) {
            return Err(format!("mount option {option:?} is not supported"));
        }
        match option {
            "bind" => self.bind = Some(false),
            "rbind" => self.bind = Some(true),
            "idmap" => self.map_owners = Some(false),
            "ridmap" => self.map_owners = Some(true),
            "tmpcopyup" => self.copy_up = true,
            _ if apply_attribute(&mut self.top, option) => {}
            _ if self.set_propagation(option) => {}
            _ if option.strip_prefix('r').is_some_and(|rest| apply_attribute(&mut self.tree, rest)) => {}
            _ => self.data.push(match option.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (option.to_owned(), None),
            }),
        }
        Ok(())
    }

    fn set_propagation(&mut self, option: &str) -> bool {
        for (name, propagation) in PROPAGATIONS {
            if option == *name {
                self.propagation = Some((*propagation, false));
                return true;
            }
            if option.strip_prefix('r') == Some(name) {
                self.propagation = Some((*propagation, true));
                return true;
            }
        }
        false
    }

    /// The value of a data option.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.data.iter().rev().find(|(name, _)| name == key).and_then(|(_, value)| value.as_deref())
    }
}

/// Whether the option was one of an attribute. The last of contradicting options wins.
fn apply_attribute(change: &mut Change, option: &str) -> bool {
    if let Some((_, bits, set)) = ATTRIBUTES.iter().find(|(name, ..)| *name == option) {
        if *set {
            change.set |= bits;
            change.clear &= !bits;
        } else {
            change.set &= !bits;
            change.clear |= bits;
        }
        return true;
    }
    if let Some((_, value)) = ACCESS_TIMES.iter().find(|(name, _)| *name == option) {
        change.clear |= attribute::ACCESS_TIME_MASK;
        change.set = change.set & !attribute::ACCESS_TIME_MASK | value;
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Options {
        Options::parse(&options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn attributes_propagation_and_data_are_told_apart() {
        let parsed = parse(&["rbind", "ro", "nosuid", "rprivate", "rro", "size=64k", "mode=1777", "noswap"]);
        assert_eq!(parsed.bind, Some(true));
        assert_eq!(parsed.top.set, attribute::READ_ONLY | attribute::NO_SUID);
        assert_eq!(parsed.tree.set, attribute::READ_ONLY);
        assert_eq!(parsed.propagation, Some((Propagation::Private, true)));
        assert_eq!(parsed.value("mode"), Some("1777"));
        assert_eq!(parsed.data[2], ("noswap".to_owned(), None));
    }

    #[test]
    fn the_last_of_contradicting_options_wins() {
        assert_eq!(parse(&["ro", "rw"]).top, Change { clear: attribute::READ_ONLY, ..Change::default() });
        let times = parse(&["noatime", "strictatime"]).top;
        assert_eq!((times.set, times.clear), (attribute::STRICT_ACCESS_TIME, attribute::ACCESS_TIME_MASK));
    }

    #[test]
    fn what_is_not_done_is_refused() {
        assert!(Options::parse(&["idmap=uids=0-1-1".to_owned()]).unwrap_err().contains("idmap"));
        assert!(Options::parse(&["remount".to_owned()]).is_err());
    }
}
