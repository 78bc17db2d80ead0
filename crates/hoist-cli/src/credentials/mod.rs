//! Who the user is to registries: `auths` of `config.json`, the programs named by `credsStore` and `credHelpers`, and
//! `DOCKER_AUTH_CONFIG`. Passwords are never in arguments, logs or errors.

mod file;
mod program;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE};
use hoist_api::reference::DEFAULT_DOMAIN;
use serde::{Deserialize, Serialize};

use crate::{
    app::{App, Outcome},
    env,
};
use file::AuthFile;

/// The key of Docker Hub, whose credentials are kept under its oldest address.
pub(crate) const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The header that carries credentials through the engine to a registry.
pub(crate) const HEADER: &str = "X-Registry-Auth";

/// The header that carries those of several registries, by their addresses.
pub(crate) const KEYRING_HEADER: &str = "X-Registry-Config";

/// What a registry is told about its user; the shape of `X-Registry-Auth` and of `POST /auth`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "lowercase")]
pub(crate) struct Auth {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) password: String,
    #[serde(rename = "serveraddress", skip_serializing_if = "String::is_empty")]
    pub(crate) server_address: String,
    /// Takes the password's place where a registry hands out tokens.
    #[serde(rename = "identitytoken", skip_serializing_if = "String::is_empty")]
    pub(crate) identity_token: String,
    /// Sent to the registry as it is.
    #[serde(rename = "registrytoken", skip_serializing_if = "String::is_empty")]
    pub(crate) registry_token: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Auth").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Auth {
    fn is_empty(&self) -> bool {
        self.username.is_empty() && self.identity_token.is_empty() && self.registry_token.is_empty()
    }

    /// The value of the header; nothing to say is no header.
    fn header(&self) -> Option<String> {
        (!self.is_empty()).then(|| encode(self))
    }
}

/// `user:password` in base64, as the file keeps it.
fn encode_pair(username: &str, password: &str) -> String {
    BASE64_STANDARD.encode(format!("{username}:{password}"))
}

fn decode_pair(text: &str) -> Result<(String, String), String> {
    let bytes = BASE64_STANDARD.decode(text.trim()).map_err(|why| why.to_string())?;
    let plain = String::from_utf8(bytes).map_err(|_| "the value is not UTF-8".to_owned())?;
    let (user, password) = plain.split_once(':').ok_or("Invalid auth configuration file")?;
    if user.is_empty() {
        return Err("Invalid auth configuration file".to_owned());
    }
    Ok((user.to_owned(), password.trim_matches('\0').to_owned()))
}

/// `registry:5000` of `https://registry:5000/v2/`.
pub(crate) fn hostname(address: &str) -> &str {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    let bare = bare.split('/').next().unwrap_or(bare);
    if address.contains("://") { bare.rsplit('@').next().unwrap_or(bare) } else { bare }
}

/// Under which key the credentials of a registry are kept.
fn key_of(domain: &str) -> &str {
    if domain == DEFAULT_DOMAIN || domain == "index.docker.io" { HUB_KEY } else { domain }
}

/// All places that hold credentials, in the order in which they are asked.
pub(crate) struct Credentials {
    file: AuthFile,
    /// `DOCKER_AUTH_CONFIG`, which goes before everything else.
    given: Vec<(String, Auth)>,
}

impl Credentials {
    pub(crate) fn open(app: &App) -> Self {
        let path = app.config_dir().map(|dir| PathBuf::from(dir).join("config.json"));
        let given = match env::auth_config() {
            None => Vec::new(),
            Some(text) => parse_given(&text).unwrap_or_else(|why| {
                eprintln!("Failed to create credential store from DOCKER_AUTH_CONFIG:  {why}");
                Vec::new()
            }),
        };
        Self { file: AuthFile::open(path), given }
    }

    /// The credentials under this key; empty ones if there are none.
    pub(crate) fn get(&self, key: &str) -> Outcome<Auth> {
        let given = self.given.iter().find(|(known, _)| known == key || hostname(known) == key);
        if let Some((_, auth)) = given {
            return Ok(auth.clone());
        }
        let mut kept = self.file.get(key)?;
        if let Some(helper) = self.file.helper(key) {
            let found = program::get(helper, key)?;
            (kept.username, kept.password, kept.identity_token) =
                (found.username, found.password, found.identity_token);
        }
        kept.server_address = key.to_owned();
        Ok(kept)
    }

