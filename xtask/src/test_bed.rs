//! The test bed: the real clients and the real registry that the suite runs, unpacked below the target directory.
//!
//! Nothing on the machine is replaced. What was unpacked once stays until it is deleted. Pushing images into the registry
//! is the suite's work (`tests/support/registry.rs`); here is only what needs a package mirror.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::project::{has_program, output, succeed, target};

/// Debian's sid suite has the newest docker client; it runs on older releases as it is.
const CLIENT_PACKAGES: [&str; 2] = ["docker-cli", "docker-registry"];
const DEBIAN_SUITE: &str = "bookworm";
/// The client library whose smoke suite is kept in `tests/clients`.
const DOCKER_PY: &str = "docker==7.1.0";

/// A part's name, which is a path in the bed, and how it is made.
type Part = (&'static str, fn(&Path) -> Result<()>);

/// Makes what is missing and returns the directory. Offline, with nothing unpacked yet, it says so and goes on: the tests
/// that need a part skip then, loudly, or fail where they may not skip.
pub(crate) fn make() -> Result<PathBuf> {
    let bed = target().join("test-bed");
    fs::create_dir_all(&bed).with_context(|| format!("{}", bed.display()))?;
    let parts: [Part; 3] = [("docker", clients), ("debian.tar", debian_root), ("docker-py", docker_py)];
    for (part, make) in parts {
        if bed.join(part).exists() {
            continue;
        }
        if let Err(error) = make(&bed) {
            eprintln!("skipped: test bed part `{part}`: {error:#}");
        }
    }
    Ok(bed)
}

pub(crate) fn mirror() -> Result<String> {
    let sources = "/etc/apt/sources.list.d/debian.sources";
    let text = fs::read_to_string(sources).with_context(|| sources.to_string())?;
    let mirror = text.lines().find_map(|line| line.strip_prefix("URIs:")).map(str::trim);
    mirror.map(str::to_string).with_context(|| format!("{sources} names no mirror"))
}

/// `docker` and `docker-registry`, from packages that are unpacked and not installed, with apt lists of our own.
fn clients(bed: &Path) -> Result<()> {
    let work = bed.join("clients.partial");
    let _ = fs::remove_dir_all(&work);
    for directory in ["lists/partial", "cache/archives/partial", "debs", "root"] {
        fs::create_dir_all(work.join(directory))?;
    }
    let list = work.join("sources.list");
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    fs::write(&list, format!("deb [signed-by={keyring}] {} sid main\n", mirror()?))?;
    let apt = |command: &str| {
        let mut apt = Command::new("apt-get");
        apt.args(["-qq", "-oDir::Etc::SourceParts=/dev/null", "-oAcquire::Check-Valid-Until=false"]);
        apt.arg("-oAPT::Sandbox::User=root");
        apt.arg(format!("-oDir::Etc::SourceList={}", list.display()));
        apt.arg(format!("-oDir::State::Lists={}", work.join("lists").display()));
        apt.arg(format!("-oDir::Cache={}", work.join("cache").display()));
        apt.arg(command).current_dir(work.join("debs"));
        apt
    };
    output(&mut apt("update"))?;
    output(apt("download").args(CLIENT_PACKAGES))?;
    for package in fs::read_dir(work.join("debs"))? {
        output(Command::new("dpkg").arg("-x").arg(package?.path()).arg(work.join("root")))?;
    }
    for program in ["docker-registry", "docker"] {
        let from = work.join("root/usr/bin").join(program);
        fs::rename(&from, bed.join(program)).with_context(|| format!("{}", from.display()))?;
    }
    fs::remove_dir_all(&work)?;
    Ok(())
}

/// A small Debian root as a tar: the image `debian` of the suite, with a real shell, users, `ps` and `ip`.
fn debian_root(bed: &Path) -> Result<()> {
    if !has_program("mmdebstrap") {
        bail!("mmdebstrap is not installed");
    }
    let partial = bed.join("debian.tar.partial");
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--variant=minbase", "--format=tar", "--include=procps,iproute2"]);
    mmdebstrap.args(["--aptopt=Acquire::Check-Valid-Until \"false\"", "--dpkgopt=path-exclude=/usr/share/doc/*"]);
    mmdebstrap.args(["--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/man/*"]);
    mmdebstrap.arg(DEBIAN_SUITE).arg(&partial).arg(format!("deb {} {DEBIAN_SUITE} main", mirror()?));
    output(&mut mmdebstrap)?;
    fs::rename(&partial, bed.join("debian.tar"))?;
    Ok(())
}

/// docker-py in a Python environment of its own.
fn docker_py(bed: &Path) -> Result<()> {
    let partial = bed.join("docker-py.partial");
    let _ = fs::remove_dir_all(&partial);
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&partial))?;
    let mut pip = Command::new(partial.join("bin/python3"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", DOCKER_PY]);
    output(&mut pip)?;
    // An environment may be moved as long as it is started by its interpreter and not by its scripts.
    fs::rename(&partial, bed.join("docker-py"))?;
    Ok(())
}
