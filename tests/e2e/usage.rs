//! What is kept on disk and what is pruned: figures that add up, warnings before anything goes, and nothing that is used.

use hoist_tests::{Entry, Image, both, engine, skip};
use serde_json::{Value, json};

#[test]
fn df_tells_what_there_is() {
    both(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "a shared one has things of others");
        }
        let (name, volume) = (t.name("df"), t.name("volume"));
        let script = "head -c 1000 /dev/zero > /own; head -c 300 /dev/zero > /v/in; ln /v/in /v/again; sleep 1000";
        t.args(&["run", "-d", "--name", &name, "-v", &format!("{volume}:/v"), "busybox", "sh", "-c", script]).ok();
        while !t.cli(&format!("exec {name} ls -l /v/again")).stdout.contains("300") {}
        t.cli("create busybox true").ok();
        let table = t.cli("system df").ok();
        table.clone().matches(r"^TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE$");
        table.clone().matches(r"^Images +1 +1 +[0-9.]+MB +0B \(0%\)$");
        table.clone().matches(r"^Containers +2 +1 +1kB +0B \(0%\)$");
        table.clone().matches(r"^Local Volumes +1 +1 +300B +0B \(0%\)$");
        table.matches(r"^Build Cache +0 +0 +0B +0B$");
        let verbose = t.cli("system df -v").ok();
        for title in ["Images", "Containers", "Local Volumes"] {
            verbose.clone().says(&format!("{title} space usage:"));
        }
        verbose.clone().says("Build cache usage: 0B");
        verbose.clone().matches(r"^busybox +latest +[0-9a-f]{12} .* +0B +[0-9.]+MB +2$");
        verbose.clone().matches(&format!(r"^[0-9a-f]{{12}} +busybox +.* 1 +1kB .* {name}$"));
        verbose.matches(&format!("^{volume} +1 +300B$"));
        t.cli("system df --format '{{.Type}}={{.TotalCount}}'")
            .ok()
            .prints("Images=1\nContainers=2\nLocal Volumes=1\nBuild Cache=0");
        let all: Value = t.cli("system df -v --format json").ok().json();
        assert_eq!(all["Volumes"][0]["Links"], "1");
        assert_eq!((all["Images"].as_array().unwrap().len(), &all["BuildCache"]), (1, &json!([])));
    });
}

#[test]
fn layers_that_images_share_are_counted_once() {
    both(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "a shared one has things of others");
        }
        let image = |number: usize| {
            let file = Entry::file("big", vec![b'x'; 100_000 * number]);
            Image::busybox_with(&[file], json!({}))
        };
        let size = || t.api().get("/system/df?type=image").status(200).json();
        let base = size()["LayersSize"].as_i64().unwrap();
        t.load("one:v1", &image(1));
        t.load("two:v1", &image(2));
        let found = size();
        assert_eq!(found["LayersSize"].as_i64().unwrap(), base + 300_000);
        let images = found["Images"].as_array().unwrap();
        assert!(images.iter().all(|image| image["SharedSize"].as_i64() == Some(base)), "{found}");
        assert!(found["Containers"].is_null() && found["Volumes"].is_null());
        // what is shared stays when one of them goes, and is not counted as freed
        t.cli("tag one:v1 two:v1").ok();
        t.cli("image prune -f").ok().says("deleted: sha256:").says("Total reclaimed space: 200kB");
        t.cli("run --rm one:v1 true").ok();
    });
}

