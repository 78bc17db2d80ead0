//! The images in memory: everything `get` and `list` answer from, and who still needs which layer. Pure; the tables and
//! directories it mirrors belong to `records` and `disk`.

mod upkeep;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hoist_api::reference::Reference;

use crate::records::{ImageRecord, LayerBytes, Voucher};
use crate::{Error, Image, config};

#[derive(Debug, Default)]
pub(crate) struct Index {
    images: HashMap<String, Entry>,
    /// Canonical references, tags and digests alike, to image ids.
    names: HashMap<String, String>,
    layers: HashMap<String, Layer>,
    leases: HashMap<String, Vec<String>>,
    /// Canonical references and image ids.
    pins: HashSet<String>,
    /// Ids without their algorithm, for prefixes.
    hexes: BTreeSet<String>,
}

#[derive(Debug)]
struct Entry {
    image: Arc<Image>,
    record: ImageRecord,
    history: Arc<Vec<config::HistoryRecord>>,
    /// Canonical spellings, sorted, each where the image's `repo_tags` have the familiar one.
    tags: Vec<String>,
    /// The same of `repo_digests`.
    digests: Vec<String>,
    vouchers: Vec<Voucher>,
    used_ns: AtomicI64,
    /// What the tables say of it, or will in a moment.
    used_recorded_ns: AtomicI64,
}

#[derive(Debug)]
struct Layer {
    bytes: LayerBytes,
    /// The digest of the bytes of which a pull unpacked it, which was checked.
    came_as: Option<String>,
    /// What it takes on disk, once that was measured.
    disk_bytes: Option<u64>,
    /// Images, leases and work in progress that need it.
    users: usize,
    /// Whether the tables know it.
    recorded: bool,
}

impl Index {
    pub(crate) fn get(&self, name: &str) -> Result<Arc<Image>, Error> {
        let id = self.resolve(name)?;
        self.images.get(id).map(|entry| entry.image.clone()).ok_or_else(|| Error::no_such_image(name))
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<Arc<Image>> {
        self.images.get(id).map(|entry| entry.image.clone())
    }

    /// Docker's order: a name first, then an id or a prefix of one.
    pub(crate) fn resolve(&self, name: &str) -> Result<&str, Error> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if is_hex(hex) && hex.len() == 64 {
            let found = self.images.get_key_value(&format!("sha256:{hex}"));
            return found.map(|(id, _)| id.as_str()).ok_or_else(|| Error::no_such_image(name));
        }
        let reference = Reference::parse(name);
        if let Ok(reference) = &reference
            && let Some(id) = self.names.get(&lookup_key(reference))
        {
            return Ok(id);
        }
        if let Some(id) = self.by_prefix(hex) {
            return Ok(id);
        }
        match reference {
            _ if name.starts_with("sha256:") => Err(Error::no_such_image(name)),
            Ok(reference) => Err(Error::no_such_image(&reference.with_default_tag().familiar())),
            Err(e) => Err(e.into()),
        }
    }

    fn by_prefix(&self, prefix: &str) -> Option<&str> {
        if !is_hex(prefix) {
            return None;
        }
        let mut matches = self.hexes.range(prefix.to_owned()..).take_while(|hex| hex.starts_with(prefix));
        let first = matches.next()?;
        if matches.next().is_some() {
            return None;
        }
        self.images.get_key_value(&format!("sha256:{first}")).map(|(id, _)| id.as_str())
    }

    pub(crate) fn by_name(&self, reference: &Reference) -> Option<&str> {
        self.names.get(&lookup_key(reference)).map(String::as_str)
    }

    pub(crate) fn list(&self) -> Vec<Arc<Image>> {
        let mut images: Vec<_> = self.images.values().map(|entry| entry.image.clone()).collect();
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        images
    }

    pub(crate) fn history(&self, id: &str) -> Arc<Vec<config::HistoryRecord>> {
        self.images.get(id).map(|entry| entry.history.clone()).unwrap_or_default()
    }

