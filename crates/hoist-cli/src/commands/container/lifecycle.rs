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
/// What older clients call the timeout.
const OLD_TIMEOUT: Flag = value('\0', "time", "int", check::int, "").hide();
const STOP_FLAGS: &[Flag] = &[SIGNAL, TIMEOUT, OLD_TIMEOUT];
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
        .aliases(&["container restart", "restart"]);

pub(crate) const STOP: Command = Command::action("stop", "Stop running containers", OPTIONS_AND_NAMES, (1, MANY), stop)
    .flags(&[STOP_FLAGS])
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
    let timeout = timeout(args)?;
    let client = app.client()?;
    for_each_operand(&args.args, |name| {
        let mut request = Request::post(path(name, what));
        if let Some(signal) = args.get("signal").filter(|signal| !signal.is_empty()) {
            request = request.query("signal", signal);
        }
        if let Some(timeout) = timeout {
            request = request.query("t", timeout.to_string());
        }
        client.call(request)?.bytes()?;
        println!("{name}");
        Ok(())
    })
}

fn timeout(args: &Parsed) -> Outcome<Option<i64>> {
    let old = args.int("time");
    if old.is_some() {
        eprintln!("Flag --time has been deprecated, use --timeout instead");
    }
    match (args.int("timeout"), old) {
        (Some(_), Some(_)) => Err("conflicting options: cannot specify both --timeout and --time".into()),
        (new, old) => Ok(new.or(old)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeout_of(flags: &[(&'static str, &str)]) -> Outcome<Option<i64>> {
        let mut args = Parsed::default();
        flags.iter().for_each(|(flag, value)| args.set(flag, *value));
        timeout(&args)
    }

    #[test]
    fn a_timeout_has_an_old_name_which_is_not_given_beside_the_new_one() {
        assert_eq!(timeout_of(&[]).unwrap(), None);
        assert_eq!(timeout_of(&[("timeout", "1")]).unwrap(), Some(1));
        assert_eq!(timeout_of(&[("time", "2")]).unwrap(), Some(2));
        let why = timeout_of(&[("timeout", "1"), ("time", "2")]).unwrap_err().text;
        assert_eq!(why, "conflicting options: cannot specify both --timeout and --time");
    }
}
