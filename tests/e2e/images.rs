//! Images: pull, load, import, tag, lists, inspect, history, rmi.

use hoist_tests::{Bed, Entry, Image, Registry, both, engine, skip};
use serde_json::json;

/// The registry, or the end of the test.
macro_rules! registry {
    () => {
        match Registry::start() {
            Some(registry) => registry,
            None => skip!("registry", "no docker-registry in the test bed"),
        }
    };
}

/// An image that no other test has, so that its removal disturbs nobody.
fn own_image(seed: &str) -> Image {
    Image::busybox_with(&[Entry::file("seed", seed)], json!({ "Env": ["FROM=image"], "Labels": { "seed": seed } }))
}

fn remove(t: &Bed, name: &str) {
    t.cli(&format!("rmi -f {name}")).ok();
}

#[test]
fn an_image_is_pulled_from_a_registry_on_loopback_and_runs() {
    both(|t| {
        let registry = registry!();
        let seed = t.name("pull");
        let name = registry.name("some/image:v1");
        let digest = registry.push("some/image", &["v1"], &own_image(&seed));
        let pulled = t.cli(&format!("pull {name}")).ok();
        pulled.says("v1: Pulling from some/image").says(&format!("Digest: {digest}"));
        let ran = t.cli(&format!("run --rm {name} cat /seed")).ok();
        ran.prints(&seed);
        t.cli(&format!("pull {name}")).ok().says(&format!("Status: Image is up to date for {name}"));
        t.cli(&format!("pull -q {name}")).ok().prints(&name);
        remove(t, &name);
    });
}

#[test]
fn run_pulls_what_is_missing_and_says_so_on_stderr() {
    both(|t| {
        let registry = registry!();
        let seed = t.name("missing");
        let name = registry.name("missing:latest");
        registry.push("missing", &["latest"], &own_image(&seed));
        let ran = t.cli(&format!("run --rm {name} cat /seed")).ok();
        assert_eq!(ran.stdout, seed);
        ran.complains(&format!("Unable to find image '{name}' locally")).complains("Downloaded newer image");
        remove(t, &name);
        t.cli(&format!("run --rm --pull never {name} true")).fails_with(125).complains("No such image");
        t.cli(&format!("run --rm --pull= {name} true")).fails_with(125).complains("No such image");
        t.cli(&format!("run --rm --pull always {name} true")).ok();
        // an empty platform is none
        t.cli(&format!("image inspect --platform= {name}")).ok();
        remove(t, &name);
    });
}

#[test]
fn an_image_that_no_registry_has_is_a_clear_error() {
    both(|t| {
        let registry = registry!();
        let name = registry.name("no/such:image");
        t.cli(&format!("pull {name}")).fails_with(1).complains("manifest unknown");
        t.cli(&format!("run --rm {name} true"))
            .fails_with(125)
            .complains(&format!("Unable to find image '{name}' locally"));
        let nobody = "127.0.0.1:1/nobody/listens";
        t.cli(&format!("pull {nobody}")).fails_with(1).complains("connection refused");
        t.cli("pull Upper").fails_with(1).complains("must be lowercase");
        t.cli("run --rm 'bad image' true").fails_with(125).complains("invalid reference format");
    });
}

#[test]
fn an_image_can_be_named_by_its_digest() {
    both(|t| {
        let registry = registry!();
        let seed = t.name("digest");
        let digest = registry.push("digest", &["x"], &own_image(&seed));
        let name = format!("{}@{digest}", registry.name("digest"));
        t.cli(&format!("pull {name}")).ok().says(&format!("Digest: {digest}"));
        t.cli(&format!("run --rm {name} cat /seed")).ok().prints(&seed);
        t.cli("images --digests").ok().says(&digest);
        remove(t, &name);
        let wrong = format!("{}@sha256:{}", registry.name("digest"), "0".repeat(64));
        t.cli(&format!("pull {wrong}")).fails_with(1);
    });
}

