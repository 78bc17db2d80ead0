//! `start`, with or without this terminal.

use hoist_client::Request;
use serde_json::Value;

use super::{
    super::{Command, MANY, for_each_operand},
    path,
    peer::{DockerPeer, Target},
    run::{status, wait},
};
use crate::{
    app::{App, Failure, Outcome},
    flags::{Flag, Parsed, switch, text},
    stream::{
        detach,
        relay::{self, Ended, Relay, Wiring},
        signals::Signals,
        tty,
    },
};

const FLAGS: &[Flag] = &[
    switch('a', "attach", "Attach STDOUT and STDERR, pass signals on"),
    text('\0', "checkpoint", "Restore from this checkpoint"),
    text('\0', "checkpoint-dir", "Directory of checkpoints"),
    text('\0', "detach-keys", "Other keys to leave the container with"),
    switch('i', "interactive", "Attach the container's STDIN"),
];

pub(crate) const COMMAND: Command =
    Command::action("start", "Start stopped containers", "[OPTIONS] CONTAINER [CONTAINER...]", (1, MANY), run)
        .flags(&[FLAGS])
        .aliases(&["container start", "start"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    if args.has("checkpoint") || args.has("checkpoint-dir") {
        return Err("--checkpoint: checkpoints are not supported".into());
    }
    if args.is("attach") || args.is("interactive") {
        return match args.args.as_slice() {
            [name] => attached(app, args, name),
            _ => Err("you cannot start and attach multiple containers at once".into()),
        };
    }
    let client = app.client()?;
    let mut failed = Vec::new();
    let _ = for_each_operand(&args.args, |name| {
        match client.call(Request::post(path(name, "start"))) {
            Ok(answer) => drop(answer.bytes()?),
            Err(error) => {
                failed.push(name.to_owned());
                return Err(error.into());
            }
        }
        println!("{name}");
        Ok(())
    });
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(1, format!("Error: failed to start containers: {}", failed.join(", "))))
}

fn attached(app: &App, args: &Parsed, name: &str) -> Outcome {
    let keys =
        args.get("detach-keys").map(str::to_owned).or_else(|| app.config().detach_keys.clone()).unwrap_or_default();
    let detach_keys = detach::parse(&keys)?;
    let client = app.client()?;
    let container: Value = client.call(Request::get(path(name, "json")))?.json()?;
    let config = &container["Config"];
    let id = container["Id"].as_str().unwrap_or(name);
    let is_tty = config["Tty"] == true;
    let stdin = args.is("interactive") && config["OpenStdin"] == true;
    tty::check(stdin, is_tty)?;
    let mut attach = Request::post(path(id, "attach"))
        .query("stream", "1")
        .switch("stdin", stdin)
        .query("stdout", "1")
        .query("stderr", "1");
    if !keys.is_empty() {
        attach = attach.query("detachKeys", keys);
    }
    let mut signals = Signals::catch(!is_tty, is_tty && relay::has_terminal())?;
    let connection = client.hijack(attach)?;
    let condition = if container["HostConfig"]["AutoRemove"] == true { "removed" } else { "next-exit" };
    let exit = wait(client, id, condition)?;
    let starter = app.connect()?;
    starter.call(Request::post(path(id, "start")))?.bytes()?;
    let wiring = Wiring { stdin, stdout: true, stderr: true, tty: is_tty, always_framed: false, detach_keys };
    let mut peer = DockerPeer { client: &starter, target: Target::Container(id) };
    if Relay::new(wiring, &mut peer, signals.as_mut())?.run(connection)? == Ended::Detached {
        return Ok(());
    }
    if let Some(fd) = exit.body.waits_on() {
        relay::wait_for(fd, signals.as_mut(), &mut peer)?;
    }
    status(&exit.json()?)
}
