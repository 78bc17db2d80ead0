//! Completion scripts for shells, generated from the command tree.

use clap::{Arg, ArgAction};
use clap_complete::{Shell, generate};

use crate::{
    app::{App, Outcome},
    commands::{Command, ROOT, Run},
    flags::{Flag, Kind, Parsed},
};

pub(crate) const COMMAND: Command = Command::action(
    "completion",
    "Print a completion script for a shell (bash, zsh, fish)",
    "bash|zsh|fish",
    (1, 1),
    run,
);

fn run(app: &App, args: &Parsed) -> Outcome {
    let shell = match args.args[0].as_str() {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        other => return Err(format!("unknown shell {other:?}: must be one of bash, zsh, fish").into()),
    };
    let mut tree = describe(&ROOT).name(app.program);
    let mut script = Vec::new();
    generate(shell, &mut tree, app.program, &mut script);
    use std::io::Write;
    Ok(std::io::stdout().write_all(&script)?)
}

fn describe(command: &Command) -> clap::Command {
    let mut out =
        clap::Command::new(command.name).about(command.about).disable_help_subcommand(true).disable_help_flag(true);
    out = out.disable_version_flag(true);
    for flag in command.all_flags().filter(|flag| !flag.hidden) {
        out = out.arg(argument(flag));
    }
    out = out.arg(Arg::new("help").long("help").action(ArgAction::SetTrue).help("Print usage"));
    if let Run::Group(children) = command.run {
        out = out.subcommands(children.iter().filter(|child| !child.hidden).map(describe));
    }
    out
}

fn argument(flag: &Flag) -> Arg {
    let first_line = flag.help.lines().next().unwrap_or_default();
    let mut arg = Arg::new(flag.long).long(flag.long).help(first_line);
    if flag.short != '\0' {
        arg = arg.short(flag.short);
    }
    match flag.kind {
        Kind::Switch => arg.action(ArgAction::SetTrue),
        Kind::Value(name, _) => {
            let is_file = matches!(flag.long, "env-file" | "label-file" | "cidfile" | "input" | "volume");
            let hint = if is_file { clap::ValueHint::AnyPath } else { clap::ValueHint::Unknown };
            arg.action(ArgAction::Append).value_name(name).value_hint(hint)
        }
    }
}
