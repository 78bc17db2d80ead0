//! `wait`: blocks until containers have ended, and prints their exit codes.

use serde_json::Value;

use super::super::{Command, MANY, for_each_operand};
use crate::{
    app::{App, Outcome},
    flags::Parsed,
};

pub(crate) const COMMAND: Command = Command::action(
    "wait",
    "Wait until containers end and print their exit codes",
    "CONTAINER [CONTAINER...]",
    (1, MANY),
    run,
)
.aliases(&["container wait", "wait"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let client = app.client()?;
    for_each_operand(&args.args, |name| {
        let answer: Value = super::run::wait(client, name, "")?.json()?;
        if let Some(why) = answer["Error"]["Message"].as_str().filter(|why| !why.is_empty()) {
            return Err(why.into());
        }
        println!("{}", answer["StatusCode"]);
        Ok(())
    })
}
