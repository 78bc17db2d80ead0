//! `hosts.toml` (containerd docs/hosts.md): for each registry the places that stand in for it, what each may be asked
//! for, and how it is reached. Rewrites of names are k3s' addition.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::header::{HeaderName, HeaderValue};
use regex::Regex;
use serde::Deserialize;

use super::endpoint::{Endpoint, Origin, Trust};
use crate::Error;

/// The directory that stands for registries without one of their own.
const DEFAULT: &str = "_default";

/// A whole file. A key that nobody knows is an error: it would be somebody's wish that is not granted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    capabilities: Option<Vec<Capability>>,
    ca: Option<OneOrMore>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    #[serde(default)]
    header: toml::Table,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    rewrite: toml::Table,
}

/// One place.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Host {
    capabilities: Option<Vec<Capability>>,
    ca: Option<OneOrMore>,
    client: Option<Client>,
    skip_verify: Option<bool>,
    #[serde(default)]
    header: toml::Table,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    rewrite: toml::Table,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Capability {
    Pull,
    Resolve,
    Push,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(self) -> Vec<String> {
        match self {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        }
    }
}

/// A file with certificate and key, several of them, or pairs of files.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Client {
    File(String),
    Files(Vec<String>),
    Pairs(Vec<Vec<String>>),
}

/// The places that `directory` names for a registry, best first, the registry itself last; none if it names nothing.
pub(super) fn read(directory: &Path, domain: &str) -> Result<Option<Vec<Endpoint>>, Error> {
    for name in [domain, DEFAULT] {
        let home = directory.join(name);
        let path = home.join("hosts.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(Error::Other(format!("read {}: {e}", path.display()))),
        };
        let wrong = |why: String| Error::Invalid(format!("{}: {}", path.display(), why.trim_end()));
        return parse(&text, &home, domain).map(Some).map_err(wrong);
    }
    Ok(None)
}

fn parse(text: &str, home: &Path, domain: &str) -> Result<Vec<Endpoint>, String> {
    let file: File = toml::from_str(text).map_err(|e| e.to_string())?;
    let mut endpoints = Vec::new();
    for (url, settings) in file.host {
        let host: Host = settings.try_into().map_err(|e: toml::de::Error| format!("host {url:?}: {}", e.message()))?;
        endpoints.push(endpoint(&url, host, home, domain).map_err(|e| format!("host {url:?}: {e}"))?);
    }
    let File { capabilities, ca, client, skip_verify, header, override_path, rewrite, .. } = file;
    let server = Host { capabilities, ca, client, skip_verify, header, override_path, rewrite };
    let own = super::endpoint::authority_of(domain);
    let url = file.server.unwrap_or_else(|| own.to_owned());
    endpoints.push(endpoint(&url, server, home, domain).map_err(|e| format!("server {url:?}: {e}"))?);
    Ok(endpoints)
}

fn endpoint(url: &str, host: Host, home: &Path, domain: &str) -> Result<Endpoint, String> {
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let (origin, path) = Origin::of_url(&with_scheme).map_err(|e| e.to_string())?;
    let path = path.split('?').next().unwrap_or_default().trim_end_matches('/');
    // The root of the API is at the path itself, or at `v2` below it.
    let api = if host.override_path || path.ends_with("/v2") { path.to_owned() } else { format!("{path}/v2") };
    let files = |names: Vec<String>| names.iter().map(|name| home.join(name)).collect::<Vec<_>>();
    let client = match host.client {
        None => Vec::new(),
        Some(Client::File(file)) => vec![(home.join(file), None)],
        Some(Client::Files(names)) => files(names).into_iter().map(|file| (file, None)).collect(),
        Some(Client::Pairs(pairs)) => pairs.iter().map(|pair| pair_of(pair, home)).collect::<Result<_, _>>()?,
    };
    let can = |wanted| host.capabilities.as_ref().is_none_or(|capabilities| capabilities.contains(&wanted));
    let own = Origin::parse(origin.secure, super::endpoint::authority_of(domain)).is_ok_and(|own| own == origin);
    let insecure = host.skip_verify.unwrap_or(false);
    let trust = Trust { insecure, ca: host.ca.map(|ca| files(ca.all())).unwrap_or_default(), client };
    Ok(Endpoint {
        api,
        trust: Arc::new(trust),
        mirror: !own,
        namespaced: !own,
        pulls: can(Capability::Pull),
        resolves: can(Capability::Resolve),
        pushes: can(Capability::Push),
        headers: headers(host.header)?,
        rewrites: rewrites(host.rewrite)?,
        origin,
    })
}

