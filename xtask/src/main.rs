//! `cargo xtask`: the one entry to everything that is done to this project apart from using it.
//!
//! Owns the order of the stages and their wording. What each stage checks is in the module of its name; what the product
//! does is nowhere here.

mod bench;
mod ci;
mod e2e;
mod fuzz;
mod guest;
mod leaks;
mod project;
mod test_bed;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci          every check: format, clippy, tidy, unit tests, release build, end-to-end tests, leaks, the guest
  tidy        the project's own rules: edges between crates, names, heads of files, sizes, unsafe, ARCHITECTURE.md
  test-bed    unpack the real docker client and registry, and make the test images, below target/test-bed
  e2e [ARG…]  build the release binary and run the end-to-end tests (ARGs go to nextest; `e2e --help` tells the variables)
  leaks       print what the kernel holds now that an engine could have left behind
  guest [F…]  run tests in a guest with control groups of version 2 only, or cut its power (`guest --help`)
  fuzz [T…]   run the fuzzers in fuzz/, all or those named, 180 s each or `--seconds N`
  bench       print sizes, start times and ratios to a peer engine (`bench --help` tells the variables)
";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<String>) -> Result<()> {
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", [].as_slice()),
    };
    match command {
        "ci" => ci::run(rest),
        "tidy" => tidy::run(),
        "test-bed" => test_bed::make().map(|bed| println!("{}", bed.display())),
        "e2e" => e2e::run(rest),
        "leaks" => leaks::print(),
        "bench" => bench::run(rest),
        "fuzz" => fuzz::run(rest),
        "guest" => guest::run(rest),
        "" | "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => bail!("no command `{other}`\n{USAGE}"),
    }
}
