//! `src:dst[:options]`, Docker's `-v`: what is allowed, in Docker's words.

use super::{clean_target, why_no_target};
use crate::error::{Error, Result};

pub(super) const PROPAGATIONS: [&str; 6] = ["rshared", "rslave", "rprivate", "shared", "slave", "private"];

/// Options that exclude each other, by what they are about.
const EXCLUSIVE: [&[&str]; 5] = [
    &["ro", "rw", "rro"],
    &["z", "Z"],
    &PROPAGATIONS,
    &["nocopy", "copy"],
    &["cached", "consistent", "delegated", "default"],
];

#[derive(Debug)]
pub(super) struct Bind {
    /// A path of the host or a volume's name.
    pub(super) source: String,
    pub(super) destination: String,
    pub(super) options: Vec<String>,
}

pub(super) fn parse(text: &str) -> Result<Bind> {
    let bad = |why: &str| Error::invalid(format!("invalid volume specification: '{text}'{why}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(bad("")),
    };
    if source.is_empty() {
        return Err(bad(""));
    }
    let options: Vec<String> = mode.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    let is_one_of = |set: &[&str]| options.iter().filter(|option| set.contains(&option.as_str())).count();
    let known: usize = EXCLUSIVE.iter().map(|set| is_one_of(set)).sum();
    if known != options.len() || EXCLUSIVE.iter().any(|set| is_one_of(set) > 1) {
        return Err(Error::invalid(format!("invalid mode: {mode}")));
    }
    let (kind, foreign, field) = if source.starts_with('/') {
        ("bind", is_one_of(EXCLUSIVE[3]), "VolumeOptions")
    } else {
        ("volume", is_one_of(&PROPAGATIONS), "BindOptions")
    };
    let config = |why: &str| bad(&format!(": invalid mount config for type {kind:?}: {why}"));
    let destination = clean_target(target).ok_or_else(|| config(&why_no_target(target)))?;
    if foreign > 0 {
        return Err(config(&format!("field {field} must not be specified")));
    }
    Ok(Bind { source: source.to_owned(), destination, options })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_refused_in_dockers_words() {
        let text = |spec: &str| parse(spec).unwrap_err().message;
        assert_eq!(text("/a:/x:foo"), "invalid mode: foo");
        assert_eq!(text("/a:/x:ro,rw"), "invalid mode: ro,rw");
        assert_eq!(text("/a:/x:z,Z"), "invalid mode: z,Z");
        assert!(
            text("/a:/")
                .ends_with(": invalid mount config for type \"bind\": invalid specification: destination can't be '/'")
        );
        assert!(text("/a:x").ends_with("invalid mount path: 'x' mount path must be absolute"));
        assert!(text("/a:/x:nocopy").ends_with("type \"bind\": field VolumeOptions must not be specified"));
        assert!(text("ab:/x:rslave").ends_with("type \"volume\": field BindOptions must not be specified"));
        assert_eq!(text("/a:/b:ro:rw"), "invalid volume specification: '/a:/b:ro:rw'");
        for bad in ["/a", "/a:b", "/a:/", ":/b", "/a:/b:zz", "a:b:c:d"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("/a:/x/../y:ro,rslave").unwrap().destination, "/y");
    }
}
