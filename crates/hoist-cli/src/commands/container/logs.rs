//! `logs`: what a container has written.

use std::io::{self, Read, Write};

use hoist_client::{
    Request,
    stdcopy::{Demux, Piece},
};
use serde_json::Value;

use super::{super::Command, path};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch, text},
    format::time,
};

const FLAGS: &[Flag] = &[
    switch('\0', "details", "Show extra details given to logs"),
    switch('f', "follow", "Go on with new output"),
    text('\0', "since", "Show logs since a time (\"2013-01-02T13:23:37Z\") or for a while back (\"42m\")"),
    text('n', "tail", "Number of lines from the end of the logs").or("all"),
    switch('t', "timestamps", "Show times"),
    text('\0', "until", "Show logs before a time (\"2013-01-02T13:23:37Z\") or a while back (\"42m\")"),
];

pub(crate) const COMMAND: Command =
    Command::action("logs", "Show what a container has written", "[OPTIONS] CONTAINER", (1, 1), run)
        .flags(&[FLAGS])
        .aliases(&["container logs", "logs"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let client = app.client()?;
    let container: Value = client.call(Request::get(path(&args.args[0], "json")))?.json()?;
    let is_tty = container["Config"]["Tty"] == true;
    let id = container["Id"].as_str().unwrap_or(&args.args[0]);
    let mut request = Request::get(path(id, "logs")).query("stdout", "1").query("stderr", "1");
    for (flag, what) in [("since", "since"), ("until", "until")] {
        if let Some(text) = args.filled(flag) {
            let point = time::point_in_time(text).map_err(|why| format!("invalid value for \"{what}\": {why}"))?;
            request = request.query(what, point);
        }
    }
    request = request
        .switch("timestamps", args.is("timestamps"))
        .switch("follow", args.is("follow"))
        .switch("details", args.is("details"))
        .query("tail", args.get("tail").unwrap_or("all"));
    let mut body = client.call(request)?.body;
    let mut demux = Demux::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = body.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        if is_tty {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&buffer[..count])?;
            stdout.flush()?;
            continue;
        }
        demux.push(&buffer[..count], |piece| -> Outcome {
            match piece {
                Piece::Stdout(payload) => io::stdout().write_all(payload)?,
                Piece::Stderr(payload) => io::stderr().write_all(payload)?,
                Piece::Control(_) => {}
            }
            Ok(())
        })?;
        io::stdout().flush()?;
    }
}