#[test]
fn pull_a_takes_every_tag() {
    both(|t| {
        let registry = registry!();
        let tags = ["2.6", "2.7", "3.1", "3.2", "latest", "edge"];
        for (number, tag) in tags.iter().enumerate().filter(|(_, tag)| **tag != "latest") {
            registry.push("alpine", &[tag], &own_image(&format!("{number}")));
        }
        registry.push("alpine", &["latest"], &own_image("3"));
        let name = registry.name("alpine");
        t.cli(&format!("pull -a {name}")).ok();
        let listed = t.cli(&format!("images {name}")).ok();
        for tag in tags {
            assert!(listed.row(&format!(" {tag} ")).starts_with(&name), "{tag}");
        }
        let id = |tag: &str| listed.row(&format!(" {tag} ")).split_whitespace().nth(2).unwrap().to_string();
        assert_eq!(id("3.2"), id("latest"));
        assert_ne!(id("3.1"), id("latest"));
        for tag in tags {
            remove(t, &format!("{name}:{tag}"));
        }
    });
}

#[test]
fn an_index_gives_the_image_of_our_platform() {
    both(|t| {
        let registry = registry!();
        let seed = t.name("index");
        let image = own_image(&seed);
        let digest = registry.push("index", &["amd64"], &image);
        let size = image.manifest().len();
        let of_us = json!({
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "size": size, "digest": digest,
            "platform": { "os": "linux", "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" } },
        });
        let mut of_others = of_us.clone();
        of_others["platform"]["architecture"] = json!("s390x");
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
            "manifests": [of_us],
        });
        let media_type = "application/vnd.docker.distribution.manifest.list.v2+json";
        registry.push_manifest("index", "latest", media_type, index.to_string().as_bytes());
        let name = registry.name("index:latest");
        t.cli(&format!("pull {name}")).ok();
        t.cli(&format!("run --rm {name} cat /seed")).ok().prints(&seed);
        remove(t, &name);
        let foreign = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": [of_others] });
        registry.push_manifest("index", "foreign", media_type, foreign.to_string().as_bytes());
        t.cli(&format!("pull {}", registry.name("index:foreign")))
            .fails_with(1)
            .complains("no matching manifest for linux/");
    });
}

#[test]
fn load_takes_archives_of_every_kind() {
    both(|t| {
        let seed = t.name("load");
        let image = own_image(&seed);
        let name = format!("{seed}:v1");
        let mut archives = vec![("docker.tar", image.docker_archive(&[&name]))];
        // dockerd takes a layout that has no manifest.json only with another store than its default one.
        if t.engine.is_own() {
            archives.push(("oci.tar", image.oci_archive(&name)));
        }
        for (file, archive) in archives {
            let path = t.home().join(file);
            std::fs::write(&path, &archive).unwrap();
            t.cli(&format!("load -i {file}")).ok().says(&format!("Loaded image: {name}"));
            t.cli(&format!("run --rm {name} cat /seed")).ok().prints(&seed);
            remove(t, &name);
            t.cli_with("load", &archive).ok().says(&format!("Loaded image: {name}"));
            remove(t, &name);
        }
        let archive = image.docker_archive(&[]);
        let loaded = t.cli_with("load -q", &archive).ok();
        loaded.says(&format!("Loaded image ID: {}", image.id()));
        remove(t, &image.id());
        t.cli_with("load", b"no archive at all").fails_with(1);
        t.cli("load -i no-such-file").fails_with(1).complains("no-such-file");
    });
}

#[test]
fn import_makes_an_image_of_a_plain_tar() {
    both(|t| {
        let name = format!("{}:v1", t.name("import"));
        let base = t.name("base");
        t.cli(&format!("create --name {base} busybox")).ok();
        let layer = Image::busybox().layers[0].blob.clone();
        std::fs::write(t.home().join("root.tar.gz"), layer).unwrap();
        let imported =
            t.args(&["import", "-c", "CMD [\"echo\", \"imported\"]", "-m", "a message", "root.tar.gz", &name]).ok();
        imported.matches("^sha256:[0-9a-f]{64}$");
        t.cli(&format!("run --rm {name}")).ok().prints("imported");
        t.cli(&format!("history {name}")).ok().says("a message");
        remove(t, &name);
    });
}

