//! What an image is made for: `os[/arch[/variant]]` as users write it, the JSON object as the API passes it. Reading and
//! its words are those of containerd's `platforms` package, which Docker uses.

use std::fmt;

use serde::{Deserialize, Serialize};

const OSES: [&str; 16] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];
const ARCHITECTURES: [&str; 16] = [
    "386", "amd64", "arm", "armbe", "arm64", "arm64be", "ppc64", "ppc64le", "loong64", "mips", "mipsle", "mips64",
    "mips64le", "riscv64", "s390x", "wasm",
];

/// What an image was made for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    pub architecture: String,
    pub os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// What images for this machine say they are for.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "x86" => ("386", ""),
            "powerpc64" => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// `linux/arm64/v8`, `linux/amd64`, `amd64`, `linux`; the error is what is wrong with it.
    pub fn parse(text: &str) -> Result<Platform, String> {
        let parts: Vec<&str> = text.split('/').collect();
        for (position, part) in parts.iter().enumerate() {
            check_component(part, position, text)?;
        }
        let os = |part: &str| {
            let name = part.split('(').next().unwrap_or_default().to_ascii_lowercase();
            if name == "macos" { "darwin".to_owned() } else { name }
        };
        let (os, (architecture, mut variant)) = match parts.as_slice() {
            [one] if OSES.contains(&os(one).as_str()) => {
                let host = Platform::host();
                (os(one), (host.architecture, String::new()))
            }
            [one] => {
                let (architecture, variant) = normal(one, "");
                if !ARCHITECTURES.contains(&architecture.as_str()) {
                    return Err(format!("{text:?}: unknown operating system or architecture: invalid argument"));
                }
                ("linux".to_owned(), (architecture, variant))
            }
            [first, architecture] => (os(first), normal(architecture, "")),
            [first, architecture, variant] => (os(first), normal(architecture, variant)),
            _ => return Err(format!("{text:?}: cannot parse platform specifier: invalid argument")),
        };
        match (architecture.as_str(), variant.as_str(), parts.len()) {
            ("arm", "v7", 1 | 2) => variant.clear(),
            ("arm64", "", 3) => "v8".clone_into(&mut variant),
            _ => {}
        }
        Ok(Platform { os, architecture, variant })
    }

    /// Whether an image for `self` is what somebody who wants `wanted` means.
    pub fn fits(&self, wanted: &Platform) -> bool {
        let variant = |platform: &Platform| normal(&platform.architecture, &platform.variant).1;
        self.os == wanted.os
            && normal(&self.architecture, "").0 == normal(&wanted.architecture, "").0
            && (wanted.variant.is_empty() || variant(self) == variant(wanted))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

fn check_component(part: &str, position: usize, text: &str) -> Result<(), String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if part.contains('*') {
        return Err(format!("{text:?}: wildcards not yet supported: invalid argument"));
    }
    if position > 0 {
        let fits = !part.is_empty() && part.chars().all(|c| is_word(c) || c == '.');
        let pattern = "^[A-Za-z0-9_.-]+$";
        return if fits {
            Ok(())
        } else {
            Err(format!(
                "{part:?} is an invalid component of {text:?}: platform specifier component must match {pattern:?}: \
                 invalid argument"
            ))
        };
    }
    let (name, version) = part.split_once('(').unwrap_or((part, ")"));
    let fits = !name.is_empty()
        && name.chars().all(is_word)
        && version.strip_suffix(')').is_some_and(|v| v.chars().all(|c| is_word(c) || c == '.'));
    if fits {
        return Ok(());
    }
    let pattern = r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)\))?$";
    Err(format!(
        "{part:?} is an invalid OS component of {text:?}: OSAndVersion specifier component must match {pattern:?}: \
         invalid argument"
    ))
}

/// The one spelling of an architecture and its variant.
fn normal(architecture: &str, variant: &str) -> (String, String) {
    let (architecture, variant) = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    };
    (architecture.to_owned(), variant.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_as_containerd_reads_them() {
        let shown = |text: &str| Platform::parse(text).map(|platform| platform.to_string());
        let cases = [
            ("linux/x86_64", "linux/amd64"),
            ("aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("arm", "linux/arm"),
            ("linux/arm/7", "linux/arm/v7"),
            ("Linux/armhf", "linux/arm"),
            ("windows(10.0.17763)/amd64", "windows/amd64"),
        ];
        for (text, wanted) in cases {
            assert_eq!(shown(text).as_deref(), Ok(wanted), "{text}");
        }
        assert_eq!(shown("foo").unwrap_err(), "\"foo\": unknown operating system or architecture: invalid argument");
        assert_eq!(shown("a/b/c/d").unwrap_err(), "\"a/b/c/d\": cannot parse platform specifier: invalid argument");
        assert!(shown("li nux/x").unwrap_err().starts_with("\"li nux\" is an invalid OS component of \"li nux/x\""));
        assert!(shown("linux/").unwrap_err().starts_with("\"\" is an invalid component of \"linux/\""));
    }

    #[test]
    fn who_names_no_variant_takes_any() {
        let parse = |text: &str| Platform::parse(text).unwrap();
        assert!(parse("linux/arm64/v8").fits(&parse("arm64")));
        assert!(parse("linux/amd64").fits(&parse("linux/x86_64")));
        assert!(!parse("linux/arm/v6").fits(&parse("linux/arm/v7")));
        assert!(!parse("linux/amd64").fits(&parse("linux/arm64")));
    }
}
