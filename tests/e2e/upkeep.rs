//! How long images stay: when they were last used, which are pinned, and what goes when all of them are too much.

use hoist_tests::{Bed, Cli, Engine, Entry, Image, engine, eventually, hoist, skip};
use serde_json::{Value, json};

const MEGABYTE: usize = 1_000_000;

/// An engine of our own with these options.
fn own(options: &[String]) -> Bed {
    Bed::bare(Cli::Hoist, Engine::start_own(options))
}

/// An image with a layer of its own of so many megabytes that do not shrink.
fn image_of(megabytes: usize) -> Image {
    let mut bytes = vec![0; megabytes * MEGABYTE];
    rand::Rng::fill(&mut rand::rng(), bytes.as_mut_slice());
    Image::busybox_with(&[Entry::file("big", bytes)], json!({}))
}

fn names(t: &Bed) -> Vec<String> {
    let list = t.api().get("/images/json").status(200).json();
    let tags = list.as_array().unwrap().iter().flat_map(|image| image["RepoTags"].as_array().unwrap().clone());
    let mut names: Vec<String> = tags.map(|tag| tag.as_str().unwrap().to_string()).collect();
    names.sort();
    names
}

fn last_used(t: &Bed, name: &str) -> String {
    let inspected = t.api().get(&format!("/images/{name}/json")).status(200).json();
    inspected["Hoist"]["LastUsed"].as_str().unwrap().to_string()
}

#[test]
fn looking_at_an_image_is_no_use_of_it_and_running_it_is() {
    hoist(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "dockerd keeps no such record");
        }
        let loaded = last_used(t, "busybox");
        t.cli("images").ok();
        t.cli("image inspect busybox").ok();
        t.cli("history busybox").ok();
        assert_eq!(last_used(t, "busybox"), loaded);
        t.cli("run --rm busybox true").ok();
        let used = last_used(t, "busybox");
        assert!(used > loaded, "{used} {loaded}");
        t.cli("tag busybox other").ok();
        assert!(last_used(t, "busybox") > used);
        t.args(&["images", "--format", "{{.LastUsed}} {{.Pinned}}", "busybox"]).ok().says(" ago false");
        t.cli("images -q --filter unused-for=1h").ok().prints("");
        t.cli("images -q --filter unused-for=1s --filter pinned=true").ok().prints("");
        t.cli("images --filter unused-for=yesterday").fails_with(1).complains("unused-for=yesterday");
        t.cli("image prune -af --filter unused-for=1h").ok().prints("Total reclaimed space: 0B");
        eventually("the image was not used for a second", || {
            t.cli("images -q --filter unused-for=1s").ok().stdout.lines().count() > 0
        });
        t.cli("image prune -af --filter unused-for=1s").ok().says("untagged: other:latest");
    });
}

#[test]
fn pinned_images_are_not_pruned_and_not_removed_without_force() {
    hoist(|t| {
        if !t.engine.is_own() {
            for command in ["pin busybox", "unpin busybox", "verify busybox"] {
                let refused = t.cli(&format!("image {command}")).fails_with(1);
                refused.complains("is for engines of Hoist only: the engine at the other end is another one");
            }
            return;
        }
        t.load("kept:v1", &image_of(1));
        t.load("other:v1", &image_of(1));
        t.cli("image pin kept:v1").ok().prints("Pinned: kept:v1");
        t.cli("image pin nobody").fails_with(1).complains("No such image: nobody");
        // what comes after an operand that fails is done all the same
        t.cli("image unpin nobody kept:v1").fails_with(1).complains("No such image: nobody").says("Unpinned: kept:v1");
        t.cli("image pin nobody kept:v1").fails_with(1).complains("No such image: nobody").says("Pinned: kept:v1");
        t.args(&["image", "inspect", "--format", "{{.Hoist.Pinned}}", "kept:v1"]).ok().prints("true");
        t.args(&["images", "--filter", "pinned=true", "--format", "{{.Repository}}"]).ok().prints("kept");
        t.engine.kill();
        t.engine.start_again();
        let pruned = t.cli("image prune -af").ok();
        pruned.clone().says("Pinned, so kept:\nkept:v1\n").says("untagged: other:v1").says_not("untagged: kept");
        t.cli("system prune -af").ok().says("Pinned, so kept:\nkept:v1\n");
        t.cli("rmi kept:v1").fails_with(1).complains("must force").complains("is pinned");
        // A name that moves takes its pin along.
        let id = |t: &Bed| t.args(&["image", "inspect", "--format", "{{.Id}}", "kept:v1"]).ok().stdout;
        let before = id(t);
        t.load("kept:v1", &image_of(1));
        assert_ne!(id(t), before);
        t.cli("image prune -af").ok().says(before.trim()).says("Pinned, so kept:\nkept:v1\n");
        t.cli("image unpin kept:v1").ok().prints("Unpinned: kept:v1");
        t.cli("image prune -af").ok().says("untagged: kept:v1");
    });
}

