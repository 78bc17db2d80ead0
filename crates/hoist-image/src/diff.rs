//! What one image has that another has not, told from the records of their layers: nothing is mounted, and no file opened.
//! Whether a name that may hide another is a file is looked up, as it is one where a root filesystem was imported.
//!
//! Layers that both images begin with are looked at only for paths that the others speak about, so that what is kept in
//! memory grows with the difference and not with the images.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use hoist_api::container::Change;
use sha2::{Digest as _, Sha256};

use crate::ingest::Ingest;
use crate::unpack::{self, Entry, Kind, Marker};
use crate::{Error, Image, Shared, Store};

const MODIFIED: u8 = 0;
const ADDED: u8 = 1;
const DELETED: u8 = 2;

impl Store {
    /// What `image` has otherwise than `other`, or without one what its uppermost layer changed in those below it; sorted by
    /// path. Blocking.
    pub fn image_changes(&self, image: &Image, other: Option<&Image>) -> Result<Vec<Change>, Error> {
        let below = match other {
            Some(other) => other.diff_ids.as_slice(),
            None => image.diff_ids.split_last().map_or(&[][..], |(_, below)| below),
        };
        let ingest = Ingest::begin(&self.shared)?;
        for diff_id in image.diff_ids.iter().chain(below) {
            if !ingest.hold_existing(diff_id) {
                return Err(Error::NotFound(format!("no such layer: {diff_id}")));
            }
        }
        let common = image.diff_ids.iter().zip(below).take_while(|(one, other)| one == other).count();
        let read = |diff_ids: &[String], filter: Option<&Touched>| -> Result<Vec<Layer>, Error> {
            diff_ids.iter().map(|diff_id| read_layer(&self.shared, diff_id, filter)).collect()
        };
        let (new, old) = (read(&image.diff_ids[common..], None)?, read(&below[common..], None)?);
        let touched = Touched::of(new.iter().chain(&old));
        let base = read(&below[..common], Some(&touched))?;
        let mut before = Tree::default();
        base.into_iter().for_each(|layer| before.apply(layer));
        let mut after = before.clone();
        new.into_iter().for_each(|layer| after.apply(layer));
        old.into_iter().for_each(|layer| before.apply(layer));
        Ok(compare(&before, &after))
    }
}

/// One thing in a file system: equal ones are the same to whoever looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    is_directory: bool,
    signature: [u8; 16],
}

/// What a layer does: hides, then brings.
#[derive(Debug, Default)]
struct Layer {
    /// Paths that are gone, with all below them.
    removed: Vec<Vec<u8>>,
    /// Directories of whose former content nothing is left.
    emptied: Vec<Vec<u8>>,
    nodes: BTreeMap<Vec<u8>, Node>,
}

/// What layers speak about.
#[derive(Debug, Default)]
struct Touched {
    paths: BTreeSet<Vec<u8>>,
    emptied: BTreeSet<Vec<u8>>,
}

impl Touched {
    fn of<'a>(layers: impl Iterator<Item = &'a Layer>) -> Touched {
        let mut touched = Touched::default();
        for layer in layers {
            let named = layer.nodes.keys().chain(&layer.removed).chain(&layer.emptied);
            for path in named {
                for above in ancestors(path).filter(|above| !above.is_empty()) {
                    touched.paths.insert(above.to_vec());
                }
                touched.paths.insert(path.clone());
            }
            touched.emptied.extend(layer.emptied.iter().cloned());
        }
        touched
    }

    fn has(&self, path: &[u8]) -> bool {
        self.paths.contains(path) || ancestors(path).any(|above| self.emptied.contains(above))
    }
}

/// The directories above a path, the nearest first, the root (empty) last.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = (0..path.len()).rev().filter(|at| path[*at] == b'/').map(|at| &path[..at]);
    slashes.chain((!path.is_empty()).then_some(&path[..0]))
}

/// A path's directory, with its slash, and its name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.split_at(path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1))
}

fn is_wanted(filter: Option<&Touched>, path: &[u8]) -> bool {
    filter.is_none_or(|touched| touched.has(path))
}

fn read_layer(shared: &Shared, diff_id: &str, filter: Option<&Touched>) -> Result<Layer, Error> {
    let mut layer = Layer::default();
    let content = shared.disk.layer_content(diff_id);
    let mut add = |path: Vec<u8>, entry: &Entry, digest: Option<[u8; 32]>| {
        let (directory, name) = split(&path);
        match unpack::marker(name) {
            Some(marker) if !unpack::has(&content, &path)? => layer.mark(directory, marker, filter),
            _ => layer.add(path, entry, digest, filter),
        }
        Ok(())
    };
    let read: io::Result<()> = unpack::entries(&shared.disk.layer_record(diff_id), &mut add);
    read.map_err(|e| Error::Other(format!("layer {diff_id} cannot be read (hoist image verify tells more): {e}")))?;
    Ok(layer)
}