    /// Keeps credentials under their server's address; says so when that is a plain file.
    pub(crate) fn store(&mut self, auth: &Auth) -> Outcome {
        let key = auth.server_address.clone();
        let Some(helper) = self.file.helper(&key) else {
            let is_new = self.file.get(&key).is_ok_and(|kept| kept != *auth);
            self.file.store(&key, auth)?;
            if is_new && !auth.password.is_empty() {
                warn_of_plain_file(&self.file.shown());
            }
            return Ok(());
        };
        program::store(helper, auth)?;
        // the file says that the helper has something for this address, as Docker's client does
        self.file.store(&key, &Auth { registry_token: auth.registry_token.clone(), ..Auth::default() })
    }

    /// Forgets what is kept under this key; nothing kept is fine.
    pub(crate) fn erase(&mut self, key: &str) -> Outcome {
        if let Some(helper) = self.file.helper(key) {
            program::erase(helper, key)?;
        }
        self.file.erase(key)
    }
}

fn warn_of_plain_file(path: &str) {
    eprintln!(
        "\nWARNING! Your credentials are stored unencrypted in '{path}'.\n\
         Configure a credential helper to remove this warning. See\n\
         https://docs.docker.com/go/credential-store/\n"
    );
}

/// Says that the environment decides, before a command changes what is kept.
pub(crate) fn warn_of_environment() {
    if env::auth_config().is_some() {
        eprintln!(
            "\n Warn -> DOCKER_AUTH_CONFIG is set and takes precedence.\
             \n         Unset DOCKER_AUTH_CONFIG to restore the CLI auth behaviour.\n"
        );
    }
}

fn parse_given(text: &str) -> Result<Vec<(String, Auth)>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        #[serde(default)]
        auth: String,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Given {
        #[serde(default)]
        auths: std::collections::BTreeMap<String, Entry>,
    }
    // the parser's own text would quote what it stumbled over
    let given: Given = serde_json::from_str(text).map_err(|why| {
        format!(
            "line {}, column {}: not of the form {{\"auths\": {{ADDRESS: {{\"auth\": …}}}}}}",
            why.line(),
            why.column()
        )
    })?;
    let entries = given.auths.into_iter().map(|(address, entry)| {
        if entry.auth.is_empty() {
            return Err(format!("DOCKER_AUTH_CONFIG environment variable is missing key `auth` for {address}"));
        }
        let (username, password) = decode_pair(&entry.auth).map_err(|why| format!("{address}: {why}"))?;
        let auth = Auth { username, password, server_address: address.clone(), ..Auth::default() };
        Ok((address, auth))
    });
    entries.collect()
}

/// `X-Registry-Auth` for images of this registry, if anything is known about it. Who cannot be asked is told of and
/// counts as knowing nothing: most images are there for everybody.
pub(crate) fn header_for(app: &App, domain: &str) -> Option<String> {
    known(&Credentials::open(app), domain).header()
}

/// [`KEYRING_HEADER`] for a request that may go to any of these registries.
pub(crate) fn keyring_for(app: &App, domains: &BTreeSet<String>) -> Option<String> {
    let credentials = Credentials::open(app);
    let known = domains.iter().map(|domain| (key_of(domain), known(&credentials, domain)));
    let keyring: BTreeMap<&str, Auth> = known.filter(|(_, auth)| !auth.is_empty()).collect();
    (!keyring.is_empty()).then(|| encode(&keyring))
}

fn known(credentials: &Credentials, domain: &str) -> Auth {
    credentials.get(key_of(domain)).unwrap_or_else(|failure| {
        eprintln!("WARNING: {}", failure.text);
        Auth::default()
    })
}

/// As headers have it.
fn encode<T: Serialize>(value: &T) -> String {
    // structs of plain fields always encode
    BASE64_URL_SAFE.encode(serde_json::to_vec(value).unwrap_or_default())
}

/// For the fuzzers: all that reads what others wrote, without files and programs.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read(text: &str) {
    let _ = (parse_given(text), decode_pair(text), program::parse(text.as_bytes(), "address"), hostname(text));
}

#[cfg(test)]
mod tests;
