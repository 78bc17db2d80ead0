//! The user's `config.json`, as far as the command line uses it. A broken file is reported and not used.

use std::{collections::BTreeMap, fs, io::ErrorKind, path::PathBuf};

use serde::{Deserialize, Deserializer};

use crate::app::{Failure, Outcome};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    #[serde(rename = "detachKeys")]
    pub(crate) detach_keys: Option<String>,
    #[serde(rename = "psFormat")]
    pub(crate) ps_format: Option<String>,
    #[serde(rename = "imagesFormat")]
    pub(crate) images_format: Option<String>,
    /// Filters of every prune, `name=value` each.
    #[serde(rename = "pruneFilters", deserialize_with = "or_default")]
    pub(crate) prune_filters: Vec<String>,
    #[serde(rename = "HttpHeaders", deserialize_with = "or_default")]
    http_headers: BTreeMap<String, String>,
    /// Proxies for containers, by the address of their engine or `default`.
    #[serde(deserialize_with = "or_default")]
    proxies: BTreeMap<String, Proxies>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Proxies {
    http_proxy: Option<String>,
    https_proxy: Option<String>,
    no_proxy: Option<String>,
    ftp_proxy: Option<String>,
    all_proxy: Option<String>,
}

/// `null` is as good as nothing.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(source: D) -> Result<T, D::Error> {
    Option::deserialize(source).map(Option::unwrap_or_default)
}

impl Config {
    pub(crate) fn load(dir: Option<&str>) -> Self {
        let Some(dir) = dir else { return Self::default() };
        let path = PathBuf::from(dir).join("config.json");
        let warn = |why: String| {
            eprintln!("WARNING: Error parsing config file ({}): {why}", path.display());
            Self::default()
        };
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => Self::default(),
            Ok(text) => serde_json::from_str(&text).unwrap_or_else(|error| warn(error.to_string())),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Self::default(),
            Err(error) => warn(error.to_string()),
        }
    }

    /// Headers for every request: of the file, then of the environment (`a=b,c=d`).
    pub(crate) fn headers(&self, from_env: Option<&str>) -> Outcome<Vec<(String, String)>> {
        let mut headers: Vec<(String, String)> =
            self.http_headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("user-agent"));
        for pair in from_env.into_iter().flat_map(|text| text.split(',')) {
            let bad = || Failure::from(format!("DOCKER_CUSTOM_HEADERS: {pair:?} is not name=value"));
            let (name, value) = pair.split_once('=').ok_or_else(bad)?;
            if name.trim().is_empty() {
                return Err(bad());
            }
            headers.push((name.trim().to_owned(), value.to_owned()));
        }
        Ok(headers)
    }

    /// The variables that give containers of this engine their proxies, each in capitals and in small letters.
    pub(crate) fn proxy_variables(&self, engine: &str) -> Vec<(String, String)> {
        let Some(proxies) = self.proxies.get(engine).or_else(|| self.proxies.get("default")) else { return Vec::new() };
        let all = [
            ("HTTP_PROXY", &proxies.http_proxy),
            ("HTTPS_PROXY", &proxies.https_proxy),
            ("NO_PROXY", &proxies.no_proxy),
            ("FTP_PROXY", &proxies.ftp_proxy),
            ("ALL_PROXY", &proxies.all_proxy),
        ];
        let given = all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?)));
        let given = given.filter(|(_, value)| !value.is_empty());
        given
            .flat_map(|(name, value)| [name.to_owned(), name.to_lowercase()].map(|name| (name, value.to_owned())))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn proxies_are_those_of_the_engine_or_else_the_default_ones() {
        let config = config(
            r#"{"proxies": {"default": {"httpProxy": "http://p:1", "noProxy": "a,b", "ftpProxy": ""},
            "tcp://other:2375": {"allProxy": "socks5://q"}, "unix:///none": {}}}"#,
        );
        let shown = |engine: &str| {
            let variables = config.proxy_variables(engine).into_iter();
            variables.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            shown("unix:///run/x.sock"),
            "HTTP_PROXY=http://p:1 http_proxy=http://p:1 NO_PROXY=a,b no_proxy=a,b"
        );
        assert_eq!(shown("tcp://other:2375"), "ALL_PROXY=socks5://q all_proxy=socks5://q");
        assert_eq!(shown("unix:///none"), "");
    }

    #[test]
    fn null_is_nothing() {
        let config = config(
            r#"{"pruneFilters": null, "HttpHeaders": null, "proxies": {"default": {"httpProxy": null}}, "psFormat": null}"#,
        );
        assert!(config.prune_filters.is_empty() && config.proxy_variables("x").is_empty());
        assert!(super::tests::config(r#"{"proxies": null}"#).proxy_variables("x").is_empty());
    }
}
