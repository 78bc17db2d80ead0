//! The command tree as data: names, usage, flags, and the function that runs each command.

mod container;
mod image;
mod inspect;
mod manifest;
mod prune;
mod registry;
mod system;
mod volume;

/// What the one-request form of `run` shares with the ordinary one.
pub(crate) mod run_parts {
    pub(crate) use super::{
        container::{
            create::{IdFile, check_reference, is_to_be_pulled, pull_image, pull_policy, tagged},
            run::Plan,
        },
        image::wanted_platform,
    };
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use manifest::read_pending;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn create_command() -> &'static Command {
    const { &container::create::COMMAND }
}

use crate::{
    app::{App, Outcome},
    completion,
    flags::{Flag, Parsed, switch, text},
};

pub(crate) enum Run {
    Group(&'static [Command]),
    Action(fn(&App, &Parsed) -> Outcome),
    /// Dispatched by the program before the command line is reached; listed for help only.
    Elsewhere,
}

/// Under which heading `--help` of the program lists a command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    Common,
    Management,
    Plain,
    Engine,
}

impl Group {
    pub(crate) const TITLES: [(Self, &'static str); 4] = [
        (Self::Common, "Common Commands"),
        (Self::Management, "Management Commands"),
        (Self::Plain, "Commands"),
        (Self::Engine, "Engine Commands"),
    ];
}

pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// What follows the name in the usage line.
    pub(crate) usage: &'static str,
    /// All spellings, without the program's name, for help.
    pub(crate) aliases: &'static [&'static str],
    /// Other words for the name.
    pub(crate) also: &'static [&'static str],
    pub(crate) flags: &'static [&'static [Flag]],
    /// Spellings of flags that older clients had.
    pub(crate) old_flags: &'static [(&'static str, &'static str)],
    /// Least and most operands.
    pub(crate) operands: (usize, usize),
    /// Everything behind the first operand belongs to the program to run.
    pub(crate) stops_at_operand: bool,
    pub(crate) run: Run,
    pub(crate) group: Group,
    pub(crate) hidden: bool,
    pub(crate) epilogue: &'static str,
}

/// Any number of operands.
pub(crate) const MANY: usize = usize::MAX;

impl Command {
    pub(crate) const fn action(
        name: &'static str,
        about: &'static str,
        usage: &'static str,
        operands: (usize, usize),
        run: fn(&App, &Parsed) -> Outcome,
    ) -> Self {
        Self {
            name,
            about,
            usage,
            aliases: &[],
            also: &[],
            flags: &[],
            old_flags: &[],
            operands,
            stops_at_operand: false,
            run: Run::Action(run),
            group: Group::Plain,
            hidden: false,
            epilogue: "",
        }
    }

    const fn family(name: &'static str, about: &'static str, commands: &'static [Self]) -> Self {
        let mut command = Self::action(name, about, "COMMAND", (0, MANY), no_action);
        command.run = Run::Group(commands);
        command.group = Group::Management;
        command
    }

    const fn elsewhere(name: &'static str, about: &'static str) -> Self {
        let mut command = Self::action(name, about, "[OPTIONS]", (0, MANY), no_action);
        command.run = Run::Elsewhere;
        command.group = Group::Engine;
        command
    }

    pub(crate) const fn flags(mut self, flags: &'static [&'static [Flag]]) -> Self {
        self.flags = flags;
        self
    }

    pub(crate) const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    pub(crate) const fn also(mut self, words: &'static [&'static str]) -> Self {
        self.also = words;
        self
    }

    pub(crate) const fn old_flags(mut self, pairs: &'static [(&'static str, &'static str)]) -> Self {
        self.old_flags = pairs;
        self
    }

    pub(crate) const fn runs_a_program(mut self) -> Self {
        self.stops_at_operand = true;
        self
    }

    /// The same command under another name and heading.
    const fn renamed_to(mut self, name: &'static str, group: Group) -> Self {
        self.name = name;
        self.also = &[];
        self.group = group;
        self
    }

    pub(crate) fn all_flags(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        self.flags.iter().flat_map(|table| table.iter())
    }

    pub(crate) fn renamed(&self, old: &str) -> Option<&'static str> {
        self.old_flags.iter().find(|(from, _)| *from == old).map(|(_, to)| *to)
    }

    pub(crate) fn is_called(&self, word: &str) -> bool {
        !self.name.is_empty() && (self.name == word || self.also.contains(&word))
    }
}

