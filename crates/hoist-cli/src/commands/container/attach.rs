//! `attach`: this terminal on a running container.

use hoist_client::Request;
use serde_json::Value;

use super::{
    super::Command,
    path,
    peer::{DockerPeer, Target},
    run::{status, wait},
};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch, text},
    stream::{
        detach,
        relay::{self, Ended, Peer, Relay, Wiring},
        signals::Signals,
        tty,
    },
};

const FLAGS: &[Flag] = &[
    text('\0', "detach-keys", "Other keys to leave the container with"),
    switch('\0', "no-stdin", "Do not attach STDIN"),
    switch('\0', "sig-proxy", "Pass all signals on to the process").or("true"),
];

pub(crate) const COMMAND: Command =
    Command::action("attach", "Connect this terminal to a running container", "[OPTIONS] CONTAINER", (1, 1), run)
        .flags(&[FLAGS])
        .aliases(&["container attach", "attach"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let name = &args.args[0];
    let keys =
        args.get("detach-keys").map(str::to_owned).or_else(|| app.config().detach_keys.clone()).unwrap_or_default();
    let detach_keys = detach::parse(&keys)?;
    let client = app.client()?;
    let container: Value = client.call(Request::get(path(name, "json")))?.json()?;
    let (state, config) = (&container["State"], &container["Config"]);
    if state["Running"] != true {
        return Err("You cannot attach to a stopped container, start it first".into());
    }
    if state["Paused"] == true {
        return Err("You cannot attach to a paused container, unpause it first".into());
    }
    if state["Restarting"] == true {
        return Err("You cannot attach to a restarting container, wait until it is running".into());
    }
    let id = container["Id"].as_str().unwrap_or(name);
    let is_tty = config["Tty"] == true;
    let stdin = !args.is("no-stdin") && config["OpenStdin"] == true;
    tty::check(!args.is("no-stdin"), is_tty)?;
    let exit = wait(&app.connect()?, id, "")?;
    let mut attach = Request::post(path(id, "attach"))
        .query("stream", "1")
        .switch("stdin", stdin)
        .query("stdout", "1")
        .query("stderr", "1");
    if !keys.is_empty() {
        attach = attach.query("detachKeys", keys);
    }
    let proxy = args.is_or("sig-proxy", true) && !is_tty;
    let mut signals = Signals::catch(proxy, is_tty && relay::has_terminal())?;
    let connection = client.hijack(attach)?;
    let mut peer = DockerPeer { client, target: Target::Container(id) };
    if is_tty && stdin {
        redraw(&mut peer);
    }
    let wiring = Wiring { stdin, stdout: true, stderr: true, tty: is_tty, always_framed: false, detach_keys };
    if Relay::new(wiring, &mut peer, signals.as_mut())?.run(connection)? == Ended::Detached {
        return Err("read escape sequence".into());
    }
    if let Some(fd) = exit.body.waits_on() {
        relay::wait_for(fd, signals.as_mut(), &mut peer)?;
    }
    status(&exit.json()?)
}

/// A full-screen program only draws when the size changes: it is changed for a moment.
fn redraw(peer: &mut DockerPeer<'_>) {
    if let Some((rows, columns)) = tty::size() {
        peer.resize(rows.saturating_add(1), columns);
    }
}
