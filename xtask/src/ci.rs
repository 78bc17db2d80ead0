//! `cargo xtask ci`: every stage in order, each timed, the first failure ends the run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::project::{cargo, has_program, succeed};
use crate::{e2e, fuzz, guest, leaks, test_bed, tidy};

type Stage = (&'static str, fn() -> Result<()>);

const STAGES: &[Stage] = &[
    ("format", || succeed(&mut cargo(["fmt", "--all", "--check"]))),
    ("tidy", tidy::run),
    ("clippy", || succeed(&mut cargo(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))),
    ("nextest", install_nextest),
    ("unit tests", || {
        succeed(&mut cargo(["nextest", "run", "--workspace", "--locked", "--profile", "ci", "-E", "not binary(e2e)"]))
    }),
    ("release build", || e2e::build_release().map(drop)),
    ("test bed", || test_bed::make().map(drop)),
    ("end to end", end_to_end),
    ("guest", guest::in_ci),
];

/// Runs only where it is named: it takes about as long as all the unit tests.
const NAMED_ONLY: &[Stage] = &[("fuzz", fuzz::in_ci)];

/// Runs all stages, or those whose names are given.
pub(crate) fn run(only: &[String]) -> Result<()> {
    let all = || STAGES.iter().chain(NAMED_ONLY);
    if let Some(unknown) = only.iter().find(|name| !all().any(|(stage, _)| stage == name)) {
        let names: Vec<_> = all().map(|(name, _)| *name).collect();
        bail!("no stage `{unknown}`; there are: {}", names.join(", "));
    }
    let mut took: Vec<(&str, Duration)> = Vec::new();
    let mut failure = None;
    let wanted: Vec<&Stage> = match only {
        [] => STAGES.iter().collect(),
        _ => all().filter(|(name, _)| only.iter().any(|wanted| wanted == name)).collect(),
    };
    for (name, stage) in wanted {
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

/// The whole suite with nothing skipped, and nothing left in the kernel afterwards.
fn end_to_end() -> Result<()> {
    let before = leaks::Snapshot::take()?;
    let suite = e2e::run_suite(&["--profile".into(), "ci".into()], "all");
    let leaked = before.leaked_until(&leaks::Snapshot::take()?);
    suite?;
    if !leaked.is_empty() {
        bail!("the suite left behind:\n  {}", leaked.join("\n  "));
    }
    println!("no mount, cgroup, link, netns, table or process left behind");
    Ok(())
}
