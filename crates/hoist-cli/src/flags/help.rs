//! Help texts: usage line, aliases, options in aligned and wrapped columns, commands by group.

use super::{Flag, Kind};
use crate::commands::{Command, Group, Run};

/// Columns without a terminal, as Docker has it.
const PLAIN_WIDTH: usize = 80;

fn width() -> usize {
    rustix::termios::tcgetwinsize(rustix::stdio::stdout())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|&columns| columns > 0)
        .unwrap_or(PLAIN_WIDTH)
}

/// The whole help text of `path` (program and command words).
pub(crate) fn render(command: &Command, path: &str) -> String {
    let columns = width().saturating_sub(1).max(40);
    let mut out = format!("Usage:  {}\n\n{}\n", usage(command, path), command.about);
    if !command.aliases.is_empty() {
        let program = path.split(' ').next().unwrap_or(path);
        let names: Vec<String> = command.aliases.iter().map(|alias| format!("{program} {alias}")).collect();
        out.push_str(&format!("\nAliases:\n  {}\n", names.join(", ")));
    }
    if let Run::Group(commands) = command.run {
        out.push_str(&groups(commands));
    }
    let flags: Vec<&Flag> = command.all_flags().collect();
    if flags.iter().any(|flag| !flag.hidden) {
        let title = if command.name.is_empty() { "Global Options" } else { "Options" };
        out.push_str(&format!("\n{title}:\n{}", options(&flags, columns)));
    }
    if matches!(command.run, Run::Group(_)) {
        out.push_str(&format!("\nRun '{path} COMMAND --help' for more information on a command.\n"));
    }
    if !command.epilogue.is_empty() {
        out.push_str(&format!("\n{}\n", command.epilogue));
    }
    out
}

/// `hoist run [OPTIONS] IMAGE [COMMAND] [ARG...]`
pub(crate) fn usage(command: &Command, path: &str) -> String {
    match command.usage {
        "" => path.to_owned(),
        usage => format!("{path} {usage}"),
    }
}

fn groups(commands: &[Command]) -> String {
    let mut out = String::new();
    for (group, title) in Group::TITLES {
        let shown: Vec<&Command> = commands.iter().filter(|c| c.group == group && !c.hidden).collect();
        if shown.is_empty() {
            continue;
        }
        out.push_str(&format!("\n{title}:\n"));
        let width = shown.iter().map(|c| c.name.len()).max().unwrap_or_default().max(11);
        for command in shown {
            out.push_str(&format!("  {:width$} {}\n", command.name, command.about));
        }
    }
    out
}

fn options(flags: &[&Flag], columns: usize) -> String {
    let mut shown: Vec<&&Flag> = flags.iter().filter(|flag| !flag.hidden).collect();
    shown.sort_by_key(|flag| flag.long);
    let lines: Vec<(String, String)> = shown.iter().map(|flag| (left_column(flag), right_column(flag))).collect();
    let indent = lines.iter().map(|(left, _)| left.len()).max().unwrap_or_default() + 3;
    let mut out = String::new();
    for (left, right) in lines {
        let mut first = true;
        for paragraph in right.lines() {
            for line in wrap(paragraph, columns.saturating_sub(indent).max(24)) {
                let margin = if first { left.as_str() } else { "" };
                out.push_str(format!("{margin:indent$}{line}").trim_end());
                out.push('\n');
                first = false;
            }
        }
    }
    out
}

fn left_column(flag: &Flag) -> String {
    let short = match flag.short {
        '\0' => "      ".to_owned(),
        short => format!("  -{short}, "),
    };
    match flag.kind {
        Kind::Switch => format!("{short}--{}", flag.long),
        Kind::Value(name, _) => format!("{short}--{} {name}", flag.long),
    }
}

fn right_column(flag: &Flag) -> String {
    match (flag.default, flag.kind) {
        ("", _) => flag.help.to_owned(),
        (default, Kind::Value("string", _)) => format!("{} (default \"{default}\")", flag.help),
        (default, _) => format!("{} (default {default})", flag.help),
    }
}

fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() || (word.is_empty() && lines.is_empty()) {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}
