//! `docker load`: an archive that `docker save` of any release wrote, or an OCI layout. The archive is read once, front
//! to back: layers are unpacked as they pass, documents are kept in memory, and what belongs together is told afterwards.

mod archive;
mod docker;
mod legacy;
mod oci;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::{self, Read};

use hoist_api::reference::Reference;

use crate::ingest::{ImageDraft, Ingest};
use crate::signature::local::Source;
use crate::{Digest, Error, Platform, Progress, ProgressSink, Store, config, decompress, digest, tags};
use archive::Archive;

/// An image found in an archive and what to say about it.
struct Found {
    draft: ImageDraft,
}

impl Store {
    /// `docker load`: docker-archive of any release or OCI layout tar, in any compression that layers may have.
    /// With `platforms`, only images for one of them.
    /// Reads `tar` to its end unless it fails. Returns the ids of what came, in the archive's order. Blocking.
    pub fn load(
        &self,
        tar: &mut dyn Read,
        platforms: &[Platform],
        progress: &ProgressSink,
    ) -> Result<Vec<Digest>, Error> {
        let read_error = |e: io::Error| Error::Invalid(format!("cannot read the archive: {e}"));
        let (format, sniffed) = decompress::sniff(tar).map_err(read_error)?;
        let plain = decompress::open(format, sniffed).map_err(read_error)?;
        let ingest = Ingest::begin(&self.shared)?;
        let archive = archive::read(&ingest, plain, progress)?;
        let (found, source) = if archive.has("manifest.json") {
            (docker::images(&archive)?, Source::DockerArchive)
        } else if archive.has("index.json") {
            (oci::images(&archive, platforms)?, Source::OciArchive)
        } else if archive.has("repositories") {
            (legacy::images(&archive)?, Source::DockerArchive)
        } else {
            let text = "invalid archive: it has neither manifest.json nor index.json";
            return Err(Error::Invalid(text.to_owned()));
        };
        let drafts: Vec<ImageDraft> = found.into_iter().map(|found| found.draft).collect();
        let drafts = of_platforms(drafts, platforms)?;
        for draft in &drafts {
            draft.names.iter().try_for_each(tags::check_name)?;
            self.check_arrival(source, &digest::of_bytes(&draft.config), &draft.names)?;
            hold_layers(&ingest, &archive, draft)?;
        }
        let renamed = ingest.commit(&drafts)?;
        for name in renamed {
            let text = format!(
                "The image {} already exists, renaming the old one with ID {} to empty string\n",
                name.reference.familiar(),
                name.from
            );
            progress(Progress::stream(text));
        }
        let mut ids = Vec::with_capacity(drafts.len());
        for draft in &drafts {
            let id = digest::of_bytes(&draft.config);
            for name in &draft.names {
                progress(Progress::stream(format!("Loaded image: {}\n", name.familiar())));
            }
            if draft.names.is_empty() {
                progress(Progress::stream(format!("Loaded image ID: {id}\n")));
            }
            ids.push(id);
        }
        Ok(ids)
    }
}

/// The images that are for one of the platforms; without platforms all.
fn of_platforms(mut drafts: Vec<ImageDraft>, platforms: &[Platform]) -> Result<Vec<ImageDraft>, Error> {
    if platforms.is_empty() {
        return Ok(drafts);
    }
    for at in (0..drafts.len()).rev() {
        let config::Document { os, architecture, variant, .. } = config::parse(&drafts[at].config)?;
        let have = Platform { architecture, os, variant };
        if !platforms.iter().any(|wanted| have.fits(wanted)) {
            drafts.remove(at);
        }
    }
    if drafts.is_empty() {
        let wanted: Vec<String> = platforms.iter().map(Platform::to_string).collect();
        return Err(Error::NotFound(format!("the archive has no image for platform {}", wanted.join(", "))));
    }
    Ok(drafts)
}

/// Layers that the store had are kept from now on; a missing one is an error here, not half-way through the commit.
fn hold_layers(ingest: &Ingest, archive: &Archive, draft: &ImageDraft) -> Result<(), Error> {
    for diff_id in config::parse(&draft.config)?.diff_ids {
        if !ingest.hold_existing(&diff_id) {
            let reason = archive.first_failure().map(|text| format!(" ({text})")).unwrap_or_default();
            return Err(Error::Invalid(format!("invalid archive: layer {diff_id} is missing{reason}")));
        }
    }
    Ok(())
}

/// Checks the layers an archive lists against what the config says, position by position.
fn check_layers(archive: &Archive, document: &config::Document, paths: &[String]) -> Result<(), Error> {
    if paths.len() != document.diff_ids.len() {
        return Err(Error::Invalid(format!(
            "invalid manifest, layers length mismatch: expected {}, got {}",
            paths.len(),
            document.diff_ids.len()
        )));
    }
    for (position, (path, wanted)) in paths.iter().zip(&document.diff_ids).enumerate() {
        let layer = archive.layer(path)?;
        if layer.diff_id != *wanted {
            let got = &layer.diff_id;
            return Err(Error::Invalid(format!(
                "invalid diffID for layer {position}: expected {wanted:?}, got {got:?}"
            )));
        }
    }
    Ok(())
}

fn check_runs_here(document: &config::Document) -> Result<(), Error> {
    if document.os == "linux" {
        Ok(())
    } else {
        Err(Error::Invalid(format!("image operating system {:?} cannot be used on this platform", document.os)))
    }
}

fn tag_of(text: &str) -> Result<Reference, Error> {
    let reference = Reference::parse(text)?;
    if reference.tag.is_none() || reference.digest.is_some() {
        return Err(Error::Invalid(format!("invalid tag {text:?}")));
    }
    Ok(reference)
}

/// One draft per image: an archive may list it once per tag.
fn merge(found: Vec<Found>) -> Vec<Found> {
    let mut merged: Vec<Found> = Vec::new();
    let mut position: HashMap<String, usize> = HashMap::new();
    for next in found {
        let id = digest::of_bytes(&next.draft.config);
        match position.get(&id) {
            Some(&at) => merged[at].draft.names.extend(next.draft.names),
            None => {
                position.insert(id, merged.len());
                merged.push(next);
            }
        }
    }
    merged
}
