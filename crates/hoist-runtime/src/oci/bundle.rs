//! Bundles: reading `config.json` and checking what can be checked without a container; writing a first one (`spec`).

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Process, Root, Spec};

use super::fault::{Fault, Result, Trying};
use crate::defaults;

const CONFIG: &str = "config.json";
/// Longest configuration that is read.
const MAX_CONFIG_BYTES: u64 = 8 * 1024 * 1024;

/// A bundle as it was found.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) path: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) config: Spec,
}

impl Bundle {
    pub(super) fn load(path: Option<&str>) -> Result<Bundle> {
        let path = Path::new(path.unwrap_or("."));
        let path = fs::canonicalize(path).trying(|| format!("bundle {}", path.display()))?;
        let file = path.join(CONFIG);
        let config: Spec = read_json(&file, "JSON specification file")?;
        check(&config)?;
        let root = config.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
        if root.as_os_str().is_empty() {
            return Err(Fault::new("root.path is not set"));
        }
        let rootfs = fs::canonicalize(path.join(&root)).trying(|| format!("invalid rootfs {}", root.display()))?;
        if !rootfs.is_dir() {
            return Err(Fault::new(format!("invalid rootfs: {} is no directory", rootfs.display())));
        }
        Ok(Bundle { path, rootfs, config })
    }
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Fault::new(format!("{what} {} not found", path.display())));
        }
        file => file.trying(|| format!("open {}", path.display()))?,
    };
    let json = read_up_to(file, MAX_CONFIG_BYTES).trying(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&json).map_err(|error| Fault::new(format!("parse {}: {error}", path.display())))
}

/// The first bytes of a file, all of it if it is no longer than `limit`.
pub(super) fn read_up_to(file: impl Read, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn check(config: &Spec) -> Result<()> {
    let version = config.version();
    if version.split('.').next() != Some("1") {
        return Err(Fault::new(format!("ociVersion {version:?} is not supported: this is version 1")));
    }
    if config.linux().is_none() {
        return Err(Fault::new("linux is not set in the configuration"));
    }
    if let Some(process) = config.process() {
        check_process(process)?;
    }
    Ok(())
}

pub(super) fn check_process(process: &Process) -> Result<()> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Fault::new("args must not be empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(Fault::new("Cwd must be an absolute path"));
    }
    Ok(())
}

/// `spec`: a configuration to start from.
pub(super) fn write_first(bundle: Option<&str>) -> Result<()> {
    let path = Path::new(bundle.unwrap_or(".")).join(CONFIG);
    if path.exists() {
        return Err(Fault::new(format!("File {} exists. Remove it first", path.display())));
    }
    let json =
        serde_json::to_vec_pretty(&first_config()).map_err(|error| Fault::new(format!("encode {CONFIG}: {error}")))?;
    fs::write(&path, [json.as_slice(), b"\n"].concat()).trying(|| format!("write {}", path.display()))
}

/// Docker's defaults with an interactive shell, a read-only root and nothing of Docker's network.
fn first_config() -> Spec {
    let mut spec = defaults::default_spec(crate::cgroup::version());
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs")).set_readonly(Some(true));
    spec.set_root(Some(root)).set_hostname(Some("hoist".to_owned()));
    if let Some(process) = spec.process_mut() {
        process
            .set_terminal(Some(true))
            .set_args(Some(vec!["sh".to_owned()]))
            .set_env(Some(vec![format!("PATH={}", defaults::DEFAULT_PATH), "TERM=xterm".to_owned()]))
            .set_no_new_privileges(Some(true))
            .set_oom_score_adj(None);
    }
    if let Some(linux) = spec.linux_mut() {
        linux.set_sysctl(None);
        let mut namespaces = linux.namespaces().clone().unwrap_or_default();
        if !namespaces.iter().any(|namespace| namespace.typ() == LinuxNamespaceType::Cgroup) {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(LinuxNamespaceType::Cgroup).set_path(None);
            namespaces.push(namespace);
        }
        linux.set_namespaces(Some(namespaces));
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_configuration_can_be_read_back() {
        let directory = std::env::temp_dir().join(format!("hoist-bundle-{}", std::process::id()));
        fs::create_dir_all(directory.join("rootfs")).unwrap();
        let text = directory.to_str().unwrap();
        assert!(Bundle::load(Some(text)).unwrap_err().message.contains("not found"));
        write_first(Some(text)).unwrap();
        let bundle = Bundle::load(Some(text)).unwrap();
        assert_eq!(bundle.rootfs, fs::canonicalize(directory.join("rootfs")).unwrap());
        assert!(write_first(Some(text)).unwrap_err().message.contains("Remove it first"));
        fs::write(directory.join(CONFIG), r#"{"ociVersion":"2.0.0","linux":{}}"#).unwrap();
        assert!(Bundle::load(Some(text)).unwrap_err().message.contains("ociVersion"));
        fs::write(directory.join(CONFIG), r#"{"ociVersion":"1.0.0","linux":{},"root":{"path":"gone"}}"#).unwrap();
        assert!(Bundle::load(Some(text)).unwrap_err().message.contains("invalid rootfs"));
        fs::remove_dir_all(&directory).unwrap();
    }
}
