//! `cargo xtask fuzz`: the fuzzers in `fuzz/`, each for so many seconds, beginning with its seeds.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::project::{cargo, has_program, nice, root, succeed};

const SECONDS: u32 = 180;
/// What registries and archives send: fuzzed so long by `cargo xtask ci`.
const IN_CI: [&str; 6] = ["manifest", "image_config", "tar_stream", "layer", "reference", "challenge"];
const SECONDS_IN_CI: u32 = 60;
const USAGE: &str = "usage: cargo xtask fuzz [TARGET…] [--seconds N]   (all targets, 180 s each)";
/// One input must not take longer, nor all memory be more than this, nor an allocation alone.
const TIMEOUT_S: u32 = 20;
const MEMORY_MB: u32 = 1024;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let targets = targets()?;
    let (wanted, seconds) = parse(arguments, &targets)?;
    install_cargo_fuzz()?;
    let mut failed = Vec::new();
    for target in wanted {
        println!("\n== {target}");
        // A failure is kept by libFuzzer and told; the other targets have their turn all the same.
        if let Err(error) = fuzz(&target, seconds) {
            println!("{error:#}");
            failed.push(target);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {} (inputs are below fuzz/artifacts)", failed.join(", ")) }
}

/// The targets of [`IN_CI`], two at a time, their output shown where one failed.
pub(crate) fn in_ci() -> Result<()> {
    // Once, so that two runs do not wait for each other.
    build_for_ci()?;
    for pair in IN_CI.chunks(2) {
        std::thread::scope(|scope| {
            let runs: Vec<_> = pair.iter().map(|target| scope.spawn(|| fuzz_quietly(target))).collect();
            runs.into_iter().try_for_each(|run| run.join().unwrap_or_else(|_| bail!("a fuzzer's thread panicked")))
        })?;
    }
    Ok(())
}

/// The programs of [`IN_CI`] and what compiles with them. Nice: something else may be waited for.
pub(crate) fn build_for_ci() -> Result<()> {
    install_cargo_fuzz()?;
    succeed(&mut nice(&cargo_fuzz("build", Programs::Lean)))
}

fn fuzz_quietly(target: &str) -> Result<()> {
    let ended = command(target, SECONDS_IN_CI, Programs::Lean)?.output().context("cannot start cargo fuzz")?;
    let text = String::from_utf8_lossy(&ended.stderr);
    if !ended.status.success() {
        bail!("{target}: {}\n{text}", ended.status);
    }
    let runs = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    println!("{target}: {} inputs in {SECONDS_IN_CI} s", runs.unwrap_or(" ?").trim());
    Ok(())
}

fn fuzz(target: &str, seconds: u32) -> Result<()> {
    succeed(&mut command(target, seconds, Programs::All)?)
}

/// Which of the programs are compiled: all, or those that need only the crates below the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Programs {
    All,
    Lean,
}

fn command(target: &str, seconds: u32, programs: Programs) -> Result<Command> {
    let fuzz = root().join("fuzz");
    // New inputs go to the first directory, which git ignores.
    let corpus = fuzz.join("corpus").join(target);
    fs::create_dir_all(&corpus).with_context(|| format!("{}", corpus.display()))?;
    // The code under test has no unsafe blocks, so that sanitizers would only slow it down.
    let mut command = cargo_fuzz("run", programs);
    command.arg(target).arg(&corpus).arg(fuzz.join("seeds").join(target)).arg("--").args([
        format!("-max_total_time={seconds}"),
        format!("-timeout={TIMEOUT_S}"),
        format!("-rss_limit_mb={MEMORY_MB}"),
        "-print_final_stats=1".to_owned(),
    ]);
    // Scratch directories of targets that unpack: in memory, where there is a file system for it.
    if Path::new("/dev/shm").is_dir() && std::env::var_os("TMPDIR").is_none() {
        command.env("TMPDIR", "/dev/shm");
    }
    Ok(command)
}

fn cargo_fuzz(verb: &str, programs: Programs) -> Command {
    let mut command = cargo(["fuzz", verb, "--sanitizer", "none"]);
    if programs == Programs::Lean {
        command.arg("--no-default-features");
    }
    // Coverage instrumentation is an unstable option of the one stable compiler that builds everything else.
    command.current_dir(root().join("fuzz")).env("RUSTC_BOOTSTRAP", "1");
    command
}

fn install_cargo_fuzz() -> Result<()> {
    if has_program("cargo-fuzz") || cargo(["fuzz", "--version"]).output().is_ok_and(|out| out.status.success()) {
        return Ok(());
    }
    // Built as a plain program: the project's own target and flags (a static binary) are not meant for it.
    let mut install = cargo(["install", "--locked", "cargo-fuzz"]);
    succeed(install.current_dir("/")).context("cargo-fuzz runs the fuzzers")
}

fn targets() -> Result<Vec<String>> {
    let directory = root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("{}", directory.display()))? {
        names.extend(entry?.path().file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

fn parse(arguments: &[String], targets: &[String]) -> Result<(Vec<String>, u32)> {
    let (mut wanted, mut seconds) = (Vec::new(), SECONDS);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seconds" {
            let number = rest.next().context("--seconds needs a number")?;
            seconds = number.parse().with_context(|| format!("--seconds {number}"))?;
        } else if targets.contains(argument) {
            wanted.push(argument.clone());
        } else {
            bail!("no target `{argument}`; there are: {}\n{USAGE}", targets.join(", "));
        }
    }
    Ok((if wanted.is_empty() { targets.to_vec() } else { wanted }, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn targets_and_seconds_may_be_named() {
        let all = words("a b c");
        assert_eq!(parse(&[], &all).unwrap(), (all.clone(), SECONDS));
        assert_eq!(parse(&words("b --seconds 5"), &all).unwrap(), (words("b"), 5));
        assert!(parse(&words("d"), &all).is_err() && parse(&words("--seconds x"), &all).is_err());
    }
}
