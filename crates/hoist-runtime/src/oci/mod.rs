//! `hoist runtime`: an OCI runtime with runc's command line, so that other engines (containerd, podman) can use it. This
//! file owns the commands and their flags; the container itself is made by the same init as everywhere.
//!
//! ```text
//! create ── clone init ── mounts … prepared ──> state.json        init waits on the fifo `go`
//! start  ── writes `go`, reads `report` until init's exec closes it
//! exec, kill, pause, … act on the process and the control group that state.json names
//! ```

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

mod affinity;
mod arguments;
mod bundle;
mod clock;
mod clone;
mod control;
mod create;
mod exec;
mod fault;
mod features;
mod foreground;
mod hooks;
mod record;
mod resources;
mod shared_mounts;
mod start;
mod steps;
mod user_namespace;

use arguments::{Arguments, Flag, switch, value};
use create::Created;
use fault::{Fault, Log, Result, Trying};
use record::Record;
pub(crate) use steps::Steps;

const NAME: &str = "hoist runtime";
/// Where containers are remembered unless `--root` says otherwise.
const DEFAULT_ROOT: &str = "/run/hoist-runtime";

/// Most fds that are handed through.
const MAX_PRESERVED_FDS: u32 = 4096;

/// What every command gets.
#[derive(Debug)]
struct Globals {
    root: PathBuf,
    log: Log,
}

const GLOBAL_FLAGS: &[Flag] = &[
    switch(&["debug"]),
    value(&["log"]),
    value(&["log-format"]),
    value(&["root"]),
    switch(&["systemd-cgroup"]),
    value(&["rootless"]),
    switch(&["help", "h"]),
    switch(&["version", "v"]),
];

const CREATE_FLAGS: &[Flag] = &[
    value(&["bundle", "b"]),
    value(&["console-socket"]),
    value(&["pidfd-socket"]),
    value(&["pid-file"]),
    switch(&["no-pivot"]),
    switch(&["no-new-keyring"]),
    value(&["preserve-fds"]),
    // `run` alone
    switch(&["detach", "d"]),
    switch(&["keep"]),
    switch(&["no-subreaper"]),
];

const EXEC_FLAGS: &[Flag] = &[
    value(&["console-socket"]),
    value(&["pidfd-socket"]),
    value(&["cwd"]),
    value(&["env", "e"]),
    switch(&["tty", "t"]),
    value(&["user", "u"]),
    value(&["additional-gids", "g"]),
    value(&["process", "p"]),
    switch(&["detach", "d"]),
    value(&["pid-file"]),
    value(&["process-label"]),
    value(&["apparmor"]),
    switch(&["no-new-privs"]),
    value(&["cap", "c"]),
    value(&["preserve-fds"]),
    value(&["cgroup"]),
    switch(&["ignore-paused"]),
];

const UPDATE_FLAGS: &[Flag] = &[
    value(&["resources", "r"]),
    value(&["blkio-weight"]),
    value(&["cpu-period"]),
    value(&["cpu-quota"]),
    value(&["cpu-burst"]),
    value(&["cpu-share"]),
    value(&["cpu-rt-period"]),
    value(&["cpu-rt-runtime"]),
    value(&["cpuset-cpus"]),
    value(&["cpuset-mems"]),
    value(&["cpu-idle"]),
    value(&["memory"]),
    value(&["memory-reservation"]),
    value(&["memory-swap"]),
    value(&["pids-limit"]),
    value(&["l3-cache-schema"]),
    value(&["mem-bw-schema"]),
];

/// (name, flags, what it does)
const COMMANDS: &[(&str, &[Flag], &str)] = &[
    ("create", CREATE_FLAGS, "create a container"),
    ("delete", &[switch(&["force", "f"])], "delete what a container holds"),
    ("events", &[value(&["interval"]), switch(&["stats"])], "print resource figures and OOM kills"),
    ("exec", EXEC_FLAGS, "run another process in a container"),
    ("features", &[], "print what this runtime can do"),
    ("kill", &[switch(&["all", "a"])], "send a signal (default: SIGTERM) to a container's init"),
    ("list", &[value(&["format", "f"]), switch(&["quiet", "q"])], "list containers below the root"),
    ("pause", &[], "suspend all processes of a container"),
    ("ps", &[value(&["format", "f"])], "show the processes of a container"),
    ("resume", &[], "resume all processes of a container"),
    ("run", CREATE_FLAGS, "create and start a container"),
    ("spec", &[value(&["bundle", "b"]), switch(&["rootless"])], "write a first config.json"),
    ("start", &[], "run the user's program in a created container"),
    ("state", &[], "print the state of a container"),
    ("update", UPDATE_FLAGS, "change resource limits of a container"),
];

