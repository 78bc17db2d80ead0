//! `run`: create, attach, wait, start, and this terminal in between. Our own engine takes all of it as one request,
//! see `fast_run`; what is here is the sequence every Docker engine knows.

use hoist_client::{Client, Hijacked, Request, Response};
use serde_json::Value;

use super::{
    super::{Command, MANY},
    create::{self, with_help},
    path,
    peer::{DockerPeer, Target},
};
use crate::{
    app::{App, Failure, Outcome},
    fast_run,
    flags::{Flag, Parsed, switch, text},
    opts::{
        create::{Create, unsupported},
        create_flags::{FLAGS, OLD_FLAGS},
    },
    stream::{
        detach,
        relay::{self, Ended, Relay, Wiring},
        signals::Signals,
        tty,
    },
};

const RUN_FLAGS: &[Flag] = &[
    switch('d', "detach", "Run the container in the background and print its ID"),
    text('\0', "detach-keys", "Other keys to leave the container with"),
    switch('\0', "sig-proxy", "Pass signals on to the process").or("true"),
    switch('\0', "timing", "Show where the time went (engines of Hoist only)"),
];

pub(crate) const COMMAND: Command = Command::action(
    "run",
    "Make a container of an image and run it",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    (1, MANY),
    run,
)
.flags(&[FLAGS, RUN_FLAGS])
.old_flags(OLD_FLAGS)
.aliases(&["container run", "run"])
.runs_a_program();

/// What `run` has decided before it talks to the engine.
pub(crate) struct Plan {
    pub(crate) create: Create,
    pub(crate) detach: bool,
    pub(crate) proxy: bool,
    pub(crate) detach_keys_text: String,
    pub(crate) detach_keys: Vec<u8>,
    pub(crate) timing: bool,
}

impl Plan {
    pub(crate) fn attaches(&self) -> bool {
        let streams = self.create.streams;
        !self.detach && (streams.stdin || streams.stdout || streams.stderr)
    }

    pub(crate) fn wiring(&self) -> Wiring {
        let streams = self.create.streams;
        Wiring {
            stdin: streams.stdin,
            stdout: streams.stdout,
            stderr: streams.stderr,
            tty: streams.tty,
            always_framed: false,
            detach_keys: self.detach_keys.clone(),
        }
    }

    pub(crate) fn signals(&self) -> Outcome<Option<Signals>> {
        let resize = self.create.streams.tty && relay::has_terminal();
        Ok(Signals::catch(self.proxy, resize && self.attaches())?)
    }
}

fn run(app: &App, args: &Parsed) -> Outcome {
    if let Some(why) = unsupported(args) {
        return Err(why.into());
    }
    create::check_pull(app, "run", args)?;
    let plan = plan(app, args)?;
    let result = match fast_run::run(app, args, &plan) {
        Some(result) => result,
        None => run_in_steps(app, args, &plan),
    };
    // anything without a code of its own happened before the program could run
    result.map_err(|failure| match failure.text.is_empty() {
        true => failure,
        false => with_help(app, "run", create::exit_code_of(&failure.text), &failure.text),
    })
}

fn plan(app: &App, args: &Parsed) -> Outcome<Plan> {
    let detach = args.is("detach");
    let mut create = create::build(app, "run", args)?;
    let mut streams = create.streams;
    if detach {
        if args.has("attach") {
            return Err("conflicting options: cannot specify both --attach and --detach".into());
        }
        for key in ["AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"] {
            create.body[key] = false.into();
        }
        (streams.stdin, streams.stdout, streams.stderr) = (false, false, false);
        create.streams = streams;
    } else {
        tty::check(streams.stdin, streams.tty)?;
    }
    if streams.tty
        && let Some((rows, columns)) = tty::size()
    {
        create.body["HostConfig"]["ConsoleSize"] = serde_json::json!([rows, columns]);
    }
    let keys =
        args.get("detach-keys").map(str::to_owned).or_else(|| app.config().detach_keys.clone()).unwrap_or_default();
    let detach_keys = detach::parse(&keys).map_err(|why| with_help(app, "run", 125, &why))?;
    // a process that is left alone gets no signals of ours
    let proxy = args.is_or("sig-proxy", true) && !detach;
    Ok(Plan { create, detach, proxy, detach_keys_text: keys, detach_keys, timing: args.is("timing") })
}

fn run_in_steps(app: &App, args: &Parsed, plan: &Plan) -> Outcome {
    if plan.timing {
        eprintln!("WARNING: --timing: only engines of Hoist tell where the time went");
    }
    let id = create::create_container(app, args, &plan.create)?;
    let client = app.client()?;
    if plan.detach {
        let started = client.call(Request::post(path(&id, "start")));
        // the container is there, started or not
        println!("{id}");
        started?.bytes()?;
        return Ok(());
    }
    let mut signals = plan.signals()?;
    let connection = match plan.attaches() {
        true => Some(attach(client, &id, plan)?),
        false => {
            println!("{id}");
            None
        }
    };
    let removes = args.is("rm");
    let exit = wait(client, &id, if removes { "removed" } else { "next-exit" })?;
    let starter = app.connect()?;
    if let Err(error) = starter.call(Request::post(path(&id, "start"))) {
        drop(connection);
        if removes {
            // the engine removes what it could not start; the prompt comes back when it has
            let _ = exit.bytes();
        }
        return Err(Failure::new(125, create::text_of(&error)));
    }
    let Some(connection) = connection else { return Ok(()) };
    let mut peer = DockerPeer { client: &starter, target: Target::Container(&id) };
    let ended = Relay::new(plan.wiring(), &mut peer, signals.as_mut())?.run(connection)?;
    if ended == Ended::Detached {
        return Ok(());
    }
    if let Some(fd) = exit.body.waits_on() {
        relay::wait_for(fd, signals.as_mut(), &mut peer)?;
    }
    status(&exit.json()?)
}

fn attach(client: &Client, id: &str, plan: &Plan) -> Outcome<Hijacked> {
    let streams = plan.create.streams;
    let mut request = Request::post(path(id, "attach"))
        .query("stream", "1")
        .switch("stdin", streams.stdin)
        .switch("stdout", streams.stdout)
        .switch("stderr", streams.stderr);
    if !plan.detach_keys_text.is_empty() {
        request = request.query("detachKeys", plan.detach_keys_text.as_str());
    }
    Ok(client.hijack(request)?)
}

/// Begins to wait for a container; the engine answers the head at once, the body when it has ended.
pub(crate) fn wait(client: &Client, id: &str, condition: &str) -> Outcome<Response> {
    let mut request = Request::post(path(id, "wait"));
    if !condition.is_empty() {
        request = request.query("condition", condition);
    }
    Ok(client.call(request)?)
}

/// A container's exit status as ours.
pub(crate) fn status(answer: &Value) -> Outcome {
    if let Some(why) = answer["Error"]["Message"].as_str().filter(|why| !why.is_empty()) {
        return Err(Failure::new(125, format!("Error waiting for container: {why}")));
    }
    match answer["StatusCode"].as_i64().unwrap_or(125) {
        0 => Ok(()),
        code => Err(Failure::silent(i32::try_from(code).unwrap_or(125))),
    }
}
