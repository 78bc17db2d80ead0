//! ARCHITECTURE.md against the workspace: the crate table names every crate with its real edges, and every file or test
//! that the text names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Findings;

pub(crate) fn check(root: &Path, metadata: &Value, findings: &mut Findings) -> Result<()> {
    let path = root.join("ARCHITECTURE.md");
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();

    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(row) = text.lines().find(|line| line.starts_with(&format!("| `{name}` |"))) else {
            findings.violation(format!("ARCHITECTURE.md has no row for crate {name}"));
            continue;
        };
        let drawn: BTreeSet<&str> = quoted(row.split('|').nth(3).unwrap_or_default()).collect();
        let used = package["dependencies"].as_array().into_iter().flatten();
        let used: BTreeSet<&str> =
            used.filter_map(|edge| edge["name"].as_str()).filter(|used| names.contains(used)).collect();
        if drawn != used {
            findings.violation(format!("ARCHITECTURE.md says that {name} uses {drawn:?}, Cargo.toml says {used:?}"));
        }
    }
    for row in text.lines().filter_map(|line| line.strip_prefix("| `")) {
        let name = row.split('`').next().unwrap_or_default();
        if (name.starts_with("hoist") || name == "xtask") && !names.contains(name) {
            findings.violation(format!("ARCHITECTURE.md has a row for {name}, which is no crate"));
        }
    }
    for word in text.lines().flat_map(quoted) {
        let is_path = word.contains('/') && !word.starts_with('/') && word.ends_with(".rs");
        if is_path && !root.join(word).is_file() && !root.join("crates").join(word).is_file() {
            findings.violation(format!("ARCHITECTURE.md names {word}, which does not exist"));
        }
    }
    named_tests(root, &text, findings)
}

/// A row that ends in "kept by test `name`" must name a test function that exists.
fn named_tests(root: &Path, text: &str, findings: &mut Findings) -> Result<()> {
    let mut all = String::new();
    for file in super::sources::rust_files(root)? {
        all.push_str(&fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?);
    }
    for line in text.lines() {
        for named in line.split("test `").skip(1) {
            let test = named.split('`').next().unwrap_or_default();
            let function = test.rsplit("::").next().unwrap_or_default();
            if !all.contains(&format!("fn {function}(")) {
                findings.violation(format!("ARCHITECTURE.md names the test {test}, which does not exist"));
            }
        }
    }
    Ok(())
}

fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}
