//! What the registry tests share: images made in memory, a store in a temporary place, and an HTTP server that does
//! exactly what a test tells it, right or wrong.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hoist_api::reference::Reference;
use hoist_db::Db;
use hoist_image::{Config, Credentials, Error, Platform, Progress, ProgressSink, Store};
use sha2::{Digest as _, Sha256};

use crate::http::{self, Asked};

pub(crate) const MEDIA_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A store and everything it said.
pub(crate) struct Place {
    pub(crate) root: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) said: Arc<Mutex<Vec<Progress>>>,
    runtime: tokio::runtime::Runtime,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Place {
        let root = tempfile::tempdir().unwrap();
        Place::open(root, config)
    }

    /// What the next store finds when this one is killed now. Nothing was committed to its tables.
    pub(crate) fn killed_and_opened_again(&self) -> Place {
        let root = tempfile::tempdir().unwrap();
        let copied =
            std::process::Command::new("cp").arg("-a").arg(self.root.path().join(".")).arg(root.path()).status();
        assert!(copied.unwrap().success());
        Place::open(root, Config::default())
    }

    fn open(root: tempfile::TempDir, config: Config) -> Place {
        let store = Store::open(root.path(), Db::in_memory().unwrap(), config).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Place { root, store, said: Arc::default(), runtime }
    }

    pub(crate) fn sink(&self) -> ProgressSink {
        let said = self.said.clone();
        Arc::new(move |progress| said.lock().unwrap().push(progress))
    }

    pub(crate) fn pull(&self, name: &str) -> Result<(), Error> {
        self.pull_as(name, None, None)
    }

    pub(crate) fn pull_as(
        &self,
        name: &str,
        platform: Option<&Platform>,
        login: Option<&Credentials>,
    ) -> Result<(), Error> {
        self.said.lock().unwrap().clear();
        let reference = Reference::parse(name).unwrap();
        self.runtime.block_on(self.store.pull(&reference, false, platform, login, self.sink()))
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Imports an empty root filesystem.
    pub(crate) fn import(&self, name: &str) -> Result<String, Error> {
        let reference = Reference::parse(name).unwrap();
        self.store.import(&mut &[0_u8; 1024][..], Some(&reference), &Default::default(), "", None)
    }

    /// Fails, leaves nothing, and returns the words.
    pub(crate) fn refuse(&self, name: &str) -> String {
        let text = self.pull(name).unwrap_err().to_string();
        self.assert_empty();
        text
    }

    pub(crate) fn assert_empty(&self) {
        assert!(self.store.list().is_empty());
        self.store.wait_until_freed();
        let left =
            |directory: &str| -> Vec<_> { std::fs::read_dir(self.root.path().join(directory)).unwrap().collect() };
        // The thread of a layer that was given up lets go of its directory a moment later.
        for _ in 0..250 {
            if left("tmp").is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.store.wait_until_freed();
        for directory in ["tmp", "trash", "layers", "blobs/sha256"] {
            assert!(left(directory).is_empty(), "{directory}: {:?}", left(directory));
        }
        let of_this_boot = left("partial").remove(0).unwrap().file_name();
        let partial = format!("partial/{}", of_this_boot.to_string_lossy());
        assert!(left(&partial).is_empty(), "{partial}: {:?}", left(&partial));
    }

    pub(crate) fn read(&self, name: &str, path: &str) -> String {
        let image = self.store.get(name).unwrap();
        let layers = self.store.layer_paths(&image);
        layers.iter().find_map(|layer| std::fs::read_to_string(layer.join(path)).ok()).unwrap()
    }

    pub(crate) fn statuses(&self) -> Vec<String> {
        let said = self.said.lock().unwrap();
        let shown = said.iter().filter(|p| p.detail.is_none()).filter_map(|p| {
            let status = p.status.clone()?;
            Some(p.id.as_ref().map_or(status.clone(), |id| format!("{id}: {status}")))
        });
        shown.collect()
    }
}

/// How a layer is compressed.
#[derive(Clone, Copy)]
pub(crate) enum Pack {
    Plain,
    Gzip,
    Zstd,
}

/// An image as a registry holds it.
pub(crate) struct Made {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
}

/// An image whose layers each hold one file `etc/<n>` with the given text.
pub(crate) fn made(texts: &[&str], pack: Pack) -> Made {
    let (mut layers, mut tars) = (Vec::new(), Vec::new());
    for (number, text) in texts.iter().enumerate() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("etc/{number}"), text.as_bytes()).unwrap();
        let plain = builder.into_inner().unwrap();
        tars.push(plain.clone());
        layers.push(match pack {
            Pack::Plain => plain,
            Pack::Zstd => zstd::encode_all(plain.as_slice(), 1).unwrap(),
            Pack::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
                encoder.write_all(&plain).unwrap();
                encoder.finish().unwrap()
            }
        });
    }
    made_of(&tars, layers)
}

