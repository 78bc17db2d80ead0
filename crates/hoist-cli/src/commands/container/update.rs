//! `update`: other limits for a container.

use hoist_client::Request;
use serde_json::Value;

use super::{
    super::{Command, MANY, for_each_operand},
    create::print_warnings,
    path,
};
use crate::{
    app::{App, Outcome},
    flags::{Flag, Parsed, check, text, value},
    opts::{create, resource},
};

const FLAGS: &[Flag] = &[
    value('\0', "blkio-weight", "uint16", check::uint16, "Relative weight of block I/O, 10 to 1000, or 0 for none")
        .or("0"),
    value('\0', "cpu-period", "int", check::int, "Period of the CFS scheduler, in microseconds"),
    value('\0', "cpu-quota", "int", check::int, "Quota of the CFS scheduler, in microseconds"),
    value('\0', "cpu-rt-period", "int", check::int, "Period of the real-time scheduler, in microseconds"),
    value('\0', "cpu-rt-runtime", "int", check::int, "Run time of the real-time scheduler, in microseconds"),
    value('c', "cpu-shares", "int", check::int, "Relative weight of CPU time"),
    value('\0', "cpus", "decimal", resource::check_cpus, "Number of CPUs"),
    text('\0', "cpuset-cpus", "CPUs to run on (0-3, 0,1)"),
    text('\0', "cpuset-mems", "Memory nodes to use (0-3, 0,1)"),
    value('\0', "kernel-memory", "bytes", resource::check_bytes, "Limit of kernel memory").hide(),
    value('m', "memory", "bytes", resource::check_bytes, "Limit of memory"),
    value('\0', "memory-reservation", "bytes", resource::check_bytes, "Soft limit of memory"),
    value('\0', "memory-swap", "bytes", resource::check_swap, "Limit of memory plus swap: -1 for unlimited swap"),
    value('\0', "pids-limit", "int", check::int, "Limit of processes (-1 for unlimited)"),
    text('\0', "restart", "What to do when the container exits"),
];

pub(crate) const COMMAND: Command = Command::action(
    "update",
    "Change limits and restart policy of containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    (1, MANY),
    run,
)
.flags(&[FLAGS])
.aliases(&["container update", "update"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    if !FLAGS.iter().any(|flag| args.has(flag.long)) {
        return Err("you must provide one or more flags when using this command".into());
    }
    let mut body = Value::Object(create::limits(args)?);
    if let Some(policy) = args.get("restart") {
        body["RestartPolicy"] = resource::restart_policy(policy)?;
    }
    if let Some(limit) = args.int("pids-limit") {
        body["PidsLimit"] = limit.into();
    }
    let client = app.client()?;
    for_each_operand(&args.args, |name| {
        let answer: Value = client.call(Request::post(path(name, "update")).json(&body)?)?.json()?;
        println!("{name}");
        print_warnings(&answer);
        Ok(())
    })
}
