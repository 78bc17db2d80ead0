//! Public keys as cosign writes them (PEM, SubjectPublicKeyInfo), and what they have signed.

use ring::signature as ring_signature;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::spki::SubjectPublicKeyInfoRef;

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    kind: Kind,
    bits: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Rsa,
    Ed25519,
}

impl PublicKey {
    /// `-----BEGIN PUBLIC KEY-----`
    pub(crate) fn of_pem(pem: &[u8]) -> Result<PublicKey, String> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem).map_err(|e| format!("not a PEM public key: {e}"))?;
        PublicKey::of_der(&der)
    }

    /// The same as it is in certificates (RFC 5280 section 4.1.2.7).
    pub(crate) fn of_der(der: &[u8]) -> Result<PublicKey, String> {
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|e| format!("not a public key: {e}"))?;
        let curve = || -> Option<ObjectIdentifier> { info.algorithm.parameters?.decode_as().ok() };
        let kind = match info.algorithm.oid {
            EC if curve() == Some(P256) => Kind::P256,
            EC if curve() == Some(P384) => Kind::P384,
            RSA => Kind::Rsa,
            ED25519 => Kind::Ed25519,
            other => return Err(format!("public keys of the kind {other} are not supported")),
        };
        let bits = info.subject_public_key.as_bytes().ok_or("not a public key: odd bits")?.to_vec();
        Ok(PublicKey { kind, bits })
    }

    pub(crate) fn of_certificate(certificate: &x509_cert::Certificate) -> Result<PublicKey, String> {
        let info = &certificate.tbs_certificate.subject_public_key_info;
        PublicKey::of_der(&info.to_der().map_err(|e| e.to_string())?)
    }

    /// Whether the key's owner signed these bytes: with SHA-256 whatever the key's size, as cosign does, or with SHA-384
    /// where the key is of that size.
    pub(crate) fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let algorithms: &[&dyn ring_signature::VerificationAlgorithm] = match self.kind {
            Kind::P256 => &[&ring_signature::ECDSA_P256_SHA256_ASN1],
            Kind::P384 => &[&ring_signature::ECDSA_P384_SHA256_ASN1, &ring_signature::ECDSA_P384_SHA384_ASN1],
            Kind::Rsa => &[&ring_signature::RSA_PKCS1_2048_8192_SHA256],
            Kind::Ed25519 => &[&ring_signature::ED25519],
        };
        algorithms.iter().any(|algorithm| {
            ring_signature::UnparsedPublicKey::new(*algorithm, &self.bits).verify(bytes, signature).is_ok()
        })
    }
}
