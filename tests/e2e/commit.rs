//! Images made of containers: what a layer of changes holds, whose configuration it has, and when it may be made.

use hoist_tests::{both, engine};
use serde_json::{Value, json};

/// Makes changes of every kind a layer can hold: new, changed, removed and replaced files, links, devices, times, owners.
const CHANGES: &str = "set -e; mkdir -p /d/deep; echo new > /d/file; ln /d/file /d/second; ln -s file /d/link; \
    mkfifo /d/pipe; mknod /d/null c 1 3; chmod 4711 /d/file; chown 7:8 /d/deep; \
    rm /etc/group; rm -rf /home; mkdir /home; echo kept > /home/new; touch -t 200102030405 /d/old; \
    echo changed > /etc/passwd; dd if=/dev/zero of=/d/sparse bs=1 count=1 seek=1000000 2>/dev/null";

/// What shows that they are all there. What engines put into `/etc` of each container changes its time.
const LOOK: &str = "cat /d/file /d/second /d/link /home/new /etc/passwd; ls /etc /home /d; \
    stat -c '%n %F %a %u %g %h %s %Y' /d/* /home; stat -c '%n %F %a %u %g' /etc";

#[test]
fn a_committed_image_has_all_the_changes() {
    both(|t| {
        let (name, image) = (t.name("changed"), format!("{}:v1", t.name("image")));
        t.args(&["run", "--name", &name, "-v", "/volume", "busybox", "sh", "-c", &format!("{CHANGES}; {LOOK}")]).ok();
        let before = t.cli(&format!("logs {name}")).ok();
        let id = t.cli(&format!("commit {name} {image}")).ok().matches("^sha256:[0-9a-f]{64}$");
        assert_eq!(t.cli(&format!("images -q --no-trunc {image}")).ok().text(), id.text());
        t.args(&["run", "--rm", &image, "sh", "-c", LOOK]).ok().prints(&before.stdout);
        // the layer knows nothing of the engine's own mounts, and what is removed is gone below
        t.args(&["run", "--rm", &image, "sh", "-c", "ls -A /volume; ls /etc/group"])
            .fails_with(1)
            .prints("")
            .complains("/etc/group: No such file");
        let history = t.cli(&format!("history --no-trunc --format '{{{{.CreatedBy}}}}' {image}")).ok();
        assert!(history.lines()[0].starts_with("sh -c set -e; mkdir -p /d/deep"), "{history}");
        t.cli(&format!("rmi {image}")).ok();
    });
}

