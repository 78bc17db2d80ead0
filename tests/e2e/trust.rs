//! Content trust: what is pulled with it must be demanded to be signed by the engine's policy.

use hoist_tests::{Bed, Cli, Entry, Image, Registry, hoist, skip};
use serde_json::json;

fn image(seed: &str) -> Image {
    Image::busybox_with(&[Entry::file("seed", seed)], json!({}))
}

#[test]
fn content_trust_takes_only_what_a_rule_demands_a_signature_of() {
    hoist(|t| {
        if !t.engine.is_own() {
            let refused = t.cli("pull --disable-content-trust=false 127.0.0.1:1/x").fails_with(1);
            refused
                .complains("pulls without) is for engines of Hoist only: the engine at the other end is another one");
            return;
        }
        let registry = Registry::serve_own(&[]);
        registry.push("signed", &["v1"], &image("signed"));
        registry.push("free", &["v1"], &image("free"));
        let (signed, free) = (registry.name("signed:v1"), registry.name("free:v1"));
        let nothing = t.cli(&format!("pull --disable-content-trust=false {free}")).fails_with(1);
        nothing.complains(&format!("content trust: {free}: the engine has no signature policy"));

        let key = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            rcgen::KeyPair::generate().unwrap().public_key_pem(),
        );
        let rule = json!([{ "type": "sigstoreSigned", "keyData": key }]);
        let policy = registry.directory().join("policy.json");
        let loose = registry.name("signed:loose");
        let rules = json!({ "default": [{ "type": "insecureAcceptAnything" }], "transports": { "docker": {
            registry.name("signed"): rule, loose.clone(): [{ "type": "insecureAcceptAnything" }] } } });
        std::fs::write(&policy, rules.to_string()).unwrap();
        let mut guarded = Bed::new(Cli::Hoist, &[format!("--signature-policy={}", policy.display())]);
        let demands = |image: &str| format!("demands no signature of {image}: have it demand one");
        for command in ["pull", "create", "run --rm"] {
            let flag = "--disable-content-trust=false";
            guarded.cli(&format!("{command} {flag} {free}")).fails().complains(&demands(&free));
            // the rule is there, the signature is not: the pull itself says so
            let unsigned = guarded.cli(&format!("{command} {flag} {signed}")).fails();
            unsigned.complains("a signature was required, but no signature exists");
        }
        let whole = guarded.cli(&format!("pull -a --disable-content-trust=false {}", registry.name("signed")));
        whole.fails().complains(&format!("rule {loose:?}"));
        guarded.cli(&format!("pull {free}")).ok();
        guarded.set("DOCKER_CONTENT_TRUST", "1");
        // here already, and asked about all the same
        guarded.cli(&format!("run --rm {free} true")).fails_with(125).complains(&demands(&free));
        guarded.cli(&format!("run --rm --pull never {free} true")).fails_with(125).complains("--pull=never");
        // an ID is no name, and who gives it has chosen the image
        let id = guarded.args(&["image", "inspect", "--format", "{{.Id}}", &free]).ok().text().trim().to_owned();
        for image in [&id[..], id.trim_start_matches("sha256:")] {
            guarded.cli(&format!("run --rm {image} cat /seed")).ok().prints("free");
            guarded.cli(&format!("run --rm --pull never {image} cat /seed")).ok().prints("free");
        }
        guarded.cli(&format!("push {free}")).fails_with(1).complains("sign the digest with cosign");
        guarded.cli(&format!("run --rm --disable-content-trust {free} cat /seed")).ok().prints("free");
        guarded.set("DOCKER_CONTENT_TRUST", "0");
        guarded.cli(&format!("push {free}")).ok();
    });
}

#[test]
fn repairs_send_each_registry_its_own_credentials() {
    hoist(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "damages an engine's store");
        }
        let Some(registry) = Registry::with_password() else { skip!("registry", "no docker-registry in the test bed") };
        let name = registry.name("x:v1");
        t.load(&name, &image("as it came"));
        t.cli_with(&format!("login -u u --password-stdin 127.0.0.1:{}", registry.port), b"p").ok();
        t.cli(&format!("push {name}")).ok();
        t.cli(&format!("rmi {name}")).ok();
        t.cli(&format!("pull {name}")).ok();
        let layers = t.engine.directory().join("d/image/layers");
        let stored = std::fs::read_dir(&layers).unwrap().map(|layer| layer.unwrap().path().join("diff/seed"));
        let seed = stored.into_iter().find(|path| path.exists()).expect("a layer with /seed");
        std::fs::write(&seed, "AS IT CAME").unwrap();
        let config = t.home().join("config.json");
        std::fs::rename(&config, t.home().join("away")).unwrap();
        t.cli("image verify --repair").fails_with(1).says("not repaired: ");
        std::fs::rename(t.home().join("away"), &config).unwrap();
        t.cli("image verify --repair").ok().says(", 1 repaired");
        t.cli(&format!("run --rm {name} cat /seed")).ok().prints("as it came");
    });
}
