//! Entries of a transparency log, checked offline: by the log's signature over the entry (the "signed entry timestamp"), and
//! by what the entry says that was signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoist_api::reference::is_tag;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::key::PublicKey;
use crate::digest;

/// An entry, with the log's promise to include it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The canonical body, base64.
    pub(crate) body: String,
    pub(crate) integrated_time_s: i64,
    /// Hex.
    pub(crate) log_id: String,
    pub(crate) log_index: i64,
    pub(crate) timestamp_signature: Vec<u8>,
}

/// What must have been recorded.
pub(crate) struct Recorded<'a> {
    pub(crate) signature: &'a [u8],
    /// The signer's key or certificate, DER.
    pub(crate) verifier: Verifier<'a>,
    /// What the entry's hash is of.
    pub(crate) content: &'a [u8],
}

pub(crate) enum Verifier<'a> {
    Keys(&'a [PublicKey]),
    Certificate(&'a [u8]),
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Body {
    HashedRekord { spec: HashedRekord },
    Dsse { spec: Dsse },
}

#[derive(Deserialize)]
struct HashedRekord {
    data: Data,
    signature: RecordedSignature,
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordedSignature {
    content: String,
    public_key: RecordedKey,
}

#[derive(Deserialize)]
struct RecordedKey {
    content: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dsse {
    payload_hash: Hash,
    signatures: Vec<DsseSignature>,
}

#[derive(Deserialize)]
struct DsseSignature {
    signature: String,
    verifier: String,
}

impl Entry {
    /// Checks that one of these logs promised the entry, and that it is about this signature. Returns when it was recorded,
    /// in Unix seconds.
    pub(crate) fn check(&self, logs: &[PublicKey], recorded: &Recorded<'_>) -> Result<u64, String> {
        // The id goes into a document as it is; hex digits are all that it may have.
        if !is_tag(&self.log_id) || !self.log_id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("the log entry has no log id".to_owned());
        }
        let body = STANDARD.decode(&self.body).map_err(|_| "the log entry's body is not base64".to_owned())?;
        // RFC 8785: keys in order, no spaces; neither base64 nor hex needs escapes.
        let signed = format!(
            "{{\"body\":\"{}\",\"integratedTime\":{},\"logID\":\"{}\",\"logIndex\":{}}}",
            self.body, self.integrated_time_s, self.log_id, self.log_index
        );
        if !logs.iter().any(|log| log.has_signed(signed.as_bytes(), &self.timestamp_signature)) {
            return Err("the log entry is not signed by a log that the policy knows".to_owned());
        }
        let body = serde_json::from_slice(&body).map_err(|e| format!("the log entry cannot be read: {e}"))?;
        if !is_about(&body, recorded) {
            return Err("the log entry is about another signature".to_owned());
        }
        u64::try_from(self.integrated_time_s).map_err(|_| "the log entry has no time".to_owned())
    }
}

fn is_about(body: &Body, recorded: &Recorded<'_>) -> bool {
    let hash = digest::text("", &Sha256::digest(recorded.content));
    let hash_fits = |recorded: &Hash| recorded.algorithm == "sha256" && recorded.value == hash;
    let fits = |signature: &str, verifier: &str| {
        STANDARD.decode(signature).is_ok_and(|bytes| bytes == recorded.signature)
            && STANDARD.decode(verifier).is_ok_and(|pem| recorded.verifier.is(&pem))
    };
    match body {
        Body::HashedRekord { spec } => {
            hash_fits(&spec.data.hash) && fits(&spec.signature.content, &spec.signature.public_key.content)
        }
        Body::Dsse { spec } => {
            hash_fits(&spec.payload_hash) && spec.signatures.iter().any(|one| fits(&one.signature, &one.verifier))
        }
    }
}

impl Verifier<'_> {
    fn is(&self, pem: &[u8]) -> bool {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        match self {
            Verifier::Keys(keys) => PublicKey::of_pem(pem).is_ok_and(|key| keys.contains(&key)),
            Verifier::Certificate(der) => CertificateDer::from_pem_slice(pem).is_ok_and(|found| found.as_ref() == *der),
        }
    }
}
