//! `login`: has the engine try a user's name and password at a registry, and keeps what was accepted.

use std::io::{self, IsTerminal, Read};

use hoist_client::{Client, Error, Request};
use serde::Deserialize;

use super::super::Command;
use crate::{
    app::{App, Outcome, client_text},
    credentials::{Auth, Credentials, HUB_KEY, hostname, warn_of_environment},
    flags::{Flag, Parsed, switch, text},
    stream::prompt,
};

const FLAGS: &[Flag] = &[
    text('p', "password", "Password or access token"),
    switch('\0', "password-stdin", "Read the password or access token from standard input"),
    text('u', "username", "Username"),
];

pub(crate) const COMMAND: Command = Command::action(
    "login",
    "Keep the credentials of a registry (default Docker Hub)",
    "[OPTIONS] [SERVER]",
    (0, 1),
    run,
)
.flags(&[FLAGS]);

/// Longest password from standard input, in bytes.
const MAX_PASSWORD_BYTES: u64 = 1 << 20;

/// The answer of `POST /auth`.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Answer {
    status: String,
    identity_token: String,
}

fn run(app: &App, args: &Parsed) -> Outcome {
    check(args)?;
    let user = args.text("username").trim().to_owned();
    let password = password(args)?;
    warn_of_environment();
    let server = match args.args.first().map(String::as_str) {
        None | Some("" | "docker.io" | HUB_KEY) => HUB_KEY,
        Some(server) => hostname(server),
    };
    let mut credentials = Credentials::open(app);
    let client = app.client()?;
    let mut default_user = String::new();
    if user.is_empty() && password.is_empty() {
        let mut kept = credentials.get(server).unwrap_or_else(|failure| {
            eprintln!("{}", failure.text);
            Auth::default()
        });
        // a token cannot be tried: a password is asked for
        kept.identity_token.clear();
        kept.server_address = server.to_owned();
        if !kept.username.is_empty()
            && !kept.password.is_empty()
            && let Some(status) = try_kept(app, client, &mut credentials, kept.clone())?
        {
            println!("{status}");
            return Ok(());
        }
        default_user = kept.username;
    }
    let mut auth = ask(server, user, password, &default_user)?;
    let answer = send(client, &auth)?;
    if !answer.identity_token.is_empty() {
        auth.password.clear();
        auth.identity_token = answer.identity_token;
    }
    credentials.store(&auth).map_err(|failure| format!("Error saving credentials: {}", failure.text))?;
    if !answer.status.is_empty() {
        println!("{}", answer.status);
    }
    Ok(())
}

fn check(args: &Parsed) -> Outcome {
    if args.has("password-stdin") {
        if args.has("password") {
            return Err("conflicting options: cannot specify both --password and --password-stdin".into());
        }
        if !args.has("username") {
            return Err("the --password-stdin option requires --username to be set".into());
        }
    }
    for flag in ["username", "password"] {
        if args.get(flag) == Some("") {
            return Err(format!("{flag} is empty").into());
        }
    }
    Ok(())
}

/// The password of the flags; nothing if it is to be asked for.
fn password(args: &Parsed) -> Outcome<String> {
    if args.has("password") {
        eprintln!("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        return Ok(args.text("password").to_owned());
    }
    if !args.is("password-stdin") {
        return Ok(String::new());
    }
    let mut password = String::new();
    io::stdin()
        .lock()
        .take(MAX_PASSWORD_BYTES)
        .read_to_string(&mut password)
        .map_err(|why| format!("cannot read the password from standard input: {why}"))?;
    let line = password.strip_suffix('\n').unwrap_or(&password);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// Tries what was kept from an earlier login; nothing if the registry does not take it any more.
fn try_kept(app: &App, client: &Client, credentials: &mut Credentials, mut kept: Auth) -> Outcome<Option<String>> {
    let program = app.program;
    eprintln!("Authenticating with existing credentials... [Username: {}]", kept.username);
    eprintln!("\n Info -> To login with a different account, run '{program} logout' followed by '{program} login'\n\n");
    match send(client, &kept) {
        Ok(answer) => {
            if !answer.identity_token.is_empty() {
                kept.password.clear();
                kept.identity_token = answer.identity_token;
            }
            credentials.store(&kept).map_err(|failure| format!("Error saving credentials: {}", failure.text))?;
            Ok(Some(answer.status))
        }
        Err(error) if error.status() == Some(401) => {
            eprintln!("Stored credentials invalid or expired");
            Ok(None)
        }
        Err(error) => {
            eprintln!("Login did not succeed, error: {}", client_text(&error));
            Ok(None)
        }
    }
}

/// Completes what the flags left open, at the terminal.
fn ask(server: &str, mut user: String, mut password: String, default_user: &str) -> Outcome<Auth> {
    if (user.is_empty() || password.is_empty()) && !io::stdin().is_terminal() {
        return Err("Error: Cannot perform an interactive login from a non TTY device".into());
    }
    if user.is_empty() {
        if server == HUB_KEY {
            println!("Log in to Docker Hub (an account is made at https://hub.docker.com/).\n");
        }
        user = match default_user {
            "" => prompt::line("Username: ")?,
            known => prompt::line(&format!("Username ({known}): "))?,
        };
        if user.is_empty() {
            default_user.clone_into(&mut user);
        }
        if user.is_empty() {
            return Err("Error: Non-null Username Required".into());
        }
    }
    if password.trim().is_empty() {
        if server == HUB_KEY {
            eprintln!("A personal access token can take the password's place: https://app.docker.com/settings\n");
        }
        password = prompt::secret("Password: ")?;
        if password.is_empty() {
            return Err("Error: Password Required".into());
        }
    }
    Ok(Auth { username: user, password, server_address: server.to_owned(), ..Auth::default() })
}

fn send(client: &Client, auth: &Auth) -> Result<Answer, Error> {
    let answer = client.call(Request::post("/auth").json(auth)?)?;
    // engines that have nothing to say answer with no content
    let bytes = answer.bytes()?;
    if bytes.trim_ascii().is_empty() { Ok(Answer::default()) } else { Ok(serde_json::from_slice(&bytes)?) }
}
