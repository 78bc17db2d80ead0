//! One invocation: global flags, choice of the command, the connection to the engine, and what an error becomes.

use std::{
    cell::OnceCell,
    ffi::OsString,
    io::{self, Write},
};

use hoist_api::errno::without_numbers;
use hoist_client::{Client, Endpoint, Stream};

use crate::{
    autostart,
    commands::{self, Command, Run},
    config::Config,
    env,
    flags::{self, Parsed},
};

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where our engine listens when nobody says otherwise.
const DEFAULT_SOCKET: &str = "unix:///run/hoist/hoist.sock";

/// Why a command failed: what stderr gets, and the exit status.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) code: i32,
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: i32, text: impl Into<String>) -> Self {
        Self { text: without_numbers(text.into()), code }
    }

    /// An exit status with nothing to say.
    pub(crate) fn silent(code: i32) -> Self {
        Self { text: String::new(), code }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::new(1, text)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self::new(1, text)
    }
}

impl From<hoist_client::Error> for Failure {
    fn from(error: hoist_client::Error) -> Self {
        Self::new(1, client_text(&error))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::silent(141) } else { Self::new(1, error.to_string()) }
    }
}

/// Why a file could not be opened, in the words of the kernel's error list.
pub(crate) fn open_error(path: &str, error: &io::Error) -> String {
    format!("open {path}: {}", kernel_text(error))
}

/// Why an open file could not be read, in the same words.
pub(crate) fn read_error(path: &str, error: &io::Error) -> String {
    format!("read {path}: {}", kernel_text(error))
}

/// The kernel's errors as Docker's client has them: in small letters, without their number.
fn kernel_text(error: &io::Error) -> String {
    let text = error.to_string();
    match error.raw_os_error() {
        Some(number) => text.trim_end_matches(&format!(" (os error {number})")).to_lowercase(),
        None => text,
    }
}

/// The text Docker's client has for an error of the connection or the engine.
pub(crate) fn client_text(error: &hoist_client::Error) -> String {
    use hoist_client::Error;
    match error {
        Error::Api { message, .. } => format!("Error response from daemon: {message}"),
        Error::Connect { host, source } if source.kind() == io::ErrorKind::PermissionDenied => format!(
            "permission denied while trying to connect to the {} daemon socket at {host}: connect: permission denied",
            brand().0
        ),
        Error::Connect { host, source } => match source.kind() {
            io::ErrorKind::NotFound if host.starts_with("tcp://") => {
                format!("error during connect to {host}: {source}")
            }
            _ => {
                let (name, daemon) = brand();
                format!("Cannot connect to the {name} daemon at {host}. Is the {daemon} daemon running?")
            }
        },
        other => other.to_string(),
    }
}

fn brand() -> (&'static str, &'static str) {
    if called_docker() { ("Docker", "docker") } else { ("Hoist", "hoist") }
}

fn called_docker() -> bool {
    std::env::args_os().next().is_some_and(|name| program_name(&name) == "docker")
}

fn program_name(argv0: &OsString) -> &'static str {
    match std::path::Path::new(argv0).file_name() {
        Some(name) if name == "docker" => "docker",
        _ => "hoist",
    }
}

pub(crate) struct App {
    /// `hoist`, or `docker` when started by that name.
    pub(crate) program: &'static str,
    pub(crate) globals: Parsed,
    config: OnceCell<Config>,
    client: OnceCell<Client>,
}

impl App {
    pub(crate) fn config(&self) -> &Config {
        self.config.get_or_init(|| Config::load(self.config_dir().as_deref()))
    }

    /// The directory of `config.json`; none without a home.
    pub(crate) fn config_dir(&self) -> Option<String> {
        self.globals.get("config").map(str::to_owned).or_else(env::config_dir)
    }

    /// The engine, started if it is ours to start.
    pub(crate) fn client(&self) -> Outcome<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = self.connect()?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Where the engine is, and whether somebody said so.
    pub(crate) fn endpoint(&self) -> Outcome<(Endpoint, bool)> {
        let named = self.globals.get("host").map(str::to_owned).or_else(env::host);
        Ok((Endpoint::parse(named.as_deref().unwrap_or(DEFAULT_SOCKET))?, named.is_some()))
    }