impl Layer {
    fn add(&mut self, path: Vec<u8>, entry: &Entry, digest: Option<[u8; 32]>, filter: Option<&Touched>) {
        if split(&path).1.is_empty() || !is_wanted(filter, &path) {
            return;
        }
        let node = match entry.kind {
            Kind::Hardlink => self.nodes.get(&entry.link).copied(),
            _ => None,
        };
        let node = node.unwrap_or_else(|| Node::of(entry, digest));
        if !node.is_directory {
            self.nodes.retain_not_below(&path);
        }
        self.nodes.insert(path, node);
    }

    /// Notes what a name in this directory (with its slash) hides.
    fn mark(&mut self, directory: &[u8], marker: Marker<'_>, filter: Option<&Touched>) {
        match marker {
            Marker::Opaque => self.emptied.push(directory.strip_suffix(b"/").unwrap_or(directory).to_vec()),
            Marker::Foreign => {}
            Marker::Hides(name) => {
                let hidden = [directory, name].concat();
                if is_wanted(filter, &hidden) {
                    self.removed.push(hidden);
                }
            }
        }
    }
}

impl Node {
    /// A directory's time says only that something in it changed.
    fn of(entry: &Entry, digest: Option<[u8; 32]>) -> Node {
        let is_directory = entry.kind == Kind::Directory;
        let mut hasher = Sha256::new();
        let mut number = |value: u64| hasher.update(value.to_le_bytes());
        number(entry.kind as u64);
        [entry.mode, entry.uid, entry.gid, entry.device.0, entry.device.1]
            .map(u64::from)
            .into_iter()
            .for_each(&mut number);
        if !is_directory {
            number(entry.mtime.0.cast_unsigned());
            number(entry.mtime.1.into());
            number(entry.sparse.as_ref().map_or(entry.payload_bytes, |sparse| sparse.real_bytes));
        }
        number(entry.link.len() as u64);
        hasher.update(&entry.link);
        hasher.update(digest.unwrap_or_default());
        for (key, value) in &entry.xattrs {
            for part in [key, value] {
                hasher.update((part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        let mut signature = [0; 16];
        signature.copy_from_slice(&hasher.finalize()[..16]);
        Node { is_directory, signature }
    }

    /// A directory that no layer names, only what is in it.
    const UNNAMED: Node = Node { is_directory: true, signature: [0; 16] };
}

/// Removing all that is below a path.
trait Below {
    fn retain_not_below(&mut self, path: &[u8]);
}

impl Below for BTreeMap<Vec<u8>, Node> {
    fn retain_not_below(&mut self, path: &[u8]) {
        if path.is_empty() {
            self.clear();
            return;
        }
        let (from, to) = ([path, b"/"].concat(), [path, b"0"].concat());
        let below: Vec<Vec<u8>> = self.range(from..to).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.remove(&path);
        }
    }
}

/// What containers of an image see.
#[derive(Clone, Debug, Default)]
struct Tree(BTreeMap<Vec<u8>, Node>);

impl Tree {
    fn apply(&mut self, layer: Layer) {
        for path in layer.removed {
            self.0.retain_not_below(&path);
            self.0.remove(&path);
        }
        layer.emptied.iter().for_each(|path| self.0.retain_not_below(path));
        for (path, node) in layer.nodes {
            for above in ancestors(&path).filter(|above| !above.is_empty()) {
                if !self.0.get(above).is_some_and(|node| node.is_directory) {
                    self.0.insert(above.to_vec(), Node::UNNAMED);
                }
            }
            if !node.is_directory {
                self.0.retain_not_below(&path);
            }
            self.0.insert(path, node);
        }
    }

    fn is_directory(&self, path: &[u8]) -> bool {
        path.is_empty() || self.0.get(path).is_some_and(|node| node.is_directory)
    }
}

fn compare(before: &Tree, after: &Tree) -> Vec<Change> {
    let mut kinds: BTreeMap<&[u8], u8> = BTreeMap::new();
    for (path, node) in &after.0 {
        match before.0.get(path) {
            None => drop(kinds.insert(path, ADDED)),
            Some(was) if was != node => drop(kinds.insert(path, MODIFIED)),
            Some(_) => {}
        }
    }
    for path in before.0.keys().filter(|path| !after.0.contains_key(*path)) {
        let parent = ancestors(path).next().unwrap_or_default();
        if after.is_directory(parent) {
            kinds.insert(path, DELETED);
        }
    }
    let changed: Vec<&[u8]> = kinds.keys().copied().collect();
    for above in changed.into_iter().flat_map(ancestors).filter(|above| !above.is_empty()) {
        kinds.entry(above).or_insert(MODIFIED);
    }
    let told = |(path, kind): (&[u8], u8)| Change { path: format!("/{}", String::from_utf8_lossy(path)), kind };
    let mut changes: Vec<Change> = kinds.into_iter().map(told).collect();
    changes.sort();
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(lines: &[(&str, &str)]) -> Layer {
        let mut layer = Layer::default();
        for (path, text) in lines {
            let kind = if *text == "/" { Kind::Directory } else { Kind::File };
            let entry = Entry {
                path: Vec::new(),
                link: Vec::new(),
                kind,
                mode: 0o644,
                uid: 0,
                gid: 0,
                payload_bytes: text.len() as u64,
                mtime: (1, 0),
                device: (0, 0),
                xattrs: Vec::new(),
                sparse: None,
            };
            let (directory, name) = split(path.as_bytes());
            match unpack::marker(name) {
                Some(marker) => layer.mark(directory, marker, None),
                None => layer.add(path.as_bytes().to_vec(), &entry, Some(Sha256::digest(text).into()), None),
            }
        }
        layer
    }

    fn shown(before: Vec<Layer>, after: Vec<Layer>) -> Vec<String> {
        let tree = |layers: Vec<Layer>| {
            let mut tree = Tree::default();
            layers.into_iter().for_each(|layer| tree.apply(layer));
            tree
        };
        let letter = |kind| ["C", "A", "D"][usize::from(kind)];
        let changes = compare(&tree(before), &tree(after));
        changes.into_iter().map(|change| format!("{} {}", letter(change.kind), change.path)).collect()
    }

    fn base() -> Layer {
        layer(&[("a", "/"), ("a/x", "1"), ("a/y", "2"), ("b", "/"), ("b/z", "3"), ("b/d", "/"), ("b/d/e", "4")])
    }

    #[test]
    fn layers_add_change_and_hide() {
        let top = layer(&[("a", "/"), ("a/x", "other"), ("a/new", "5"), ("b", "/"), ("b/.wh.d", ""), ("c/deep", "6")]);
        let expected = ["C /a", "A /a/new", "C /a/x", "C /b", "D /b/d", "A /c", "A /c/deep"];
        assert_eq!(shown(vec![base()], vec![base(), top]), expected);
    }

    #[test]
    fn an_opaque_directory_keeps_only_what_its_layer_brings() {
        let top = layer(&[("b/z", "3"), ("b/.wh..wh..opq", ""), ("b/f", "7")]);
        assert_eq!(shown(vec![base()], vec![base(), top]), ["C /b", "D /b/d", "A /b/f"]);
        let top = layer(&[("b/.wh..wh.plnk", ""), ("b/d", "now a file")]);
        assert_eq!(shown(vec![base()], vec![base(), top]), ["C /b", "C /b/d"]);
    }

    #[test]
    fn images_are_compared_in_both_directions() {
        let (one, other) = (layer(&[("a/x", "9")]), layer(&[(".wh.b", "")]));
        assert_eq!(shown(vec![base(), one], vec![base(), other]), ["C /a", "C /a/x", "D /b"]);
        assert!(shown(vec![base()], vec![base()]).is_empty());
    }

    #[test]
    fn only_what_is_spoken_about_is_looked_up_in_common_layers() {
        let touched = Touched::of([layer(&[("a/x", "9"), ("b/.wh..wh..opq", "")])].iter());
        for (path, wanted) in [("a", true), ("a/x", true), ("a/y", false), ("b", true), ("b/d/e", true), ("c", false)] {
            assert_eq!(touched.has(path.as_bytes()), wanted, "{path}");
        }
    }

    #[test]
    fn in_a_root_filesystem_that_was_imported_every_name_is_a_files() {
        let home = tempfile::tempdir().unwrap();
        let db = hoist_db::Db::in_memory().unwrap();
        let store = Store::open(&home.path().join("image"), db, crate::Config::default()).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        for path in ["d/x", "d/.wh.x", "d/.wh..wh..opq", ".wh..wh.plnk"] {
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, &b"x"[..]).unwrap();
        }
        let tar = tar.into_inner().unwrap();
        let id = store.import(&mut tar.as_slice(), None, &Default::default(), "", None).unwrap();
        let changes = store.image_changes(&store.get(&id).unwrap(), None).unwrap();
        let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["/.wh..wh.plnk", "/d", "/d/.wh..wh..opq", "/d/.wh.x", "/d/x"]);
    }
}