#[test]
fn the_image_s_configuration_is_the_container_s_with_the_changes() {
    both(|t| {
        let (name, image) = (t.name("configured"), t.name("image"));
        t.args(&[
            "create", "--name", &name, "-e", "A=1", "-e", "B=2", "-u", "nobody", "--label", "own=x", "--expose", "80",
            "busybox", "sleep", "9",
        ])
        .ok();
        let words = [
            "commit",
            "-a",
            "Somebody <s@example.com>",
            "-m",
            "the message",
            "-c",
            "ENV B=3",
            "-c",
            "CMD [\"echo\", \"hi\"]",
            "-c",
            "LABEL added=y",
            "-c",
            "EXPOSE 81/udp",
            "-c",
            "VOLUME /v",
            "-c",
            "USER root",
            "-c",
            "WORKDIR /tmp",
            &name,
            &image,
        ];
        t.args(&words).ok();
        // newer versions of the API leave the parent out
        let found: Value = t.api().get(&format!("/v1.51/images/{image}/json")).status(200).json();
        let config = &found["Config"];
        let env: Vec<&str> = config["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(env.contains(&"A=1") && env.contains(&"B=3") && !env.contains(&"B=2"), "{env:?}");
        assert_eq!(config["Cmd"], json!(["echo", "hi"]));
        assert_eq!((&config["WorkingDir"], &config["Labels"]["added"]), (&json!("/tmp"), &json!("y")));
        assert_eq!(config["Labels"]["own"], "x");
        assert_eq!(config["ExposedPorts"], json!({ "80/tcp": {}, "81/udp": {} }));
        assert_eq!(config["Volumes"], json!({ "/v": {} }));
        assert_eq!((&found["Author"], &found["Comment"]), (&json!("Somebody <s@example.com>"), &json!("the message")));
        let base = t.api().get("/images/busybox/json").json();
        assert_eq!(found["Parent"], base["Id"]);
        // nothing was changed: no layer is added, and the history says so
        assert_eq!(found["RootFS"], base["RootFS"]);
        t.cli(&format!("run --rm {image}")).ok().prints("hi");
        t.cli(&format!("rmi {image}")).ok();
    });
}

#[test]
fn several_lines_are_one_change() {
    both(|t| {
        let (name, image) = (t.name("lines"), t.name("image"));
        t.cli(&format!("create --name {name} busybox true")).ok();
        let config = |change: &str| {
            t.args(&["commit", "-c", change, &name, &image]).ok();
            let config = t.api().get(&format!("/images/{image}/json")).json()["Config"].take();
            t.cli(&format!("rmi {image}")).ok();
            config
        };
        assert_eq!(config("# first\nLABEL q=1 \\\n  r=2\n\nLABEL z=3")["Labels"]["r"], "2");
        assert_eq!(config("CMD echo \\\n  hi")["Cmd"], json!(["/bin/sh", "-c", "echo   hi"]));
        for nothing in ["", "# only a comment"] {
            t.args(&["commit", "-c", nothing, &name, &image]).fails_with(1).complains("file with no instructions");
        }
    });
}

#[test]
fn a_nameless_image_that_others_were_made_of_is_listed_with_all_only() {
    both(|t| {
        let (first, second, image) = (t.name("first"), t.name("second"), format!("{}:v1", t.name("moving")));
        t.cli(&format!("create --name {first} busybox true")).ok();
        let below = t.cli(&format!("commit {first} {image}")).ok().text().to_string();
        t.cli(&format!("create --name {second} {image} true")).ok();
        t.cli(&format!("ps -a -f name={second} --format '{{{{.Image}}}}'")).ok().prints(&image);
        let above = t.cli(&format!("commit {second} {image}")).ok().text().to_string();
        t.cli("images -q --no-trunc").ok().says(&above).says_not(&below);
        t.cli("images -a -q --no-trunc").ok().says(&above).says(&below);
        for dangling in ["true", "false"] {
            t.cli(&format!("images -a -q --no-trunc -f dangling={dangling}")).ok().says_not(&below);
        }
        // a container's image is called by a name only while that stands for it
        t.cli(&format!("ps -a -f name={second} --format '{{{{.Image}}}}'")).ok().prints(&below[7..19]);
        let listed = |name: &str| {
            let filter = format!("%7B%22name%22%3A%5B%22{name}%22%5D%7D");
            t.api().get(&format!("/containers/json?all=1&filters={filter}")).status(200).json()[0].clone()
        };
        assert_eq!((&listed(&second)["Image"], &listed(&second)["ImageID"]), (&json!(below), &json!(below)));
        assert_eq!(listed(&first)["Image"], "busybox");
        assert_eq!(t.inspect(&second)["Config"]["Image"], image);
        let third = t.name("third");
        t.cli(&format!("create --name {third} {image} true")).ok();
        assert_eq!(listed(&third)["Image"], image);
        t.cli(&format!("rmi -f {image}")).ok();
        assert_eq!(listed(&third)["Image"], above);
        t.cli(&format!("rm {second} {third}")).ok();
        t.cli(&format!("rmi {below}")).ok();
    });
}

#[test]
fn old_clients_are_told_of_the_container_that_an_image_was_made_of() {
    engine(|t| {
        let (name, image, api) = (t.name("maker"), t.name("made"), t.api());
        let body = json!({ "Image": "busybox", "Cmd": ["true"], "Hostname": "maker", "Env": ["A=1"] });
        let made = api.post_json(&format!("/containers/create?name={name}"), &body).status(201).json();
        api.post(&format!("/commit?container={name}&repo={image}")).status(201);
        let old = api.get(&format!("/v1.44/images/{image}/json")).status(200).json();
        assert_eq!((&old["Container"], &old["ContainerConfig"]["Hostname"]), (&made["Id"], &json!("maker")));
        assert_eq!((&old["ContainerConfig"]["Cmd"], &old["Config"]["Hostname"]), (&json!(["true"]), &json!("")));
        assert!(old["ContainerConfig"]["Env"].as_array().unwrap().contains(&json!("A=1")), "{old}");
        let new = api.get(&format!("/v1.45/images/{image}/json")).status(200).json();
        assert!(new.get("Container").is_none() && new.get("ContainerConfig").is_none(), "{new}");
        let config = api.get(&format!("/v1.51/images/{image}/json")).status(200).json()["Config"].clone();
        assert!(config["Labels"].is_null() && config.get("Hostname").is_none(), "{config}");
        api.delete(&format!("/images/{image}")).status(200);
        api.delete(&format!("/containers/{name}")).status(204);
        let unnamed = api.post("/commit").status(400).message();
        assert_eq!(unnamed, "invalid name or ID supplied: \"\"");
        // without a name, nothing is done, whatever the image
        api.post("/images/no-such-image/tag").status(200);
        api.post("/images/no-such-image/tag?repo=x").status(404);
    });
}

#[test]
fn an_empty_list_changes_no_command() {
    both(|t| {
        let (name, image) = (t.name("empty"), t.name("image"));
        t.args(&["create", "--name", &name, "--entrypoint", "sh", "busybox", "-c", "true"]).ok();
        let of = |change: &str| {
            t.args(&["commit", "-c", change, &name, &image]).ok();
            let config = t.api().get(&format!("/images/{image}/json")).json()["Config"].take();
            t.cli(&format!("rmi {image}")).ok();
            (config["Entrypoint"].clone(), config["Cmd"].clone())
        };
        assert_eq!(of("ENTRYPOINT []"), (json!(["sh"]), json!(["-c", "true"])));
        assert_eq!(of("CMD []"), (json!(["sh"]), Value::Null));
        assert_eq!(of("ENTRYPOINT [\"x\"]"), (json!(["x"]), Value::Null));
        t.args(&["commit", &name, "sha256:1"]).fails_with(1).complains("refusing to create an ambiguous tag");
        t.args(&["commit", "-c", "HEALTHCHECK --interval=1ns CMD true", &name, &image])
            .fails_with(1)
            .complains("cannot be less than 1ms");
    });
}

#[test]
fn the_same_changes_are_the_same_layer() {
    both(|t| {
        let name = t.name("same");
        t.args(&["run", "--name", &name, "busybox", "sh", "-c", CHANGES]).ok();
        let layers = |number: u32| {
            let image = format!("{name}-{number}");
            t.cli(&format!("commit {name} {image}")).ok();
            let found = t.api().get(&format!("/images/{image}/json")).json()["RootFS"]["Layers"].clone();
            t.cli(&format!("rmi {image}")).ok();
            found
        };
        assert_eq!(layers(1), layers(2));
    });
}

#[test]
fn a_running_container_is_paused_meanwhile_and_goes_on() {
    both(|t| {
        let (name, image) = (t.name("runs"), t.name("image"));
        t.args(&["run", "-d", "--name", &name, "busybox", "sh", "-c", "echo x > /x; sleep 1000"]).ok();
        while t.cli(&format!("exec {name} cat /x")).stdout != "x\n" {}
        let since = t.api().get("/info").json()["SystemTime"].as_str().unwrap().to_owned();
        t.cli(&format!("commit {name} {image}")).ok();
        t.cli(&format!("exec {name} true")).ok();
        t.cli(&format!("commit --pause=false {name} {image}")).ok();
        t.cli(&format!("pause {name}")).ok();
        t.cli(&format!("commit {name} {image}")).ok();
        assert_eq!(t.inspect(&name)["State"]["Status"], "paused");
        t.cli(&format!("unpause {name}")).ok();
        t.cli(&format!("run --rm {image} cat /x")).ok().prints("x");
        let now = t.api().get("/info").json()["SystemTime"].as_str().unwrap().to_owned();
        let filter = format!("container={name}");
        let events = t
            .args(&["events", "--since", &since, "--until", &now, "--filter", &filter, "--format", "{{.Action}}"])
            .ok();
        let shown: Vec<&str> = events.lines().into_iter().filter(|line| !line.starts_with("exec_")).collect();
        assert_eq!(shown, ["pause", "commit", "unpause", "commit", "pause", "commit", "unpause"], "{events}");
        t.cli(&format!("image rm -f {image}")).ok();
        t.cli("image prune -f").ok();
    });
}

#[test]
fn commits_that_cannot_be_are_refused() {
    both(|t| {
        let name = t.name("refused");
        t.cli(&format!("create --name {name} busybox true")).ok();
        t.cli("commit no-such-container").fails_with(1).complains("No such container: no-such-container");
        t.args(&["commit", "-c", "FROM x", &name]).fails_with(1).complains("FROM is not a valid change command");
        t.cli(&format!("commit {name} Upper")).fails_with(1).complains("must be lowercase");
        let digest = format!("x@sha256:{}", "0".repeat(64));
        t.cli(&format!("commit {name} {digest}"))
            .fails_with(1)
            .complains("refusing to create a tag with a digest reference");
    });
}

#[test]
fn the_api_takes_a_configuration_of_its_own() {
    engine(|t| {
        let name = t.name("api");
        let body = json!({ "Image": "busybox", "Cmd": ["true"], "Env": ["A=1"], "Labels": { t.label().split('=').next().unwrap(): "1" } });
        t.api().post_json(&format!("/containers/create?name={name}"), &body).status(201);
        let own = json!({ "Cmd": ["echo"], "Env": ["B=2"] });
        let made =
            t.api().post_json(&format!("/commit?container={name}&changes=USER%20nobody"), &own).status(201).json();
        let id = made["Id"].as_str().unwrap();
        let config = t.api().get(&format!("/images/{id}/json")).status(200).json()["Config"].clone();
        assert_eq!((&config["Cmd"], &config["User"]), (&json!(["echo"]), &json!("nobody")));
        let env: Vec<&str> = config["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(env.contains(&"B=2") && env.contains(&"A=1"), "{env:?}");
        t.api().delete(&format!("/images/{id}")).status(200);
        t.api().delete(&format!("/containers/{name}")).status(204);
    });
}
