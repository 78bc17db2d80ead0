//! The guest's disks: Debian's root, made once for each suite, and the payload, made for each boot. Owns what is on them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::e2e::{self, Scope};
use crate::project::{cargo, output, succeed};
use crate::test_bed;

const PACKAGES: &str = "linux-image-cloud-amd64,busybox-static,iproute2,nftables,procps,kmod,util-linux,e2fsprogs";
/// The programs of tests, by the names of their targets.
const TESTS: [&str; 6] = ["e2e", "inside", "power-cut", "hoist_runtime", "oci", "runtime"];

/// The guest's root as a disk image, its kernel and its initrd beside it.
pub(super) fn make_root(guest: &Path, suite: &str) -> Result<()> {
    let root = guest.join("root");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(guest)?;
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--variant=minbase", "--aptopt=Acquire::Check-Valid-Until \"false\""]);
    mmdebstrap.args(["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"]);
    mmdebstrap.arg("--dpkgopt=path-exclude=/usr/share/locale/*");
    mmdebstrap.args([&format!("--include={PACKAGES}"), suite]).arg(&root);
    mmdebstrap.arg(format!("deb {} {suite} main", test_bed::mirror()?));
    output(&mut mmdebstrap)?;
    // What the first process does comes with the payload, so that a change of it needs no new root.
    fs::create_dir(root.join("payload"))?;
    let init = "#!/bin/sh\nmount -t ext4 -o ro /dev/vdb /payload && exec sh /payload/init\n";
    fs::write(root.join("guest-init"), init)?;
    succeed(Command::new("chmod").arg("755").arg(root.join("guest-init")))?;
    for (kind, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
        let boot = fs::read_dir(root.join("boot"))?.flatten().map(|entry| entry.path());
        let file =
            boot.filter(|path| path.file_name().is_some_and(|file| file.to_string_lossy().starts_with(kind))).max();
        fs::copy(file.with_context(|| format!("no {kind}* in the guest's /boot"))?, guest.join(name))?;
    }
    image_of(&root, &guest.join("root.img"), "6G", "^has_journal")?;
    fs::remove_dir_all(root)?;
    Ok(())
}

/// The second disk: the binary, the tests, and `command`, the lines of a shell that the guest is booted for.
pub(super) fn make_payload(scope: Scope, guest: &Path, command: &str) -> Result<()> {
    let payload = guest.join("payload");
    let _ = fs::remove_dir_all(&payload);
    fs::create_dir_all(payload.join("bed"))?;
    let binary = match std::env::var_os("HOIST_TEST_BINARY") {
        Some(binary) => PathBuf::from(binary),
        None => e2e::build_release()?,
    };
    let bed = test_bed::make()?;
    let mut files = executables(scope)?;
    files.push((binary, "hoist".into()));
    for program in ["docker", "docker-registry"] {
        files.push((bed.join(program), format!("bed/{program}")));
    }
    for (from, name) in files {
        if from.is_file() {
            fs::copy(&from, payload.join(name)).with_context(|| format!("{}", from.display()))?;
        }
    }
    let variables = "export HOIST_TEST_BINARY=/payload/hoist HOIST_TEST_BED=/payload/bed\n\
         export HOIST_TEST_INSIDE=/payload/inside HOIST_TEST_CLI=hoist HOIST_TEST_PATIENCE=300 RUST_BACKTRACE=0\n";
    fs::write(payload.join("command"), format!("{variables}{command}\n"))?;
    fs::write(payload.join("init"), include_str!("init.sh"))?;
    image_of(&payload, &guest.join("payload.img"), "1G", "^has_journal")?;
    fs::remove_dir_all(payload)?;
    Ok(())
}

/// The tests and the program that the suite puts into images, built.
fn executables(scope: Scope) -> Result<Vec<(PathBuf, String)>> {
    let mut build = cargo(["test", "--no-run", "--locked"]);
    build.args(match scope {
        Scope::Suite => ["-p", "hoist-tests", "-p", "hoist-runtime"].as_slice(),
        Scope::Workspace => &["--workspace"],
    });
    build.args([
        "--lib",
        "--bin",
        "inside",
        "--bin",
        "power-cut",
        "--test",
        "e2e",
        "--test",
        "oci",
        "--test",
        "runtime",
    ]);
    let messages = output(build.args(["--message-format=json", "--quiet"]))?;
    let mut found = Vec::new();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        let name = message["target"]["name"].as_str().unwrap_or_default();
        // A program is built twice, as itself and as the tests in it, in either order.
        if message["target"]["kind"][0] == "bin" && message["profile"]["test"] == true {
            continue;
        }
        if let (true, Some(executable)) = (TESTS.contains(&name), message["executable"].as_str()) {
            found.push((PathBuf::from(executable), name.to_string()));
        }
    }
    if found.len() < TESTS.len() {
        bail!("cargo named too few executables of the tests: {found:?}");
    }
    Ok(found)
}

/// A directory as an ext4 image with this feature.
pub(super) fn image_of(directory: &Path, image: &Path, size: &str, feature: &str) -> Result<()> {
    let partial = image.with_extension("partial");
    let _ = fs::remove_file(&partial);
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-O", feature, "-d"]).arg(directory).arg(&partial).arg(size);
    output(&mut mke2fs)?;
    fs::rename(partial, image)?;
    Ok(())
}
