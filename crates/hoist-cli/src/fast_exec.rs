//! `exec` as one request to our own engine: create, start and the exit code in one exchange,
//! `POST /hoist/containers/{id}/exec`. For processes without a terminal; engines that do not know the route answer 404, and
//! the ordinary sequence runs.

use hoist_client::{Client, Request};
use serde_json::Value;

use crate::{
    app::{Failure, Outcome},
    env,
    fast_run::parse_control,
    ours::is_unknown_route,
    stream::relay::{Peer, Relay, Wiring},
};

/// Plain bytes in, frames out.
#[derive(Default)]
struct FastPeer {
    exit_code: Option<i64>,
}

impl Peer for FastPeer {
    fn encode_input(&self, input: &[u8]) -> Vec<u8> {
        input.to_vec()
    }

    fn input_end(&self) -> Option<Vec<u8>> {
        None
    }

    fn signal(&mut self, _: &str) -> Vec<u8> {
        Vec::new()
    }

    fn resize(&mut self, _: u16, _: u16) -> Vec<u8> {
        Vec::new()
    }

    fn control(&mut self, message: &[u8]) -> Outcome {
        self.exit_code = parse_control(message)?.exit_code.or(self.exit_code);
        Ok(())
    }
}

/// Runs the process; `None` if the engine does not know the request. `path` is Docker's for the same.
pub(crate) fn run(client: &Client, path: &str, body: &Value, stdin: bool) -> Option<Outcome> {
    if !env::fast_run() {
        return None;
    }
    match try_run(client, path, body, stdin) {
        Ok(true) => Some(Ok(())),
        Ok(false) => None,
        Err(failure) => Some(Err(failure)),
    }
}

fn try_run(client: &Client, path: &str, body: &Value, stdin: bool) -> Outcome<bool> {
    let request = Request::post(format!("/hoist{path}")).json(body)?;
    let connection = match client.hijack(request) {
        Err(error) if is_unknown_route(&error) => return Ok(false),
        result => result?,
    };
    let mut peer = FastPeer::default();
    let wiring = Wiring { stdin, stdout: true, stderr: true, ..Wiring::default() };
    Relay::new(wiring, &mut peer, None)?.run(connection)?;
    match peer.exit_code {
        Some(0) => Ok(true),
        Some(code) => Err(Failure::silent(i32::try_from(code).unwrap_or(125))),
        None => Err("the connection to the engine ended before the process did".into()),
    }
}
