//! What the store promises: nothing half, nothing lost that is needed, nothing kept that is not.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hoist_image::blobs::Algorithm;
use tempfile::TempDir;

use super::{Push, Store, digest_of};
use crate::error::Error;
use crate::manifest;
use crate::route::Reference;

struct Bed {
    store: Arc<Store>,
    home: TempDir,
}

fn open(root: &Path, keep: Duration) -> Arc<Store> {
    Arc::new(Store::open(root, keep).unwrap())
}

fn bed(keep: Duration) -> Bed {
    let home = tempfile::tempdir().unwrap();
    Bed { store: open(home.path(), keep), home }
}

impl Bed {
    /// As after a crash: what was not flushed is the disk's business, everything in memory is gone.
    fn reopen(self, keep: Duration) -> Bed {
        drop(self.store);
        Bed { store: open(self.home.path(), keep), home: self.home }
    }

    async fn upload(&self, repository: &str, bytes: &'static [u8]) -> String {
        let id = self.store.uploads.begin(repository, Algorithm::Sha256).unwrap();
        let mut sink = self.store.take_upload(repository.to_owned(), id).await.unwrap();
        sink.write(&[Bytes::from_static(bytes)]).unwrap();
        let digest = digest_of(Algorithm::Sha256, bytes);
        self.store.finish_upload(sink, &digest).unwrap();
        digest
    }

    fn push(&self, repository: &str, tag: &str, blobs: &[(&str, usize)]) -> Result<String, Error> {
        let descriptor = |(digest, size): &(&str, usize)| format!("{{\"digest\":\"{digest}\",\"size\":{size}}}");
        let layers: Vec<String> = blobs[1..].iter().map(descriptor).collect();
        let document = format!(
            "{{\"schemaVersion\":2,\"config\":{},\"layers\":[{}],\"annotations\":{{\"{}\":\"Says {tag}\"}}}}",
            descriptor(&blobs[0]),
            layers.join(","),
            manifest::DESCRIPTION,
        );
        let (bytes, tags) = (document.as_bytes(), [tag.to_owned()]);
        let manifest = manifest::parse(bytes, "").unwrap();
        let digest = digest_of(Algorithm::Sha256, bytes);
        let push = Push { repository, digest: &digest, bytes, manifest: &manifest, tags: &tags };
        self.store.put_manifest(&push).map(|()| digest)
    }