#[test]
fn images_are_listed_with_filters_and_formats() {
    both(|t| {
        let seed = t.name("listed");
        let (one, two) = (format!("{seed}:one"), format!("{seed}:two"));
        t.load(&one, &own_image(&seed));
        t.cli(&format!("tag {one} {two}")).ok();
        let listed = t.cli(&format!("images {seed}")).ok();
        let listed = listed.matches("^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE$");
        assert!(listed.row(" one ").contains("ago"), "{listed}");
        assert_eq!(listed.lines().len(), 3);
        let id = own_image(&seed).id();
        t.cli(&format!("images -q {one}")).ok().prints(&id[7..19]);
        t.cli(&format!("images -q --no-trunc {one}")).ok().prints(&id);
        t.args(&["images", "--format", "{{.Repository}}:{{.Tag}}", &one]).ok().prints(&one);
        t.cli(&format!("images --format json {one}")).ok().says(&format!("\"Repository\":\"{seed}\""));
        t.cli(&format!("images -q --filter label=seed={seed}")).ok().says(&id[7..19]);
        t.cli(&format!("images -q --filter reference={seed}:t*")).ok().prints(&id[7..19]);
        t.cli("images --filter nonsense=1").fails_with(1).complains("invalid filter 'nonsense'");
        t.cli(&format!("image ls {seed}")).ok().says("two");
        remove(t, &format!("{one} {two}"));
    });
}

#[test]
fn image_inspect_and_history_tell_what_it_is() {
    both(|t| {
        let seed = t.name("inspected");
        let name = format!("{seed}:latest");
        let image = own_image(&seed);
        t.load(&name, &image);
        let all = t.cli(&format!("image inspect {name}")).ok().json();
        let inspected = &all[0];
        assert_eq!(inspected["Id"], image.id());
        assert_eq!(inspected["RepoTags"], json!([name]));
        assert_eq!(inspected["Os"], "linux");
        assert_eq!(inspected["Config"]["Cmd"], json!(["sh"]));
        assert_eq!(inspected["Config"]["Labels"]["seed"], seed);
        assert_eq!(inspected["RootFS"]["Layers"].as_array().unwrap().len(), 2);
        assert!(inspected["Size"].as_u64() > Some(100_000), "{inspected}");
        let history = t.cli(&format!("history {name}")).ok().matches("^IMAGE +CREATED +CREATED BY +SIZE +COMMENT$");
        assert_eq!(history.lines().len(), 3);
        assert!(
            history.row("step 2").starts_with(&image.id()[7..19]) && history.row("step 1").starts_with("<missing>")
        );
        t.cli(&format!("history -q {name}")).ok().says(&image.id()[7..19]);
        remove(t, &name);
        t.cli(&format!("image inspect {name}")).fails_with(1).complains(&format!("No such image: {name}"));
    });
}

#[test]
fn rmi_untags_until_the_last_name_is_gone() {
    both(|t| {
        let seed = t.name("rmi");
        let (one, two) = (format!("{seed}:one"), format!("{seed}:two"));
        t.load(&one, &own_image(&seed));
        t.cli(&format!("tag {one} {two}")).ok();
        let id = own_image(&seed).id();
        t.cli(&format!("rmi {}", &id[7..19])).fails_with(1).complains("must be forced");
        t.cli(&format!("rmi {one}")).ok().prints(&format!("Untagged: {one}"));
        t.cli(&format!("rmi {two}")).ok().says(&format!("Untagged: {two}\nDeleted: {id}"));
        t.cli(&format!("rmi {two}")).fails_with(1).complains(&format!("No such image: {two}"));
    });
}

#[test]
fn an_image_in_use_is_removed_by_force_only_and_never_under_a_running_container() {
    both(|t| {
        let seed = t.name("used");
        let name = format!("{seed}:latest");
        t.load(&name, &own_image(&seed));
        let container = t.name("user");
        t.cli(&format!("create --name {container} {name} sleep 1000")).ok();
        let refused = t.cli(&format!("rmi {name}")).fails_with(1);
        refused.complains("conflict: unable to remove repository reference").complains("must force");
        t.cli(&format!("start {container}")).ok();
        t.cli(&format!("rmi -f {}", own_image(&seed).id())).fails_with(1).complains("cannot be forced");
        t.cli(&format!("rmi -f {name}")).ok().says("Untagged");
        t.cli(&format!("exec {container} cat /seed")).ok().prints(&seed);
        t.cli(&format!("restart -t 0 {container}")).ok();
        t.cli(&format!("rm -f {container}")).ok();
        t.cli(&format!("rmi -f {}", own_image(&seed).id()));
    });
}