/// What `--format` takes in lists.
pub(crate) const FORMAT_HELP: &str = "Print with a custom template:
'table':            A table with titles (default)
'table TEMPLATE':   A table of the template's columns
'json':             One JSON object a line
'TEMPLATE':         The Go template, for each object";

fn no_action(_: &App, _: &Parsed) -> Outcome {
    Ok(())
}

const GLOBAL_FLAGS: &[Flag] = &[
    text('\0', "config", "Directory of client configuration files (default ~/.docker)"),
    text('c', "context", "Name of the context to connect with; only \"default\" is known"),
    switch('D', "debug", "Say more about what the client does"),
    text('H', "host", "Engine to connect to (unix:///path or tcp://host:port)"),
    text('l', "log-level", "How much to log (\"debug\", \"info\", \"warn\", \"error\", \"fatal\")").or("info"),
    switch('\0', "no-autostart", "Do not start the engine when its socket is absent"),
    switch('\0', "tls", "Use TLS; implied by --tlsverify"),
    text('\0', "tlscacert", "Trust only certificates signed by this CA"),
    text('\0', "tlscert", "Path of the TLS certificate file"),
    text('\0', "tlskey", "Path of the TLS key file"),
    switch('\0', "tlsverify", "Use TLS and verify the engine"),
    switch('v', "version", "Print version information and quit"),
];

pub(crate) static ROOT: Command = {
    let mut root = Command::family("", "Run and look after containers", ROOT_COMMANDS).flags(&[GLOBAL_FLAGS]);
    root.usage = "[OPTIONS] COMMAND";
    root.stops_at_operand = true;
    root
};

const ROOT_COMMANDS: &[Command] = &[
    container::run::COMMAND.renamed_to("run", Group::Common),
    container::exec::COMMAND.renamed_to("exec", Group::Common),
    container::ls::COMMAND.renamed_to("ps", Group::Common),
    image::pull::COMMAND.renamed_to("pull", Group::Common),
    image::push::COMMAND.renamed_to("push", Group::Common),
    image::ls::IMAGES.renamed_to("images", Group::Common),
    registry::login::COMMAND.renamed_to("login", Group::Common),
    registry::logout::COMMAND.renamed_to("logout", Group::Common),
    registry::search::COMMAND.renamed_to("search", Group::Common),
    system::version::COMMAND.renamed_to("version", Group::Common),
    system::info::COMMAND.renamed_to("info", Group::Common),
    Command::family("container", "Commands for containers", container::COMMANDS),
    Command::family("image", "Commands for images", image::COMMANDS),
    Command::family("manifest", "Commands for lists of images for several platforms", manifest::COMMANDS),
    Command::family("system", "Commands for the engine as a whole", system::COMMANDS),
    Command::family("volume", "Commands for volumes", &[volume::PRUNE]),
    container::attach::COMMAND,
    container::commit::COMMAND,
    container::create::COMMAND,
    container::diff::COMMAND,
    system::events::COMMAND,
    container::export::COMMAND,
    image::history::COMMAND,
    image::import::COMMAND,
    inspect::COMMAND,
    container::lifecycle::KILL,
    image::load::COMMAND,
    container::logs::COMMAND,
    container::lifecycle::PAUSE,
    container::port::COMMAND,
    container::rename::COMMAND,
    container::lifecycle::RESTART,
    container::rm::COMMAND.renamed_to("rm", Group::Plain),
    image::rm::COMMAND.renamed_to("rmi", Group::Plain),
    image::save::COMMAND,
    container::start::COMMAND,
    container::lifecycle::STOP,
    image::tag::COMMAND,
    container::top::COMMAND,
    container::lifecycle::UNPAUSE,
    container::update::COMMAND,
    container::wait::COMMAND,
    completion::COMMAND,
    Command::elsewhere("engine", "Run the engine in the foreground"),
    Command::elsewhere("registry", "Serve a registry of one's own: hoist registry serve"),
    Command::elsewhere("runtime", "Work as an OCI runtime for other engines"),
];

/// Runs `each` on every operand, printing errors as they come; fails with status 1 if one failed.
pub(crate) fn for_each_operand(args: &[String], mut each: impl FnMut(&str) -> Outcome) -> Outcome {
    let mut failed = false;
    for arg in args {
        if let Err(failure) = each(arg) {
            eprintln!("{}", failure.text);
            failed = true;
        }
    }
    if failed { Err(crate::app::Failure::silent(1)) } else { Ok(()) }
}

/// Asks for a yes at the terminal; anything else is a no.
pub(crate) fn confirm(warning: &str) -> Outcome<bool> {
    use std::io::{BufRead, Write};
    print!("{warning}\nAre you sure you want to continue? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}