    /// A second client of the same engine, for commands that hold several connections.
    pub(crate) fn connect(&self) -> Outcome<Client> {
        let (endpoint, is_named) = self.endpoint()?;
        let early = match (&endpoint, is_named) {
            (Endpoint::Unix(socket), false) => autostart::ensure(socket, !self.globals.is("no-autostart"))?,
            _ => None,
        };
        let mut client = Client::new(endpoint, format!("Hoist-Client/{VERSION} (linux)"));
        if let Some(stream) = early {
            client.use_connection(Stream::Unix(stream));
        }
        if self.globals.is("debug") || self.globals.text("log-level") == "debug" {
            client.set_trace(|line| eprintln!("DEBUG: {line}"));
        }
        if let Some(version) = env::api_version() {
            client.pin_version(&version)?;
        }
        for (name, value) in self.config().headers(env::custom_headers().as_deref())? {
            client.add_header(name, value);
        }
        Ok(client)
    }
}

/// Makes a closed pipe at our output end this process quietly, as with other programs, in place of a panic in the
/// middle of a line. Sockets do not raise the signal.
fn die_of_closed_pipes() {
    let always = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    // without it a closed pipe is an error with a text: ugly, not wrong
    let _ = signal_hook::flag::register_conditional_default(signal_hook::consts::SIGPIPE, always);
}

pub(crate) fn run(args: Vec<OsString>) -> i32 {
    die_of_closed_pipes();
    let program = args.first().map_or("hoist", program_name);
    let mut words = Vec::with_capacity(args.len());
    for arg in args.into_iter().skip(1) {
        // Docker's API is JSON: an argument that is not UTF-8 could not be passed on
        match arg.into_string() {
            Ok(word) => words.push(word),
            Err(raw) => {
                eprintln!("{program}: argument {raw:?} is not valid UTF-8");
                return 125;
            }
        }
    }
    let outcome = dispatch(program, words).and_then(|()| Ok(io::stdout().flush()?));
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            if !failure.text.is_empty() {
                let _ = writeln!(io::stderr(), "{}", failure.text);
            }
            failure.code
        }
    }
}

fn dispatch(program: &'static str, words: Vec<String>) -> Outcome {
    let root = &commands::ROOT;
    let globals = flags::parse(root, &words).map_err(|why| usage_failure(root, program, &why))?;
    let mut rest = globals.args.clone();
    let app = App { program, globals, config: OnceCell::new(), client: OnceCell::new() };
    if app.globals.is("version") {
        println!("{}", version_line(program));
        return Ok(());
    }
    refuse_unsupported(&app)?;
    let mut path = program.to_owned();
    let mut command = root;
    let mut wants_help = app.globals.wants_help;
    loop {
        match command.run {
            Run::Group(children) => {
                if rest.first().is_some_and(|word| word == "help") {
                    rest.remove(0);
                    wants_help = true;
                }
                if command.name.is_empty() || !rest.first().is_some_and(|word| word.starts_with('-')) {
                    let Some(word) = rest.first() else { return show_help(command, &path, wants_help) };
                    let Some(child) = children.iter().find(|child| child.is_called(word)) else {
                        return Err(unknown_command(command, &path, word));
                    };
                    path = format!("{path} {}", child.name);
                    command = child;
                    rest.remove(0);
                } else {
                    flags::parse(command, &rest).map_err(|why| usage_failure(command, &path, &why))?;
                    return show_help(command, &path, true);
                }
            }
            Run::Action(action) => {
                let parsed = flags::parse(command, &rest).map_err(|why| usage_failure(command, &path, &why))?;
                if wants_help || parsed.wants_help {
                    return show_help(command, &path, true);
                }
                check_operands(command, &path, parsed.args.len())?;
                return action(&app, &parsed);
            }
            Run::Elsewhere => return Err(Failure::new(1, format!("{path} is not part of this build"))),
        }
    }
}

