//! `rm`: removes containers.

use hoist_client::Request;

use super::{
    super::{Command, MANY, for_each_operand},
    path,
};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, switch},
};

const FLAGS: &[Flag] = &[
    switch('f', "force", "Kill a running container and remove it"),
    switch('l', "link", "Remove the link of this name"),
    switch('v', "volumes", "Remove the container's anonymous volumes too"),
];

pub(crate) const COMMAND: Command =
    Command::action("rm", "Remove containers", "[OPTIONS] CONTAINER [CONTAINER...]", (1, MANY), run)
        .flags(&[FLAGS])
        .also(&["remove"])
        .aliases(&["container rm", "container remove", "rm"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let client = app.client()?;
    let force = args.is("force");
    for_each_operand(&args.args, |name| {
        let name = name.trim_matches('/');
        if name.is_empty() {
            return Err("container name cannot be empty".into());
        }
        let request = Request::delete(path(name, ""))
            .switch("v", args.is("volumes"))
            .switch("link", args.is("link"))
            .switch("force", force);
        match client.call(request) {
            // with --force, what is not there is as it should be
            Err(error) if force && error.status() == Some(404) => {
                eprintln!("{}", crate::app::client_text(&error));
                return Ok(());
            }
            other => other?.bytes()?,
        };
        println!("{name}");
        Ok(())
    })
}
