//! `run` as one request to our own engine: create, attach, start and wait in one exchange, `POST /hoist/run`.
//!
//! The body is Docker's create body and `HoistRun`; the answer is 101 and then frames in both directions, or where
//! the container is left to itself one control message as JSON. Engines that do not know the route answer 404, and the
//! ordinary sequence runs. A missing image is pulled and the request sent again.

use hoist_api::run as wire;
use hoist_client::{Client, Error, Hijacked, Request, stdcopy};
use serde_json::{Value, json};

use crate::{
    app::{App, Failure, Outcome, client_text},
    commands::run_parts::{self, IdFile, Plan},
    env,
    flags::Parsed,
    ours::is_unknown_route,
    stream::{
        relay::{Ended, Peer, Relay},
        tty,
    },
};

/// What the engine has told in control messages.
#[derive(Default)]
struct FastPeer {
    id: Option<String>,
    exit_code: Option<i64>,
    error: String,
    detached: bool,
    id_file: Option<IdFile>,
}

impl Peer for FastPeer {
    fn encode_input(&self, input: &[u8]) -> Vec<u8> {
        stdcopy::frame(wire::STDIN, input)
    }

    fn input_end(&self) -> Option<Vec<u8>> {
        Some(message(&wire::Request { close_stdin: true, ..wire::Request::default() }))
    }

    fn signal(&mut self, name: &str) -> Vec<u8> {
        message(&wire::Request { signal: Some(format!("SIG{name}")), ..wire::Request::default() })
    }

    fn resize(&mut self, rows: u16, columns: u16) -> Vec<u8> {
        message(&wire::Request { resize: Some((rows, columns)), ..wire::Request::default() })
    }

    fn control(&mut self, message: &[u8]) -> Outcome {
        self.take(parse_control(message)?)
    }
}

pub(crate) fn parse_control(message: &[u8]) -> Outcome<wire::Control> {
    serde_json::from_slice(message)
        .map_err(|error| Failure::new(125, format!("bad control message from the engine: {error}")))
}

impl FastPeer {
    fn take(&mut self, control: wire::Control) -> Outcome {
        if let Some(id) = control.id {
            if let Some(file) = self.id_file.take() {
                file.write(&id)?;
            }
            self.id = Some(id);
        }
        for warning in control.warnings {
            eprintln!("WARNING: {warning}");
        }
        for (phase, nanoseconds) in control.timing {
            eprintln!("{:>10.3} ms  {phase}", nanoseconds as f64 / 1e6);
        }
        self.exit_code = control.exit_code.or(self.exit_code);
        self.detached |= control.detached;
        if !control.error.is_empty() {
            self.error = control.error;
        }
        Ok(())
    }
}

fn message(request: &wire::Request) -> Vec<u8> {
    // a struct of plain fields always encodes
    stdcopy::frame(wire::CONTROL, &serde_json::to_vec(request).unwrap_or_default())
}

/// Runs the container; `None` if the engine does not know the request, or another was asked for.
pub(crate) fn run(app: &App, args: &Parsed, plan: &Plan) -> Option<Outcome> {
    if !(plan.detach || plan.attaches()) || !env::fast_run() {
        return None;
    }
    match try_run(app, args, plan) {
        Ok(true) => Some(Ok(())),
        Ok(false) => None,
        Err(failure) => Some(Err(failure)),
    }
}

