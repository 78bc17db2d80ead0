//! Certificates of keyless signatures: valid for minutes, issued to whoever proved an e-mail address to an identity
//! provider (Sigstore's Fulcio, "Certificate Specification").

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{ObjectIdentifier, Utf8StringRef};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};

use super::key::PublicKey;

/// The provider, as a bare string and as an ASN.1 one.
const ISSUER_RAW: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");
/// 1.3.6.1.5.5.7.3.3
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];

/// An authority, and whom it must have certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    roots: Vec<TrustAnchor<'static>>,
    issuer: String,
    email: String,
}

impl Authority {
    /// `pem` has the root certificates.
    pub(crate) fn read(pem: &[u8], issuer: String, email: String) -> Result<Authority, String> {
        let mut roots = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|e| format!("ca: {e}"))?;
            roots.push(anchor_from_trusted_cert(&certificate).map_err(|e| format!("ca: {e}"))?.to_owned());
        }
        if roots.is_empty() {
            return Err("ca: no certificate in it".to_owned());
        }
        Ok(Authority { roots, issuer, email })
    }

    /// The key of a certificate that was valid at that Unix time and is for the right person. Offline: no revocation, which
    /// certificates of minutes do not have.
    pub(crate) fn key_of(&self, leaf: &[u8], chain: &[Vec<u8>], at_s: u64) -> Result<PublicKey, String> {
        let der = CertificateDer::from(leaf);
        let chain: Vec<CertificateDer<'_>> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(at_s));
        let invalid = |e: webpki::Error| format!("the certificate is not valid: {e}");
        let entity = EndEntityCert::try_from(&der).map_err(invalid)?;
        // Authorities in between may say nothing about uses; the certificate itself must, see below.
        let usage = KeyUsage::required_if_present(CODE_SIGNING);
        entity
            .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &self.roots, &chain, at, usage, None, None)
            .map_err(invalid)?;
        let certificate = Certificate::from_der(leaf).map_err(|e| format!("the certificate cannot be read: {e}"))?;
        if !is_for_code(&certificate) {
            return Err("the certificate is not valid: it is not for signing code".to_owned());
        }
        let issuer = issuer(&certificate).ok_or("the certificate names no OIDC issuer")?;
        if issuer != self.issuer {
            return Err(format!("the certificate's OIDC issuer is {issuer:?}, not {:?}", self.issuer));
        }
        let emails = emails(&certificate)?;
        if !emails.contains(&self.email) {
            return Err(format!("the certificate is for {}, not {}", emails.join(", "), self.email));
        }
        PublicKey::of_certificate(&certificate)
    }
}

fn extension(certificate: &Certificate, id: ObjectIdentifier) -> Option<&[u8]> {
    let extensions = certificate.tbs_certificate.extensions.as_ref()?;
    extensions.iter().find(|extension| extension.extn_id == id).map(|extension| extension.extn_value.as_bytes())
}

fn is_for_code(certificate: &Certificate) -> bool {
    let uses = certificate.tbs_certificate.get::<ExtendedKeyUsage>();
    uses.is_ok_and(|uses| uses.is_some_and(|(_, uses)| uses.0.iter().any(|id| id.as_bytes() == CODE_SIGNING)))
}

fn issuer(certificate: &Certificate) -> Option<String> {
    if let Some(der) = extension(certificate, ISSUER) {
        return Utf8StringRef::from_der(der).ok().map(|text| text.as_str().to_owned());
    }
    String::from_utf8(extension(certificate, ISSUER_RAW)?.to_vec()).ok()
}

fn emails(certificate: &Certificate) -> Result<Vec<String>, String> {
    let found = certificate.tbs_certificate.get::<SubjectAltName>().map_err(|e| format!("subject names: {e}"))?;
    let names = found.map(|(_, names)| names.0).unwrap_or_default();
    let email = |name| if let GeneralName::Rfc822Name(email) = name { Some(email.to_string()) } else { None };
    Ok(names.into_iter().filter_map(email).collect())
}
