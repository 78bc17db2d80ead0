//! Image references: `[registry[:port]/]path[:tag][@digest]` with Docker Hub's rules (distribution/reference grammar).

/// A parsed and normalised reference: `busybox` is `docker.io/library/busybox:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// `docker.io`, `127.0.0.1:5000`
    pub domain: String,
    /// `library/busybox`
    pub path: String,
    pub tag: Option<String>,
    /// `sha256:…`
    pub digest: Option<String>,
}
