//! `kill`, `pause`, `restart`, `stop`, `unpause`: one request for each container named.

use hoist_client::Request;

use super::{
    super::{Command, MANY, for_each_operand},
    path,
};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, check, text, value},
};

const SIGNAL: Flag = text('s', "signal", "Signal to send to the container");
const TIMEOUT: Flag = value('t', "timeout", "int", check::int, "Seconds to wait before killing the container");
const STOP_FLAGS: &[Flag] = &[SIGNAL, TIMEOUT];
const OLD_TIMEOUT: &[(&str, &str)] = &[("time", "timeout")];
const NAMES: &str = "CONTAINER [CONTAINER...]";
const OPTIONS_AND_NAMES: &str = "[OPTIONS] CONTAINER [CONTAINER...]";

pub(crate) const KILL: Command = Command::action(
    "kill",
    "Send a signal to containers, SIGKILL unless another is named",
    OPTIONS_AND_NAMES,
    (1, MANY),
    kill,
)
.flags(&[&[SIGNAL]])
.aliases(&["container kill", "kill"]);

pub(crate) const PAUSE: Command =
    Command::action("pause", "Freeze the processes of containers", NAMES, (1, MANY), pause)
        .aliases(&["container pause", "pause"]);

pub(crate) const UNPAUSE: Command =
    Command::action("unpause", "Let frozen containers go on", NAMES, (1, MANY), unpause)
        .aliases(&["container unpause", "unpause"]);

pub(crate) const RESTART: Command =
    Command::action("restart", "Stop containers and start them again", OPTIONS_AND_NAMES, (1, MANY), restart)
        .flags(&[STOP_FLAGS])
        .old_flags(OLD_TIMEOUT)
        .aliases(&["container restart", "restart"]);

pub(crate) const STOP: Command = Command::action("stop", "Stop running containers", OPTIONS_AND_NAMES, (1, MANY), stop)
    .flags(&[STOP_FLAGS])
    .old_flags(OLD_TIMEOUT)
    .aliases(&["container stop", "stop"]);

fn kill(app: &App, args: &Parsed) -> Outcome {
    post(app, args, "kill")
}

fn pause(app: &App, args: &Parsed) -> Outcome {
    post(app, args, "pause")
}

fn unpause(app: &App, args: &Parsed) -> Outcome {
    post(app, args, "unpause")
}

fn restart(app: &App, args: &Parsed) -> Outcome {
    post(app, args, "restart")
}

fn stop(app: &App, args: &Parsed) -> Outcome {
    post(app, args, "stop")
}

fn post(app: &App, args: &Parsed, what: &str) -> Outcome {
    let client = app.client()?;
    for_each_operand(&args.args, |name| {
        let mut request = Request::post(path(name, what));
        if let Some(signal) = args.get("signal").filter(|signal| !signal.is_empty()) {
            request = request.query("signal", signal);
        }
        if let Some(timeout) = args.int("timeout") {
            request = request.query("t", timeout.to_string());
        }
        client.call(request)?.bytes()?;
        println!("{name}");
        Ok(())
    })
}
