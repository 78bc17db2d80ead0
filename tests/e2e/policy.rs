//! The signature policy where no registry is asked: archives, tars, and containers of images that are here.

use hoist_tests::{Bed, Cli, Engine, Entry, Image, engine, eventually, skip};
use serde_json::json;

#[test]
fn a_policy_is_kept_for_files_and_for_what_is_here() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "needs an engine with a policy");
        }
        let home = t.host_dir();
        let file = home.ours().join("policy.json");
        let write = |policy: &serde_json::Value| std::fs::write(&file, policy.to_string()).unwrap();
        let accept = json!([{ "type": "insecureAcceptAnything" }]);
        let reject = json!([{ "type": "reject" }]);
        write(&json!({ "default": accept }));
        let options = ["--signature-policy".into(), file.display().to_string()];
        let t = Bed::bare(Cli::Hoist, Engine::start_own(&options));
        t.load("busybox:latest", &Image::busybox());
        t.load("good.example/app:v1", &Image::busybox());
        t.cli("run --name before busybox true").ok();
        let reload = || {
            let count = |log: &str| log.matches("configuration reloaded").count();
            let before = count(&t.engine.log());
            rustix::process::kill_process(t.engine.pid().unwrap(), rustix::process::Signal::HUP).unwrap();
            eventually("the policy is read", || count(&t.engine.log()) > before);
        };
        write(&json!({ "default": reject, "transports": { "docker": { "good.example": accept } } }));
        reload();
        // Used by a name whose rule lets it: fine. By another: no, whichever way it is asked for.
        t.cli("run --rm good.example/app:v1 true").ok();
        let why = "image busybox:latest is refused by the signature policy";
        t.cli("run --rm busybox true").fails_with(125).complains(why).complains("rule \"default\": it is rejected");
        t.cli("create busybox true").fails().complains(why);
        t.cli("run -d busybox true").fails_with(125).complains(why);
        // What was created before goes on.
        t.cli("start -a before").ok();
        let headers = [("Content-Type", "application/x-tar")];
        let load = |name: &str| {
            let image = Image::busybox_with(&[Entry::file("x", name)], json!({}));
            t.api().request("POST", "/images/load?quiet=1", &headers, &image.docker_archive(&[name])).text()
        };
        let refused = load("other:v1");
        assert!(refused.contains("image other:v1 is refused") && refused.contains("docker-archive"), "{refused}");
        t.api().get("/images/other:v1/json").status(404);
        assert!(!load("good.example/other:v1").contains("errorDetail"));
        t.cli("commit before mine:v1").ok();
        t.cli("run --rm mine:v1 true").fails_with(125).complains("image mine:v1 is refused");
        // Rules of their own for archives and for what was made here.
        write(&json!({ "default": reject, "transports":
            { "docker-archive": { "": accept }, "containers-storage": { "": accept } } }));
        reload();
        assert!(!load("other:v1").contains("errorDetail"));
        t.cli("run --rm mine:v1 true").ok();
        // One that was loaded was not made here.
        t.cli("run --rm other:v1 true").fails_with(125).complains("image other:v1 is refused");
        let imported = t.api().request("POST", "/images/create?fromSrc=-&repo=tar", &headers, &[0; 1024]).text();
        assert!(imported.contains("image tar:latest is refused"), "{imported}");
    });
}
