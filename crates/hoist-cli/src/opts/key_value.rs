//! Environment, labels, and the files that hold them.

use std::{collections::BTreeMap, fs::File, io::Read};

use serde_json::{Map, Value};

use crate::{
    app::{open_error, read_error},
    env,
};

/// Longest environment or label file.
const FILE_LIMIT: u64 = 16 << 20;

pub(crate) fn check_env(text: &str) -> Result<(), String> {
    match text.split('=').next() {
        Some("") | None => Err(format!("invalid environment variable: {text}")),
        Some(_) => Ok(()),
    }
}

pub(crate) fn check_label(text: &str) -> Result<(), String> {
    let key = text.split('=').next().unwrap_or_default().trim_start_matches([' ', '\t']);
    if key.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    if key.contains([' ', '\t']) {
        return Err(format!("label '{key}' contains whitespaces"));
    }
    Ok(())
}

/// `--env-file` and `--env`: later ones win in the engine. A name alone takes our own variable's value; an unset one
/// is passed as it is in a flag and left out in a file.
pub(crate) fn environment(files: &[&str], flags: &[&str]) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for path in files {
        out.extend(read_file(path, true)?);
    }
    for flag in flags {
        out.push(match (flag.contains('='), env::passed_on(flag)) {
            (false, Some(value)) => format!("{flag}={value}"),
            _ => (*flag).to_owned(),
        });
    }
    Ok(out)
}

/// Adds variables that the flags have not set, nor asked to leave out.
pub(crate) fn add_unnamed(environment: &mut Vec<String>, flags: &[&str], variables: &[(String, String)]) {
    let is_named = |name: &str| flags.iter().any(|flag| flag.split('=').next() == Some(name));
    let added = variables.iter().filter(|(name, _)| !is_named(name));
    environment.extend(added.map(|(name, value)| format!("{name}={value}")));
}

/// `--label-file` and `--label` as the map the API takes.
pub(crate) fn labels(files: &[&str], flags: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let mut lines = Vec::new();
    for path in files {
        lines.extend(read_file(path, false)?);
    }
    lines.extend(flags.iter().map(|flag| (*flag).to_owned()));
    Ok(map(lines.iter().map(String::as_str)))
}

/// `key=value` pairs as a map; a key alone has an empty value.
pub(crate) fn map<'a>(pairs: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
    let split = |pair: &'a str| pair.split_once('=').unwrap_or((pair, ""));
    pairs.into_iter().map(split).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(crate) fn json_map(pairs: BTreeMap<String, String>) -> Value {
    Value::Object(pairs.into_iter().map(|(key, value)| (key, Value::String(value))).collect::<Map<_, _>>())
}

fn read_file(path: &str, is_env: bool) -> Result<Vec<String>, String> {
    let file = File::open(path).map_err(|why| open_error(path, &why))?;
    let mut bytes = Vec::new();
    let length = file.take(FILE_LIMIT + 1).read_to_end(&mut bytes);
    let length = length.map_err(|why| format!("invalid env file ({path}): {}", read_error(path, &why)))?;
    if length as u64 > FILE_LIMIT {
        return Err(format!("invalid env file ({path}): it has more than {FILE_LIMIT} bytes"));
    }
    parse_file(path, &bytes, is_env)
}

pub(crate) fn parse_file(path: &str, bytes: &[u8], is_env: bool) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Ok(line) = std::str::from_utf8(line) else {
            let bytes: Vec<String> = line.iter().map(u8::to_string).collect();
            let bytes = bytes.join(" ");
            return Err(format!("invalid env file ({path}): invalid utf8 bytes at line {}: [{bytes}]", number + 1));
        };
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line, None),
        };
        if name.trim_end() != name || name.contains(char::is_whitespace) {
            return Err(format!("invalid env file ({path}): variable '{name}' contains whitespaces"));
        }
        if name.is_empty() {
            return Err(format!("invalid env file ({path}): no variable name on line '{line}'"));
        }
        match (value, is_env) {
            (Some(_), _) => out.push(line.to_owned()),
            (None, true) => out.extend(env::passed_on(name).map(|value| format!("{name}={value}"))),
            // a label without a value is none
            (None, false) => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_skip_comments_and_take_values_as_they_are() {
        let text = b"\xef\xbb\xbf# c\r\nA=1 # kept\r\n\n  B=\"x\"\nC=\nHOIST_TEST_SURELY_UNSET\n";
        assert_eq!(parse_file("f", text, true).unwrap(), ["A=1 # kept", "B=\"x\"", "C="]);
        assert_eq!(parse_file("f", b"only\na=\n", false).unwrap(), ["a="]);
        assert!(parse_file("f", b"A B=1", true).unwrap_err().contains("contains whitespaces"));
        assert!(parse_file("f", b"=1", true).unwrap_err().contains("no variable name"));
        assert!(parse_file("f", b"a=\xff", true).unwrap_err().ends_with("invalid utf8 bytes at line 1: [97 61 255]"));
    }

    #[test]
    fn a_directory_is_no_file_of_variables() {
        let why = "invalid env file (/): read /: is a directory";
        assert_eq!(environment(&["/"], &[]).unwrap_err(), why);
        assert_eq!(labels(&["/"], &[]).unwrap_err(), why);
        assert_eq!(environment(&["/no/such"], &[]).unwrap_err(), "open /no/such: no such file or directory");
    }

    #[test]
    fn empty_names_are_refused() {
        assert!(check_env("=x").is_err() && check_env("A").is_ok());
        assert!(check_label("=x").is_err() && check_label("a b=c").is_err() && check_label("a=b c").is_ok());
    }
}
