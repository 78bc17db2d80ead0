//! Who decides whether a registry's certificate is good: authorities and certificates that were named, or nobody.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::ExtendedKeyUsage;

/// id-kp-serverAuth and anyExtendedKeyUsage (RFC 5280 section 4.2.1.12).
const SERVERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");

/// Decides by what is trusted; signatures are checked in any case.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) trusted: Trusted,
}

#[derive(Debug)]
pub(super) enum Trusted {
    /// Whatever certificate comes; only for registries named insecure.
    Anything,
    /// The rules of RFC 5280, and besides, a server may have one of the `named` certificates itself, authority or not: what
    /// `openssl req -x509` makes for a registry is both. Go's verifier takes it too.
    Known { rules: Arc<WebPkiServerVerifier>, named: Arc<Fingerprints> },
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trusted::Known { rules, named } = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        let named = named.contains(&fingerprint(end_entity)).then(|| Certificate::from_der(end_entity));
        let Some(Ok(named)) = named else {
            return rules.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        };
        rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        if !is_valid_at(&named, now) {
            return Err(CertificateError::Expired.into());
        }
        if !is_for_servers(&named) {
            return Err(CertificateError::InvalidPurpose.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-256 of certificates in DER.
pub(super) type Fingerprints = HashSet<[u8; 32]>;

pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

fn is_valid_at(certificate: &Certificate, now: UnixTime) -> bool {
    let validity = &certificate.tbs_certificate.validity;
    let now = Duration::from_secs(now.as_secs());
    validity.not_before.to_unix_duration() <= now && now <= validity.not_after.to_unix_duration()
}

/// What says nothing of its purposes is for all.
fn is_for_servers(certificate: &Certificate) -> bool {
    match certificate.tbs_certificate.get::<ExtendedKeyUsage>() {
        Ok(None) => true,
        Ok(Some((_, uses))) => uses.0.iter().any(|purpose| [SERVERS, ANY_PURPOSE].contains(purpose)),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::RootCertStore;

    use super::*;

    #[test]
    fn a_server_may_have_a_certificate_that_was_named_and_is_an_authority_too() {
        let mut params = CertificateParams::new(vec!["registry.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2024, 1, 1), rcgen::date_time_ymd(2025, 1, 1));
        let own = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        let another = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(own.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let rules = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::EmailProtection];
        let mail = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone();
        let named = [&own, &mail].map(fingerprint);
        let verifier = Verifier { provider, trusted: Trusted::Known { rules, named: Arc::new(named.into()) } };
        let verify = |certificate: &CertificateDer<'_>, name: &'static str, unix_s: u64| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(unix_s));
            let name = ServerName::try_from(name).unwrap();
            verifier.verify_server_cert(certificate, &[], &name, &[], now).map(drop)
        };
        let (within, after) = (1_720_000_000, 1_740_000_000);
        verify(&own, "registry.example", within).unwrap();
        assert_eq!(verify(&own, "registry.example", after), Err(CertificateError::Expired.into()));
        assert!(verify(&own, "other.example", within).unwrap_err().to_string().contains("not valid for name"));
        verify(&another, "registry.example", within).unwrap_err();
        assert_eq!(verify(&mail, "registry.example", within), Err(CertificateError::InvalidPurpose.into()));
    }
}
