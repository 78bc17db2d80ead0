//! Sigstore bundles (version 0.3), which newer cosigns attach to images as referrers: a DSSE envelope around an in-toto
//! statement that names digests, or a plain signature of a manifest, with all that is needed to check it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::rekor::Entry;
use super::{Claim, Evidence};
use crate::digest;

/// The media types of a bundle and of the artifact that carries it begin so.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const STATEMENT: &str = "application/vnd.in-toto+json";
/// What a statement must say: other ones (SBOMs, provenance) are no consent to run the image.
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
    message_signature: Option<MessageSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<RawCertificate>,
    x509_certificate_chain: Option<CertificateChain>,
    #[serde(default)]
    tlog_entries: Vec<LogEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCertificate {
    raw_bytes: String,
}

#[derive(Deserialize)]
struct CertificateChain {
    certificates: Vec<RawCertificate>,
}

/// Protobuf's JSON has 64-bit numbers as texts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogEntry {
    log_index: String,
    log_id: LogId,
    integrated_time: Option<String>,
    inclusion_promise: Option<Promise>,
    canonicalized_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    signed_entry_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
struct MessageSignature {
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    name: String,
    digest: SubjectDigest,
}

#[derive(Deserialize)]
struct SubjectDigest {
    #[serde(default)]
    sha256: String,
}

/// Reads a bundle that is about this manifest.
pub(crate) fn read(bytes: &[u8], manifest: &[u8]) -> Result<Evidence, String> {
    let bundle: Bundle = serde_json::from_slice(bytes).map_err(|e| format!("the bundle cannot be read: {e}"))?;
    if bundle.media_type != MEDIA_TYPE {
        return Err(format!("bundles of the kind {:?} are not supported", bundle.media_type));
    }
    let raw = |certificate: RawCertificate| base64("certificate", &certificate.raw_bytes);
    let mut certificates =
        bundle.verification_material.certificate.map(raw).transpose()?.into_iter().collect::<Vec<_>>();
    for certificate in bundle.verification_material.x509_certificate_chain.into_iter().flat_map(|c| c.certificates) {
        certificates.push(raw(certificate)?);
    }
    let entry = bundle.verification_material.tlog_entries.into_iter().next().map(entry).transpose()?.flatten();
    let mut certificates = certificates.into_iter();
    let (certificate, chain) = (certificates.next(), certificates.collect());
    match (bundle.dsse_envelope, bundle.message_signature) {
        (Some(envelope), None) => {
            let payload = base64("payload", &envelope.payload)?;
            let [signature] = envelope.signatures.as_slice() else {
                return Err("the envelope does not have one signature".to_owned());
            };
            let signature = base64("signature", &signature.sig)?;
            let (claims, signed) =
                (claims(&envelope.payload_type, &payload)?, envelope_text(&envelope.payload_type, &payload));
            Ok(Evidence { signed, recorded: payload, signature, certificate, chain, entry, claims })
        }
        (None, Some(message)) => {
            let signature = base64("signature", &message.signature)?;
            let claims = vec![Claim { digest: digest::of_bytes(manifest), reference: None }];
            let (signed, recorded) = (manifest.to_vec(), manifest.to_vec());
            Ok(Evidence { signed, recorded, signature, certificate, chain, entry, claims })
        }
        _ => Err("the bundle has neither an envelope nor a signature, or both".to_owned()),
    }
}

fn base64(name: &str, text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|_| format!("the bundle's {name} is not base64"))
}

/// None where the log made no promise: that is no evidence, and a policy that wants some says so.
fn entry(entry: LogEntry) -> Result<Option<Entry>, String> {
    let (Some(promise), Some(time)) = (entry.inclusion_promise, entry.integrated_time) else { return Ok(None) };
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("the log entry has {text:?} for a number"));
    Ok(Some(Entry {
        integrated_time_s: number(&time)?,
        log_index: number(&entry.log_index)?,
        log_id: digest::text("", &base64("log id", &entry.log_id.key_id)?),
        timestamp_signature: base64("timestamp", &promise.signed_entry_timestamp)?,
        body: entry.canonicalized_body,
    }))
}

fn claims(payload_type: &str, payload: &[u8]) -> Result<Vec<Claim>, String> {
    if payload_type != STATEMENT {
        return Err(format!("the envelope has a payload of the kind {payload_type:?}"));
    }
    let statement: Statement =
        serde_json::from_slice(payload).map_err(|e| format!("the statement cannot be read: {e}"))?;
    if statement.predicate_type != SIGN {
        return Err(format!("the statement {:?} is not a signature of the image", statement.predicate_type));
    }
    let claim = |subject: Subject| Claim {
        digest: format!("sha256:{}", subject.digest.sha256),
        reference: Some(subject.name).filter(|name| !name.is_empty()),
    };
    Ok(statement.subject.into_iter().map(claim).collect())
}

/// What an envelope's signature is over (DSSE protocol, "PAE").
fn envelope_text(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    text.extend_from_slice(payload);
    text
}
