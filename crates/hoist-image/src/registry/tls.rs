//! TLS to registries: the system's certificates (SSL_CERT_FILE and SSL_CERT_DIR honoured), those an administrator put in
//! `certs.d/<host:port>/` as for Docker, and none at all for registries the engine was told not to verify.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, ClientConfig, RootCertStore};

use super::endpoint::Trust;
use super::verifier::{Fingerprints, Trusted, Verifier, fingerprint};

const DOCKER_DIRECTORY: &str = "/etc/docker/certs.d";

/// Makes client configurations; reads the system's certificates once.
#[derive(Default)]
pub(super) struct Tls {
    directory: PathBuf,
    system: OnceLock<System>,
}

/// The system's certificates: as authorities, and as they are.
#[derive(Clone)]
struct System {
    roots: Arc<RootCertStore>,
    certificates: Arc<Fingerprints>,
}

impl Tls {
    /// Reads certificates of registries below `directory` too.
    pub(super) fn new(directory: &Path) -> Tls {
        Tls { directory: directory.to_owned(), ..Tls::default() }
    }

    /// How to speak TLS to `authority`.
    pub(super) fn config(&self, authority: &str, trust: &Trust) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| format!("tls: {e}"))?;
        let found = self.files(authority)?;
        let trusted = if trust.insecure {
            Trusted::Anything
        } else {
            let System { mut roots, certificates: mut named } = self.system();
            for path in trust.ca.iter().chain(&found.roots) {
                for certificate in certificates(path)? {
                    let added = Arc::make_mut(&mut roots).add(certificate.clone());
                    added.map_err(|e| format!("tls: {}: {e}", path.display()))?;
                    Arc::make_mut(&mut named).insert(fingerprint(&certificate));
                }
            }
            let rules = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            Trusted::Known { rules: rules.map_err(|e| format!("tls: {e}"))?, named }
        };
        let verifier = Arc::new(Verifier { provider, trusted });
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match identity(trust.client.iter().chain(&found.client).next())? {
            Some((chain, key)) => {
                let text = |e| format!("tls: client certificate for {authority}: {e}");
                builder.with_client_auth_cert(chain, key).map_err(text)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }

    fn system(&self) -> System {
        let read = || {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "system certificate not read");
            }
            let mut roots = RootCertStore::empty();
            // Old stores hold certificates that no parser takes; the others count.
            roots.add_parsable_certificates(found.certs.iter().cloned());
            let certificates = found.certs.iter().map(fingerprint).collect();
            System { roots: Arc::new(roots), certificates: Arc::new(certificates) }
        };
        self.system.get_or_init(read).clone()
    }
}

/// What lies in the directories of a registry.
#[derive(Default)]
struct Files {
    roots: Vec<PathBuf>,
    client: Vec<(PathBuf, Option<PathBuf>)>,
}

impl Tls {
    /// `*.crt` are authorities, `*.cert` and `*.key` of one name are ours (Docker's certs.d). One without the other is an
    /// error: somebody believes that it counts.
    fn files(&self, authority: &str) -> Result<Files, String> {
        let mut found = Files::default();
        for directory in [self.directory.as_path(), Path::new(DOCKER_DIRECTORY)] {
            let Ok(entries) = fs::read_dir(directory.join(authority)) else { continue };
            let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            paths.sort();
            for path in paths {
                let (certificate, key) = (path.with_extension("cert"), path.with_extension("key"));
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => found.roots.push(path),
                    Some("cert") if key.exists() => found.client.push((certificate, Some(key))),
                    Some("cert") => return Err(lacks_key(&key, &certificate)),
                    Some("key") if !certificate.exists() => return Err(lacks_certificate(&certificate, &key)),
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}

fn lacks_key(key: &Path, certificate: &Path) -> String {
    format!(
        "missing key {} for client certificate {}. CA certificates must use the extension .crt",
        name(key),
        certificate.display()
    )
}

fn lacks_certificate(certificate: &Path, key: &Path) -> String {
    format!("missing client certificate {} for key {}", name(certificate), key.display())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(files: Option<&(PathBuf, Option<PathBuf>)>) -> Result<Option<Identity>, String> {
    let Some((certificate, key)) = files else { return Ok(None) };
    let key = key.as_ref().unwrap_or(certificate);
    let read = PrivateKeyDer::from_pem_file(key).map_err(|e| format!("tls: {}: {e}", key.display()))?;
    Ok(Some((certificates(certificate)?, read)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = |e| format!("tls: {}: {e}", path.display());
    CertificateDer::pem_file_iter(path).map_err(text)?.collect::<Result<_, _>>().map_err(text)
}

const UNKNOWN: &str = "certificate signed by unknown authority";

fn is_authority(error: &rustls::OtherError) -> bool {
    matches!(error.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
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
        CertificateError::UnknownIssuer => UNKNOWN.to_owned(),
        // Made with `openssl req -x509`, most likely.
        CertificateError::Other(other) if is_authority(other) => {
            format!("{UNKNOWN}: it is an authority's own and none of those that are known here")
        }
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