    pub(crate) fn parent(&self, id: &str) -> Option<&str> {
        self.images.get(id).and_then(|entry| entry.record.parent.as_deref())
    }

    /// Those of which others were made.
    pub(crate) fn parents(&self) -> HashSet<String> {
        self.images.values().filter_map(|entry| entry.record.parent.clone()).collect()
    }

    pub(crate) fn has_children(&self, id: &str) -> bool {
        self.images.values().any(|entry| entry.record.parent.as_deref() == Some(id))
    }

    /// The image's names, sorted by their canonical spelling.
    pub(crate) fn references(&self, id: &str) -> Vec<Reference> {
        let Some(entry) = self.images.get(id) else { return Vec::new() };
        let mut names: Vec<&String> = entry.names().collect();
        names.sort();
        names.into_iter().filter_map(|name| Reference::parse(name).ok()).collect()
    }

    pub(crate) fn layer_size(&self, diff_id: &str) -> Option<u64> {
        self.layers.get(diff_id).map(|layer| layer.bytes.content)
    }

    /// Bytes of the layer's tar, if it is known.
    pub(crate) fn layer_tar_bytes(&self, diff_id: &str) -> Option<u64> {
        self.layers.get(diff_id).and_then(|layer| layer.bytes.tar)
    }

    pub(crate) fn diff_ids_in_use(&self) -> impl Iterator<Item = &Vec<String>> {
        self.images.values().map(|entry| &entry.record.diff_ids).chain(self.leases.values())
    }

    pub(crate) fn lease(&self, holder: &str) -> Option<&Vec<String>> {
        self.leases.get(holder)
    }

    pub(crate) fn lease_holders(&self) -> impl Iterator<Item = &String> {
        self.leases.keys()
    }

    pub(crate) fn add_layer(&mut self, diff_id: &str, bytes: LayerBytes) {
        self.settle_layer(diff_id, bytes, None);
        if let Some(layer) = self.layers.get_mut(diff_id) {
            layer.recorded = true;
        }
    }

    /// Adds a layer that is on disk and not in the tables yet.
    pub(crate) fn settle_layer(&mut self, diff_id: &str, bytes: LayerBytes, came_as: Option<String>) {
        let layer = Layer { bytes, came_as, disk_bytes: None, users: 0, recorded: false };
        self.layers.entry(diff_id.to_owned()).or_insert(layer);
    }

    /// Whether a pull unpacked the layer of bytes with this digest.
    pub(crate) fn layer_came_as(&self, diff_id: &str, digest: &str) -> bool {
        self.layers.get(diff_id).is_some_and(|layer| layer.came_as.as_deref() == Some(digest))
    }