    fn has_file(&self, digest: &str) -> bool {
        self.store.blobs.path(digest).unwrap().exists()
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn an_upload_goes_on_after_a_crash_where_it_was() {
    let bed = bed(HOUR);
    let id = bed.store.uploads.begin("a", Algorithm::Sha256).unwrap();
    let mut sink = bed.store.take_upload("a".into(), id.clone()).await.unwrap();
    sink.write(&[Bytes::from_static(b"first ")]).unwrap();
    drop(sink);
    let bed = bed.reopen(HOUR);
    assert_eq!(bed.store.take_upload("b".into(), id.clone()).await.err().unwrap().code, "BLOB_UPLOAD_UNKNOWN");
    let mut sink = bed.store.take_upload("a".into(), id.clone()).await.unwrap();
    assert_eq!(sink.length(), 6);
    sink.write(&[Bytes::from_static(b"second")]).unwrap();
    let digest = digest_of(Algorithm::Sha256, b"first second");
    bed.store.finish_upload(sink, &digest).unwrap();
    assert_eq!(bed.store.blob_size("a", &digest).unwrap(), 12);
    assert_eq!(bed.store.take_upload("a".into(), id).await.err().unwrap().code, "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn an_upload_with_another_digest_than_said_is_gone() {
    let bed = bed(HOUR);
    let id = bed.store.uploads.begin("a", Algorithm::Sha256).unwrap();
    let mut sink = bed.store.take_upload("a".into(), id.clone()).await.unwrap();
    sink.write(&[Bytes::from_static(b"x")]).unwrap();
    // Hashing begins anew after bytes were taken back, and for another algorithm.
    sink.truncate(0).unwrap();
    sink.write(&[Bytes::from_static(b"y")]).unwrap();
    assert_eq!(sink.digest(Algorithm::Sha512).unwrap(), digest_of(Algorithm::Sha512, b"y"));
    assert_eq!(sink.digest(Algorithm::Sha256).unwrap(), digest_of(Algorithm::Sha256, b"y"));
    let refused = bed.store.finish_upload(sink, &digest_of(Algorithm::Sha256, b"x")).unwrap_err();
    assert_eq!(refused.code, "DIGEST_INVALID");
    assert!(bed.store.take_upload("a".into(), id).await.is_err());
}

#[tokio::test]
async fn a_manifest_is_whole_or_refused() {
    let bed = bed(HOUR);
    let config = bed.upload("a", b"config").await;
    let elsewhere = bed.upload("b", b"layer").await;
    assert_eq!(bed.push("a", "1", &[(&config, 6), (&elsewhere, 5)]).unwrap_err().code, "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(bed.push("a", "1", &[(&config, 7)]).unwrap_err().code, "SIZE_INVALID");
    assert!(!bed.store.mount("a", &elsewhere, Some("c")).unwrap());
    assert!(bed.store.mount("a", &elsewhere, Some("b")).unwrap());
    let digest = bed.push("a", "1", &[(&config, 6), (&elsewhere, 5)]).unwrap();
    assert_eq!(bed.store.manifest("a", &Reference::Tag("1".into())).unwrap().digest, digest);
    assert_eq!(bed.store.delete_blob("a", &config).unwrap_err().status, 405);
    // Nothing of what was refused is left.
    assert_eq!(std::fs::read_dir(bed.home.path().join("drafts")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_no_manifest_needs_goes_once_a_push_has_had_its_time() {
    let bed = bed(HOUR);
    let (config, layer) = (bed.upload("a", b"config").await, bed.upload("a", b"layer").await);
    let stray = bed.upload("a", b"stray").await;
    assert!(bed.store.mount("b", &layer, None).unwrap());
    let first = bed.push("a", "1", &[(&config, 6), (&layer, 5)]).unwrap();
    let second = bed.push("a", "2", &[(&config, 6)]).unwrap();
    assert_eq!(bed.store.collect().unwrap(), 0, "a push may still want the stray one");
    let bed = bed.reopen(Duration::ZERO);
    assert_eq!(bed.store.collect().unwrap(), 1);
    assert!(!bed.has_file(&stray) && bed.has_file(&layer));
    assert!(bed.store.blob_size("b", &layer).is_err(), "a repository without manifests has nothing");
    bed.store.delete_manifest("a", &first).unwrap();
    assert!(bed.store.manifest("a", &Reference::Tag("1".into())).is_err());
    assert_eq!(bed.store.collect().unwrap(), 2);
    assert!(!bed.has_file(&layer) && !bed.has_file(&first) && bed.has_file(&config) && bed.has_file(&second));
    bed.store.delete_manifest("a", &second).unwrap();
    assert_eq!(bed.store.collect().unwrap(), 2);
    assert_eq!(bed.store.tags("a", "", 10).unwrap_err().code, "NAME_UNKNOWN");
}

#[tokio::test]
async fn a_crash_leaves_no_files_without_a_record() {
    let bed = bed(HOUR);
    let kept = bed.upload("a", b"kept").await;
    let stray = bed.store.blobs.path(&digest_of(Algorithm::Sha512, b"stray")).unwrap();
    let upload = bed.home.path().join("uploads/not-recorded");
    for path in [&stray, &upload, &bed.home.path().join("drafts/x")] {
        std::fs::write(path, b"stray").unwrap();
    }
    let id = bed.store.uploads.begin("a", Algorithm::Sha256).unwrap();
    std::fs::remove_file(bed.home.path().join("uploads").join(&id)).unwrap();
    let bed = bed.reopen(HOUR);
    assert!(!stray.exists() && !upload.exists() && bed.has_file(&kept));
    assert!(bed.store.take_upload("a".into(), id).await.is_err());
}

#[tokio::test]
async fn one_directory_has_one_server() {
    let bed = bed(HOUR);
    let refused = Store::open(bed.home.path(), HOUR).err().unwrap();
    assert!(refused.contains("another registry"), "{refused}");
}

#[tokio::test]
async fn searching_finds_names_before_descriptions() {
    let bed = bed(HOUR);
    for (repository, tag) in [("tools/web", "1"), ("web", "2"), ("other", "web"), ("none", "3")] {
        let config = bed.upload(repository, b"config").await;
        bed.push(repository, tag, &[(&config, 6)]).unwrap();
    }
    let (total, found) = bed.store.search("WEB", (0, 10)).unwrap();
    assert_eq!(total, 3);
    let names: Vec<_> = found.iter().map(|found| found.name.as_str()).collect();
    assert_eq!(names, ["web", "other", "tools/web"]);
    assert_eq!(found[1].description, "Says web");
    let (total, page) = bed.store.search("web", (2, 2)).unwrap();
    assert_eq!((total, page.len()), (3, 1));
}

#[tokio::test]
async fn damage_on_the_disk_is_seen() {
    let bed = bed(HOUR);
    let config = bed.upload("a", b"config").await;
    let manifest = bed.push("a", "1", &[(&config, 6)]).unwrap();
    std::fs::write(bed.store.blobs.path(&config).unwrap(), b"conf").unwrap();
    assert!(bed.store.open_blob("a", &config).unwrap_err().cause.unwrap().contains("4 bytes, 6 are recorded"));
    std::fs::write(bed.store.blobs.path(&manifest).unwrap(), b"{}").unwrap();
    assert!(bed.store.manifest_bytes(&manifest).unwrap_err().cause.unwrap().contains("is damaged"));
}
