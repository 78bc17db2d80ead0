//! TLS to registries: the system's certificates (SSL_CERT_FILE and SSL_CERT_DIR honoured), those an administrator put in
//! `certs.d/<host:port>/` as for Docker, and none at all for registries the engine was told not to verify.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

const CERTIFICATE_DIRECTORIES: [&str; 2] = ["/etc/hoist/certs.d", "/etc/docker/certs.d"];

/// Makes client configurations; reads the system's certificates once.
#[derive(Default)]
pub(super) struct Tls {
    system: OnceLock<Arc<RootCertStore>>,
}

impl Tls {
    /// How to speak TLS to `authority`.
    pub(super) fn config(&self, authority: &str, insecure: bool) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("tls: {e}"))?;
        let builder = if insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate { provider }))
        } else {
            let mut roots = self.system_roots();
            for certificate in own_roots(authority)? {
                let added = Arc::make_mut(&mut roots).add(certificate);
                added.map_err(|e| format!("tls: certificate for {authority}: {e}"))?;
            }
            builder.with_root_certificates(roots)
        };
        let config = match client_certificate(authority)? {
            Some((chain, key)) => {
                let text = |e| format!("tls: client certificate for {authority}: {e}");
                builder.with_client_auth_cert(chain, key).map_err(text)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    fn system_roots(&self) -> Arc<RootCertStore> {
        let read = || {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "system certificate not read");
            }
            let mut roots = RootCertStore::empty();
            // Old stores hold certificates that no parser takes; the others count.
            roots.add_parsable_certificates(found.certs);
            Arc::new(roots)
        };
        self.system.get_or_init(read).clone()
    }
}

fn files(authority: &str, extension: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for directory in CERTIFICATE_DIRECTORIES {
        let Ok(entries) = fs::read_dir(Path::new(directory).join(authority)) else { continue };
        found.extend(entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == extension)));
    }
    found.sort();
    found
}

fn own_roots(authority: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut roots = Vec::new();
    for path in files(authority, "crt") {
        roots.extend(certificates(&path)?);
    }
    Ok(roots)
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn client_certificate(authority: &str) -> Result<Option<Identity>, String> {
    let Some(path) = files(authority, "cert").into_iter().next() else { return Ok(None) };
    let key_path = path.with_extension("key");
    let key = PrivateKeyDer::from_pem_file(&key_path).map_err(|e| format!("tls: {}: {e}", key_path.display()))?;
    Ok(Some((certificates(&path)?, key)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = |e| format!("tls: {}: {e}", path.display());
    CertificateDer::pem_file_iter(path).map_err(text)?.collect::<Result<_, _>>().map_err(text)
}

/// What went wrong in a handshake, in the words Go's clients use.
pub(super) fn handshake_text(error: &std::io::Error, host: &str) -> String {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return format!("tls: {error}");
    };
    let reason = match error {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            return "http: server gave HTTP response to HTTPS client".to_owned();
        }
        rustls::Error::InvalidCertificate(reason) => reason,
        other => return format!("tls: {other}"),
    };
    let text = match reason {
        CertificateError::UnknownIssuer => "certificate signed by unknown authority".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("certificate is not valid for {host}")
        }
        other => format!("{other:?}"),
    };
    format!("tls: failed to verify certificate: x509: {text}")
}

/// Takes whatever certificate comes; only for registries named insecure.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
