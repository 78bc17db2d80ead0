//! `cargo xtask e2e`: the end-to-end suite against the release binary, or against a peer engine.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::project::{binary, cargo, succeed, target};
use crate::test_bed;

const HELP: &str = "\
usage: cargo xtask e2e [NEXTEST-ARGUMENT…]

The suite runs on an engine of its own for each test. Variables:
  HOIST_TEST_BINARY       the executable to test (default: the release build, made first)
  HOIST_TEST_PEER_SOCKET  run on the engine behind this unix socket instead, a real dockerd: the suite tests itself
  HOIST_TEST_PEER_ROOT    the root directory which that engine sees, when it is not ours
  HOIST_TEST_RACE_SECONDS how long each race between containers goes on (default: 3)
  HOIST_TEST_REQUIRE      needs whose absence fails a test instead of skipping it: names, or `all`
";

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--help") {
        print!("{HELP}");
        return Ok(());
    }
    run_suite(Scope::Suite, arguments, &std::env::var("HOIST_TEST_REQUIRE").unwrap_or_default())
}

/// What is compiled to run the suite. Features of shared dependencies differ between the two, and with them all that uses
/// them: where the whole workspace's tests were just built, building them "again" is the faster way.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
    Suite,
    Workspace,
}

impl Scope {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Scope::Suite => &["-p", "hoist-tests"],
            Scope::Workspace => &["--workspace", "-E", "package(hoist-tests)"],
        }
    }
}

/// Builds what is missing and runs the suite, then tells what was skipped.
pub(crate) fn run_suite(scope: Scope, arguments: &[String], require: &str) -> Result<()> {
    let bed = test_bed::make()?;
    let binary: OsString = match std::env::var_os("HOIST_TEST_BINARY") {
        Some(binary) => binary,
        None if std::env::var_os("HOIST_TEST_PEER_SOCKET").is_some() => "".into(),
        None => build_release()?.into(),
    };
    let skips = target().join("test-bed/skipped.txt");
    std::fs::write(&skips, "").with_context(|| format!("{}", skips.display()))?;

    let mut nextest = cargo(["nextest", "run", "--locked"]);
    nextest.args(scope.arguments()).args(arguments).env("HOIST_TEST_BED", &bed).env("HOIST_TEST_SKIPS", &skips);
    nextest.env("HOIST_TEST_BINARY", binary).env("HOIST_TEST_REQUIRE", require);
    let result = succeed(&mut nextest);

    let skipped = std::fs::read_to_string(&skips).with_context(|| format!("{}", skips.display()))?;
    if !skipped.is_empty() {
        println!("skipped ({}):\n{skipped}", skipped.lines().count());
    }
    result
}

pub(crate) fn build_release() -> Result<PathBuf> {
    succeed(&mut cargo(["build", "--release", "--locked", "-p", "hoist"]))?;
    let binary = binary("release")?;
    let Ok(metadata) = std::fs::metadata(&binary) else { bail!("no {} after the build", binary.display()) };
    println!("{}: {:.1} MB", binary.display(), metadata.len() as f64 / 1e6);
    Ok(binary)
}
