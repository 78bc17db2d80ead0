//! A directory of files named by digest, `<algorithm>/<hex>`: drafts, synced names, verified reads. Knows nothing of what
//! the bytes are or who needs them; the image store and the registry server keep theirs with it.

use std::collections::HashSet;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256, Sha512};

use crate::{Error, digest};

/// How a digest is computed (OCI image-spec, descriptor.md "Registered Algorithms").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// By its name in a digest; none if it is not known here.
    pub fn named(name: &str) -> Option<Algorithm> {
        match name {
            "sha256" => Some(Algorithm::Sha256),
            "sha512" => Some(Algorithm::Sha512),
            _ => None,
        }
    }

    /// What stands before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// Computes a digest of bytes that come in parts.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub fn new(algorithm: Algorithm) -> Hasher {
        Hasher(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            State::Sha256(_) => Algorithm::Sha256,
            State::Sha512(_) => Algorithm::Sha512,
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// `sha256:<hex>` of what came so far.
    pub fn finish(&self) -> String {
        match &self.0 {
            State::Sha256(hasher) => digest::text("sha256:", &hasher.clone().finalize()),
            State::Sha512(hasher) => digest::text("sha512:", &hasher.clone().finalize()),
        }
    }

    /// Adds the rest of a file or stream.
    pub fn read_from(&mut self, mut reader: impl Read) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(()),
                count => self.update(&buffer[..count]),
            }
        }
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Hasher").field(&self.algorithm()).finish()
    }
}

/// Splits a digest; one that is not well-formed lower-case hex of the right length, or of an algorithm that is not known
/// here, is an error that names it.
pub fn parse_digest(digest: &str) -> Result<(Algorithm, &str), Error> {
    let (name, hex) =
        digest.split_once(':').ok_or_else(|| Error::Invalid(format!("invalid digest {digest:?}: no algorithm")))?;
    let algorithm = Algorithm::named(name)
        .ok_or_else(|| Error::Invalid(format!("unsupported digest algorithm {name:?} in {digest:?}")))?;
    if hex.len() == algorithm.hex_length() && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
        Ok((algorithm, hex))
    } else {
        Err(Error::Invalid(format!("invalid digest {digest:?}")))
    }
}

/// One such directory. A file in it is whole: bytes are written elsewhere, on the same file system, and synced before they
/// get their name.
#[derive(Debug)]
pub struct Blobs {
    root: PathBuf,
    algorithms: &'static [Algorithm],
}

impl Blobs {
    /// Makes the directories, for root only. Digests of other algorithms are refused.
    pub fn open(root: &Path, algorithms: &'static [Algorithm]) -> Result<Blobs, Error> {
        let blobs = Blobs { root: root.to_owned(), algorithms };
        for directory in blobs.directories() {
            fs::create_dir_all(&directory).map_err(Error::io("create", &directory))?;
            let private = Permissions::from_mode(0o700);
            fs::set_permissions(&directory, private).map_err(Error::io("chmod", &directory))?;
        }
        Ok(blobs)
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn directories(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.algorithms.iter().map(|algorithm| self.root.join(algorithm.name()))
    }

    /// Where a blob is if it is here.
    pub fn path(&self, digest: &str) -> Result<PathBuf, Error> {
        let (algorithm, hex) = parse_digest(digest)?;
        if !self.algorithms.contains(&algorithm) {
            return Err(Error::Invalid(format!("unsupported digest algorithm {:?} in {digest:?}", algorithm.name())));
        }
        Ok(self.root.join(algorithm.name()).join(hex))
    }

    /// A blob's bytes, checked against its name. For documents: all of it is in memory.
    pub fn read(&self, digest: &str) -> Result<Vec<u8>, Error> {
        let path = self.path(digest)?;
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let mut hasher = Hasher::new(parse_digest(digest)?.0);
        hasher.update(&bytes);
        if hasher.finish() == digest {
            Ok(bytes)
        } else {
            Err(Error::Other(format!("{} is damaged: its bytes do not have that digest", path.display())))
        }
    }

    /// Gives a written and synced file its name. Whoever needs the name to survive a power cut calls
    /// [`Blobs::sync_names`].
    pub fn adopt(&self, draft: &Path, digest: &str) -> Result<(), Error> {
        fs::rename(draft, self.path(digest)?).map_err(Error::io("rename", draft))
    }

    /// Removes a blob; one that is not there is fine.
    pub fn remove(&self, digest: &str) -> Result<(), Error> {
        let path = self.path(digest)?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    /// Waits until the names given by [`Blobs::adopt`] are on disk.
    pub fn sync_names(&self) -> Result<(), Error> {
        self.directories().try_for_each(|directory| sync_directory(&directory))
    }

    /// What lies here under another name than that of a known blob: left by a crash.
    pub fn strangers(&self, known: &HashSet<&str>) -> Result<Vec<PathBuf>, Error> {
        let mut strangers = Vec::new();
        for (algorithm, directory) in self.algorithms.iter().zip(self.directories()) {
            for entry in fs::read_dir(&directory).map_err(Error::io("read", &directory))? {
                let path = entry.map_err(Error::io("read", &directory))?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if !known.contains(format!("{}:{name}", algorithm.name()).as_str()) {
                    strangers.push(path);
                }
            }
        }
        Ok(strangers)
    }
}

/// Writes a file that is to be adopted, synced.
pub fn write_draft(draft: &Path, bytes: &[u8]) -> Result<(), Error> {
    let written = File::create(draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(Error::io("write", draft))
}

/// Waits until the names in a directory are on disk.
pub fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> String {
        let mut hasher = Hasher::new(algorithm);
        hasher.read_from(bytes).unwrap();
        hasher.finish()
    }

    #[test]
    fn a_blob_is_there_under_its_digest_and_damage_is_seen() {
        let home = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&home.path().join("blobs"), &[Algorithm::Sha256, Algorithm::Sha512]).unwrap();
        let draft = home.path().join("draft");
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = digest_of(algorithm, b"bytes");
            write_draft(&draft, b"bytes").unwrap();
            blobs.adopt(&draft, &digest).unwrap();
            blobs.sync_names().unwrap();
            assert_eq!(blobs.read(&digest).unwrap(), b"bytes");
            assert!(blobs.strangers(&HashSet::new()).unwrap().contains(&blobs.path(&digest).unwrap()));
            fs::write(blobs.path(&digest).unwrap(), b"other").unwrap();
            assert!(blobs.read(&digest).unwrap_err().to_string().contains("is damaged"));
            blobs.remove(&digest).unwrap();
            blobs.remove(&digest).unwrap();
        }
    }

    #[test]
    fn a_name_that_is_no_digest_reaches_no_file() {
        let home = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(home.path(), &[Algorithm::Sha256]).unwrap();
        let sha512 = digest_of(Algorithm::Sha512, b"");
        for bad in ["sha256:../../etc/passwd", "sha256:", "md5:00", "../x", "", sha512.as_str()] {
            assert!(blobs.path(bad).is_err(), "{bad:?}");
        }
    }
}
