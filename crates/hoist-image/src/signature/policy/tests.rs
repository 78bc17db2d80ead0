//! Which rule counts, which names fit, and which policies are none.

use std::path::Path;

use hoist_api::reference::Reference;

use super::{Identity, Policy, Requirement};

fn read(text: &str) -> Result<Policy, String> {
    Policy::parse(text.replace('\'', "\"").as_bytes(), Path::new("/policy.json"))
}

fn image(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

#[test]
fn the_narrowest_scope_counts() {
    let accept = "[{'type':'insecureAcceptAnything'}]";
    let policy = read(&format!(
        "{{'default':[{{'type':'reject'}}],'transports':{{
            'docker-daemon':{{'':{accept}}},
            'docker':{{'docker.io/library':{accept},'docker.io/library/bad':[{{'type':'reject'}}],
                'docker.io/library/bad:good':{accept},'r.example.com:5000':{accept},'*.example.org':{accept}}}}}}}"
    ));
    let policy = policy.unwrap();
    for (name, scope, accepted) in [
        ("busybox:1", "docker.io/library", true),
        ("bad:latest", "docker.io/library/bad", false),
        ("bad:good", "docker.io/library/bad:good", true),
        ("user/x:1", "default", false),
        ("r.example.com:5000/x:1", "r.example.com:5000", true),
        ("r.example.com/x:1", "default", false),
        ("a.b.example.org:80/x/y:1", "*.example.org", true),
        ("example.org/x:1", "default", false),
    ] {
        let (found, requirements) = policy.requirements(&image(name));
        assert_eq!((found, requirements == [Requirement::Accept]), (scope, accepted), "{name}");
    }
    let everything = read(&format!("{{'default':[{{'type':'reject'}}],'transports':{{'docker':{{'':{accept}}}}}}}"));
    assert_eq!(everything.unwrap().requirements(&image("x")).0, "docker");
}

#[test]
fn what_is_no_policy_is_refused_by_name() {
    let rule = |rule: &str| format!("{{'default':[{rule}]}}");
    for (text, named) in [
        ("", "EOF"),
        ("{}", "default"),
        ("{'default':[]}", "must not be empty"),
        ("{'default':[{'type':'reject'}],'transport':{}}", "transport"),
        (&rule("{'type':'maybe'}"), "maybe"),
        (&rule("{'type':'signedBy','keyType':'GPGKeys','keyPath':'/x'}"), "signedBy (GPG) is not supported"),
        (&rule("{'type':'sigstoreSigned'}"), "exactly one of"),
        (&rule("{'type':'sigstoreSigned','keyPath':'/nowhere/k.pub'}"), "/nowhere/k.pub"),
        (&rule("{'type':'sigstoreSigned','keyData':'bm90IGEga2V5'}"), "not a PEM public key"),
        (&rule("{'type':'sigstoreSigned','keyData':'%'}"), "not base64"),
        (&rule("{'type':'sigstoreSigned','keyDatas':[]}"), "no key"),
        (&rule("{'type':'sigstoreSigned','keyPath':'/x','keyDatas':[]}"), "exactly one of"),
        (&rule("{'type':'sigstoreSigned','kay':'x'}"), "kay"),
        (
            &rule("{'type':'sigstoreSigned','fulcio':{'oidcIssuer':'i','subjectEmail':'e','caData':''}}"),
            "rekorPublicKey",
        ),
        (
            "{'default':[{'type':'reject'}],'transports':{'docker':{'x':[{'type':'reject'}],'x':[{'type':'reject'}]}}}",
            "duplicate",
        ),
    ] {
        let refusal = read(text).unwrap_err();
        assert!(refusal.contains(named), "{text}: {refusal}");
    }
}

#[test]
fn names_fit_as_the_rule_says() {
    let fits = |identity: &Identity, name: &str, signed: &str| identity.fits(&image(name), Some(signed));
    let pinned = format!("r.io/a/b@sha256:{}", "0".repeat(64));
    let (exact, repository) = (Identity::MatchExact, Identity::MatchRepository);
    let default = Identity::MatchRepoDigestOrExact;
    assert!(fits(&exact, "r.io/a/b:1", "r.io/a/b:1") && fits(&exact, "busybox:1", "docker.io/library/busybox:1"));
    assert!(!fits(&exact, "r.io/a/b:1", "r.io/a/b:2") && !fits(&exact, "r.io/a/b:1", "r.io/a/b"));
    assert!(!fits(&exact, &pinned, "r.io/a/b:1") && fits(&default, &pinned, "r.io/a/b:1"));
    assert!(fits(&default, "r.io/a/b:1", "r.io/a/b:1") && !fits(&default, "r.io/a/b:1", "r.io/a/b:2"));
    assert!(fits(&repository, "r.io/a/b:1", "r.io/a/b") && !fits(&repository, "r.io/a/b:1", "r.io/a/c:1"));
    let reference = Identity::ExactReference { docker_reference: "s.io/x:7".into() };
    assert!(fits(&reference, "r.io/a/b:1", "s.io/x:7") && !fits(&reference, "r.io/a/b:1", "s.io/x:8"));
    let named = Identity::ExactRepository { docker_repository: "s.io/x".into() };
    assert!(fits(&named, "r.io/a/b:1", "s.io/x:8") && !fits(&named, "r.io/a/b:1", "r.io/a/b:1"));
    let remap = Identity::Remap { prefix: "r.io/a".into(), signed_prefix: "up.io/z".into() };
    assert!(fits(&remap, "r.io/a/b:1", "up.io/z/b:1") && !fits(&remap, "r.io/a/b:1", "r.io/a/b:1"));
    assert!(fits(&remap, "r.io/ab/c:1", "r.io/ab/c:1"));
    assert!(!repository.fits(&image("r.io/a/b:1"), None) && Identity::MatchDigest.fits(&image("r.io/a/b:1"), None));
}

#[test]
fn content_trust_wants_a_rule_that_demands_a_signature() {
    let key = "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUZrd0V3WUhLb1pJemowQ0FRWUlLb1pJemowREFRY0RRZ0FFMnpYSWhJR2FhWjMxUzR1eVlOanc0Vzk0Yy85WgoyR1RsckFtRXZ3ZFNKZ2ZvRUR1a3NLQitlRHRBb3VZZmlqam1PMmNhVlQ1QTd4UkY0aDVZRW9ReUR3PT0KLS0tLS1FTkQgUFVCTElDIEtFWS0tLS0tCg==";
    let (signed, accept) =
        (format!("[{{'type':'sigstoreSigned','keyData':'{key}'}}]"), "[{'type':'insecureAcceptAnything'}]");
    let policy = read(&format!(
        "{{'default':{accept},'transports':{{'docker':{{'r.lan/a':{signed},'r.lan/b':{signed},'r.lan/b:loose':{accept},
            'r.lan/bc:1':{accept},'r.lan/no':[{{'type':'reject'}}]}}}}}}"
    ));
    let policy = policy.unwrap();
    for (name, trusted) in [
        ("r.lan/a:1", true),
        ("r.lan/a", true),
        ("r.lan/b:1", true),
        ("r.lan/b:loose", false),
        // one of its tags comes without
        ("r.lan/b", false),
        ("r.lan/no:1", true),
        ("r.lan/c:1", false),
    ] {
        assert_eq!(policy.demands_signature(&image(name)).is_ok(), trusted, "{name}");
    }
    let refusal = policy.demands_signature(&image("r.lan/b")).unwrap_err().to_string();
    assert!(refusal.contains("rule \"r.lan/b:loose\"") && refusal.contains("/policy.json"), "{refusal}");
}
