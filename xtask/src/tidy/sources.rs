//! Rules that are seen in the text of the sources: heads, names, sizes, forbidden words, where `unsafe` may be.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Findings;

const FORBIDDEN_NAMES: [&str; 12] =
    ["utils", "util", "common", "core", "types", "helpers", "helper", "manager", "misc", "shared", "stuff", "base"];

/// Words that no source may contain outside this list's own file, with the reason.
const FORBIDDEN_WORDS: [(&str, &str); 5] = [
    ("todo!", "do it, or refuse with an error that names it"),
    ("unimplemented!", "do it, or refuse with an error that names it"),
    ("dbg!", "left from a search"),
    ("FIXME", "an issue has a number, a comment rots"),
    ("#[ignore", "a test runs, or it skips with a reason"),
];

const LINES_WARN: usize = 400;
const LINES_FAIL: usize = 800;
const FUNCTION_WARN: usize = 70;
const FUNCTION_FAIL: usize = 100;

pub(crate) fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for directory in ["crates", "xtask", "tests", "fuzz/fuzz_targets"] {
        walk(&root.join(directory), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("{}", directory.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

pub(crate) fn check(root: &Path, findings: &mut Findings) -> Result<()> {
    for path in rust_files(root)? {
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        check_file(&name, &text, findings);
    }
    Ok(())
}

fn check_file(name: &str, text: &str, findings: &mut Findings) {
    if !text.starts_with("//! ") {
        findings.violation(format!("{name}: does not start with a //! head that says what it owns"));
    }
    for part in Path::new(name).with_extension("").iter().filter_map(|part| part.to_str()) {
        if FORBIDDEN_NAMES.contains(&part) {
            findings.violation(format!("{name}: `{part}` says nothing; a thing has a name or goes where it is used"));
        }
    }
    let is_this_list = name.ends_with("xtask/src/tidy/sources.rs");
    for (number, line) in text.lines().enumerate().filter(|_| !is_this_list) {
        for (word, reason) in FORBIDDEN_WORDS {
            if line.contains(word) {
                findings.violation(format!("{name}:{}: `{word}`: {reason}", number + 1));
            }
        }
        if line.starts_with("#![allow(") && name.contains("/src/") {
            findings
                .violation(format!("{name}:{}: an exception stands where it is needed, not over a crate", number + 1));
        }
        if !name.starts_with("crates/hoist-sys/") && is_unsafe(line) {
            findings.violation(format!("{name}:{}: unsafe outside hoist-sys", number + 1));
        }
    }
    if name.starts_with("crates/") && name.ends_with("/src/lib.rs") && !name.starts_with("crates/hoist-sys/") {
        let forbids = text.lines().any(|line| line == "#![forbid(unsafe_code)]");
        if !forbids {
            findings.violation(format!("{name}: lacks #![forbid(unsafe_code)]"));
        }
    }
    if is_unit_test_file(name) {
        return;
    }
    let lines = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines().count();
    if lines > LINES_FAIL {
        findings.violation(format!("{name}: {lines} lines, {LINES_FAIL} is the hard end"));
    } else if lines > LINES_WARN {
        findings.warning(format!("{name}: {lines} lines"));
    }
    for (function, lines) in long_functions(text) {
        if lines > FUNCTION_FAIL {
            findings.violation(format!("{name}: fn {function} has {lines} lines, {FUNCTION_FAIL} is the hard end"));
        } else {
            findings.warning(format!("{name}: fn {function} has {lines} lines"));
        }
    }
}

fn is_unit_test_file(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.contains("/tests/") && name.starts_with("crates/")
}

/// Whether the line has the keyword in code (not in a comment, a string or an attribute's name).
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|form| code.contains(form))
        && !code.contains('"')
}

/// Functions longer than the aim. rustfmt has put a body's end on a line of its own with the indent of its `fn`.
fn long_functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let Some(name) = function_name(trimmed) else { continue };
        if line.ends_with('}') || line.ends_with(';') {
            continue;
        }
        let end = lines[start + 1..].iter().position(|line| {
            line.len() > indent && line.as_bytes()[indent] == b'}' && line[..indent].bytes().all(|byte| byte == b' ')
        });
        let count = end.map_or(0, |end| end + 2);
        if count > FUNCTION_WARN {
            found.push((name.to_string(), count));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let mut words = line.split(' ');
    loop {
        let word = words.next()?;
        match word {
            "fn" => return words.next()?.split(['(', '<']).next(),
            "pub" | "async" | "const" | "unsafe" | "extern" | "\"C\"" => {}
            word if word.starts_with("pub(") => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(name: &str, text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        check_file(name, text, &mut findings);
        findings.violations
    }

    #[test]
    fn a_file_without_a_head_or_with_an_empty_name_is_a_violation() {
        assert_eq!(violations("crates/hoist-x/src/a.rs", "fn main() {}\n").len(), 1);
        assert_eq!(violations("crates/hoist-x/src/utils.rs", "//! Head.\n").len(), 1);
        assert!(violations("crates/hoist-x/src/a.rs", "//! Head.\n").is_empty());
    }

    #[test]
    fn unsafe_is_allowed_in_one_crate_only() {
        let text = "//! Head.\nfn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(violations("crates/hoist-x/src/a.rs", text).len(), 1);
        assert!(violations("crates/hoist-sys/src/a.rs", text).is_empty());
    }

    #[test]
    fn a_function_is_measured_to_its_closing_brace() {
        let body = "        call();\n".repeat(101);
        let text = format!("//! Head.\nimpl A {{\n    pub(crate) async fn long(&self) {{\n{body}    }}\n}}\n");
        assert_eq!(long_functions(&text), [("long".to_string(), 103)]);
        assert_eq!(violations("crates/hoist-x/src/a.rs", &text).len(), 1);
    }
}
