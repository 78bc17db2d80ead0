//! Images made on the spot: layers from entries, in any order and of any malice, packed for a registry or for `load`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::settings;

/// One entry of a layer. Paths go into the archive as they are, `..` and leading slashes included.
#[derive(Clone)]
pub struct Entry {
    path: String,
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    link: String,
    content: Vec<u8>,
    device: (u32, u32),
}

impl Entry {
    fn new(path: &str, kind: EntryType, mode: u32) -> Self {
        let (link, content) = (String::new(), Vec::new());
        Self { path: path.into(), kind, mode, owner: (0, 0), link, content, device: (0, 0) }
    }

    pub fn file(path: &str, content: impl Into<Vec<u8>>) -> Self {
        Self { content: content.into(), ..Self::new(path, EntryType::Regular, 0o644) }
    }

    pub fn script(path: &str, content: &str) -> Self {
        Self { content: content.into(), ..Self::new(path, EntryType::Regular, 0o755) }
    }

    pub fn directory(path: &str) -> Self {
        Self::new(path, EntryType::Directory, 0o755)
    }

    pub fn symlink(path: &str, to: &str) -> Self {
        Self { link: to.into(), ..Self::new(path, EntryType::Symlink, 0o777) }
    }

    pub fn hard_link(path: &str, to: &str) -> Self {
        Self { link: to.into(), ..Self::new(path, EntryType::Link, 0o644) }
    }

    pub fn device(path: &str, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(path, EntryType::Char, 0o666) }
    }

    pub fn fifo(path: &str) -> Self {
        Self::new(path, EntryType::Fifo, 0o644)
    }

    pub fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub fn owner(self, user: u64, group: u64) -> Self {
        Self { owner: (user, group), ..self }
    }

    fn append(&self, archive: &mut Builder<Vec<u8>>) {
        let mut header = Header::new_gnu();
        header.set_entry_type(self.kind);
        header.set_mode(self.mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(1_700_000_000);
        header.set_size(self.content.len() as u64);
        if matches!(self.kind, EntryType::Char) {
            header.set_device_major(self.device.0).unwrap();
            header.set_device_minor(self.device.1).unwrap();
        }
        // The tar crate refuses hostile paths, so they are written into the header as bytes.
        let old = header.as_old_mut();
        old.name[..self.path.len()].copy_from_slice(self.path.as_bytes());
        old.linkname[..self.link.len()].copy_from_slice(self.link.as_bytes());
        header.set_cksum();
        archive.append(&header, self.content.as_slice()).unwrap();
    }
}

/// A layer: the compressed bytes, and the digest of the uncompressed ones.
#[derive(Clone)]
pub struct Layer {
    pub blob: Vec<u8>,
    pub diff_id: String,
}

impl Layer {
    pub fn new(entries: &[Entry]) -> Self {
        let mut archive = Builder::new(Vec::new());
        for entry in entries {
            entry.append(&mut archive);
        }
        Self::of_tar(&archive.into_inner().unwrap())
    }

    pub fn of_tar(tar: &[u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(tar).unwrap();
        Self { blob: encoder.finish().unwrap(), diff_id: digest(tar) }
    }
}

/// An image of any layers and any configuration.
#[derive(Clone)]
pub struct Image {
    pub layers: Vec<Layer>,
    pub config: Value,
}

impl Image {
    /// `config` is the runtime part: Cmd, Env, User and so on.
    pub fn new(layers: Vec<Layer>, config: Value) -> Self {
        Self { layers, config }
    }

    /// Debian's static busybox with all its applets, users and a home.
    pub fn busybox() -> Self {
        Self::new(vec![Layer::new(&busybox_entries())], json!({ "Cmd": ["sh"], "Env": [PATH] }))
    }

    /// Busybox with more in it, in a layer of its own.
    pub fn busybox_with(entries: &[Entry], config: Value) -> Self {
        let mut image = Self::busybox();
        image.layers.push(Layer::new(entries));
        for (name, value) in config.as_object().into_iter().flatten() {
            image.config[name] = value.clone();
        }
        image
    }

    /// A stand-in for nginx: its documents, its port, and its habit of leaving the foreground unless told otherwise.
    pub fn nginx() -> Self {
        let serve = "#!/bin/sh\n\
            case \"$*\" in\n\
            *'daemon off;'*) trap 'exit 0' TERM QUIT; httpd -f -p 80 -h /usr/share/nginx/html & wait ;;\n\
            *) httpd -p 80 -h /usr/share/nginx/html ;;\n\
            esac\n";
        let entries = [
            Entry::directory("usr/share/nginx/html/"),
            Entry::file("usr/share/nginx/html/index.html", "<h1>Welcome to nginx!</h1>\n"),
            Entry::file("usr/share/nginx/html/VERSION", "Generated for the tests\n"),
            Entry::script("usr/sbin/nginx", serve),
        ];
        let config = json!({
            "Cmd": ["nginx", "-g", "daemon off;"], "ExposedPorts": { "80/tcp": {} }, "StopSignal": "SIGQUIT",
        });
        Self::busybox_with(&entries, config)
    }