    /// Those of the layers that the tables do not know yet, with their sizes.
    pub(crate) fn unrecorded<'a>(&self, diff_ids: impl Iterator<Item = &'a String>) -> Vec<(String, LayerBytes)> {
        let layer = |diff_id: &String| self.layers.get(diff_id).filter(|layer| !layer.recorded);
        diff_ids.filter_map(|diff_id| Some((diff_id.clone(), layer(diff_id)?.bytes))).collect()
    }

    pub(crate) fn hold(&mut self, diff_ids: &[String]) {
        for diff_id in diff_ids {
            if let Some(layer) = self.layers.get_mut(diff_id) {
                layer.users += 1;
            }
        }
    }

    /// Undoes [`Index::hold`]; returns the layers nobody needs any more, which stay known until [`Index::drop_layer`].
    pub(crate) fn let_go(&mut self, diff_ids: &[String]) -> Vec<String> {
        let mut unused = Vec::new();
        for diff_id in diff_ids {
            if let Some(layer) = self.layers.get_mut(diff_id) {
                layer.users = layer.users.saturating_sub(1);
                if layer.users == 0 {
                    unused.push(diff_id.clone());
                }
            }
        }
        unused
    }

    pub(crate) fn unused_layers(&self) -> Vec<String> {
        self.layers.iter().filter(|(_, layer)| layer.users == 0).map(|(id, _)| id.clone()).collect()
    }

    pub(crate) fn drop_layer(&mut self, diff_id: &str) {
        self.layers.remove(diff_id);
    }

    pub(crate) fn put_lease(&mut self, holder: &str, diff_ids: Vec<String>) -> Vec<String> {
        self.hold(&diff_ids);
        let before = self.leases.insert(holder.to_owned(), diff_ids);
        before.map(|before| self.let_go(&before)).unwrap_or_default()
    }

    pub(crate) fn drop_lease(&mut self, holder: &str) -> Vec<String> {
        let before = self.leases.remove(holder);
        before.map(|before| self.let_go(&before)).unwrap_or_default()
    }

    /// Adds an image whose layers are known. A document that could not be read leaves an image that says nothing.
    pub(crate) fn add_image(&mut self, record: ImageRecord, document: Option<config::Document>) {
        if let Some(entry) = self.images.get_mut(&record.id) {
            entry.record.tagged_ns = entry.record.tagged_ns.max(record.tagged_ns);
            entry.record.parent = record.parent.or(entry.record.parent.take());
            entry.used_ns.fetch_max(record.used_ns, Ordering::Relaxed);
            let id = record.id;
            if let Some(document) = document {
                self.renew_document(&id, document);
            }
            return self.refresh(&id);
        }
        self.hold(&record.diff_ids);
        let sizes = record.diff_ids.iter().filter_map(|id| self.layer_size(id));
        let size_bytes = sizes.fold(0, u64::saturating_add);
        let (image, history) = image_of(&record, document, size_bytes);
        let id = record.id.clone();
        self.hexes.insert(id.trim_start_matches("sha256:").to_owned());
        let entry = Entry {
            used_ns: record.used_ns.into(),
            used_recorded_ns: record.used_ns.into(),
            image: Arc::new(image),
            record,
            history: Arc::new(history),
            tags: Vec::new(),
            digests: Vec::new(),
            vouchers: Vec::new(),
        };
        self.images.insert(id.clone(), entry);
        self.refresh(&id);
    }

    /// Takes an image's config that could not be read before and is here anew.
    pub(crate) fn renew_document(&mut self, id: &str, document: config::Document) {
        let Some(entry) = self.images.get_mut(id).filter(|entry| entry.image.document.is_null()) else { return };
        let (mut image, history) = image_of(&entry.record, Some(document), entry.image.size_bytes);
        (image.repo_tags, image.repo_digests) = (entry.image.repo_tags.clone(), entry.image.repo_digests.clone());
        (entry.image, entry.history) = (Arc::new(image), Arc::new(history));
        self.refresh(id);
    }

    /// Forgets an image and its names; returns the layers nobody needs any more.
    pub(crate) fn drop_image(&mut self, id: &str) -> Vec<String> {
        let Some(entry) = self.images.remove(id) else { return Vec::new() };
        self.hexes.remove(id.trim_start_matches("sha256:"));
        self.pins.remove(id);
        for name in entry.names() {
            self.names.remove(name);
            self.pins.remove(name);
        }
        self.let_go(&entry.record.diff_ids)
    }

    /// Puts a name on an image, taking it from the one that had it, whose id is returned.
    pub(crate) fn put_name(&mut self, reference: &str, id: &str) -> Option<String> {
        let before = self.names.insert(reference.to_owned(), id.to_owned()).filter(|before| before != id);
        if let Some(before) = &before {
            if let Some(entry) = self.images.get_mut(before) {
                entry.remove_name(reference);
            }
            self.refresh(before);
        }
        if let Some(entry) = self.images.get_mut(id) {
            entry.add_name(reference);
        }
        self.refresh(id);
        before
    }

    pub(crate) fn drop_name(&mut self, reference: &str) {
        let Some(id) = self.names.remove(reference) else { return };
        self.pins.remove(reference);
        if let Some(entry) = self.images.get_mut(&id) {
            entry.remove_name(reference);
        }
        self.refresh(&id);
    }

    pub(crate) fn set_tagged(&mut self, id: &str, tagged_ns: i64) {
        if let Some(entry) = self.images.get_mut(id) {
            entry.record.tagged_ns = tagged_ns;
        }
        self.refresh(id);
    }

    /// Makes what users see agree with pins and tag time.
    fn refresh(&mut self, id: &str) {
        let Some(entry) = self.images.get_mut(id) else { return };
        // Either may be many.
        let is_name_pinned = if self.pins.len() < entry.tags.len() + entry.digests.len() {
            self.pins.iter().any(|pinned| entry.has_name(pinned))
        } else {
            entry.names().any(|name| self.pins.contains(name))
        };
        let is_pinned = is_name_pinned || self.pins.contains(id);
        let image = Arc::make_mut(&mut entry.image);
        image.is_pinned = is_pinned;
        image.last_tagged_ns = entry.record.tagged_ns;
    }
}

