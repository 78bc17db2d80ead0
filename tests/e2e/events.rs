//! `events`: what happened, in order, with filters and bounds.

use hoist_tests::{Bed, Entry, Image, both, engine};
use serde_json::{Value, json};

/// The query value of filters.
fn encoded(filters: &Value) -> String {
    let text = filters.to_string();
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The actions seen for one container until it was destroyed, read from a stream that was open before.
fn actions(stream: &mut hoist_tests::Streaming, id: &str) -> Vec<Value> {
    let mut seen = Vec::new();
    while let Some(event) = stream.next_json() {
        let attributes = &event["Actor"]["Attributes"];
        if event["Actor"]["ID"] == id || attributes["container"] == id {
            seen.push(event.clone());
            if event["Action"] == "destroy" {
                break;
            }
        }
    }
    seen
}

fn create(t: &Bed, name: &str, command: &[&str]) -> String {
    let body = json!({ "Image": "busybox", "Cmd": command, "Labels": { "some": "label" }, "StopTimeout": 0 });
    let created = t.api().post_json(&format!("/containers/create?name={name}"), &body).status(201).json();
    created["Id"].as_str().unwrap().to_string()
}

#[test]
fn the_life_of_a_container_is_told_in_order() {
    engine(|t| {
        let api = t.api();
        let mut stream = api.stream("GET", "/events", b"");
        assert_eq!(stream.status, 200, "headers come before the first event");
        let name = t.name("events");
        let id = create(t, &name, &["sleep", "1000"]);
        api.post(&format!("/containers/{id}/start")).status(204);
        api.post(&format!("/containers/{id}/rename?name={name}x")).status(204);
        api.post(&format!("/containers/{id}/pause")).status(204);
        api.post(&format!("/containers/{id}/unpause")).status(204);
        let exec = json!({ "Cmd": ["sh", "-c", "exit 3"], "AttachStdout": true });
        let exec = api.post_json(&format!("/containers/{id}/exec"), &exec).status(201).json()["Id"].clone();
        api.hijack(&format!("/exec/{}/start", exec.as_str().unwrap()), &json!({})).rest();
        api.post(&format!("/containers/{id}/stop?t=0")).status(204);
        api.delete(&format!("/containers/{id}")).status(204);
        let seen = actions(&mut stream, &id);
        let names: Vec<&str> = seen.iter().map(|event| event["Action"].as_str().unwrap()).collect();
        let position = |name: &str| {
            let found = names.iter().position(|seen| seen.starts_with(name));
            found.unwrap_or_else(|| panic!("no {name} in {names:?}"))
        };
        let order = [
            "create",
            "connect",
            "start",
            "rename",
            "pause",
            "unpause",
            "exec_create: sh -c exit 3",
            "exec_start: sh",
            "exec_die",
            "kill",
            "disconnect",
        ];
        for pair in order.windows(2) {
            assert!(position(pair[0]) < position(pair[1]), "{pair:?} in {names:?}");
        }
        assert!(position("die") > position("kill") && position("stop") > position("kill"), "{names:?}");
        assert_eq!(names.last(), Some(&"destroy"));

        let die = &seen[position("die")]["Actor"]["Attributes"];
        assert_eq!((&die["exitCode"], &die["image"]), (&json!("137"), &json!("busybox")));
        assert_eq!((&die["some"], &die["name"]), (&json!("label"), &json!(format!("{name}x"))));
        assert_eq!(seen[position("exec_die")]["Actor"]["Attributes"]["exitCode"], "3");
        assert_eq!(seen[position("rename")]["Actor"]["Attributes"]["oldName"], format!("/{name}"));
        let start = &seen[position("start")];
        assert_eq!((&start["Type"], &start["scope"]), (&json!("container"), &json!("local")));
        let (seconds, nanos) = (start["time"].as_i64().unwrap(), start["timeNano"].as_i64().unwrap());
        assert_eq!(nanos / 1_000_000_000, seconds);
    });
}

#[test]
fn the_past_is_replayed_between_since_and_until() {
    both(|t| {
        let from = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let name = t.name("replay");
        t.cli(&format!("run --name {name} busybox sh -c 'exit 2'")).fails_with(2);
        t.cli(&format!("rm {name}")).ok();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        let until = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let bounds = format!("--since {from} --until {until}");
        let all = t.cli(&format!("events {bounds} -f container={name}")).ok();
        for action in ["create", "attach", "start", "die", "destroy"] {
            all.row(&format!("container {action} "));
        }
        assert!(all.row("container die ").contains("exitCode=2"));
        let only = t.cli(&format!("events {bounds} -f container={name} -f event=die")).ok();
        assert_eq!(only.lines().len(), 1);
        let format = t.args(&[
            "events",
            "--since",
            &from.to_string(),
            "--until",
            &until.to_string(),
            "-f",
            &format!("container={name}"),
            "-f",
            "event=start",
            "--format",
            "{{.Type}} {{.Action}} {{.Actor.Attributes.image}}",
        ]);
        format.ok().prints("container start busybox");
        let json = t.cli(&format!("events {bounds} -f container={name} -f event=start --format json")).ok().json();
        assert_eq!(json["Action"], "start");
        let id = all.row("container start ").split(' ').nth(3).unwrap().to_string();
        // A filter that there is not leaves nothing out.
        t.cli(&format!("events {bounds} -f nonsense=x -f container={name} -f event=die")).ok().prints(only.text());
        let networks = t.cli(&format!("events {bounds} -f type=network")).ok();
        assert!(networks.row(&id).contains("network "), "{networks}");
        t.cli("events --since nonsense --until 1").fails();
    });
}

#[test]
fn filters_select_by_label_image_and_type() {
    engine(|t| {
        let api = t.api();
        let name = t.name("filtered");
        let filters = json!({ "label": ["some=label"], "container": [&name], "event": ["start", "exec_create"] });
        let mut stream = api.stream("GET", &format!("/events?filters={}", encoded(&filters)), b"");
        let id = create(t, &name, &["true"]);
        api.post(&format!("/containers/{id}/start")).status(204);
        let first = stream.next_json().unwrap();
        assert_eq!((&first["Action"], &first["Actor"]["ID"]), (&json!("start"), &json!(id)));
        api.delete(&format!("/containers/{id}?force=1")).status(204);
        assert_eq!(api.stream("GET", "/events?filters=nonsense", b"").status, 400);
    });
}

#[test]
fn images_are_told_of_with_their_labels_by_which_they_are_chosen() {
    engine(|t| {
        let (api, name) = (t.api(), t.name("told"));
        let image = Image::busybox_with(&[Entry::file("told", name.clone())], json!({ "Labels": { "told": name } }));
        let (one, id) = (format!("127.0.0.1:9/{name}:one"), image.id());
        let filters = |filters: Value| format!("/events?filters={}", encoded(&filters));
        let mut labelled = api.stream("GET", &filters(json!({ "label": [format!("told={name}")] })), b"");
        let mut deleted = api.stream("GET", &filters(json!({ "type": ["image"], "event": ["delete"] })), b"");
        let mut of_repository =
            api.stream("GET", &filters(json!({ "image": [format!("127.0.0.1:9/{name}")], "type": ["image"] })), b"");
        t.load(&one, &image);
        api.post(&format!("/images/{id}/tag?repo=127.0.0.1%3A9%2F{name}&tag=two")).status(201);
        api.delete(&format!("/images/{one}")).status(200);
        api.delete(&format!("/images/127.0.0.1:9/{name}:two")).status(200);
        let changes = encoded(&json!(format!("LABEL told={name}")));
        let query =
            format!("fromSrc=-&repo={name}&changes={}", changes.trim_start_matches("%22").trim_end_matches("%22"));
        let tar = [("Content-Type", "application/x-tar")];
        api.request("POST", &format!("/images/create?{query}"), &tar, &[0; 1024]).status(200);
        let imported = api.get(&format!("/images/{name}/json")).status(200).json()["Id"].clone();
        api.delete(&format!("/images/{name}")).status(200);
        let two = format!("127.0.0.1:9/{name}:two");
        for (action, of, called) in [
            ("load", json!(id), json!(id)),
            ("tag", json!(id), json!(two)),
            ("untag", json!(id), json!(id)),
            ("untag", json!(id), json!(id)),
            ("tag", imported.clone(), json!(format!("{name}:latest"))),
            ("import", imported.clone(), imported.clone()),
            ("untag", imported.clone(), imported.clone()),
        ] {
            let event = labelled.next_json().unwrap();
            let attributes = json!({ "told": name, "name": called });
            assert_eq!((&event["Action"], &event["Actor"]["ID"]), (&json!(action), &of), "{event}");
            assert_eq!(event["Actor"]["Attributes"], attributes, "{event}");
        }
        assert_eq!(of_repository.next_json().unwrap()["Actor"]["Attributes"]["name"], two);
        // layers are not told of, and what is gone has no labels
        let mut gone = Vec::new();
        while gone.last() != Some(&imported) {
            let event = deleted.next_json().unwrap();
            assert_eq!(event["Actor"]["Attributes"], json!({ "name": event["Actor"]["ID"] }));
            gone.push(event["Actor"]["ID"].clone());
        }
        assert!(gone.contains(&json!(id)) && (gone.len() == 2 || !t.engine.is_own()), "{gone:?}");
    });
}

#[test]
fn volumes_are_told_of_from_their_making_to_their_removal() {
    engine(|t| {
        let api = t.api();
        let mut stream = api.stream("GET", "/events?filters=%7B%22type%22%3A%5B%22volume%22%5D%7D", b"");
        let (name, volume) = (t.name("events"), t.name("volume"));
        let host = json!({ "Binds": [format!("{volume}:/x:ro"), format!("{volume}:/y")] });
        let body = json!({ "Image": "busybox", "Cmd": ["true"], "Volumes": { "/anonymous": {} }, "HostConfig": host });
        let created = api.post_json(&format!("/containers/create?name={name}"), &body).status(201).json();
        let id = created["Id"].as_str().unwrap().to_string();
        api.post(&format!("/containers/{id}/start")).status(204);
        api.post(&format!("/containers/{id}/wait")).status(200);
        api.delete(&format!("/containers/{id}?v=1")).status(204);
        api.post_json("/volumes/create", &json!({ "Name": volume })).status(201);
        api.delete(&format!("/volumes/{volume}")).status(204);
        let (mut named, mut anonymous) = (Vec::new(), Vec::new());
        let mut unnamed = None;
        while let Some(event) = stream.next_json() {
            let (action, actor) = (event["Action"].as_str().unwrap().to_string(), &event["Actor"]);
            assert_eq!(actor["Attributes"]["driver"], "local");
            if actor["ID"] == volume.as_str() {
                named.push((action.clone(), actor["Attributes"].clone()));
                if action == "destroy" {
                    break;
                }
            } else {
                // Others may make volumes, too; ours is the one that our container mounts.
                if actor["Attributes"]["container"] == id.as_str() {
                    unnamed = Some(actor["ID"].clone());
                }
                anonymous.push((actor["ID"].clone(), action));
            }
        }
        let actions: Vec<&str> = named.iter().map(|(action, _)| action.as_str()).collect();
        assert_eq!(actions, ["create", "mount", "mount", "unmount", "unmount", "destroy"]);
        let mounts: Vec<&Value> = named[1..3].iter().map(|(_, attributes)| attributes).collect();
        for (destination, writable) in [("/x", "false"), ("/y", "true")] {
            let mount = mounts.iter().find(|attributes| attributes["destination"] == destination).unwrap();
            assert_eq!((&mount["container"], &mount["propagation"]), (&json!(id), &json!("")));
            assert_eq!(mount["read/write"], writable);
        }
        assert_eq!(named[3].1, json!({ "container": id, "driver": "local" }));
        let unnamed = unnamed.unwrap();
        let actions: Vec<&str> =
            anonymous.iter().filter(|(id, _)| *id == unnamed).map(|(_, action)| action.as_str()).collect();
        assert_eq!(actions, ["create", "mount", "unmount", "destroy"]);
    });
}

#[test]
fn zero_is_the_beginning_of_all_time() {
    both(|t| {
        let name = t.name("zero");
        t.cli(&format!("create --name {name} busybox true")).ok();
        t.cli(&format!("events --since 0 --until 0 -f container={name}")).ok().row("container create ");
    });
}