fn try_run(app: &App, args: &Parsed, plan: &Plan) -> Outcome<bool> {
    let client = app.client()?;
    let image = plan.create.body["Image"].as_str().unwrap_or_default();
    run_parts::check_reference(image)?;
    let policy = run_parts::pull_policy(args);
    if policy == "always" && knows_route(client)? {
        run_parts::pull_image(app, args, image)?;
    }
    // caught before anything starts, so that no signal falls between
    let mut signals = plan.signals()?;
    let mut peer = FastPeer { id_file: IdFile::open(args.text("cidfile"))?, ..FastPeer::default() };
    let connection = match Answer::of(client, args, plan) {
        Ok(connection) => connection,
        Err(error) if is_unknown_route(&error) => return Ok(false),
        Err(error) if policy == "missing" && run_parts::is_to_be_pulled(image, &error) => {
            if !args.is("quiet") {
                eprintln!("Unable to find image '{}' locally", run_parts::tagged(image));
            }
            run_parts::pull_image(app, args, image)?;
            Answer::of(client, args, plan).map_err(|error| failure_of(&error, plan, &mut peer))?
        }
        Err(error) => return Err(failure_of(&error, plan, &mut peer)),
    };
    let connection = match connection {
        Answer::Attached(connection) => connection,
        Answer::Detached(control) => {
            peer.take(*control)?;
            println!("{}", peer.id.unwrap_or_default());
            return Ok(true);
        }
    };
    let mut wiring = plan.wiring();
    wiring.always_framed = true;
    let ended = Relay::new(wiring, &mut peer, signals.as_mut())?.run(connection)?;
    if ended == Ended::Detached || peer.detached {
        return Ok(true);
    }
    if !peer.error.is_empty() {
        return Err(Failure::new(125, format!("Error waiting for container: {}", peer.error)));
    }
    match peer.exit_code {
        Some(0) => Ok(true),
        Some(code) => Err(Failure::silent(i32::try_from(code).unwrap_or(125))),
        None => Err(Failure::new(125, "the connection to the engine ended before the container did")),
    }
}

/// A run that failed at the start has made a container: its ID still belongs into the file, and to whoever left it alone.
fn failure_of(error: &Error, plan: &Plan, peer: &mut FastPeer) -> Failure {
    if let Error::Api { container: Some(id), .. } = error {
        if let Some(file) = peer.id_file.take()
            && let Err(failure) = file.write(id)
        {
            eprintln!("{}", failure.text);
        }
        if plan.detach {
            println!("{id}");
        }
    }
    Failure::new(125, client_text(error))
}

/// Asked with an empty body, our engine refuses the body and others the route.
fn knows_route(client: &Client) -> Outcome<bool> {
    match client.hijack(Request::post("/hoist/run").json(&json!({}))?) {
        Err(error) if is_unknown_route(&error) => Ok(false),
        _ => Ok(true),
    }
}

enum Answer {
    Attached(Hijacked),
    Detached(Box<wire::Control>),
}

impl Answer {
    fn of(client: &Client, args: &Parsed, plan: &Plan) -> hoist_client::Result<Answer> {
        let (body, query) = (body(plan), query(args));
        let request =
            query.into_iter().fold(Request::post("/hoist/run"), |request, (key, value)| request.query(key, value));
        let request = request.json::<Value>(&body)?;
        if plan.detach {
            return Ok(Answer::Detached(Box::new(client.call(request)?.json()?)));
        }
        client.hijack(request).map(Answer::Attached)
    }
}

fn query(args: &Parsed) -> Vec<(&'static str, String)> {
    let name = Some(args.text("name").to_owned()).filter(|name| !name.is_empty());
    let platform = run_parts::wanted_platform(args);
    name.map(|name| ("name", name)).into_iter().chain(platform.map(|platform| ("platform", platform))).collect()
}

fn body(plan: &Plan) -> Value {
    let streams = plan.create.streams;
    let attach = [("stdin", streams.stdin), ("stdout", streams.stdout), ("stderr", streams.stderr)];
    let attach: Vec<&str> = attach.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
    let mut options =
        json!({"Attach": attach, "Detach": plan.detach, "DetachKeys": plan.detach_keys_text, "Timing": plan.timing});
    if streams.tty
        && let Some((rows, columns)) = tty::size()
    {
        options["TtySize"] = json!([rows, columns]);
    }
    let mut body = plan.create.body.clone();
    body["HoistRun"] = options;
    body
}
