//! `exec`: another process in a running container.

use hoist_client::Request;
use serde_json::{Value, json};

use super::{
    super::{Command, MANY},
    path,
    peer::{DockerPeer, Target},
};
use crate::{
    app::{App, Failure, Outcome},
    fast_exec,
    flags::{Flag, Parsed, list, switch, text, value},
    opts::key_value,
    stream::{
        detach,
        relay::{self, Ended, Relay, Wiring},
        signals::Signals,
        tty,
    },
};

const FLAGS: &[Flag] = &[
    switch('d', "detach", "Run the command in the background"),
    text('\0', "detach-keys", "Other keys to leave the process with"),
    value('e', "env", "list", key_value::check_env, "Set environment variables"),
    list('\0', "env-file", "Read environment variables from a file"),
    switch('i', "interactive", "Keep STDIN open even if not attached"),
    switch('\0', "privileged", "Give the command all privileges"),
    switch('t', "tty", "Allocate a pseudo-TTY"),
    text('u', "user", "User name or ID (\"<name|uid>[:<group|gid>]\")"),
    text('w', "workdir", "Working directory in the container"),
];

pub(crate) const COMMAND: Command = Command::action(
    "exec",
    "Run another command in a running container",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    (2, MANY),
    run,
)
.flags(&[FLAGS])
.aliases(&["container exec", "exec"])
.runs_a_program();

fn run(app: &App, args: &Parsed) -> Outcome {
    let (container, command) = args.args.split_first().ok_or_else(|| Failure::from("no container given"))?;
    let keys =
        args.get("detach-keys").map(str::to_owned).or_else(|| app.config().detach_keys.clone()).unwrap_or_default();
    let detach_keys = detach::parse(&keys)?;
    let (detach, terminal) = (args.is("detach"), args.is("tty"));
    let stdin = args.is("interactive") && !detach;
    let environment = key_value::environment(&args.all("env-file"), &args.all("env"))?;
    let client = app.client()?;
    if !detach {
        tty::check(stdin, terminal)?;
    }
    let size = tty::size().filter(|_| terminal).map(|(rows, columns)| json!([rows, columns]));
    let body = json!({
        "User": args.text("user"),
        "Privileged": args.is("privileged"),
        "Tty": terminal,
        "ConsoleSize": size,
        "AttachStdin": stdin,
        "AttachStdout": !detach,
        "AttachStderr": !detach,
        "DetachKeys": keys,
        "Env": environment,
        "WorkingDir": args.text("workdir"),
        "Cmd": command,
    });
    if !(detach || terminal)
        && let Some(outcome) = fast_exec::run(client, &path(container, "exec"), &body, stdin)
    {
        return outcome;
    }
    let created: Value = client.call(Request::post(path(container, "exec")).json(&body)?)?.json()?;
    let id = created["Id"].as_str().filter(|id| !id.is_empty()).ok_or_else(|| Failure::from("exec ID empty"))?;
    let start = Request::post(format!("/exec/{id}/start"))
        .json(&json!({"Detach": detach, "Tty": terminal, "ConsoleSize": size}))?;
    if detach {
        client.call(start)?.bytes()?;
        return Ok(());
    }
    let mut signals = Signals::catch(false, terminal && relay::has_terminal())?;
    let connection = client.hijack(start)?;
    let wiring = Wiring { stdin, stdout: true, stderr: true, tty: terminal, always_framed: false, detach_keys };
    let mut peer = DockerPeer { client, target: Target::Exec(id) };
    if Relay::new(wiring, &mut peer, signals.as_mut())?.run(connection)? == Ended::Detached {
        return Err("read escape sequence".into());
    }
    let state: Value = client.call(Request::get(format!("/exec/{id}/json")))?.json()?;
    match state["ExitCode"].as_i64().unwrap_or_default() {
        0 => Ok(()),
        code => Err(Failure::silent(i32::try_from(code).unwrap_or(125))),
    }
}