#[test]
fn both_forms_of_the_answer_say_the_same() {
    engine(|t| {
        if !t.engine.is_own() && t.api().get("/v1.52/_ping").status != 200 {
            skip!("api-1.52", "the peer is older");
        }
        let old = t.api().get("/v1.51/system/df").status(200).json();
        let both = t.api().get("/v1.52/system/df").status(200).json();
        let verbose = t.api().get("/v1.52/system/df?verbose=1").status(200).json();
        for (list, usage) in [("Images", "ImageUsage"), ("Containers", "ContainerUsage"), ("Volumes", "VolumeUsage")] {
            let count = old[list].as_array().map_or(0, Vec::len);
            if !t.engine.is_own() {
                continue;
            }
            assert_eq!(both[list].as_array().map_or(0, Vec::len), count);
            assert_eq!(both[usage]["TotalCount"].as_u64(), Some(count as u64), "{both}");
            assert!(both[usage].get("Items").is_none() && verbose.get(list).is_none());
            assert_eq!(verbose[usage]["Items"].as_array().map_or(0, Vec::len), count);
        }
        let wrong = t.api().get("/system/df?type=foo").status(400);
        assert_eq!(wrong.message(), "unknown object type: foo");
    });
}

#[test]
fn system_prune_asks_and_then_removes_what_nobody_uses() {
    both(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "a shared one has things of others");
        }
        let (kept, gone) = (t.name("kept"), t.name("gone"));
        t.cli(&format!("run -d --name {kept} -v /anonymous -v named:/n busybox sleep 1000")).ok();
        t.cli(&format!("run --name {gone} -v /anonymous busybox sh -c 'head -c 5000 /dev/zero > /x'")).ok();
        t.load("unused:v1", &Image::busybox_with(&[Entry::file("big", vec![b'x'; 50_000])], json!({})));
        t.api().post_json("/volumes/create", &json!({ "Name": "idle" })).status(201);
        t.cli_with("system prune", b"n\n")
            .says("WARNING! This will remove:\n  - all stopped containers\n")
            .says("  - all dangling images\n  - unused build cache\n")
            .says("Are you sure you want to continue? [y/N]");
        t.cli(&format!("inspect {gone}")).ok();
        t.cli("system prune --volumes --filter until=1h -f")
            .fails_with(1)
            .complains("ERROR: The \"until\" filter is not supported with \"--volumes\"");
        let pruned = t.cli_with("system prune -a --volumes", b"y\n").ok();
        pruned.clone().says("Deleted Containers:\n").says("Deleted Volumes:\n").says("untagged: unused:v1");
        pruned.matches(r"^Total reclaimed space: 5[0-9]\.?[0-9]*kB$");
        t.cli(&format!("inspect {gone}")).fails_with(1);
        t.cli(&format!("exec {kept} ls /anonymous /n")).ok();
        t.cli("image inspect busybox").ok();
        let volumes = t.api().get("/volumes").json()["Volumes"].as_array().unwrap().len();
        assert_eq!(volumes, 3, "named ones stay, and those in use");
        t.cli("system prune -f").ok().prints("Total reclaimed space: 0B");
    });
}

#[test]
fn volume_prune_leaves_names_unless_told() {
    both(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "a shared one has things of others");
        }
        for name in ["named", "labelled"] {
            let labels = if name == "labelled" { json!({ "keep": "yes" }) } else { json!({}) };
            t.api().post_json("/volumes/create", &json!({ "Name": name, "Labels": labels })).status(201);
        }
        let anonymous = t.api().post_json("/volumes/create", &json!({})).status(201).json();
        let anonymous = anonymous["Name"].as_str().unwrap();
        t.cli_with("volume prune", b"n\n").says(
            "WARNING! This will remove anonymous local volumes not used by at least one container.\n\
             Are you sure you want to continue? [y/N]",
        );
        t.cli("volume prune -f").ok().says(&format!("Deleted Volumes:\n{anonymous}\n"));
        t.cli("volume prune -af --filter label!=keep").ok().says("Deleted Volumes:\nnamed\n").says_not("labelled");
        t.cli("volume prune -f --filter foo=bar").fails_with(1).complains("invalid filter 'foo'");
        t.cli("volume prune -af").ok().says("labelled");
        t.cli("volume prune -af").ok().prints("Total reclaimed space: 0B");
    });
}