#[test]
fn beyond_the_budget_the_longest_unused_images_go() {
    engine(|t| {
        if !t.engine.is_own() {
            hoist_tests::skip!("own-engine", "needs an engine with a budget");
        }
        let t = own(&["--max-disk=25M".into()]);
        for name in ["first:v1", "pinned:v1", "used:v1", "second:v1"] {
            t.load(name, &image_of(5));
            if name == "pinned:v1" {
                t.cli("image pin pinned:v1").ok();
            }
        }
        t.cli("create --name user used:v1").ok();
        t.cli("run --rm first:v1 true").ok();
        assert_eq!(names(&t).len(), 4);
        // What was used last stays, whenever it came.
        t.load("third:v1", &image_of(5));
        assert_eq!(names(&t), ["first:v1", "pinned:v1", "third:v1", "used:v1"]);
        let events = t.cli("events --since 1h --until 0s --filter type=image --format json").ok();
        let events: Vec<Value> = events.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let for_budget = |event: &&Value| event["Actor"]["Attributes"]["reason"] == "max-disk";
        let actions: Vec<_> = events.iter().filter(for_budget).map(|event| event["Action"].clone()).collect();
        assert!(actions.contains(&json!("untag")) && actions.contains(&json!("delete")), "{events:?}");
        assert!(t.engine.log().contains("more of the disk than --max-disk"), "{}", t.engine.log());
        // Larger than all that may be: it comes, and whoever keeps the space is named.
        t.load("huge:v1", &image_of(30));
        assert_eq!(names(&t), ["huge:v1", "pinned:v1", "used:v1"]);
        let log = t.engine.log();
        assert!(
            log.contains("no more can go") && log.contains("huge:v1") && log.contains("used by a container"),
            "{log}"
        );
        t.cli("rm user").ok();
        t.cli("run --rm pinned:v1 true").ok();
    });
}

#[test]
fn a_budget_counts_from_the_start_and_from_a_reload() {
    engine(|t| {
        if !t.engine.is_own() {
            hoist_tests::skip!("own-engine", "needs an engine with a budget");
        }
        let home = t.host_dir();
        let file = home.ours().join("engine.json");
        std::fs::write(&file, "{}").unwrap();
        let mut t = own(&["--config-file".into(), file.display().to_string()]);
        for name in ["old:v1", "middle:v1", "new:v1"] {
            t.load(name, &image_of(5));
        }
        let reload = |t: &Bed| rustix::process::kill_process(t.engine.pid().unwrap(), rustix::process::Signal::HUP);
        std::fs::write(&file, r#"{"max-disk":"much"}"#).unwrap();
        reload(&t).unwrap();
        eventually("a wrong budget is told", || t.engine.log().contains("invalid value \"much\" for --max-disk"));
        assert_eq!(names(&t).len(), 3);
        std::fs::write(&file, r#"{"max-disk":"14M"}"#).unwrap();
        reload(&t).unwrap();
        eventually("the oldest goes", || names(&t) == ["middle:v1", "new:v1"]);
        t.engine.terminate();
        std::fs::write(&file, r#"{"max-disk":"9M"}"#).unwrap();
        t.engine.start_again();
        eventually("the next goes", || names(&t) == ["new:v1"]);
    });
}