/// An image of these layers: their tars, and the bytes that a registry has for each.
pub(crate) fn made_of(tars: &[Vec<u8>], layers: Vec<Vec<u8>>) -> Made {
    let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar)).collect();
    let config = serde_json::json!({ "os": "linux", "architecture": "amd64", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let config = config.to_string().into_bytes();
    let manifest = manifest_of(&config, &layers).to_string().into_bytes();
    Made { manifest, config, layers }
}

pub(crate) fn manifest_of(config: &[u8], layers: &[Vec<u8>]) -> serde_json::Value {
    let describe = |bytes: &[u8], media_type: &str| serde_json::json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() });
    let layer = |bytes: &Vec<u8>| describe(bytes, "application/vnd.docker.image.rootfs.diff.tar.gzip");
    serde_json::json!({ "schemaVersion": 2, "mediaType": MEDIA_MANIFEST,
        "config": describe(config, "application/vnd.docker.container.image.v1+json"),
        "layers": layers.iter().map(layer).collect::<Vec<_>>() })
}

/// What the server answers: status line, headers, body, and whether to cut the connection after so many body bytes.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) cut_after: Option<usize>,
    /// Waits so long after so many body bytes.
    pub(crate) stall: Option<(usize, Duration)>,
}

impl Answer {
    pub(crate) fn ok(body: &[u8]) -> Answer {
        Answer { status: 200, headers: Vec::new(), body: body.to_vec(), cut_after: None, stall: None }
    }

    pub(crate) fn status(status: u16, body: &str) -> Answer {
        Answer { status, ..Answer::ok(body.as_bytes()) }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Handler = dyn Fn(&Asked) -> Option<Answer> + Send + Sync;

/// An HTTP server on a loopback port; lives until the test ends.
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// `handler` sees each request; `None` is a 404.
    pub(crate) fn start(handler: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Server {
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let log = asked.clone();
        let address = http::listen(move |stream, _| serve(stream, &log, &handler));
        Server { address, asked }
    }

    /// A server that holds `image` as `x:1`, with `change` getting the first say.
    pub(crate) fn with(image: &Made, change: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Server {
        let mut blobs: HashMap<String, Vec<u8>> = HashMap::new();
        for blob in image.layers.iter().chain([&image.config]) {
            blobs.insert(format!("/v2/x/blobs/{}", digest(blob)), blob.clone());
        }
        let manifest = image.manifest.clone();
        let by_digest = format!("/v2/x/manifests/{}", digest(&manifest));
        Server::start(move |asked| {
            if let Some(answer) = change(asked) {
                return Some(answer);
            }
            match asked.path.as_str() {
                "/v2/" => Some(Answer::ok(b"{}")),
                path if path == "/v2/x/manifests/1" || path == by_digest => {
                    Some(Answer::ok(&manifest).header("Content-Type", MEDIA_MANIFEST))
                }
                path => blobs.get(path).map(|blob| Answer::ok(blob)),
            }
        })
    }

    pub(crate) fn requests(&self, path: &str) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path.contains(path)).cloned().collect()
    }
}

fn serve(stream: &TcpStream, log: &Mutex<Vec<Asked>>, handler: &Handler) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = http::read_head(&mut reader) {
        if http::read_body(&mut reader, &asked).is_none() {
            return;
        }
        log.lock().unwrap().push(asked.clone());
        let not_found = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        let answer = handler(&asked).unwrap_or_else(|| Answer::status(404, not_found));
        let head = http::head(answer.status, &answer.headers, answer.body.len());
        let body = if asked.method == "HEAD" { &[][..] } else { &answer.body[..] };
        let sent = answer.cut_after.unwrap_or(body.len()).min(body.len());
        let mut out = stream;
        let (first, wait) = answer.stall.unwrap_or((sent, Duration::ZERO));
        let first = first.min(sent);
        let begun = out.write_all(head.as_bytes()).and_then(|()| out.write_all(&body[..first]));
        std::thread::sleep(wait);
        if begun.and_then(|()| out.write_all(&body[first..sent])).is_err() || sent < body.len() {
            return;
        }
    }
}
