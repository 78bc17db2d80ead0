//! `docker save`: images as one tar that is an OCI layout (image-spec image-layout.md) and Docker's own form at once, as
//! dockerd writes it since release 25. Layers are written uncompressed, each once, straight from their records: nothing
//! is put together first, so the length of everything is known before. The same images give the same bytes.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::sync::Arc;

use hoist_api::reference::Reference;
use serde_json::{Value, json};

use crate::ingest::Ingest;
use crate::manifest::{MEDIA_OCI_CONFIG, MEDIA_OCI_INDEX, MEDIA_OCI_MANIFEST};
use crate::{Digest, Error, Image, Platform, Shared, Store, digest, unpack};

const MEDIA_OCI_PLAIN_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYOUT: &str = r#"{"imageLayoutVersion": "1.0.0"}"#;
const BLOCK: u64 = 512;
/// Two blocks of zeros end a tar.
const END: [u8; 1024] = [0; 1024];

/// Images about to be written. Their layers stay as long as this lives.
pub struct Archive {
    shared: Arc<Shared>,
    images: Vec<Chosen>,
    /// Keeps the layers.
    _held: Ingest,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Archive").field("images", &self.images.len()).finish_non_exhaustive()
    }
}

/// What a name stands for: an image and, if it is a tag, that.
type Named = (Arc<Image>, Option<Reference>);

/// An image and the tags that the archive gives it.
struct Chosen {
    image: Arc<Image>,
    tags: Vec<Reference>,
    /// The image that it was made of, if that is in the archive too.
    parent: Option<Digest>,
}

impl Store {
    /// Chooses what `docker save` is to write: a tag, all tags of a repository, or an id, which gives an image without a
    /// tag. With `platforms`, images for others are an error.
    pub fn save(&self, names: &[String], platforms: &[Platform]) -> Result<Archive, Error> {
        let mut images: Vec<Chosen> = Vec::new();
        for name in names {
            for (image, tag) in self.named(name)? {
                check_platform(&image, platforms)?;
                let position = images.iter().position(|chosen| chosen.image.id == image.id).unwrap_or(images.len());
                if position == images.len() {
                    images.push(Chosen { image, tags: Vec::new(), parent: None });
                }
                let tags = &mut images[position].tags;
                tags.extend(tag.filter(|tag| !tags.contains(tag)));
            }
        }
        let held = Ingest::begin(&self.shared)?;
        for chosen in &images {
            if let Some(gone) = chosen.image.diff_ids.iter().find(|diff_id| !held.hold_existing(diff_id)) {
                return Err(Error::Other(format!("layer {gone} of image {} is not there", chosen.image.id)));
            }
        }
        let ids: HashSet<Digest> = images.iter().map(|chosen| chosen.image.id.clone()).collect();
        for chosen in &mut images {
            chosen.parent = self.parent(&chosen.image).filter(|parent| ids.contains(parent));
        }
        Ok(Archive { shared: self.shared.clone(), images, _held: held })
    }

    fn named(&self, name: &str) -> Result<Vec<Named>, Error> {
        let index = self.shared.index();
        let reference = match Reference::parse(name) {
            Ok(reference) if !name.starts_with("sha256:") => reference,
            // An id of 64 digits is no name.
            Err(e) if index.get(name).is_err() => return Err(e.into()),
            _ => return Ok(vec![(index.get(name)?, None)]),
        };
        let by_name = |reference: &Reference| {
            let id = index.by_name(reference).map(str::to_owned);
            id.and_then(|id| index.by_id(&id)).ok_or_else(|| Error::NotFound("reference does not exist".to_owned()))
        };
        if reference.digest.is_some() {
            return Ok(vec![(by_name(&reference)?, None)]);
        }
        if reference.tag.is_some() {
            return Ok(vec![(by_name(&reference)?, Some(reference))]);
        }
        let mut found = Vec::new();
        for image in index.list() {
            let of_repository =
                index.references(&image.id).into_iter().filter(|other| other.name() == reference.name());
            found
                .extend(of_repository.map(|other| (image.clone(), Some(other).filter(|other| other.digest.is_none()))));
        }
        found.sort_by(|(_, a), (_, b)| a.as_ref().map(|a| &a.tag).cmp(&b.as_ref().map(|b| &b.tag)));
        if found.is_empty() {
            // Not a repository: then perhaps the beginning of an id.
            let short = || Error::NotFound(format!("No such image: {name}"));
            found.push((index.get(name).map_err(|_| short())?, None));
        }
        Ok(found)
    }
}

