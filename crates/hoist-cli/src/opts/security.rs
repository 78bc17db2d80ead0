//! `--security-opt`: profiles are read here and sent as JSON, because the engine may be elsewhere.

use std::{collections::BTreeSet, fs::File, io::Read};

use serde_json::Value;

use crate::{
    app::{open_error, read_error},
    flags::check::quote,
};

/// Longest seccomp profile.
const PROFILE_LIMIT: u64 = 16 << 20;

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Security {
    pub(crate) options: Vec<String>,
    /// `systempaths=unconfined`: nothing is masked or read-only.
    pub(crate) open_paths: bool,
}

pub(crate) fn parse(options: &[&str]) -> Result<Security, String> {
    let mut security = Security::default();
    for option in options {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None if *option != "no-new-privileges" => match option.split_once(':') {
                Some((key, value)) => (key, Some(value)),
                None => (*option, None),
            },
            None => (*option, None),
        };
        if value.is_none_or(str::is_empty) && key != "no-new-privileges" {
            return Err(format!("Invalid --security-opt: {}", quote(option)));
        }
        match (key, value) {
            ("seccomp", Some(path)) if !matches!(path, "unconfined" | "builtin") => {
                security.options.push(format!("seccomp={}", profile(path)?));
            }
            _ if *option == "systempaths=unconfined" => security.open_paths = true,
            _ => security.options.push((*option).to_owned()),
        }
    }
    Ok(security)
}

/// Capabilities to add and to drop, under their full names: adding wins over dropping, `ALL` over the others.
pub(crate) fn capabilities(add: &[&str], drop: &[&str]) -> (Vec<String>, Vec<String>) {
    let (add, mut drop) = (full_names(add), full_names(drop));
    drop.retain(|name| !add.contains(name));
    (add.into_iter().collect(), drop.into_iter().collect())
}

fn full_names(names: &[&str]) -> BTreeSet<String> {
    let full = |name: &&str| {
        let upper = name.trim().to_uppercase();
        match upper.as_str() {
            "ALL" => upper,
            name if name.starts_with("CAP_") => upper,
            _ => format!("CAP_{upper}"),
        }
    };
    let names: BTreeSet<String> = names.iter().map(full).collect();
    if names.contains("ALL") { BTreeSet::from(["ALL".to_owned()]) } else { names }
}

fn profile(path: &str) -> Result<String, String> {
    let failed = |why: String| format!("opening seccomp profile ({path}) failed: {why}");
    let file = File::open(path).map_err(|why| failed(open_error(path, &why)))?;
    let mut text = String::new();
    let length = file.take(PROFILE_LIMIT + 1).read_to_string(&mut text);
    if length.map_err(|why| failed(read_error(path, &why)))? as u64 > PROFILE_LIMIT {
        return Err(failed("file is too long".to_owned()));
    }
    let parsed: Value = serde_json::from_str(&text)
        .map_err(|why| format!("compacting json for seccomp profile ({path}) failed: {why}"))?;
    Ok(parsed.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_full_names_and_adding_wins() {
        let (add, drop) = capabilities(&["net_admin", "CAP_SYS_TIME"], &["ALL", "KILL", "NET_ADMIN"]);
        assert_eq!((add.join(" "), drop.join(" ")), ("CAP_NET_ADMIN CAP_SYS_TIME".to_owned(), "ALL".to_owned()));
        let (add, drop) = capabilities(&["kill"], &["kill", "chown"]);
        assert_eq!((add.join(" "), drop.join(" ")), ("CAP_KILL".to_owned(), "CAP_CHOWN".to_owned()));
    }

    #[test]
    fn profiles_are_sent_as_json() {
        let path = std::env::temp_dir().join(format!("hoist-seccomp-{}.json", std::process::id()));
        std::fs::write(&path, "{ \"defaultAction\":\n \"SCMP_ACT_ALLOW\" }").unwrap();
        let option = format!("seccomp={}", path.display());
        let parsed = parse(&[&option, "label:disable", "systempaths=unconfined", "no-new-privileges"]).unwrap();
        assert_eq!(
            parsed.options,
            ["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}", "label:disable", "no-new-privileges"]
        );
        assert!(parsed.open_paths);
        std::fs::remove_file(&path).unwrap();
        assert!(parse(&[&option]).unwrap_err().contains("no such file or directory"));
        assert_eq!(parse(&["seccomp=/"]).unwrap_err(), "opening seccomp profile (/) failed: read /: is a directory");
        assert_eq!(parse(&["foo"]).unwrap_err(), "Invalid --security-opt: \"foo\"");
    }
}