    /// The small Debian root of the test bed, where it could be made.
    pub fn debian() -> Option<Self> {
        let tar = fs::read(settings::test_bed().join("debian.tar")).ok()?;
        Some(Self::new(vec![Layer::of_tar(&tar)], json!({ "Cmd": ["bash"], "Env": [PATH] })))
    }

    pub fn config_blob(&self) -> Vec<u8> {
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        let made = "2024-01-02T03:04:05Z";
        let history: Vec<Value> = (1..=diff_ids.len())
            .map(|number| json!({ "created": made, "created_by": format!("step {number}") }))
            .collect();
        json!({
            "architecture": architecture(), "os": "linux", "created": made, "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": history,
        })
        .to_string()
        .into_bytes()
    }

    /// The image's ID, which is the digest of its configuration.
    pub fn id(&self) -> String {
        digest(&self.config_blob())
    }

    /// The schema 2 manifest.
    pub fn manifest(&self) -> Vec<u8> {
        let config = self.config_blob();
        let layers: Vec<Value> = self.layers.iter().map(|layer| descriptor(LAYER_TYPE, &layer.blob)).collect();
        let config = descriptor("application/vnd.docker.container.image.v1+json", &config);
        json!({ "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers })
            .to_string()
            .into_bytes()
    }

    /// The archive that `docker save` wrote before it wrote OCI layouts: what every release of `load` takes.
    pub fn docker_archive(&self, tags: &[&str]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        let config = self.config_blob();
        let config_name = format!("{}.json", &digest(&config)[7..]);
        let mut layer_names = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            // An archive with the same layer twice is what `docker save` avoids with links; the number keeps them apart.
            let name = format!("{number}-{}/layer.tar", &layer.diff_id[7..]);
            Entry::file(&name, layer.blob.clone()).append_long(&mut archive);
            layer_names.push(name);
        }
        Entry::file(&config_name, config).append_long(&mut archive);
        let manifest = json!([{ "Config": config_name, "RepoTags": tags, "Layers": layer_names }]);
        Entry::file("manifest.json", manifest.to_string()).append_long(&mut archive);
        archive.into_inner().unwrap()
    }

    /// The same image as an OCI layout.
    pub fn oci_archive(&self, tag: &str) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        let mut manifest: Value = serde_json::from_slice(&self.manifest()).unwrap();
        manifest["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
        manifest["config"]["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["mediaType"] = json!("application/vnd.oci.image.layer.v1.tar+gzip");
        }
        let manifest = manifest.to_string().into_bytes();
        let mut blobs: Vec<Vec<u8>> = self.layers.iter().map(|layer| layer.blob.clone()).collect();
        let mut root = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        root["annotations"] = json!({ "io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag });
        blobs.extend([self.config_blob(), manifest]);
        Entry::file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#).append_long(&mut archive);
        for blob in blobs {
            Entry::file(&format!("blobs/sha256/{}", &digest(&blob)[7..]), blob).append_long(&mut archive);
        }
        let index = json!({ "schemaVersion": 2, "manifests": [root] });
        Entry::file("index.json", index.to_string()).append_long(&mut archive);
        archive.into_inner().unwrap()
    }
}

impl Entry {
    fn append_long(&self, archive: &mut Builder<Vec<u8>>) {
        let mut header = Header::new_gnu();
        header.set_mode(self.mode);
        header.set_size(self.content.len() as u64);
        archive.append_data(&mut header, &self.path, self.content.as_slice()).unwrap();
    }
}

pub(crate) const LAYER_TYPE: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `sha256:<hex>` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "size": blob.len(), "digest": digest(blob) })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn busybox_entries() -> Vec<Entry> {
    let path = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from).into_iter().find(|path| path.is_file());
    let path = path.expect("the suite makes its images from busybox-static, which is not installed");
    let mut entries: Vec<Entry> =
        ["bin/", "etc/", "root/", "usr/", "usr/bin/", "usr/sbin/", "var/", "home/"].map(Entry::directory).into();
    entries.push(Entry::directory("tmp/").mode(0o1777));
    entries.push(Entry::file(
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/home:/bin/false\n\
        worker:x:1000:1001:a worker:/home:/bin/sh\n",
    ));
    entries.push(Entry::file(
        "etc/group",
        "root:x:0:\nnogroup:x:65534:\nstaff:x:50:worker\nworkers:x:1001:\nextra:x:1002:worker\n",
    ));
    entries.push(Entry { content: fs::read(&path).unwrap(), ..Entry::script("bin/busybox", "") });
    for applet in applets(&path) {
        entries.push(Entry::symlink(&format!("bin/{applet}"), "busybox"));
    }
    entries
}

fn applets(busybox: &Path) -> Vec<String> {
    let listed = std::process::Command::new(busybox).arg("--list").output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    names.lines().filter(|name| *name != "busybox").map(str::to_string).collect()
}
