//! `export`: a container's root as a tar archive, to a file or to standard output.

use std::io::{self, IsTerminal};

use hoist_client::Request;

use super::{super::Command, path};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, text},
    output::OutputFile,
};

const FLAGS: &[Flag] = &[text('o', "output", "Write to this file in place of standard output")];

pub(crate) const COMMAND: Command =
    Command::action("export", "Write a container's file system as a tar archive", "[OPTIONS] CONTAINER", (1, 1), run)
        .flags(&[FLAGS])
        .aliases(&["container export", "export"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let output = args.text("output");
    if output.is_empty() && io::stdout().is_terminal() {
        return Err("cowardly refusing to save to a terminal. Use the -o flag or redirect".into());
    }
    let file = match output {
        "" => None,
        path => Some(OutputFile::check(path).map_err(|why| format!("failed to export container: {why}"))?),
    };
    let mut answer = app.client()?.call(Request::get(path(&args.args[0], "export")))?;
    match file {
        None => drop(io::copy(&mut answer.body, &mut io::stdout().lock())?),
        Some(file) => file.fill(&mut answer.body)?,
    }
    Ok(())
}
