//! Reading an image archive front to back, without knowing yet what its entries are for.

use std::collections::HashMap;
use std::io::Read;

use crate::ingest::Ingest;
use crate::unpack::{Entry, Kind, TarStream, Whiteouts};
use crate::{Error, Progress, ProgressSink, config, decompress, digest};

/// All documents of an archive together.
const DOCUMENTS_MAX_BYTES: u64 = 64 << 20;
const ENTRIES_MAX: usize = 200_000;
const LINK_HOPS_MAX: usize = 16;

/// What an archive holds, by path.
#[derive(Debug, Default)]
pub(super) struct Archive {
    documents: HashMap<String, Vec<u8>>,
    layers: HashMap<String, Layer>,
    /// Old releases linked layers that images share.
    links: HashMap<String, String>,
    /// Entries that look like layers and cannot be unpacked, and why.
    failures: HashMap<String, String>,
}

/// A layer that passed by.
#[derive(Clone, Debug)]
pub(super) struct Layer {
    pub(super) diff_id: String,
    pub(super) compressed_digest: String,
}

pub(super) fn read(ingest: &Ingest, plain: impl Read, progress: &ProgressSink) -> Result<Archive, Error> {
    let broken = |e: std::io::Error| Error::Invalid(format!("cannot read the archive: {e}"));
    let mut archive = Archive::default();
    let mut stream = TarStream::new(plain);
    let (mut documents_bytes, mut entries) = (0_u64, 0_usize);
    while let Some(entry) = stream.next_entry().map_err(broken)? {
        entries += 1;
        if entries > ENTRIES_MAX {
            return Err(Error::Invalid(format!("invalid archive: more than {ENTRIES_MAX} entries")));
        }
        let Some(path) = normal(&entry.path) else { continue };
        match entry.kind {
            Kind::File => archive.add_file(ingest, path, &entry, &mut stream, (&mut documents_bytes, progress))?,
            Kind::Symlink => archive.add_link(&path, &entry.link, true),
            Kind::Hardlink => archive.add_link(&path, &entry.link, false),
            _ => {}
        }
    }
    stream.drain().map_err(broken)?;
    Ok(archive)
}

impl Archive {
    fn add_file(
        &mut self,
        ingest: &Ingest,
        path: String,
        entry: &Entry,
        stream: &mut impl Read,
        (documents_bytes, progress): (&mut u64, &ProgressSink),
    ) -> Result<(), Error> {
        let broken = |e: std::io::Error| Error::Invalid(format!("cannot read the archive: {path}: {e}"));
        let (format, mut payload) = decompress::sniff(&mut *stream).map_err(broken)?;
        if format != decompress::Format::Unknown {
            return self.add_layer(ingest, path, payload, entry.payload_bytes, progress);
        }
        if entry.payload_bytes > config::DOCUMENT_MAX_BYTES {
            let text = format!("{} bytes are too many for a document, and it is no layer", entry.payload_bytes);
            self.failures.insert(path, text);
            return Ok(());
        }
        *documents_bytes += entry.payload_bytes;
        if *documents_bytes > DOCUMENTS_MAX_BYTES {
            let text = format!("invalid archive: more than {DOCUMENTS_MAX_BYTES} bytes of documents");
            return Err(Error::Invalid(text));
        }
        let mut bytes = Vec::new();
        payload.read_to_end(&mut bytes).map_err(broken)?;
        self.documents.insert(path, bytes);
        Ok(())
    }

    fn add_layer(
        &mut self,
        ingest: &Ingest,
        path: String,
        payload: impl Read,
        bytes: u64,
        progress: &ProgressSink,
    ) -> Result<(), Error> {
        let layer = match known_layer(ingest, &path) {
            Some(diff_id) => pass_over(payload, diff_id).map_err(|e| Error::Invalid(format!("{path}: {e}")))?,
            None => match ingest.try_unpack(payload, Whiteouts::Overlay)? {
                Ok(draft) => {
                    let layer =
                        Layer { diff_id: draft.diff_id.clone(), compressed_digest: draft.compressed_digest.clone() };
                    if ingest.hold_existing(&layer.diff_id) {
                        ingest.discard(&draft);
                    } else {
                        ingest.keep(draft);
                        let id = digest::short(&layer.diff_id);
                        progress(Progress::bytes(id, "Loading layer", bytes, bytes));
                    }
                    layer
                }
                Err(e) => {
                    self.failures.insert(path, e.to_string());
                    return Ok(());
                }
            },
        };
        self.layers.insert(path, layer);
        Ok(())
    }

    fn add_link(&mut self, path: &str, target: &[u8], relative: bool) {
        let base = match path.rsplit_once('/') {
            Some((parent, _)) if relative && !target.starts_with(b"/") => format!("{parent}/"),
            _ => String::new(),
        };
        let joined = [base.as_bytes(), target].concat();
        if let Some(target) = normal(&joined) {
            self.links.insert(path.to_owned(), target);
        }
    }

    fn resolve<'a>(&'a self, path: &'a str) -> &'a str {
        let mut path = path;
        for _ in 0..LINK_HOPS_MAX {
            match self.links.get(path) {
                Some(target) => path = target,
                None => break,
            }
        }
        path
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.documents.contains_key(self.resolve(path))
    }

    pub(super) fn document(&self, path: &str) -> Result<&[u8], Error> {
        let wanted = normal(path.as_bytes()).unwrap_or_default();
        let found = self.documents.get(self.resolve(&wanted));
        found.map(Vec::as_slice).ok_or_else(|| Error::Invalid(format!("invalid archive: {path:?} is missing")))
    }

    pub(super) fn layer(&self, path: &str) -> Result<&Layer, Error> {
        let wanted = normal(path.as_bytes()).unwrap_or_default();
        let wanted = self.resolve(&wanted);
        self.layers.get(wanted).ok_or_else(|| match self.failures.get(wanted) {
            Some(failure) => Error::Invalid(format!("{path}: {failure}")),
            None if self.documents.contains_key(wanted) => {
                Error::Invalid(format!("invalid archive: {path:?} is not a layer"))
            }
            None => Error::Invalid(format!("invalid archive: {path:?} is missing")),
        })
    }

    pub(super) fn first_failure(&self) -> Option<String> {
        self.failures.iter().map(|(path, text)| format!("{path}: {text}")).min()
    }
}

/// Newer releases name a layer by its diff id: one that is in the store needs no unpacking.
fn known_layer(ingest: &Ingest, path: &str) -> Option<String> {
    let diff_id = format!("sha256:{}", path.strip_prefix("blobs/sha256/")?);
    (digest::hex_of(&diff_id).is_ok() && ingest.hold_existing(&diff_id)).then_some(diff_id)
}

fn pass_over(payload: impl Read, diff_id: String) -> std::io::Result<Layer> {
    let mut reader = digest::HashingReader::new(payload);
    reader.drain()?;
    let found = reader.finish();
    if found == diff_id {
        return Ok(Layer { compressed_digest: diff_id.clone(), diff_id });
    }
    let text = format!("its digest is {found}");
    Err(std::io::Error::new(std::io::ErrorKind::InvalidData, text))
}

/// A path inside the archive, `.` and `..` resolved by name; `None` if it leads out or is no text.
fn normal(path: &[u8]) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in str::from_utf8(path).ok()?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            _ => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