impl Entry {
    fn names(&self) -> impl Iterator<Item = &String> {
        self.tags.iter().chain(&self.digests)
    }

    fn has_name(&self, reference: &str) -> bool {
        let names = if is_digested(reference) { &self.digests } else { &self.tags };
        names.binary_search_by(|name| name.as_str().cmp(reference)).is_ok()
    }

    /// Puts a name where it belongs. They are not made anew each time: an image may have ten thousand.
    fn add_name(&mut self, reference: &str) {
        let (names, shown) = self.names_like(reference);
        if let Err(at) = names.binary_search_by(|name| name.as_str().cmp(reference)) {
            names.insert(at, reference.to_owned());
            let familiar = Reference::parse(reference).map_or_else(|_| reference.to_owned(), |name| name.familiar());
            shown.insert(at, familiar);
        }
    }

    fn remove_name(&mut self, reference: &str) {
        let (names, shown) = self.names_like(reference);
        if let Ok(at) = names.binary_search_by(|name| name.as_str().cmp(reference)) {
            names.remove(at);
            shown.remove(at);
        }
    }

    /// The names of the same kind, and what users see of them.
    fn names_like(&mut self, reference: &str) -> (&mut Vec<String>, &mut Vec<String>) {
        let image = Arc::make_mut(&mut self.image);
        if is_digested(reference) {
            (&mut self.digests, &mut image.repo_digests)
        } else {
            (&mut self.tags, &mut image.repo_tags)
        }
    }
}

/// Whether a canonical spelling is one with a digest.
fn is_digested(reference: &str) -> bool {
    reference.contains('@')
}

/// How a reference is kept: by digest if it has one (a tag beside it proves nothing), else by tag.
pub(crate) fn lookup_key(reference: &Reference) -> String {
    match &reference.digest {
        Some(digest) => reference.with_digest(digest).to_string(),
        None => reference.clone().with_default_tag().to_string(),
    }
}

fn image_of(
    record: &ImageRecord,
    document: Option<config::Document>,
    size_bytes: u64,
) -> (Image, Vec<config::HistoryRecord>) {
    let (id, diff_ids, last_tagged_ns) = (record.id.clone(), record.diff_ids.clone(), record.tagged_ns);
    let mut image = Image { id, diff_ids, last_tagged_ns, size_bytes, ..Image::default() };
    let Some(document) = document else { return (image, Vec::new()) };
    image.config = document.config;
    image.document = document.value;
    image.created = document.created;
    image.architecture = document.architecture;
    image.os = document.os;
    image.variant = document.variant;
    (image, document.history)
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether what a user typed is (the beginning of) this id rather than a name.
pub(crate) fn is_id_prefix(id: &str, typed: &str) -> bool {
    id.starts_with(typed) || id.split_once(':').is_some_and(|(_, hex)| hex.starts_with(typed))
}
