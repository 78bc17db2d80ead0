//! OCI layouts (image-spec image-layout.md): buildx, skopeo `oci-archive:`, `docker save` of a containerd store.

use hoist_api::reference::Reference;

use super::archive::Archive;
use super::{Found, check_layers, check_runs_here, merge};
use crate::ingest::ImageDraft;
use crate::manifest::{self, Descriptor, MEDIA_OCI_CONFIG, MEDIA_OCI_MANIFEST, Manifest};
use crate::{Error, Platform, config, digest};

/// An index of indexes of … ends somewhere.
const DEPTH_MAX: usize = 4;
const ANNOTATION_FULL_NAME: &str = "io.containerd.image.name";
const ANNOTATION_NAME: &str = "org.opencontainers.image.ref.name";
/// BuildKit's attestations lie beside the images they are about.
const ANNOTATION_ATTESTATION: &str = "vnd.docker.reference.type";

pub(super) fn images(archive: &Archive, platforms: &[Platform]) -> Result<Vec<Found>, Error> {
    let Manifest::Index(entries) = manifest::parse(archive.document("index.json")?, "")? else {
        return Err(Error::Invalid("invalid archive: index.json is not an index".to_owned()));
    };
    let mut found = Vec::new();
    let mut not_here = None;
    let host = [Platform::host()];
    let platforms = if platforms.is_empty() { &host } else { platforms };
    for entry in entries.iter().filter(|entry| annotation(entry, ANNOTATION_ATTESTATION).is_none()) {
        for platform in platforms {
            match image(archive, entry, platform) {
                Ok(draft) => found.push(Found { draft }),
                // One of several may be for another machine.
                Err(e @ Error::NotFound(_)) => not_here = Some(e),
                Err(e) => return Err(e),
            }
        }
    }
    match not_here {
        Some(e) if found.is_empty() => Err(e),
        _ => Ok(merge(found)),
    }
}

fn image(archive: &Archive, entry: &Descriptor, platform: &Platform) -> Result<ImageDraft, Error> {
    let names = name_of(entry)?.into_iter().collect();
    let mut manifests = Vec::new();
    let mut next = entry.clone();
    let image = loop {
        let bytes = blob(archive, &next)?;
        manifests.push((next.digest.clone(), next.media_type.clone(), bytes.to_vec()));
        match manifest::parse(bytes, &next.media_type)? {
            Manifest::Image(image) => break image,
            Manifest::Index(_) if manifests.len() >= DEPTH_MAX => {
                return Err(Error::Invalid("invalid archive: indexes nested too deep".to_owned()));
            }
            Manifest::Index(inner) => next = manifest::choose(&inner, platform)?.clone(),
        }
    };
    image.check_is_image()?;
    let config = blob(archive, &image.config)?.to_vec();
    let document = config::parse(&config)?;
    check_runs_here(&document)?;
    let paths: Vec<String> = image.layers.iter().map(|layer| path_of(&layer.digest)).collect::<Result<_, _>>()?;
    check_layers(archive, &document, &paths)?;
    for (path, layer) in paths.iter().zip(&image.layers) {
        if archive.layer(path)?.compressed_digest != layer.digest {
            return Err(Error::Invalid(format!("invalid archive: {path} does not have the digest it is named by")));
        }
    }
    if manifests.last().is_some_and(|(_, media_type, _)| media_type.is_empty())
        && let Some(last) = manifests.last_mut()
    {
        MEDIA_OCI_MANIFEST.clone_into(&mut last.1);
    }
    let config_media_type = Some(image.config.media_type).filter(|t| !t.is_empty());
    Ok(ImageDraft {
        config,
        config_media_type: config_media_type.unwrap_or_else(|| MEDIA_OCI_CONFIG.to_owned()),
        manifests,
        sources: Vec::new(),
        names,
        parent: None,
        tagged_ns: 0,
        made_here: false,
    })
}

fn blob<'a>(archive: &'a Archive, descriptor: &Descriptor) -> Result<&'a [u8], Error> {
    let path = path_of(&descriptor.digest)?;
    let bytes = archive.document(&path)?;
    if bytes.len() as u64 != descriptor.size || digest::of_bytes(bytes) != descriptor.digest {
        return Err(Error::Invalid(format!(
            "invalid archive: {path} does not have the digest and size it is named by"
        )));
    }
    Ok(bytes)
}

fn path_of(digest: &str) -> Result<String, Error> {
    Ok(format!("blobs/sha256/{}", digest::hex_of(digest)?))
}

/// A name to put on the image. The OCI annotation may be a bare tag, which names no repository and so no image.
fn name_of(entry: &Descriptor) -> Result<Option<Reference>, Error> {
    let full = annotation(entry, ANNOTATION_FULL_NAME);
    let short = annotation(entry, ANNOTATION_NAME).filter(|name| name.contains([':', '/']));
    let Some(name) = full.or(short) else { return Ok(None) };
    let reference = Reference::parse(name)?;
    Ok(reference.digest.is_none().then(|| reference.with_default_tag()))
}

fn annotation<'a>(entry: &'a Descriptor, key: &str) -> Option<&'a str> {
    entry.annotations.as_ref()?.get(key).map(String::as_str)
}