/// The command `hoist runtime`; the first of `args` is the name that it was called by.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let mut log = Log::default();
    // A caller that ignores it would have the kernel reap our children before we can ask how they ended.
    if let Err(error) = hoist_sys::signal::set_default(hoist_sys::signal::CHILD) {
        log.error(&format!("set action of SIGCHLD: {error}"));
        return ExitCode::FAILURE;
    }
    match run(args.into_iter().skip(1).collect(), &mut log) {
        Ok(status) => ExitCode::from(status),
        Err(fault) => {
            log.error(&fault.message);
            ExitCode::from(fault.status)
        }
    }
}

fn run(args: Vec<OsString>, log: &mut Log) -> Result<u8> {
    let parsed = Arguments::parse(arguments::words(args)?, GLOBAL_FLAGS)?;
    log.path = parsed.get("log").map(PathBuf::from);
    log.debug = parsed.has("debug");
    log.json = match parsed.get("log-format") {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => return Err(Fault::new(format!("invalid log-format: {other}"))),
    };
    if parsed.has("version") {
        print_version()?;
        return Ok(0);
    }
    if parsed.has("systemd-cgroup") {
        return Err(Fault::new("--systemd-cgroup is not supported: use the cgroupfs driver"));
    }
    if let Some("true") = parsed.get("rootless") {
        return Err(Fault::new("--rootless=true is not supported"));
    }
    let mut words = parsed.rest.clone();
    if parsed.has("help") || words.is_empty() || words[0] == "help" || words[0] == "h" {
        print_help()?;
        return Ok(0);
    }
    let command = words.remove(0);
    if matches!(command.as_str(), "checkpoint" | "restore") {
        return Err(Fault::new(format!("{command} is not supported")));
    }
    let Some((name, flags, _)) = COMMANDS.iter().find(|(name, ..)| *name == command) else {
        return Err(Fault::new(format!("no command {command:?}; see {NAME} --help")));
    };
    let arguments = Arguments::parse(words, flags)?;
    let root = parsed.get("root").map_or_else(|| PathBuf::from(DEFAULT_ROOT), PathBuf::from);
    let globals = Globals { root, log: log.clone() };
    if matches!(*name, "create" | "exec" | "run") {
        crate::sealed::ensure().trying(|| "keep the runtime's own program from the container")?;
    }
    globals.log.debug(&format!("command {name}, root {}", globals.root.display()));
    dispatch(name, &globals, arguments).map_err(|fault| match *name {
        "create" | "run" | "start" | "exec" => fault.within(&format!("{NAME} {name} failed")),
        _ => fault,
    })
}

fn dispatch(name: &str, globals: &Globals, mut arguments: Arguments) -> Result<u8> {
    match name {
        "features" => return control::print_json(&features::features()).map(|()| 0),
        "list" => return control::list(globals, &arguments).map(|()| 0),
        "spec" if arguments.has("rootless") => return Err(Fault::new("spec --rootless is not supported")),
        "spec" => return bundle::write_first(arguments.get("bundle")).map(|()| 0),
        _ => {}
    }
    let id = arguments.take_id()?;
    if !matches!(name, "exec" | "kill" | "ps") {
        arguments.refuse_rest()?;
    }
    let load = || Record::load(&globals.root, &id);
    match name {
        "create" => return create_and_maybe_run(globals, &arguments, id, false),
        "run" => return create_and_maybe_run(globals, &arguments, id, true),
        "exec" => return exec_command(&load()?, &arguments),
        "delete" => control::delete(globals, &id, arguments.has("force")),
        "events" => resources::events(&load()?, &arguments),
        "kill" => control::kill(&load()?, &arguments),
        "pause" => control::pause(&load()?, true),
        "ps" => control::ps(&load()?, &arguments),
        "resume" => control::pause(&load()?, false),
        "start" => start::start(&load()?),
        "state" => control::state(&load()?),
        _ => resources::update(load()?, &arguments),
    }
    .map(|()| 0)
}

