//! The user's `config.json`, as far as the command line uses it. A broken file is reported and not used.

use std::{fs, io::ErrorKind, path::PathBuf};

use serde::Deserialize;

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
    #[serde(rename = "HttpHeaders")]
    http_headers: std::collections::BTreeMap<String, String>,
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
}
