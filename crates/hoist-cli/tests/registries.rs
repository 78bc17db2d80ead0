//! Credentials end to end against a scripted engine: what is sent, what is kept where, what the user is told.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use support::{Engine, Output, answer, become_the_command_line, spawn};

#[test]
fn entry_of_the_command_line() {
    become_the_command_line();
}

/// An engine that lets `alice:secret` in and remembers the heads of pulls.
struct Registry {
    engine: Engine,
    home: tempfile::TempDir,
    tried: Arc<Mutex<Vec<Value>>>,
}

impl Registry {
    fn new(token: &'static str) -> Self {
        let tried = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&tried);
        let engine = Engine::start(move |request, stream| {
            if request.is("POST", "/images/create") {
                return answer(stream, "200 OK", "{\"status\":\"pulled\"}");
            }
            if !request.is("POST", "/auth") {
                return answer(stream, "200 OK", "");
            }
            let auth: Value = serde_json::from_slice(&request.body).unwrap();
            seen.lock().unwrap().push(auth.clone());
            if (&auth["username"], &auth["password"]) == (&json!("alice"), &json!("secret")) {
                answer(stream, "200 OK", &json!({"Status": "Login Succeeded", "IdentityToken": token}).to_string());
            } else {
                answer(stream, "401 Unauthorized", "{\"message\":\"login attempt failed\"}");
            }
        });
        Self { engine, home: tempfile::tempdir().unwrap(), tried }
    }

    fn run(&self, args: &[&str], input: &str) -> Output {
        let host = format!("unix://{}", self.engine.socket.display());
        let home = self.home.path().display().to_string();
        let path = format!("{home}:{}", std::env::var("PATH").unwrap());
        let env = [("HOIST_HOST", host.as_str()), ("DOCKER_CONFIG", &home), ("PATH", &path)];
        let mut running = spawn(args, &env);
        running.child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        running.finish()
    }

    fn config(&self) -> Value {
        serde_json::from_slice(&fs::read(self.home.path().join("config.json")).unwrap()).unwrap()
    }

    fn set_config(&self, config: &Value) {
        fs::write(self.home.path().join("config.json"), config.to_string()).unwrap();
    }
}