/// Help that was asked for is output; help in place of a missing command is talk.
fn show_help(command: &Command, path: &str, asked: bool) -> Outcome {
    let text = flags::help::render(command, path);
    if asked || command.name.is_empty() {
        io::stdout().write_all(text.as_bytes())?;
    } else {
        io::stderr().write_all(text.as_bytes())?;
    }
    Ok(())
}

fn version_line(program: &str) -> String {
    let build = option_env!("HOIST_BUILD").unwrap_or("unknown");
    match program {
        "docker" => format!("Docker version {VERSION}, build {build}"),
        _ => format!("Hoist version {VERSION}, build {build}"),
    }
}

fn refuse_unsupported(app: &App) -> Outcome {
    let context = app.globals.get("context").map(str::to_owned).or_else(env::context);
    if let Some(context) = context.filter(|name| name != "default") {
        return Err(Failure::new(
            1,
            format!("unable to resolve endpoint: context {context:?}: contexts are not supported, use --host instead"),
        ));
    }
    if app.globals.all("host").len() > 1 {
        return Err(Failure::new(1, "specify only one -H"));
    }
    let level = app.globals.get("log-level").unwrap_or("info");
    if !["debug", "info", "warn", "warning", "error", "fatal", "panic", "trace"].contains(&level) {
        return Err(Failure::new(1, format!("Unable to parse logging level: {level}")));
    }
    let flag = ["tls", "tlsverify"].into_iter().find(|flag| app.globals.is(flag));
    let file = ["tlscacert", "tlscert", "tlskey"].into_iter().find(|flag| app.globals.has(flag));
    if let Some(flag) = flag.or(file) {
        return Err(Failure::new(1, format!("--{flag}: connections over TLS are not supported yet")));
    }
    if env::wants_tls()
        && app.globals.get("host").map(str::to_owned).or_else(env::host).is_some_and(|h| h.starts_with("tcp"))
    {
        return Err(Failure::new(1, "DOCKER_TLS_VERIFY: connections over TLS are not supported yet"));
    }
    Ok(())
}

fn usage_failure(command: &Command, path: &str, why: &str) -> Failure {
    let usage = match command.run {
        Run::Group(_) if command.name.is_empty() => format!("{path} [OPTIONS] COMMAND [ARG...]"),
        _ => flags::help::usage(command, path),
    };
    Failure::new(125, format!("{why}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information"))
}

fn unknown_command(command: &Command, path: &str, word: &str) -> Failure {
    let program = path.split(' ').next().unwrap_or(path);
    let usage = if command.name.is_empty() { String::new() } else { format!("Usage:  {path}\n\n") };
    let text = format!("{program}: unknown command: {path} {word}\n\n{usage}Run '{path} --help' for more information");
    Failure::new(1, text)
}

fn check_operands(command: &Command, path: &str, count: usize) -> Outcome {
    let (min, max) = command.operands;
    let plural = |number: usize| if number == 1 { "argument" } else { "arguments" };
    let (what, verb) = if count < min && max == min {
        (format!("requires {min} {}", plural(min)), "Run")
    } else if count < min && max == usize::MAX {
        (format!("requires at least {min} {}", plural(min)), "See")
    } else if count > max && max == 0 {
        ("accepts no arguments".to_owned(), "Run")
    } else if count > max && max == min {
        (format!("requires {min} {}", plural(min)), "Run")
    } else if count > max && min == 0 {
        (format!("requires at most {max} {}", plural(max)), "Run")
    } else if count < min || count > max {
        (format!("requires at least {min} and at most {max} {}", plural(max)), "Run")
    } else {
        return Ok(());
    };
    let program = path.split(' ').next().unwrap_or(path);
    let usage = flags::help::usage(command, path);
    let text = format!("{program}: '{path}' {what}\n\nUsage:  {usage}\n\n{verb} '{path} --help' for more information");
    Err(Failure::new(1, text))
}
