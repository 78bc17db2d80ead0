//! Programs that keep credentials, by the protocol of docker-credential-helpers: `docker-credential-NAME ACTION`, the
//! question on its standard input, the answer on its standard output; a failure is an exit status and a text there.

use std::{
    io::{self, Read, Write},
    process::{Command, ExitStatus, Stdio},
};

use serde::{Deserialize, Serialize};

use super::Auth;
use crate::app::{Failure, Outcome};

/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// What a helper says that has nothing for an address.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// What helpers say about questions that lack something: these texts stand for themselves.
const INCOMPLETE: [&str; 2] = ["no credentials server URL", "no credentials username"];
/// The user's name under which an identity token is kept.
const TOKEN_USER: &str = "<token>";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// What the helper keeps for this address; nothing is an empty one.
pub(super) fn get(helper: &str, address: &str) -> Outcome<Auth> {
    let answer = match ask(helper, "get", address.as_bytes())? {
        Ok(answer) => answer,
        Err(refused) if refused.text == NOT_FOUND => return Ok(Auth::default()),
        Err(refused) => return Err(refused.told("getting")),
    };
    parse(&answer, address).ok_or_else(|| {
        format!("docker-credential-{helper}: what it gave for {address} is no JSON object of texts").into()
    })
}

pub(super) fn parse(answer: &[u8], address: &str) -> Option<Auth> {
    let kept: Kept = serde_json::from_slice(answer).ok()?;
    let mut auth = Auth { server_address: address.to_owned(), ..Auth::default() };
    if kept.username == TOKEN_USER {
        auth.identity_token = kept.secret;
    } else {
        (auth.username, auth.password) = (kept.username, kept.secret);
    }
    Some(auth)
}

pub(super) fn store(helper: &str, auth: &Auth) -> Outcome {
    let (username, secret) = match auth.identity_token.as_str() {
        "" => (auth.username.as_str(), &auth.password),
        _ => (TOKEN_USER, &auth.identity_token),
    };
    let kept = Kept { server_url: auth.server_address.clone(), username: username.to_owned(), secret: secret.clone() };
    let question = serde_json::to_vec(&kept).map_err(|why| why.to_string())?;
    ask(helper, "store", &question)?.map(drop).map_err(|refused| refused.told("storing"))
}

pub(super) fn erase(helper: &str, address: &str) -> Outcome {
    ask(helper, "erase", address.as_bytes())?.map(drop).map_err(|refused| refused.told("erasing"))
}

/// A helper that could not do what it was asked.
struct Refused {
    why: String,
    text: String,
}

impl Refused {
    fn told(self, doing: &str) -> Failure {
        let why = if INCOMPLETE.contains(&self.text.as_str()) { &self.text } else { &self.why };
        Failure::from(format!("error {doing} credentials - err: {why}, out: `{}`", self.text))
    }
}

/// Runs the helper: its answer, or what it refused with.
fn ask(helper: &str, action: &str, question: &[u8]) -> Outcome<Result<Vec<u8>, Refused>> {
    if helper.contains('/') {
        return Err(format!("credential helper {helper:?}: a name, not a path, belongs into config.json").into());
    }
    let program = format!("docker-credential-{helper}");
    let mut command = Command::new(&program);
    command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let why = match error.kind() {
                io::ErrorKind::NotFound => format!("exec: \"{program}\": executable file not found in $PATH"),
                _ => format!("{program}: {error}"),
            };
            return Ok(Err(Refused { why, text: String::new() }));
        }
    };
    if let Some(mut stdin) = child.stdin.take() {
        // a helper that does not want its question tells why by its exit status
        let _ = stdin.write_all(question);
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(Ok(answer));
    }
    Ok(Err(Refused { why: ending(status), text: String::from_utf8_lossy(&answer).trim().to_owned() }))
}

fn ending(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit status {code}"),
        None => status.to_string(),
    }
}
