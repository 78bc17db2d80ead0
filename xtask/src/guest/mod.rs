//! `cargo xtask guest`: the tests on a machine with control groups of version 2 only, Debian's stock kernel under QEMU.
//!
//! The guest's root is made once, with mmdebstrap, below the target directory; what is tested comes on a second disk. The
//! machine outside gets no mounts, control groups or interfaces, and root's rights are needed for mmdebstrap only.

mod disk;
mod image;
mod machine;
mod power_cut;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::e2e::Scope;
use crate::project::{has_program, target};
use machine::Machine;

const HELP: &str = "\
usage: cargo xtask guest [FILTER…]               end-to-end tests whose names contain one of these (default: all tests
                                                 that could depend on the version of control groups or the kernel's age)
       cargo xtask guest power-cut [CUTS] [SEED] so many times (default 12) the guest loses its power, and what its disk
                                                 had not flushed, while containers and images come and go

Variables:
  HOIST_TEST_BINARY     the executable to test (default: the release build, made first)
  HOIST_GUEST_SUITE     Debian's release in the guest (default bookworm, with kernel 6.1)
  HOIST_GUEST_ACCEL     QEMU's accelerator (default tcg,thread=multi; kvm is ten times faster where it works)
  HOIST_GUEST_MINUTES   how long one boot may take (default 20)
";

/// What of the end-to-end suite depends on the version of control groups or the age of the kernel, or could.
const DEPENDENT: [&str; 8] =
    ["run::", "exec::", "life::", "limits::", "security::", "escapes::", "hostile_images::", "crash::a_"];
/// How many cuts a run of all checks makes, and from which seed.
const CUTS_IN_CI: u32 = 4;
const SEED: u64 = 20_240_607;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--help") {
        print!("{HELP}");
        return Ok(());
    }
    match arguments {
        [] => all(Scope::Suite),
        [first, rest @ ..] if first == "power-cut" => {
            let number = |at: usize| rest.get(at).map(|text| text.parse::<u64>()).transpose();
            power_cut::run(Scope::Suite, &root()?, u32::try_from(number(0)?.unwrap_or(12))?, number(1)?.unwrap_or(SEED))
        }
        filters => tests(Scope::Suite, &format!("exec {}\n", suite(filters))),
    }
}

/// What of the stage takes no processor: the guest's root comes from a mirror.
pub(crate) fn prepare() -> Result<()> {
    root().map(drop)
}

/// The stage of `cargo xtask ci`: the tests, then a few cuts.
pub(crate) fn in_ci() -> Result<()> {
    all(Scope::Workspace)?;
    power_cut::run(Scope::Workspace, &root()?, CUTS_IN_CI, SEED)
}

fn all(scope: Scope) -> Result<()> {
    let dependent = DEPENDENT.map(str::to_string);
    let mut command = "code=0\n".to_string();
    for program in ["hoist_runtime --test-threads=2 cgroup::", "oci", "runtime"] {
        command.push_str(&format!("/payload/{program} || code=1\n"));
    }
    command.push_str(&format!("{} || code=1\nexit $code\n", suite(&dependent)));
    tests(scope, &command)
}

/// The end-to-end suite's command for the guest's shell.
fn suite(filters: &[String]) -> String {
    let quoted: Vec<String> = filters.iter().map(|filter| format!("'{}'", filter.replace('\'', "'\\''"))).collect();
    format!("/payload/e2e --test-threads=2 {}", quoted.join(" "))
}

fn tests(scope: Scope, command: &str) -> Result<()> {
    let guest = root()?;
    image::make_payload(scope, &guest, command)?;
    let machine = Machine::boot(&guest, &[], "")?;
    match machine.exit_code(deadline())? {
        0 => Ok(()),
        code => bail!("the tests failed in the guest ({}): {code}", guest.display()),
    }
}

/// When a guest that is booted now has taken too long.
fn deadline() -> Instant {
    let minutes = std::env::var("HOIST_GUEST_MINUTES").ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(20);
    Instant::now() + Duration::from_secs(60 * minutes)
}

/// The directory of the guest's disks, its root made if there is none.
fn root() -> Result<PathBuf> {
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
        let start = Instant::now();
        image::make_root(&guest, &suite)?;
        println!("the guest's root took {:.1} s", start.elapsed().as_secs_f64());
    }
    Ok(guest)
}