fn create_and_maybe_run(globals: &Globals, arguments: &Arguments, id: String, run: bool) -> Result<u8> {
    refuse(arguments, "no-pivot", "a root that cannot be pivoted is noticed by itself")?;
    let foreground = run && !arguments.has("detach");
    let listen_fds = std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let request = create::Request {
        id,
        bundle: arguments.get("bundle").map(str::to_owned),
        console_socket: arguments.get("console-socket").map(PathBuf::from),
        pid_file: arguments.get("pid-file").map(PathBuf::from),
        pidfd_socket: arguments.get("pidfd-socket").map(PathBuf::from),
        preserved_fds: preserved_fds(arguments, listen_fds)?,
        listen_fds,
        new_keyring: !arguments.has("no-new-keyring"),
        foreground,
    };
    if !run {
        return create::create(globals, &request).map(|_| 0);
    }
    let signals = if foreground { Some(foreground::hold_signals()?) } else { None };
    let Created { record, pidfd, terminal } = create::create(globals, &request)?;
    let started = start::start(&record);
    let status = match (&started, &signals) {
        (Ok(()), Some(signals)) => foreground::wait(record.pid, &pidfd, signals, terminal)?,
        _ => 0,
    };
    if started.is_err() || (foreground && !arguments.has("keep")) {
        control::delete(globals, &record.id, true)?;
    }
    started.map(|()| status)
}

fn exec_command(record: &Record, arguments: &Arguments) -> Result<u8> {
    let foreground = !arguments.has("detach");
    let request = exec::Request {
        process: exec::process(record, arguments)?,
        console_socket: arguments.get("console-socket").map(PathBuf::from),
        pid_file: arguments.get("pid-file").map(PathBuf::from),
        pidfd_socket: arguments.get("pidfd-socket").map(PathBuf::from),
        preserved_fds: preserved_fds(arguments, 0)?,
        group: arguments.get("cgroup").map(str::to_owned),
        ignore_paused: arguments.has("ignore-paused"),
    };
    let terminal = request.process.terminal().unwrap_or(false);
    if terminal && !foreground && request.console_socket.is_none() {
        return Err(Fault::new("cannot allocate tty if the runtime will detach without setting console socket"));
    }
    let signals = if foreground { Some(foreground::hold_signals()?) } else { None };
    let executed = exec::exec(record, request).map_err(|fault| fault.with_status(255))?;
    match signals {
        Some(signals) => foreground::wait(executed.pid, &executed.pidfd, &signals, executed.terminal),
        None => Ok(0),
    }
}

/// How many fds from 3 on the program gets: those of socket activation (sd_listen_fds(3)) and what is asked for. They
/// must be there now, before we open any: ours must never be taken for them.
fn preserved_fds(arguments: &Arguments, listen_fds: u32) -> Result<u32> {
    let asked: u32 = arguments.number("preserve-fds")?.unwrap_or(0);
    let all = asked.checked_add(listen_fds).filter(|&all| all <= MAX_PRESERVED_FDS);
    let all = all.ok_or_else(|| Fault::new(format!("--preserve-fds takes at most {MAX_PRESERVED_FDS}")))?;
    for number in 3..3 + all {
        if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
            return Err(Fault::new(format!("unable to stat preserved fd {number} (of {all})")));
        }
    }
    Ok(all)
}

fn refuse(arguments: &Arguments, name: &str, instead: &str) -> Result<()> {
    if arguments.has(name) { Err(Fault::new(format!("--{name} is not supported: {instead}"))) } else { Ok(()) }
}

/// The second line is what engines look for.
fn print_version() -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    control::print(&format!("{NAME} version {version}\nspec: {}", crate::defaults::OCI_VERSION))
}

fn print_help() -> Result<()> {
    let commands: String = COMMANDS.iter().map(|(name, _, what)| format!("  {name:<10}{what}\n")).collect();
    let flags = "  --root DIR           where containers are remembered (default: /run/hoist-runtime)\n  \
                 --log FILE           append errors to FILE\n  --log-format FORMAT  text or json\n  \
                 --debug              log more\n  --version, -v        print the version\n";
    control::print(&format!(
        "Usage: {NAME} [FLAGS] COMMAND [FLAGS] [ARGUMENTS]\n\nCommands:\n{commands}\nFlags:\n{flags}"
    ))
}

#[cfg(any(test, feature = "fuzzing"))]
/// What `create` does with a configuration before it makes anything, for the crate's fuzzing entry points.
pub(crate) fn check_configuration(config: oci_spec::runtime::Spec) {
    let path = PathBuf::from("/nonexistent");
    create::check_configuration(bundle::Bundle { path: path.clone(), rootfs: path, config });
}
