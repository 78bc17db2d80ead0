//! TLS of the server: a certificate chain and its key, read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::reread::Reread;

/// The configuration for the next handshake.
pub(crate) type Tls = Reread<Arc<ServerConfig>>;

/// Reads both files.
pub(crate) fn open(certificate: PathBuf, key: PathBuf) -> Result<Tls, String> {
    Reread::new(vec![certificate.clone(), key.clone()], move || configuration(&certificate, &key))
}

fn configuration(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let about = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let chain = CertificateDer::pem_file_iter(certificate).map_err(|e| about(certificate, &e))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|e| about(certificate, &e))?;
    if chain.is_empty() {
        return Err(format!("{}: no certificate in it", certificate.display()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| about(key, &e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("tls: {e}"))?;
    let mut configuration = builder
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|e| format!("{} and {}: {e}", certificate.display(), key.display()))?;
    configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(configuration))
}
