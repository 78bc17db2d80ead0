//! Which crate may use which, and which dependency lives where. ARCHITECTURE.md draws the same picture.
//!
//! WHEN CHANGING AN EDGE: change the drawing in ARCHITECTURE.md in the same commit.

use serde_json::Value;

use super::Findings;

/// Each crate with the crates of the workspace that it may use. Edges point down only.
pub(crate) const EDGES: &[(&str, &[&str])] = &[
    ("hoist-api", &[]),
    ("hoist-sys", &[]),
    ("hoist-db", &[]),
    ("hoist-image", &["hoist-api", "hoist-db", "hoist-sys"]),
    ("hoist-registry", &["hoist-api", "hoist-db", "hoist-image"]),
    ("hoist-runtime", &["hoist-api", "hoist-sys"]),
    ("hoist-network", &["hoist-api", "hoist-db", "hoist-sys"]),
    ("hoist-volume", &["hoist-api", "hoist-db", "hoist-sys"]),
    (
        "hoist-engine",
        &["hoist-api", "hoist-db", "hoist-sys", "hoist-image", "hoist-runtime", "hoist-network", "hoist-volume"],
    ),
    (
        "hoist-daemon",
        &[
            "hoist-api",
            "hoist-db",
            "hoist-engine",
            "hoist-image",
            "hoist-runtime",
            "hoist-network",
            "hoist-sys",
            "hoist-volume",
        ],
    ),
    ("hoist-client", &["hoist-api"]),
    ("hoist-cli", &["hoist-api", "hoist-client"]),
    ("hoist", &["hoist-cli", "hoist-daemon", "hoist-registry", "hoist-runtime"]),
    // The suite drives the product from outside, as its users do.
    ("hoist-tests", &[]),
    ("xtask", &[]),
];

/// Dependencies with few homes. `libc` is where raw system calls are, the others are heavy or say which layer one is in.
const HOMES: &[(&str, &[&str])] = &[
    ("libc", &["hoist-sys"]),
    ("clap", &["hoist-cli", "hoist-daemon", "hoist-registry"]),
    ("clap_complete", &["hoist-cli"]),
    ("indicatif", &["hoist-cli"]),
    ("hyper", &["hoist-image", "hoist-registry", "hoist-daemon"]),
    ("hyper-util", &["hoist-image", "hoist-registry", "hoist-daemon"]),
    ("rustls", &["hoist-image", "hoist-registry", "hoist-daemon"]),
    ("rustls-native-certs", &["hoist-image"]),
    ("rustls-webpki", &["hoist-image"]),
    ("ring", &["hoist-image"]),
    ("x509-cert", &["hoist-image"]),
    ("bcrypt", &["hoist-registry"]),
    ("hickory-resolver", &["hoist-image"]),
    ("bzip2", &["hoist-image"]),
    ("libdeflater", &["hoist-image"]),
    ("liblzma", &["hoist-image"]),
    ("zstd", &["hoist-image"]),
    ("flate2", &["hoist-engine", "hoist-image", "hoist-runtime"]),
    ("netlink-packet-route", &["hoist-network"]),
    // What is below the engine blocks, the CLI starts in a few milliseconds: no async runtime there.
    ("tokio", &["hoist-image", "hoist-registry", "hoist-engine", "hoist-daemon"]),
];

pub(crate) fn check(metadata: &Value, findings: &mut Findings) {
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
            findings
                .violation(format!("crate {name} is not in the picture (xtask/src/tidy/edges.rs, ARCHITECTURE.md)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let is_for_tests = dependency["kind"] == "dev";
            if EDGES.iter().any(|(known, _)| *known == used) && !allowed.contains(&used) {
                findings.violation(format!("{name} may not use {used}"));
            }
            let home = HOMES.iter().find(|(dependency, _)| *dependency == used);
            if let Some((_, homes)) = home
                && !is_for_tests
                && name.starts_with("hoist")
                && name != "hoist-tests"
                && !homes.contains(&name)
            {
                findings.violation(format!("{name} may not use {used}, whose homes are: {}", homes.join(", ")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(package: &str, dependency: &str, kind: Value) -> Vec<String> {
        let dependencies = serde_json::json!([{ "name": dependency, "kind": kind }]);
        let metadata = serde_json::json!({ "packages": [{ "name": package, "dependencies": dependencies }] });
        let mut findings = Findings::default();
        check(&metadata, &mut findings);
        findings.violations
    }

    #[test]
    fn an_edge_that_points_up_is_a_violation() {
        assert_eq!(violations("hoist-image", "hoist-engine", Value::Null), ["hoist-image may not use hoist-engine"]);
        assert!(violations("hoist-engine", "hoist-image", Value::Null).is_empty());
    }

    #[test]
    fn a_crate_that_is_not_drawn_is_a_violation() {
        assert_eq!(violations("hoist-extra", "serde", Value::Null).len(), 1);
    }

    #[test]
    fn a_dependency_away_from_its_home_is_a_violation_except_in_tests() {
        assert_eq!(violations("hoist-network", "tokio", Value::Null).len(), 1);
        assert!(violations("hoist-network", "tokio", "dev".into()).is_empty());
    }

    #[test]
    fn the_picture_has_no_cycle() {
        for (position, (name, allowed)) in EDGES.iter().enumerate() {
            for used in *allowed {
                let below = EDGES.iter().position(|(known, _)| known == used);
                assert!(below.is_some_and(|below| below < position), "{name} -> {used} does not point down");
            }
        }
    }
}