#[test]
fn the_progress_of_a_pull_is_dockers_and_ends() {
    engine(|t| {
        let registry = registry!();
        let seed = t.name("progress");
        let digest = registry.push("progress", &["v1"], &own_image(&seed));
        let path = format!("/images/create?fromImage={}&tag=v1", registry.name("progress"));
        let reply = t.api().post(&path).status(200);
        assert_eq!(reply.header("Content-Type"), Some("application/json"));
        let lines = reply.json_lines();
        assert_eq!((&lines[0]["status"], &lines[0]["id"]), (&json!("Pulling from progress"), &json!("v1")));
        for status in ["Pulling fs layer", "Pull complete"] {
            assert!(lines.iter().any(|line| line["status"] == status && line["id"].is_string()), "{status}: {lines:?}");
        }
        let last: Vec<_> = lines[lines.len() - 2..].iter().map(|line| line["status"].as_str().unwrap()).collect();
        let name = registry.name("progress:v1");
        assert_eq!(last, [format!("Digest: {digest}"), format!("Status: Downloaded newer image for {name}")]);
        let missing = t.api().post(&format!("/images/create?fromImage={}&tag=v2", registry.name("progress")));
        assert!(missing.text().contains("not found") || missing.text().contains("unknown"), "{}", missing.text());
        t.api().delete(&format!("/images/{name}")).status(200);
    });
}

#[test]
fn layers_keep_owners_modes_links_and_deletions() {
    both(|t| {
        let seed = t.name("layers");
        let name = format!("{seed}:latest");
        let mut image = Image::busybox_with(
            &[
                Entry::directory("data/").mode(0o2770).owner(1000, 50),
                Entry::script("data/tool", "#!/bin/sh\n").mode(0o4755).owner(7, 8),
                Entry::hard_link("data/same", "data/tool").mode(0o4755).owner(7, 8),
                Entry::symlink("data/link", "/data/tool"),
                Entry::file("data/gone", "x"),
                Entry::directory("full/"),
                Entry::file("full/old", "x"),
                Entry::fifo("data/fifo"),
                Entry::device("data/null", 1, 3),
            ],
            json!({}),
        );
        let second = [
            Entry::directory("data/").mode(0o2770).owner(1000, 50),
            Entry::file("data/.wh.gone", ""),
            Entry::directory("full/"),
            Entry::file("full/.wh..wh..opq", ""),
            Entry::file("full/new", "y"),
        ];
        image.layers.push(hoist_tests::Layer::new(&second));
        t.load(&name, &image);
        let script = "stat -c '%n %a %u %g' /data; stat -c '%n %a %u %g %h' /data/tool; readlink /data/link; ls /data /full; \
                      stat -c %F /data/fifo /data/null; stat -c %Y /data/tool";
        let ran = t.args(&["run", "--rm", &name, "sh", "-c", script]).ok();
        ran.prints(
            "/data 2770 1000 50\n/data/tool 4755 7 8 2\n/data/tool\n/data:\nfifo\nlink\nnull\nsame\ntool\n\n/full:\nnew\n\
             fifo\ncharacter special file\n1700000000",
        );
        remove(t, &name);
    });
}

#[test]
fn an_image_of_two_hundred_layers_runs() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "docker's overlay has a limit of 128 layers");
        }
        let mut image = Image::busybox();
        for number in 0..200 {
            image.layers.push(hoist_tests::Layer::new(&[Entry::file(&format!("layer-{number}"), format!("{number}"))]));
        }
        t.load("deep:latest", &image);
        t.cli("run --rm deep sh -c 'ls /layer-* | wc -l; cat /layer-0 /layer-199'").ok().prints("200\n0199");
    });
}
