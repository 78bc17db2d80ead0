//! Who may come in: an htpasswd file with bcrypt hashes, as Docker's registry takes it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::reread::Reread;

/// Each step doubles the time of a check; beyond this, one takes seconds.
const COST_MAX: u32 = 15;
/// Checks at a time: they are made to take long, and blobs must go on.
const CHECKS: usize = 2;
/// Proven passwords that are remembered.
const PROVEN_MAX: usize = 1024;

/// Names and hashes.
type File = HashMap<String, String>;

/// The users of a registry.
pub(crate) struct Users {
    file: Reread<File>,
    /// Digests of user, password and hash that were found right: clients send them with each request, and a check takes a
    /// hundred milliseconds.
    proven: Mutex<HashMap<[u8; 32], ()>>,
    /// Makes those digests useless elsewhere.
    salt: [u8; 32],
    checks: Semaphore,
}

impl Users {
    pub(crate) fn open(path: PathBuf) -> Result<Users, String> {
        let file = Reread::new(vec![path.clone()], move || read(&path))?;
        Ok(Users { file, proven: Mutex::default(), salt: rand::random(), checks: Semaphore::new(CHECKS) })
    }

    /// Checks an `Authorization` header.
    pub(crate) async fn admit(self: &Arc<Users>, header: Option<&str>) -> Result<(), Error> {
        let header = header.ok_or_else(|| Error::unauthorized("authentication required"))?;
        let (user, password) =
            basic(header).ok_or_else(|| Error::unauthorized("Basic credentials are expected in Authorization"))?;
        let file = self.file.get();
        // A user who is not there costs as much time as a wrong password.
        let some_hash = || file.values().next().cloned();
        let (known, Some(hash)) = (file.contains_key(&user), file.get(&user).cloned().or_else(some_hash)) else {
            return Err(refused());
        };
        let proof = self.proof(&user, &password, &hash);
        if known && self.proven().contains_key(&proof) {
            return Ok(());
        }
        let _permit = self.checks.acquire().await.map_err(|e| Error::internal(e.to_string()))?;
        let checked = tokio::task::spawn_blocking(move || bcrypt::verify(password, &hash).unwrap_or(false)).await;
        if !(known && checked.map_err(|e| Error::internal(e.to_string()))?) {
            return Err(refused());
        }
        let mut proven = self.proven();
        if proven.len() >= PROVEN_MAX {
            proven.clear();
        }
        proven.insert(proof, ());
        Ok(())
    }

    fn proof(&self, user: &str, password: &str, hash: &str) -> [u8; 32] {
        let mut hasher = Sha256::new_with_prefix(self.salt);
        for part in [user, password, hash] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hasher.finalize().into()
    }

    fn proven(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], ()>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refused() -> Error {
    Error::unauthorized("the user name or password is wrong")
}

/// `Basic <base64 of user:password>` (RFC 7617).
pub(crate) fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, rest) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

fn read(path: &Path) -> Result<File, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("read {}: {e}", path.display()))?;
    parse(&text).map_err(|(line, why)| format!("{} line {line}: {why}", path.display()))
}

/// Lines of `user:hash`; empty ones and comments are skipped. An error has its line.
pub(crate) fn parse(text: &str) -> Result<File, (usize, String)> {
    let mut users = File::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (user, hash) = line.split_once(':').ok_or_else(|| (number, "user:hash is expected".to_owned()))?;
        check_hash(hash).map_err(|why| (number, format!("user {user}: {why}")))?;
        users.insert(user.to_owned(), hash.to_owned());
    }
    Ok(users)
}

fn check_hash(hash: &str) -> Result<(), String> {
    let parts = hash.parse::<bcrypt::HashParts>();
    let cost = parts.map_err(|_| "not a bcrypt hash: make it with htpasswd -B".to_owned())?.get_cost();
    if cost > COST_MAX {
        return Err(format!("the hash has cost {cost}, {COST_MAX} is the most that is taken"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(user: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }

    #[test]
    fn only_bcrypt_is_taken_and_the_line_is_named() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        assert_eq!(parse(&format!("# who\n\nann:{hash}\n")).unwrap().len(), 1);
        for (text, line, named) in [
            ("ann\n", 1, "user:hash"),
            ("\nann:$apr1$x$y\n", 2, "htpasswd -B"),
            (&format!("ann:{}", hash.replacen("$04$", "$31$", 1)), 1, "cost 31"),
        ] {
            let (found, why) = parse(text).unwrap_err();
            assert!(found == line && why.contains(named), "{found}: {why}");
        }
    }

    #[tokio::test]
    async fn users_come_and_go_with_their_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("htpasswd");
        std::fs::write(&path, format!("ann:{}\n", bcrypt::hash("s:1", 4).unwrap())).unwrap();
        let users = Arc::new(Users::open(path.clone()).unwrap());
        for _ in 0..2 {
            users.admit(Some(&header("ann", "s:1"))).await.unwrap();
        }
        for bad in [None, Some(header("ann", "s")), Some(header("bob", "s:1")), Some("Bearer x".to_owned())] {
            assert_eq!(users.admit(bad.as_deref()).await.unwrap_err().status, 401, "{bad:?}");
        }
        std::fs::write(&path, format!("bob:{}\n", bcrypt::hash("two", 4).unwrap())).unwrap();
        let start = std::time::Instant::now();
        while users.admit(Some(&header("bob", "two"))).await.is_err() {
            assert!(start.elapsed().as_secs() < 20, "the new file is not read");
            tokio::task::yield_now().await;
        }
        users.admit(Some(&header("ann", "s:1"))).await.unwrap_err();
    }
}