fn check_platform(image: &Image, platforms: &[Platform]) -> Result<(), Error> {
    let (architecture, os, variant) = (image.architecture.clone(), image.os.clone(), image.variant.clone());
    let have = Platform { architecture, os, variant };
    match platforms {
        [] => Ok(()),
        _ if platforms.iter().any(|wanted| have.fits(wanted)) => Ok(()),
        [first, ..] => Err(Error::NotFound(format!("no suitable export target found for platform {first}"))),
    }
}

/// A blob's entry in a manifest or index.
fn descriptor(media_type: &str, digest: &str, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

fn path_of(digest: &str) -> Result<String, Error> {
    Ok(format!("blobs/sha256/{}", digest::hex_of(digest)?))
}

impl Archive {
    /// Names of what is in it, for events.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.images.iter().map(|chosen| chosen.image.id.as_str())
    }

    /// Writes it. Blocking. What was written of an archive that failed is of no use.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), Error> {
        let mut tar = Tar { out, written: HashSet::new() };
        tar.directory("blobs/")?;
        tar.directory("blobs/sha256/")?;
        let (mut manifests, mut items) = (Vec::new(), Vec::new());
        let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        for Chosen { image, tags, parent } in &self.images {
            let config = self.shared.disk.blobs.read(&image.id)?;
            let layers = self.write_layers(image, &mut tar)?;
            tar.document(&path_of(&image.id)?, &config)?;
            let manifest = encode(&json!({
                "schemaVersion": 2,
                "mediaType": MEDIA_OCI_MANIFEST,
                "config": descriptor(MEDIA_OCI_CONFIG, &image.id, config.len() as u64),
                "layers": layers,
            }))?;
            let manifest_digest = digest::of_bytes(&manifest);
            tar.document(&path_of(&manifest_digest)?, &manifest)?;
            let entry = descriptor(MEDIA_OCI_MANIFEST, &manifest_digest, manifest.len() as u64);
            manifests.extend(entries(&entry, tags));
            let mut item = item(image, tags, &layers)?;
            if let Some(parent) = parent {
                item["Parent"] = parent.as_str().into();
            }
            items.push(item);
            for tag in tags {
                let top = image.diff_ids.last().map(|diff_id| digest::hex_of(diff_id)).transpose()?;
                let versions = repositories.entry(tag.familiar_name()).or_default();
                versions.insert(tag.tag.clone().unwrap_or_default(), top.unwrap_or_default().to_owned());
            }
        }
        let index = json!({ "schemaVersion": 2, "mediaType": MEDIA_OCI_INDEX, "manifests": manifests });
        tar.document("index.json", &encode(&index)?)?;
        tar.document("manifest.json", &encode(&json!(items))?)?;
        tar.document("oci-layout", LAYOUT.as_bytes())?;
        if !repositories.is_empty() {
            tar.document("repositories", &encode(&json!(repositories))?)?;
        }
        tar.out.write_all(&END).and_then(|()| tar.out.flush()).map_err(cannot)
    }

    /// Writes those layers that are not in the archive yet; the entries of all.
    fn write_layers(&self, image: &Image, tar: &mut Tar<'_>) -> Result<Vec<Value>, Error> {
        let mut entries = Vec::new();
        for diff_id in &image.diff_ids {
            let size = self.shared.tar_bytes(diff_id)?;
            entries.push(descriptor(MEDIA_OCI_PLAIN_LAYER, diff_id, size));
            let disk = &self.shared.disk;
            tar.entry(&path_of(diff_id)?, size, |out| {
                unpack::replay(&disk.layer_record(diff_id), &disk.layer_content(diff_id), out)
                    .map_err(|e| io::Error::new(e.kind(), format!("layer {diff_id} cannot be written as it came: {e}")))
            })?;
        }
        Ok(entries)
    }
}

