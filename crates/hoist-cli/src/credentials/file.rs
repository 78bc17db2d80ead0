//! The part of `config.json` that is about credentials. A change reads the file anew, touches `auths` alone, and puts a
//! whole new file, readable by its owner only, in the old one's place.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{Auth, decode_pair, encode_pair, hostname};
use crate::app::Outcome;

const MAX_LINKS: usize = 40;

#[derive(Debug)]
pub(super) struct AuthFile {
    /// `None` without a home: nothing is read, nothing can be kept.
    path: Option<PathBuf>,
    content: Map<String, Value>,
}

impl AuthFile {
    /// A file that cannot be read holds nothing: that it is so is told where the client's own settings are read.
    pub(super) fn open(path: Option<PathBuf>) -> Self {
        let content = path.as_deref().and_then(|path| read(path).ok()).unwrap_or_default();
        Self { path, content }
    }

    /// The file's name, for messages.
    pub(super) fn shown(&self) -> String {
        self.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }

    /// The suffix of the program that keeps the credentials of this key.
    pub(super) fn helper(&self, key: &str) -> Option<&str> {
        let own = self.content.get("credHelpers").and_then(|helpers| helpers.get(key)).and_then(Value::as_str);
        let helper = own.or_else(|| self.content.get("credsStore").and_then(Value::as_str));
        helper.filter(|name| !name.is_empty())
    }

    fn auths(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.content.get("auths").and_then(Value::as_object).into_iter().flatten()
    }

    /// The entry under this key, or under an older spelling of it with scheme and path.
    pub(super) fn get(&self, key: &str) -> Outcome<Auth> {
        let exact = self.auths().find(|(known, _)| *known == key);
        let Some((known, entry)) = exact.or_else(|| self.auths().find(|(known, _)| hostname(known) == key)) else {
            return Ok(Auth { server_address: key.to_owned(), ..Auth::default() });
        };
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let mut auth = Auth {
            username: text("username"),
            password: text("password"),
            server_address: known.clone(),
            identity_token: text("identitytoken"),
            registry_token: text("registrytoken"),
        };
        if let Some(pair) = entry["auth"].as_str().filter(|pair| !pair.is_empty()) {
            (auth.username, auth.password) = decode_pair(pair)
                .map_err(|why| format!("{}: credentials of {known:?} cannot be read: {why}", self.shown()))?;
        }
        Ok(auth)
    }

    pub(super) fn store(&mut self, key: &str, auth: &Auth) -> Outcome {
        if self.auths().any(|(known, _)| known == key) && self.get(key).is_ok_and(|kept| same_secrets(&kept, auth)) {
            return Ok(());
        }
        let mut entry = Map::new();
        if !auth.username.is_empty() || !auth.password.is_empty() {
            entry.insert("auth".to_owned(), encode_pair(&auth.username, &auth.password).into());
        }
        for (name, token) in [("identitytoken", &auth.identity_token), ("registrytoken", &auth.registry_token)] {
            if !token.is_empty() {
                entry.insert(name.to_owned(), token.as_str().into());
            }
        }
        self.change(|auths| drop(auths.insert(key.to_owned(), entry.into())))
    }

    pub(super) fn erase(&mut self, key: &str) -> Outcome {
        if !self.auths().any(|(known, _)| known == key) {
            return Ok(());
        }
        self.change(|auths| drop(auths.shift_remove(key)))
    }

    /// Changes `auths` in the file as it is now, which another client may have written meanwhile.
    fn change(&mut self, change: impl FnOnce(&mut Map<String, Value>)) -> Outcome {
        let Some(path) = &self.path else {
            return Err("there is no directory for credentials: set HOME, or name one with --config".into());
        };
        let mut content = read(path)?;
        let auths = content.entry("auths").or_insert_with(|| Map::new().into());
        let Some(auths) = auths.as_object_mut() else {
            return Err(format!("{}: \"auths\" is not an object: nothing was changed", path.display()).into());
        };
        change(auths);
        write(path, &content).map_err(|why| format!("cannot write {}: {why}", path.display()))?;
        self.content = content;
        Ok(())
    }
}

fn same_secrets(kept: &Auth, auth: &Auth) -> bool {
    let secrets =
        |auth: &Auth| [&auth.username, &auth.password, &auth.identity_token, &auth.registry_token].map(String::clone);
    secrets(kept) == secrets(auth)
}

/// The file's object; a file that is not there, or empty, is an empty one.
fn read(path: &Path) -> Outcome<Map<String, Value>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", path.display()).into()),
    };
    if text.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    let broken = |why: String| format!("{} cannot be read: {why}: correct or remove it", path.display());
    match serde_json::from_slice(&text) {
        Ok(Value::Object(content)) => Ok(content),
        Ok(_) => Err(broken("it is not a JSON object".to_owned()).into()),
        // the parser's own text may quote a secret
        Err(why) => Err(broken(format!("no JSON at line {}, column {}", why.line(), why.column())).into()),
    }
}

/// Where the file really is: links are followed, also one that leads to nothing yet.
fn target(path: &Path) -> PathBuf {
    let mut at = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(link) = fs::read_link(&at) else { break };
        at = at.parent().unwrap_or(Path::new("")).join(link);
    }
    at
}

fn write(path: &Path, content: &Map<String, Value>) -> io::Result<()> {
    let target = target(path);
    let dir = target.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut text = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    serde::Serialize::serialize(content, &mut serde_json::Serializer::with_formatter(&mut text, tabs))?;
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (temporary, mut file) = create_beside(dir, &name)?;
    let done = fill(&mut file, &text, &target).and_then(|()| fs::rename(&temporary, &target));
    if done.is_err() {
        // the first error is the one to tell
        let _ = fs::remove_file(&temporary);
    }
    done
}

fn create_beside(dir: &Path, name: &str) -> io::Result<(PathBuf, File)> {
    let mut number = std::process::id();
    loop {
        let path = dir.join(format!("{name}{number}"));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number = number.wrapping_add(1),
            Err(error) => return Err(error),
        }
    }
}

/// Writes the text to disk under the owner and mode of the file it replaces.
fn fill(file: &mut File, text: &[u8], old: &Path) -> io::Result<()> {
    if let Ok(found) = fs::metadata(old) {
        file.set_permissions(fs::Permissions::from_mode(found.permissions().mode() & 0o7777))?;
        // only root may give files away; for others the owner is right as it is
        let _ = std::os::unix::fs::fchown(&*file, Some(found.uid()), Some(found.gid()));
    }
    file.write_all(text)?;
    file.sync_all()
}
