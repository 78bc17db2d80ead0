//! [`Launch`]: all that a supervisor must know to run one container once. Built by the engine, sent to the spawner.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

/// One run of one container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// Container id, 64 hex digits.
    pub id: String,
    /// The OCI runtime spec. `root.path` is ignored in favour of [`Launch::rootfs`]. Mounts are carried out in order;
    /// hosts, resolv.conf and hostname arrive as bind mounts. `linux.cgroupsPath` is a path below each hierarchy; without
    /// it the container stays in the spawner's own groups, `linux.resources` must be empty, and a `cgroup` mount is an error
    /// on version 1.
    pub spec: Spec,
    /// Of which bind mounts only a part of the source is mounted.
    #[serde(default)]
    pub subpaths: Vec<Subpath>,
    /// What becomes the root.
    pub rootfs: Rootfs,
    /// Precompiled seccomp BPF (`crate::seccomp::compile`, cached by the engine), native-endian `struct sock_filter`s.
    /// When present `spec.linux.seccomp` is not looked at.
    #[serde(default, with = "hexadecimal")]
    pub seccomp_program: Option<Vec<u8>>,
    pub stdio: Stdio,
    pub log: Log,
    /// What to do in a new network namespace (spec has a `network` namespace without a path); else `None`.
    pub network: Option<NetworkSetup>,
    /// The container's directory below the engine's root: the supervisor writes `exit.json` there. It must exist.
    pub state_dir: PathBuf,
    /// The container's directory below the run directory: `supervisor.sock` and `supervisor.pid` appear there. It must exist.
    pub run_dir: PathBuf,
    /// Run Hoist's own tiny init as pid 1, which forwards signals and reaps (`docker run --init`).
    pub init: bool,
    /// `None`: our own runtime. Else an external OCI runtime's binary and arguments (runc, crun) used for
    /// create/start/delete, supervised in the same way.
    pub external_runtime: Option<ExternalRuntime>,
}

/// A part of a bind mount's source, looked up when the container starts. It is as untrusted as whoever can write to the
/// source: no link in it leads out of the source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subpath {
    /// The destination of the mount in the spec.
    pub destination: PathBuf,
    /// Below the mount's source.
    pub path: PathBuf,
}

/// Another OCI runtime.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExternalRuntime {
    pub path: PathBuf,
    pub args: Vec<String>,
}

/// Where the root filesystem comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Rootfs {
    /// An overlay that the supervisor mounts (new mount API, `lowerdir+`; plain mount(2) where the kernel lacks it).
    Overlay {
        /// Read-only layers, topmost first. Any number. Never empty (an image without layers gets one empty directory).
        lower: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
        /// Skip syncing on unmount: for containers whose changes are thrown away (`--rm`).
        volatile: bool,
    },
    /// A directory used as it is (OCI bundles).
    Directory(PathBuf),
}

/// The container's standard streams.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Stdio {
    /// A pty, allocated in the container's own devpts; stdout only, raw, no framing towards attachments.
    pub tty: bool,
    /// Keep stdin open (docker `OpenStdin`); otherwise stdin is /dev/null.
    pub open_stdin: bool,
    /// Close stdin after the first attachment that had stdin went away (docker `StdinOnce`).
    pub stdin_once: bool,
    /// Initial pty size, (rows, columns); (0, 0) leaves the kernel's default.
    pub console_size: (u16, u16),
}

/// The log driver's part that the supervisor does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Log {
    /// Output goes to attachments only.
    None,
    File(LogFile),
}

/// A log in Docker's json-file format: one object per line `{"log":"…\n","stream":"stdout","time":"RFC3339Nano"}`, lines
/// longer than 16 KiB in partial entries without the newline. Rotated by rename: `path`, `path.1`, `path.2`… Docker's `local`
/// driver has a file format of its own; ours is the same under another path.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LogFile {
    /// The newest file. Its directory is locked (flock(2), exclusively) while files are renamed.
    pub path: PathBuf,
    /// 0: never rotated.
    pub max_size_bytes: u64,
    /// How many files there are at most, `path` included. With 0 or 1 a full file is replaced by an empty one.
    pub max_files: u32,
    /// Pre-rendered JSON object to add as `,"attrs":{…}` (log labels/env), or empty.
    pub attrs: String,
    /// Rotated files become `path.1.gz`…
    pub compress: bool,
    /// Entries wait in a buffer of this size while the disk is slow, and are dropped when it is full (`mode=non-blocking`).
    /// `None`: the container waits.
    pub buffer_bytes: Option<u64>,
}

/// The names of a log's rotated file: as it is, and as it is compressed. Number 1 is the newest.
pub fn rotated_names(path: &Path, number: u32) -> [PathBuf; 2] {
    let with = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    [with(format!(".{number}")), with(format!(".{number}.gz"))]
}

/// Netlink messages, complete with headers, made by the network crate; the runtime only sends them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NetworkSetup {
    /// Batch for the host's namespace (veth born with its peer inside the container's netns); one ack per message.
    /// At each offset in `netns_fd_at` the runtime writes, as a native-endian u32, the number of an fd of the new netns
    /// (the value of IFLA_NET_NS_FD) before sending.
    pub host_batch: Vec<u8>,
    pub netns_fd_at: Vec<usize>,
    /// Batch sent from inside the new netns once `host_batch` is acknowledged: addresses, link up, lo up, routes.
    pub netns_batch: Vec<u8>,
}

/// Bytes as a string of hexadecimal digits: a JSON array of numbers would be three times as long and slow to read.
mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        match bytes {
            None => serializer.serialize_none(),
            Some(bytes) => {
                let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
                let text: String = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect();
                serializer.serialize_some(&text)
            }
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        let Some(text) = Option::<std::borrow::Cow<'_, str>>::deserialize(deserializer)? else {
            return Ok(None);
        };
        let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
        let pairs = text.as_bytes().chunks(2);
        let bytes = pairs.map(|pair| Some(value(*pair.first()?)? << 4 | value(*pair.get(1)?)?)).collect::<Option<_>>();
        bytes.map(Some).ok_or_else(|| serde::de::Error::custom("seccomp_program is not hexadecimal"))
    }
}