fn pair_of(pair: &[String], home: &Path) -> Result<(PathBuf, Option<PathBuf>), String> {
    match pair {
        [both] => Ok((home.join(both), None)),
        [certificate, key] => Ok((home.join(certificate), Some(home.join(key)).filter(|_| !key.is_empty()))),
        _ => Err("client: each pair is a certificate and its key".to_owned()),
    }
}

fn headers(table: toml::Table) -> Result<Vec<(HeaderName, String)>, String> {
    let mut headers = Vec::new();
    for (name, value) in table {
        let parsed: HeaderName = name.parse().map_err(|_| format!("header {name:?} is not a name of a header"))?;
        let values: OneOrMore = value.try_into().map_err(|_| format!("header {name:?}: text, or a list of it"))?;
        for value in values.all() {
            HeaderValue::from_str(&value).map_err(|_| format!("header {name:?}: its value is not one"))?;
            headers.push((parsed.clone(), value));
        }
    }
    Ok(headers)
}

fn rewrites(table: toml::Table) -> Result<Vec<Rewrite>, String> {
    let rewrite = |(pattern, replacement): (String, toml::Value)| {
        let found = Regex::new(&pattern).map_err(|e| format!("rewrite {pattern:?}: {e}"))?;
        let replacement =
            replacement.as_str().ok_or_else(|| format!("rewrite {pattern:?}: the new name is no text"))?;
        Ok(Rewrite { pattern: found, replacement: replacement.to_owned() })
    };
    table.into_iter().map(rewrite).collect()
}

/// A name that is another one elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Rewrite {
    pattern: Regex,
    replacement: String,
}

/// A repository's path by the first rewrite that fits it.
pub(super) fn rewritten(path: &str, rewrites: &[Rewrite]) -> String {
    let fitting = rewrites.iter().find(|rewrite| rewrite.pattern.is_match(path));
    fitting.map_or_else(|| path.to_owned(), |found| found.pattern.replace(path, &found.replacement).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_in_their_order_and_the_server_last() {
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."http://z.lan:5000"]
              capabilities = ["pull", "resolve"]
              skip_verify = true
            [host."https://a.lan/mirror/hub"]
              override_path = true
              ca = ["one.pem", "/etc/two.pem"]
              client = [["c.cert", "c.key"], ["both.pem", ""]]
              [host."https://a.lan/mirror/hub".header]
                x-one = "1"
                x-two = ["2", "3"]
              [host."https://a.lan/mirror/hub".rewrite]
                "^library/(.*)" = "hub/$1"
        "#;
        let found = parse(text, Path::new("/c"), "docker.io").unwrap();
        let shown: Vec<String> = found.iter().map(|e| format!("{}{}", e.origin, e.api)).collect();
        assert_eq!(shown, ["http://z.lan:5000/v2", "https://a.lan/mirror/hub", "https://registry-1.docker.io/v2"]);
        assert!(found[0].mirror && found[1].mirror && !found[2].mirror);
        assert_eq!((found[0].pulls, found[0].resolves, found[0].pushes), (true, true, false));
        assert!(found[0].trust.insecure && found[1].pushes);
        assert_eq!(found[1].trust.ca, [Path::new("/c/one.pem"), Path::new("/etc/two.pem")]);
        assert_eq!(found[1].trust.client[0], ("/c/c.cert".into(), Some("/c/c.key".into())));
        assert_eq!(found[1].headers.len(), 3);
        assert_eq!(rewritten("library/busybox", &found[1].rewrites), "hub/busybox");
        assert_eq!(rewritten("o/library/x", &found[1].rewrites), "o/library/x");
    }

    #[test]
    fn a_file_that_is_wrong_says_where() {
        for (text, wanted) in [
            ("server = 1", "server"),
            ("sever = \"x\"", "unknown field `sever`"),
            ("[host.\"ftp://x\"]", "host \"ftp://x\": invalid URL"),
            ("[host.\"x\"]\ncapabilities = [\"fly\"]", "unknown variant `fly`"),
            ("[host.\"x\".rewrite]\n\"(\" = \"y\"", "rewrite \"(\""),
            ("[host.\"x\".header]\n\"a b\" = \"y\"", "header \"a b\""),
            ("[host.\"x\"]\nclient = [[]]", "each pair"),
        ] {
            let told = parse(text, Path::new("/c"), "reg.lan").unwrap_err();
            assert!(told.contains(wanted), "{text}: {told}");
        }
    }
}
