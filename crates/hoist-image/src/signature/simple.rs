//! cosign's first form: an image at the tag `sha256-<hex>.sig` whose layers are "simple signing" documents, with their
//! signatures in annotations (cosign SIGNATURE_SPEC.md).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

use super::rekor::Entry;
use super::{Claim, Evidence};

pub(crate) const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
/// What newer and older cosigns write.
const TYPES: [&str; 2] = ["cosign container image signature", "https://sigstore.dev/cosign/sign/v1"];

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: PayloadIdentity,
    image: PayloadImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PayloadIdentity {
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct PayloadImage {
    docker_manifest_digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Bundle {
    signed_entry_timestamp: String,
    payload: BundlePayload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BundlePayload {
    body: String,
    integrated_time: i64,
    log_index: i64,
    #[serde(rename = "logID")]
    log_id: String,
}

/// Reads one layer: its annotations and its document.
pub(crate) fn read(annotations: &BTreeMap<String, String>, payload: &[u8]) -> Result<Evidence, String> {
    let signature = annotations.get(SIGNATURE).ok_or("the signature is missing")?;
    let signature = STANDARD.decode(signature).map_err(|_| "the signature is not base64")?;
    let document: Payload =
        serde_json::from_slice(payload).map_err(|e| format!("the signed document cannot be read: {e}"))?;
    if !TYPES.contains(&document.critical.kind.as_str()) {
        return Err(format!("the signed document is of the unknown type {:?}", document.critical.kind));
    }
    let certificate = match annotations.get(CERTIFICATE).filter(|pem| !pem.is_empty()) {
        Some(pem) => Some(certificates("certificate", pem)?.into_iter().next().ok_or("the certificate is empty")?),
        None => None,
    };
    let chain = annotations.get(CHAIN).map(|pem| certificates("chain", pem)).transpose()?.unwrap_or_default();
    let entry = annotations.get(BUNDLE).filter(|text| !text.is_empty()).map(|text| entry(text)).transpose()?;
    let claims = vec![Claim {
        digest: document.critical.image.docker_manifest_digest,
        reference: Some(document.critical.identity.docker_reference),
    }];
    let (signed, recorded) = (payload.to_vec(), payload.to_vec());
    Ok(Evidence { signed, recorded, signature, certificate, chain, entry, claims })
}

fn certificates(name: &str, pem: &str) -> Result<Vec<Vec<u8>>, String> {
    let read = CertificateDer::pem_slice_iter(pem.as_bytes()).map(|der| der.map(|der| der.to_vec()));
    read.collect::<Result<_, _>>().map_err(|e| format!("the {name} cannot be read: {e}"))
}

fn entry(text: &str) -> Result<Entry, String> {
    let bundle: Bundle = serde_json::from_str(text).map_err(|e| format!("the log entry cannot be read: {e}"))?;
    let timestamp_signature =
        STANDARD.decode(&bundle.signed_entry_timestamp).map_err(|_| "the log's signature is not base64")?;
    let payload = bundle.payload;
    Ok(Entry {
        body: payload.body,
        integrated_time_s: payload.integrated_time,
        log_id: payload.log_id,
        log_index: payload.log_index,
        timestamp_signature,
    })
}
