//! `top`: the processes of a container, by the host's `ps`.

use hoist_client::Request;
use serde_json::Value;

use super::{
    super::{Command, MANY},
    path,
};
use crate::{
    app::{App, Outcome},
    flags::Parsed,
    format::table::{self, Layout},
};

const LAYOUT: Layout = Layout { min_width: 20, padding: 3 };

pub(crate) const COMMAND: Command =
    Command::action("top", "Show the processes of a container", "CONTAINER [ps OPTIONS]", (1, MANY), run)
        .aliases(&["container top", "top"])
        .runs_a_program();

fn run(app: &App, args: &Parsed) -> Outcome {
    let mut request = Request::get(path(&args.args[0], "top"));
    if args.args.len() > 1 {
        request = request.query("ps_args", args.args[1..].join(" "));
    }
    let answer: Value = app.client()?.call(request)?.json()?;
    let row = |cells: &Value| {
        let cells: Vec<&str> = cells.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        format!("{}\n", cells.join("\t"))
    };
    let mut text = row(&answer["Titles"]);
    text.extend(answer["Processes"].as_array().into_iter().flatten().map(row));
    print!("{}", table::align(&text, LAYOUT));
    Ok(())
}
