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

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::PublicKey;

    /// Keys and signatures made by openssl over this text.
    const TEXT: &[u8] = b"signed by openssl";

    #[test]
    fn signatures_of_all_kinds_that_openssl_makes_are_known() {
        for (name, der, signature) in [
            (
                "P-256",
                "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZIuL/AAErZhQNgnqjLfkq5Wr7eZdOyqTdUk2SNzvIzBypZQMvPrBy4LwSJ+wgklig7Aug0LTBdAIPGHyTPnpuQ==",
                "MEYCIQDsGJRAqLBMRSh2PDPEF6D3TcrXCQ8fl8ls+xpa/r1tZgIhAJMxDaHUD3u7WJkIxtAPmyvjaWgbG81GIWcnxyGXV07h",
            ),
            (
                "P-384 with SHA-256",
                "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE0xfyfqZfakPwYdqfP/PuXMmd45Lg4TK1zRdAfuE/NniQY+daJrOsq1kYJZlBPpH9OAIdSFL4whTW7QtZ44wcy1Y7lAriOTm12Oe9xJ7QPlJYum0QKD77jQ9jUQ+8/Beh",
                "MGYCMQDCYz6Jl1l3efsSYVXUn/naarWuCTpVm9W3SdNqA7AiquMJpXMw4Genf15bEXOK4xACMQCti5zYMTtce89CtbT/Ou/K2hovKDJ598aTeYKMn0BQ2rWvtkg+Lef7rp1bgexpfU4=",
            ),
            (
                "P-384 with SHA-384",
                "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE0xfyfqZfakPwYdqfP/PuXMmd45Lg4TK1zRdAfuE/NniQY+daJrOsq1kYJZlBPpH9OAIdSFL4whTW7QtZ44wcy1Y7lAriOTm12Oe9xJ7QPlJYum0QKD77jQ9jUQ+8/Beh",
                "MGQCMAkLJ7lrYwAoMHGflHOCYvjkxuWiB/mpaj/AkFpcpu45nl5moZqtFqpadwTSrQsiogIwK0UrLqmM5jt4zy+2c5kvtH+BY/iurdjrUrotK0wS7jaGL8yliSRmIEmz4gfNk8+m",
            ),
            (
                "RSA",
                "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAozEHj5pRze1XsB3oHgklZ6/oUHewgylGoYeJ5t0MLVB2vu6IloffaJazNkfSxFMxxrenDRH405buaCwIrW3zUV62dLyw96xXnuB4XroEsWDK+4peNrVzHogVm4/PdFTSC/IX9Edct/hsaPV2+6HqVCqdVjhGrLcQON4eX4wqm0bvc6qjXNLpuu6++Iku1oLYXdou6U6/4UyHv2xOt2shOpDd3c7pwT8PPy3x6R5Z7bVagaynP0qwqYfEp1QcU8TypeA98j0vzP6U2au23mAd7uK6DJzgzVfKWLzppKOqNlT41usFju4cs6hwKDiKxjJ65qpBajwxqWW5C+Ypt5v/XQIDAQAB",
                "Ey7a5Fk+96zjW3gZWFfa6V6oILskG7PGesxiUEMl0Daw3ruNTLuQptyQSusAwyXPF27M6V8GXGb/2wA9eBjZX4yDHlTVBAHQlBtBcAJZuHDs5bpd7n9Yg7WTR9JNErpEdlDiQIa7TKXmAzZDhgx8WpC3LUEgQxzmeINGtJU0PZiCIJPgD2qBj00Uq01f3fqbck9n8QshFLLcwgMEHqY+JSh2oYiudD/hFoj9RW7UprXCpvJjWfj1fkLmXD6UJjp0CD0IRTXQddnOsh1W02NJJ6BRipT2uGIdGySN0PH3LgWgjJTiBj7uwLwPvuwbJCu4COk18AXvg97pcJW6KL0uoA==",
            ),
            (
                "Ed25519",
                "MCowBQYDK2VwAyEAj2hTIOXNEm52xEiYnjs594P3UJ6GwlabWUYgiuDJYIM=",
                "vGcPfWJkHTZvKOIE9OCu1lZsd1nDYqjWftJ4g8mVZIWwsMRELyuQawGQBa2bObfmV2IYDBrvW8JHDveq27rxBQ==",
            ),
        ] {
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n");
            let key = PublicKey::of_pem(pem.as_bytes()).unwrap();
            assert_eq!(key, PublicKey::of_der(&STANDARD.decode(der).unwrap()).unwrap(), "{name}");
            let mut signature = STANDARD.decode(signature).unwrap();
            assert!(key.has_signed(TEXT, &signature), "{name}");
            assert!(!key.has_signed(b"another text", &signature), "{name}");
            *signature.last_mut().unwrap() ^= 1;
            assert!(!key.has_signed(TEXT, &signature), "{name}");
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused_by_its_number() {
        let p521 = "MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBC2kNbqiUlVRJclmdY9pB0khBzn5zOUHGe3aLrfbfYLpBeFMGIvJI21CZ+F7XHZ6zgYZnzfGLInsX61fhuVD63eAAZUK/evZ2dpL/KjYKEORmTeXDuU1+nYoPJ/Q30esHFyGNn0oIdHf1DW78HJ478wXhicPmTqLoaM6GeP1Lk/rwMOE=";
        let refusal = PublicKey::of_der(&STANDARD.decode(p521).unwrap()).unwrap_err();
        assert!(refusal.contains("1.2.840.10045.2.1"), "{refusal}");
        assert!(PublicKey::of_pem(b"not a key").is_err());
    }
}
