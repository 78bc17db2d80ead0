//! `cargo xtask ci`: every stage in order, each timed, the first failure ends the run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::e2e::{self, Scope};
use crate::project::{cargo, has_program, succeed};
use crate::{fuzz, guest, leaks, test_bed, tidy};

type Stage = (&'static str, fn() -> Result<()>);

const STAGES: &[Stage] = &[
    ("format", || succeed(&mut cargo(["fmt", "--all", "--check"]))),
    ("tidy", tidy::run),
    ("clippy", || succeed(&mut cargo(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))),
    ("nextest", install_nextest),
    ("unit tests", unit_tests),
    ("builds", build_all),
    ("end to end", end_to_end),
    ("fuzz", fuzz::in_ci),
    ("guest", guest::in_ci),
];

/// Runs all stages, or those whose names are given.
pub(crate) fn run(only: &[String]) -> Result<()> {
    if let Some(unknown) = only.iter().find(|name| !STAGES.iter().any(|(stage, _)| stage == name)) {
        let names: Vec<_> = STAGES.iter().map(|(name, _)| *name).collect();
        bail!("no stage `{unknown}`; there are: {}", names.join(", "));
    }
    let mut took: Vec<(&str, Duration)> = Vec::new();
    let mut failure = None;
    let wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    for (name, stage) in STAGES.iter().filter(|(name, _)| wanted(name)) {
        println!("\n== {name}");
        let start = Instant::now();
        let result = stage();
        took.push((name, start.elapsed()));
        if let Err(error) = result {
            failure = Some(error.context(format!("stage `{name}`")));
            break;
        }
    }
    println!("\n== took");
    for (name, duration) in &took {
        println!("{:>8.1} s  {name}", duration.as_secs_f64());
    }
    println!("{:>8.1} s  in all", took.iter().map(|(_, duration)| duration.as_secs_f64()).sum::<f64>());
    failure.map_or(Ok(()), Err)
}

fn install_nextest() -> Result<()> {
    if has_program("cargo-nextest") || cargo(["nextest", "--version"]).output().is_ok_and(|out| out.status.success()) {
        return Ok(());
    }
    // Built as a plain program: the project's own target and flags (a static binary) are not meant for it.
    let mut install = cargo(["install", "--locked", "cargo-nextest"]);
    succeed(install.current_dir("/")).context("nextest runs the tests")
}

/// With nothing skipped.
fn unit_tests() -> Result<()> {
    let mut nextest = cargo(["nextest", "run", "--workspace", "--locked", "--profile", "ci", "-E", "not binary(e2e)"]);
    succeed(nextest.env("HOIST_TEST_REQUIRE", "all"))
}

/// The release binary, and beside it what the stages after this one need: linking keeps one processor busy for minutes, and
/// what comes from mirrors none.
fn build_all() -> Result<()> {
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| {
            test_bed::make()?;
            if let Err(error) = guest::prepare() {
                println!("the guest's stage will fail: {error:#}");
            }
            fuzz::build_for_ci()
        });
        let built = e2e::build_release().map(drop);
        match (built, beside.join().unwrap_or_else(|_| bail!("a thread panicked"))) {
            (Err(error), Err(other)) => Err(error.context(format!("and: {other:#}"))),
            (built, beside) => built.and(beside),
        }
    })
}

/// The whole suite with nothing skipped, and nothing left in the kernel afterwards.
fn end_to_end() -> Result<()> {
    let before = leaks::Snapshot::take()?;
    let suite = e2e::run_suite(Scope::Workspace, &["--profile".into(), "ci".into()], "all");
    let leaked = before.leaked_until(&leaks::Snapshot::take()?);
    suite?;
    if !leaked.is_empty() {
        bail!("the suite left behind:\n  {}", leaked.join("\n  "));
    }
    println!("no mount, cgroup, link, netns, table or process left behind");
    Ok(())
}