/// An image in `index.json`: once for each tag, once if it has none.
fn entries(entry: &Value, tags: &[Reference]) -> Vec<Value> {
    let tagged = tags.iter().map(|tag| {
        let mut entry = entry.clone();
        entry["annotations"] = json!({
            "io.containerd.image.name": tag.to_string(),
            "org.opencontainers.image.ref.name": tag.tag,
        });
        entry
    });
    if tags.is_empty() { vec![entry.clone()] } else { tagged.collect() }
}

/// An image in `manifest.json`.
fn item(image: &Image, tags: &[Reference], layers: &[Value]) -> Result<Value, Error> {
    let names: Vec<String> = tags.iter().map(Reference::familiar).collect();
    let paths = image.diff_ids.iter().map(|diff_id| path_of(diff_id)).collect::<Result<Vec<_>, _>>()?;
    let mut sources = serde_json::Map::new();
    for (diff_id, layer) in image.diff_ids.iter().zip(layers) {
        sources.insert(diff_id.clone(), layer.clone());
    }
    Ok(json!({
        "Config": path_of(&image.id)?,
        "RepoTags": (!names.is_empty()).then_some(names),
        "Layers": paths,
        "LayerSources": sources,
    }))
}

fn encode(value: &Value) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|e| Error::Other(format!("archive: {e}")))
}

fn cannot(e: io::Error) -> Error {
    Error::Other(format!("cannot write the archive: {e}"))
}

/// A tar on its way out.
struct Tar<'a> {
    out: &'a mut dyn Write,
    /// Blobs that images share are in it once.
    written: HashSet<String>,
}

impl Tar<'_> {
    fn directory(&mut self, path: &str) -> Result<(), Error> {
        self.header(path, 0, tar::EntryType::Directory, 0o755)
    }

    fn document(&mut self, path: &str, bytes: &[u8]) -> Result<(), Error> {
        self.entry(path, bytes.len() as u64, |out| out.write_all(bytes))
    }

    /// A file whose content `write` writes; it must be as long as it was said to be.
    fn entry(
        &mut self,
        path: &str,
        bytes: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Error> {
        if !self.written.insert(path.to_owned()) {
            return Ok(());
        }
        self.header(path, bytes, tar::EntryType::Regular, 0o644)?;
        let mut exact = Exact { out: self.out, left: bytes };
        write(&mut exact).map_err(cannot)?;
        if exact.left > 0 {
            return Err(Error::Other(format!("cannot write the archive: {path} is {} bytes too short", exact.left)));
        }
        let padding = usize::try_from(bytes.next_multiple_of(BLOCK) - bytes).unwrap_or(0);
        self.out.write_all(&END[..padding]).map_err(cannot)
    }

    fn header(&mut self, path: &str, bytes: u64, kind: tar::EntryType, mode: u32) -> Result<(), Error> {
        // Sizes from 8 GiB on are written in binary, which only GNU's form has.
        let mut header = if bytes < 8 << 30 { tar::Header::new_ustar() } else { tar::Header::new_gnu() };
        header.set_path(path).map_err(cannot)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.out.write_all(header.as_bytes()).map_err(cannot)
    }
}

/// Lets no more through than was announced.
struct Exact<'a> {
    out: &'a mut dyn Write,
    left: u64,
}

impl Write for Exact<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes than its record says"));
        }
        let count = self.out.write(bytes)?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
