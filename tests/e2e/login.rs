//! Logging in to a registry that wants to know who is there: what is kept, who can use it, and what is said when it is wrong.

use hoist_tests::{Image, Registry, both, hoist, skip};
use serde_json::{Value, json};

macro_rules! guarded_registry {
    () => {
        match Registry::with_password() {
            Some(registry) => registry,
            None => skip!("registry", "no docker-registry in the test bed"),
        }
    };
}

#[test]
fn login_opens_pushes_and_pulls_and_logout_ends_them() {
    both(|t| {
        let registry = guarded_registry!();
        let (host, name) = (registry.name("").trim_end_matches('/').to_owned(), registry.name("guarded:v1"));
        t.cli(&format!("tag busybox {name}")).ok();
        t.cli(&format!("push {name}")).fails_with(1).complains("no basic auth credentials");
        let wrong = t.cli_with(&format!("login -u u --password-stdin {host}"), b"wrong\n").fails_with(1);
        wrong.complains("401 Unauthorized");
        let login = t.cli_with(&format!("login -u u --password-stdin {host}"), b"p\n").ok();
        let file = t.home().join("config.json");
        let warning = format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
             warning. See\nhttps://docs.docker.com/go/credential-store/\n\n",
            file.display()
        );
        assert_eq!(login.prints("Login Succeeded").stderr, warning);
        // what is stored already is not warned of again
        let again = t.cli_with(&format!("login -u u --password-stdin {host}"), b"p\n").ok();
        assert_eq!(again.prints("Login Succeeded").stderr, "");
        let config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(config, json!({ "auths": { &host: { "auth": "dTpw" } } }));
        t.cli(&format!("push {name}")).ok();
        t.cli(&format!("rmi {name}")).ok();
        t.cli(&format!("pull {name}")).ok();
        t.cli(&format!("login {host}")).ok().prints("Login Succeeded").complains("[Username: u]");
        t.cli(&format!("logout {host}")).ok().prints(&format!("Removing login credentials for {host}"));
        t.cli(&format!("rmi {name}")).ok();
        t.cli(&format!("pull {name}")).fails_with(1);
    });
}

#[test]
fn a_password_is_typed_without_being_seen() {
    both(|t| {
        let registry = guarded_registry!();
        let host = registry.name("").trim_end_matches('/').to_owned();
        let mut terminal = t.terminal(&format!("login {host}"));
        terminal.expect("Username: ").line("u").expect("Password: ").line("p").expect("Login Succeeded");
        let (code, screen) = terminal.finish();
        assert_eq!(code, 0, "{screen}");
        let after = screen.split("Password: ").nth(1).unwrap();
        assert!(after.trim_start().starts_with("WARNING!"), "{screen}");
        let mut terminal = t.terminal(&format!("login -u u {host}"));
        terminal.expect("Password: ").line("");
        let (code, screen) = terminal.finish();
        assert_eq!(code, 1);
        assert!(screen.contains("Error: Password Required"), "{screen}");
    });
}

#[test]
fn docker_and_hoist_use_each_other_s_file() {
    hoist(|t| {
        let registry = guarded_registry!();
        let docker = hoist_tests::Bed::new(hoist_tests::Cli::Docker, &[]);
        let host = registry.name("").trim_end_matches('/').to_owned();
        registry_has(t, &registry);
        let file = |bed: &hoist_tests::Bed| bed.home().join("config.json");
        for (from, to) in [(&*t, &docker), (&docker, &*t)] {
            from.cli_with(&format!("login -u u --password-stdin {host}"), b"p").ok();
            std::fs::copy(file(from), file(to)).unwrap();
            to.cli(&format!("pull -q {}", registry.name("shared:v1"))).ok();
            to.cli(&format!("logout {host}")).ok();
            from.cli(&format!("logout {host}")).ok();
            to.cli(&format!("rmi {}", registry.name("shared:v1"))).ok();
        }
    });
}

/// Puts an image into the guarded registry.
#[track_caller]
fn registry_has(t: &hoist_tests::Bed, registry: &Registry) {
    let (host, name) = (registry.name("").trim_end_matches('/').to_owned(), registry.name("shared:v1"));
    t.load(&name, &Image::busybox());
    t.cli_with(&format!("login -u u --password-stdin {host}"), b"p").ok();
    t.cli(&format!("push {name}")).ok();
    t.cli(&format!("logout {host}")).ok();
    t.cli(&format!("rmi {name}")).ok();
}
