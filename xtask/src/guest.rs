//! `cargo xtask guest`: the suite on a machine with control groups of version 2 only, Debian's stock kernel under QEMU.
//!
//! The guest's root is made once, with mmdebstrap, below the target directory; what is tested comes on a second disk. The
//! machine outside gets no mounts, control groups or interfaces, and root's rights are needed for mmdebstrap only.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::project::{cargo, has_program, output, succeed, target};
use crate::{e2e, test_bed};

const HELP: &str = "\
usage: cargo xtask guest [FILTER…]      tests whose names contain one of these (default: the runtime's part of the suite)

Variables:
  HOIST_TEST_BINARY     the executable to test (default: the release build, made first)
  HOIST_GUEST_SUITE     Debian's release in the guest (default bookworm, with kernel 6.1)
  HOIST_GUEST_ACCEL     QEMU's accelerator (default tcg,thread=multi; kvm is ten times faster where it works)
  HOIST_GUEST_MINUTES   how long all of it may take (default 25)
";

/// What depends on the version of control groups, or could.
const RUNTIME_PART: [&str; 6] = ["run::", "exec::", "life::", "limits::", "streams::", "crash::a_"];
const PACKAGES: &str = "linux-image-cloud-amd64,busybox-static,iproute2,nftables,procps,kmod,util-linux,e2fsprogs";
const END: &str = "guest: exit ";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--help") {
        print!("{HELP}");
        return Ok(());
    }
    if std::env::consts::ARCH != "x86_64" {
        bail!("the guest is made for x86_64");
    }
    for (program, package) in
        [("qemu-system-x86_64", "qemu-system-x86"), ("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs")]
    {
        if !has_program(program) {
            bail!("the guest needs {program} (package {package})");
        }
    }
    let suite = std::env::var("HOIST_GUEST_SUITE").unwrap_or_else(|_| "bookworm".into());
    let guest = target().join("guest").join(&suite);
    if !guest.join("root.img").is_file() {
        make_root(&guest, &suite)?;
    }
    let filters: Vec<&str> = match arguments {
        [] => RUNTIME_PART.to_vec(),
        given => given.iter().map(String::as_str).collect(),
    };
    make_payload(&guest, &filters)?;
    let code = boot(&guest)?;
    if code != 0 {
        bail!("the suite failed in the guest ({suite}): {code}");
    }
    Ok(())
}

/// The guest's root as a disk image, its kernel and its initrd beside it.
fn make_root(guest: &Path, suite: &str) -> Result<()> {
    let root = guest.join("root");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(guest)?;
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--variant=minbase", "--aptopt=Acquire::Check-Valid-Until \"false\""]);
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
    image_of(&root, &guest.join("root.img"), "6G")?;
    fs::remove_dir_all(root)?;
    Ok(())
}

/// The second disk: what is tested, and how.
fn make_payload(guest: &Path, filters: &[&str]) -> Result<()> {
    let payload = guest.join("payload");
    let _ = fs::remove_dir_all(&payload);
    fs::create_dir_all(payload.join("bed"))?;
    let binary = match std::env::var_os("HOIST_TEST_BINARY") {
        Some(binary) => PathBuf::from(binary),
        None => e2e::build_release()?,
    };
    let bed = test_bed::make()?;
    let mut files = vec![(binary, "hoist")];
    files.extend(executables()?);
    for program in ["docker", "docker-registry"] {
        files.push((bed.join(program), program));
    }
    for (from, name) in files {
        let to = if name.starts_with("docker") { payload.join("bed").join(name) } else { payload.join(name) };
        if from.is_file() {
            fs::copy(&from, &to).with_context(|| format!("{}", from.display()))?;
        }
    }
    let quoted: Vec<String> = filters.iter().map(|filter| format!("'{}'", filter.replace('\'', "'\\''"))).collect();
    let command = format!(
        "export HOIST_TEST_BINARY=/payload/hoist HOIST_TEST_BED=/payload/bed HOIST_TEST_INSIDE=/payload/inside\n\
         export HOIST_TEST_CLI=hoist HOIST_TEST_PATIENCE=300 RUST_BACKTRACE=0\n\
         exec /payload/e2e --test-threads=2 {}\n",
        quoted.join(" ")
    );
    fs::write(payload.join("command"), command)?;
    fs::write(payload.join("init"), include_str!("guest-init.sh"))?;
    image_of(&payload, &guest.join("payload.img"), "1G")?;
    fs::remove_dir_all(payload)?;
    Ok(())
}

/// The suite and the program that it puts into images, built.
fn executables() -> Result<Vec<(PathBuf, &'static str)>> {
    let mut build = cargo(["test", "--no-run", "--locked", "-p", "hoist-tests", "--test", "e2e"]);
    let messages = output(build.args(["--message-format=json", "--quiet"]))?;
    let mut found = Vec::new();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
        let name = match message["target"]["name"].as_str() {
            Some("e2e") => "e2e",
            Some("inside") => "inside",
            _ => continue,
        };
        if let Some(executable) = message["executable"].as_str() {
            found.push((PathBuf::from(executable), name));
        }
    }
    if found.len() < 2 {
        bail!("cargo named no executables of the suite");
    }
    Ok(found)
}

fn image_of(directory: &Path, image: &Path, size: &str) -> Result<()> {
    let partial = image.with_extension("partial");
    let _ = fs::remove_file(&partial);
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d"]).arg(directory).arg(&partial).arg(size);
    output(&mut mke2fs)?;
    fs::rename(partial, image)?;
    Ok(())
}

/// Boots the guest, shows its console, and returns the code with which the suite ended.
fn boot(guest: &Path) -> Result<i32> {
    let minutes = std::env::var("HOIST_GUEST_MINUTES").ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(25);
    let deadline = Instant::now() + Duration::from_secs(60 * minutes);
    let drive =
        |name: &str, options: &str| format!("if=virtio,format=raw,{options},file={}", guest.join(name).display());
    let mut qemu = Command::new("qemu-system-x86_64");
    // Not KVM by itself where there is /dev/kvm: nested, it can look usable and fail in the middle of the boot.
    let accelerator = std::env::var("HOIST_GUEST_ACCEL").unwrap_or_else(|_| "tcg,thread=multi".into());
    qemu.args(["-accel", &accelerator, "-cpu", "max", "-smp", "2", "-m", "3G"]);
    qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]);
    qemu.arg("-kernel").arg(guest.join("vmlinuz")).arg("-initrd").arg(guest.join("initrd"));
    let line = "console=ttyS0 quiet panic=-1 reboot=t mitigations=off root=/dev/vda rw init=/guest-init";
    qemu.args(["-append", line, "-drive", &drive("root.img", "snapshot=on,cache=unsafe")]);
    qemu.args(["-drive", &drive("payload.img", "readonly=on")]);
    qemu.env("TMPDIR", guest).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = qemu.spawn().context("qemu-system-x86_64")?;
    let result = follow(&mut child, deadline);
    let _ = child.kill();
    let _ = child.wait();
    result
}

fn follow(child: &mut Child, deadline: Instant) -> Result<i32> {
    let console = BufReader::new(child.stdout.take().context("no console")?);
    let (lines, console_lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in console.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_string();
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = console_lines.recv_timeout(left) else {
            bail!(if left.is_zero() { "the guest takes too long" } else { "the guest ended before the suite did" });
        };
        if let Some(code) = line.strip_prefix(END) {
            return code.trim().parse().with_context(|| format!("the guest said {line:?}"));
        }
        println!("| {line}");
        if left.is_zero() {
            bail!("the guest takes too long");
        }
    }
}