/// A helper that keeps what it is given in a file beside it, and writes down its arguments.
fn install_helper(dir: &Path) {
    let script = format!(
        "#!/bin/sh\ncd {}\necho \"$*\" >> calls\ncase $1 in\n\
         store) cat > kept;;\n\
         get) cat > /dev/null; if [ -s kept ]; then cat kept; else echo credentials not found in native keychain; exit 1; fi;;\n\
         erase) cat > /dev/null; if [ -s kept ]; then : > kept; else echo nothing to erase; exit 3; fi;;\n\
         esac\n",
        dir.display()
    );
    let path = dir.join("docker-credential-shelf");
    fs::write(&path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn login_keeps_what_the_registry_took_and_logout_forgets_it() {
    let registry = Registry::new("");
    let output = registry.run(&["login", "-u", "alice", "--password-stdin", "https://r:5/v2/"], "secret\r\n");
    assert_eq!((output.code, output.stdout.as_str()), (0, "Login Succeeded\n"), "{}", output.stderr);
    assert!(output.stderr.contains("WARNING! Your credentials are stored unencrypted in '"), "{}", output.stderr);
    assert_eq!(registry.tried.lock().unwrap()[0]["serveraddress"], "r:5");
    assert_eq!(registry.config(), json!({"auths": {"r:5": {"auth": "YWxpY2U6c2VjcmV0"}}}));

    let again = registry.run(&["login", "r:5"], "");
    assert_eq!((again.code, again.stdout.as_str()), (0, "Login Succeeded\n"));
    assert!(again.stderr.starts_with("Authenticating with existing credentials... [Username: alice]\n"));

    let wrong = registry.run(&["login", "-u", "alice", "-p", "wrong", "r:5"], "");
    assert_eq!((wrong.code, wrong.stdout.as_str()), (1, ""));
    let text = "WARNING! Using --password via the CLI is insecure. Use --password-stdin.\n\
                Error response from daemon: login attempt failed\n";
    assert_eq!(wrong.stderr, text);
    assert_eq!(registry.config()["auths"]["r:5"]["auth"], "YWxpY2U6c2VjcmV0");

    let output = registry.run(&["logout", "r:5"], "");
    assert_eq!((output.code, output.stdout.as_str()), (0, "Removing login credentials for r:5\n"));
    assert_eq!(registry.config(), json!({"auths": {}}));
    let hub = registry.run(&["logout"], "");
    assert_eq!(hub.stdout, "Removing login credentials for https://index.docker.io/v1/\n");
}

#[test]
fn a_token_is_kept_in_place_of_the_password() {
    let registry = Registry::new("token");
    let output = registry.run(&["login", "-u", "alice", "--password-stdin"], "secret");
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let entry = &registry.config()["auths"]["https://index.docker.io/v1/"];
    assert_eq!(entry, &json!({"auth": "YWxpY2U6", "identitytoken": "token"}));
}

#[test]
fn login_without_a_terminal_needs_both_and_says_what_is_missing() {
    let registry = Registry::new("");
    let cases: &[(&[&str], &str)] = &[
        (&["r"], "Error: Cannot perform an interactive login from a non TTY device"),
        (&["-u", "x"], "Error: Cannot perform an interactive login from a non TTY device"),
        (&["-u", "x", "--password=", "r"], "password is empty"),
        (&["--username=", "r"], "username is empty"),
        (&["--password-stdin", "r"], "the --password-stdin option requires --username to be set"),
        (
            &["-p", "x", "--password-stdin", "r"],
            "conflicting options: cannot specify both --password and --password-stdin",
        ),
    ];
    for (words, text) in cases {
        let output = registry.run(&[&["login"], *words].concat(), "");
        assert_eq!((output.code, output.stderr.trim_end()), (1, *text), "{words:?}");
    }
    assert!(!registry.home.path().join("config.json").exists());
}

#[test]
fn a_helper_keeps_the_secret_and_gives_it_to_pulls() {
    let registry = Registry::new("");
    install_helper(registry.home.path());
    registry.set_config(&json!({"credHelpers": {"r:5": "shelf"}, "psFormat": "x"}));
    let output = registry.run(&["login", "-u", "alice", "--password-stdin", "r:5"], "secret\n");
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    assert_eq!(registry.config(), json!({"credHelpers": {"r:5": "shelf"}, "psFormat": "x", "auths": {"r:5": {}}}));
    let kept: Value = serde_json::from_slice(&fs::read(registry.home.path().join("kept")).unwrap()).unwrap();
    assert_eq!(kept, json!({"ServerURL": "r:5", "Username": "alice", "Secret": "secret"}));

    assert_eq!(registry.run(&["pull", "-q", "r:5/image"], "").code, 0);
    let heads = registry.engine.heads.lock().unwrap().clone();
    let header = heads.iter().find_map(|head| head.lines().find_map(|line| line.strip_prefix("X-Registry-Auth: ")));
    assert_eq!(
        base64_json(header.unwrap()),
        json!({"username": "alice", "password": "secret", "serveraddress": "r:5"})
    );

    assert_eq!(registry.run(&["logout", "r:5"], "").code, 0);
    assert_eq!(registry.run(&["login", "r:5"], "").code, 1);
    let calls = fs::read_to_string(registry.home.path().join("calls")).unwrap();
    assert_eq!(calls.lines().next(), Some("store"));
    assert!(!calls.contains("secret"), "{calls}");
}

#[test]
fn a_helper_that_fails_is_told_of_and_pulls_go_on_without_it() {
    let registry = Registry::new("");
    registry.set_config(&json!({"credsStore": "none-such"}));
    let output = registry.run(&["pull", "-q", "r:5/image"], "");
    let text = "error getting credentials - err: exec: \"docker-credential-none-such\": executable file not found in $PATH, out: ``";
    assert_eq!((output.code, output.stderr), (0, format!("WARNING: {text}\n")));
    let login = registry.run(&["login", "-u", "alice", "--password-stdin", "r:5"], "secret");
    assert_eq!((login.code, login.stdout.as_str()), (1, ""));
    assert!(login.stderr.starts_with("Error saving credentials: error storing credentials - err: exec:"));
}

fn base64_json(text: &str) -> Value {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE};
    serde_json::from_slice(&BASE64_URL_SAFE.decode(text).unwrap()).unwrap()
}
