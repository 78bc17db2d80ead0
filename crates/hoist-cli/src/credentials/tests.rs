//! Tests of what is kept where, and of the forms in which it is.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::*;

fn opened(path: &Path) -> Credentials {
    Credentials { file: AuthFile::open(Some(path.to_owned())), given: Vec::new() }
}

fn alice(server: &str, password: &str) -> Auth {
    Auth { username: "alice".into(), password: password.into(), server_address: server.into(), ..Auth::default() }
}

fn content(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A `config.json` with this content.
fn config(dir: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("config.json");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn what_is_stored_is_found_and_the_rest_of_the_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path =
        config(&dir, r#"{"psFormat": "{{.ID}}", "unknown": {"b": 1, "a": 2}, "auths": {"old": {"email": "x"}}}"#);
    opened(&path).store(&alice("127.0.0.1:5000", "s:e cret")).unwrap();
    assert_eq!(opened(&path).get("127.0.0.1:5000").unwrap(), alice("127.0.0.1:5000", "s:e cret"));
    let now = content(&path);
    assert_eq!(now["unknown"].to_string(), r#"{"b":1,"a":2}"#);
    assert_eq!((&now["psFormat"], &now["auths"]["old"]), (&json!("{{.ID}}"), &json!({"email": "x"})));
    assert_eq!(now["auths"]["127.0.0.1:5000"], json!({"auth": "YWxpY2U6czplIGNyZXQ="}));
    opened(&path).erase("127.0.0.1:5000").unwrap();
    assert_eq!(content(&path)["auths"], json!({"old": {"email": "x"}}));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_new_file_is_its_owners_alone_and_an_old_one_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/dir/config.json");
    opened(&path).store(&alice("r", "x")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    opened(&path).store(&alice("r", "y")).unwrap();
    assert_eq!(mode(&path), 0o640);
}

#[test]
fn links_are_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let (link, real) = (dir.path().join("config.json"), dir.path().join("elsewhere/real.json"));
    symlink("elsewhere/real.json", &link).unwrap();
    for password in ["to a file that is not there yet", "to one that is"] {
        opened(&link).store(&alice("r", password)).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(opened(&real).get("r").unwrap().password, password);
    }
}

#[test]
fn a_broken_file_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["{\"auths\": {\"secret", "[1]", "{\"auths\": 7}"] {
        let path = config(&dir, text);
        let why = opened(&path).store(&alice("r", "x")).unwrap_err().text;
        assert!(why.contains("config.json") && !why.contains("secret"), "{why}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    let path = config(&dir, r#"{"auths": {"r": {"auth": "%%"}, "s": {"auth": "Om5vdXNlcg=="}}}"#);
    for key in ["r", "s"] {
        assert!(opened(&path).get(key).unwrap_err().text.contains(&format!("credentials of {key:?}")));
    }
}

#[test]
fn keys_are_docker_s() {
    assert_eq!((key_of("docker.io"), key_of("quay.io")), (HUB_KEY, "quay.io"));
    for (address, host) in [("https://r:5/v2/", "r:5"), ("r:5/x", "r:5"), ("http://u@[::1]:5", "[::1]:5"), ("r", "r")] {
        assert_eq!(hostname(address), host);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = config(&dir, r#"{"auths": {"https://old.example/v1/": {"auth": "YTpi", "identitytoken": "t"}}}"#);
    let found = opened(&path).get("old.example").unwrap();
    assert_eq!((found.username.as_str(), found.identity_token.as_str()), ("a", "t"));
    assert_eq!(found.server_address, "old.example");
}

#[test]
fn the_header_is_what_engines_read() {
    let header = alice("r:5", "ä>?").header().unwrap();
    let decoded: Value = serde_json::from_slice(&BASE64_URL_SAFE.decode(header).unwrap()).unwrap();
    assert_eq!(decoded, json!({"username": "alice", "password": "ä>?", "serveraddress": "r:5"}));
    let nobody = Auth { server_address: "r:5".into(), ..Auth::default() };
    assert_eq!(nobody.header(), None);
}

#[test]
fn the_environment_gives_credentials_of_its_form_only() {
    let given = parse_given(r#"{"auths": {"r:5": {"auth": "YTpi"}}}"#).unwrap();
    assert_eq!((given[0].0.as_str(), given[0].1.password.as_str()), ("r:5", "b"));
    for bad in [r#"{"auths": {"r": {}}}"#, r#"{"auths": {"r": {"auth": "YTpi", "email": "hush"}}}"#, "hush", "{} {}"] {
        assert!(!parse_given(bad).unwrap_err().contains("hush"), "{bad}");
    }
}

#[test]
fn a_helper_is_a_name_and_its_absence_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(&dir, r#"{"credsStore": "hoist-none", "credHelpers": {"r": "../../bin/sh"}}"#);
    assert_eq!(
        opened(&path).get("q").unwrap_err().text,
        "error getting credentials - err: exec: \"docker-credential-hoist-none\": executable file not found in $PATH, out: ``"
    );
    assert!(opened(&path).get("r").unwrap_err().text.contains("a name, not a path"));
}
