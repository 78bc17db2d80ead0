//! `ps`, `inspect`, `top`, `diff`, `port`, `version`, `info` and templates.

use hoist_tests::{Bed, Entry, Image, both, engine, eventually};
use serde_json::json;

fn sleeper(t: &Bed) -> String {
    let name = t.name("list");
    t.cli(&format!("run -d --name {name} busybox sleep 1000")).ok();
    name
}

#[test]
fn ps_shows_what_runs_and_with_a_all() {
    both(|t| {
        let name = sleeper(t);
        let stopped = t.name("stopped");
        t.cli(&format!("run --name {stopped} busybox sh -c 'exit 3'")).fails_with(3);
        // dockerd lets the client go before it knows that the container has ended.
        t.cli(&format!("wait {stopped}")).ok();
        let ps = t.cli("ps").ok().matches("^CONTAINER ID +IMAGE +COMMAND +CREATED +STATUS +PORTS +NAMES$");
        let row = ps.row(&name);
        assert!(row.contains("busybox") && row.contains("\"sleep 1000\"") && row.contains("Up "), "{row}");
        ps.says_not(&stopped);
        let row = t.cli("ps -a").ok().row(&stopped).to_string();
        assert!(row.contains("Exited (3) ") && row.contains("seconds ago") || row.contains("second ago"), "{row}");
    });
}

#[test]
fn ps_quiet_no_trunc_last_and_format() {
    both(|t| {
        let name = sleeper(t);
        let id = t.inspect(&name)["Id"].as_str().unwrap().to_string();
        t.cli(&format!("ps -q -f name={name}")).ok().prints(&id[..12]);
        t.cli(&format!("ps -q --no-trunc -f name={name}")).ok().prints(&id);
        let format = "{{.Names}} {{.Image}} {{.State}} {{.Label \"a\"}}{{.RunningFor}}";
        let ran = t.args(&["ps", "-f", &format!("name={name}"), "--format", format]).ok();
        assert!(ran.text().starts_with(&format!("{name} busybox running ")), "{ran}");
        let json = t.args(&["ps", "-f", &format!("name={name}"), "--format", "json"]).ok().json();
        assert_eq!((&json["Names"], &json["ID"]), (&json!(name), &json!(id[..12])));
        let table = t.args(&["ps", "-f", &format!("name={name}"), "--format", "table {{.Names}}\t{{.Status}}"]).ok();
        table.matches("^NAMES +STATUS$").matches(&format!("^{name} +Up "));
    });
}

#[test]
fn ps_filters() {
    both(|t| {
        let running = t.name("filter");
        let mark = t.name("mark");
        t.cli(&format!("run -d --name {running} -l {mark}=1 busybox sleep 1000")).ok();
        let ended = t.name("filter");
        t.cli(&format!("run --name {ended} -l {mark}=2 busybox sh -c 'exit 7'")).fails_with(7);
        let list = |filter: &str| {
            let ran = t.cli(&format!("ps -a --format {{{{.Names}}}} -f label={mark} {filter}")).ok();
            let mut names: Vec<String> = ran.lines().iter().map(|line| line.to_string()).collect();
            names.sort_unstable();
            names
        };
        let mut all = vec![running.clone(), ended.clone()];
        all.sort_unstable();
        assert_eq!(list(""), all);
        assert_eq!(list("-f status=running"), [running.as_str()]);
        assert_eq!(list("-f status=exited"), [ended.as_str()]);
        assert_eq!(list("-f exited=7"), [ended.as_str()]);
        assert!(list("-f exited=8").is_empty());
        assert_eq!(list(&format!("-f label={mark}=2")), [ended.as_str()]);
        assert_eq!(list("-f ancestor=busybox"), all);
        assert_eq!(list(&format!("-f since={running}")), [ended.as_str()]);
        assert_eq!(list(&format!("-f before={ended}")), [running.as_str()]);
        assert_eq!(list("-f network=bridge").len(), 2);
        let id = t.inspect(&running)["Id"].as_str().unwrap().to_string();
        assert_eq!(list(&format!("-f id={}", &id[..10])), [running]);
        t.cli("ps -f nonsense=1").fails_with(1).complains("invalid filter 'nonsense'");
        t.cli("ps -f status=nonsense").fails_with(1);
    });
}

#[test]
fn inspect_formats_as_go_does() {
    both(|t| {
        let name = t.name("inspect");
        t.cli(&format!("run -d --name {name} -e A=1 -l k=v -p 127.0.0.1::80 busybox sleep 1000")).ok();
        let format = |template: &str| t.args(&["inspect", "-f", template, &name]).ok().text().to_string();
        assert_eq!(format("{{.Name}}"), format!("/{name}"));
        assert_eq!(format("{{.State.Running}} {{.State.ExitCode}}"), "true 0");
        assert_eq!(format("{{index .Config.Labels \"k\"}}"), "v");
        assert_eq!(format("{{json .Config.Cmd}}"), "[\"sleep\",\"1000\"]");
        assert_eq!(format("{{range .Config.Cmd}}<{{.}}>{{end}}"), "<sleep><1000>");
        assert_eq!(format("{{join .Config.Cmd \"+\"}}"), "sleep+1000");
        assert_eq!(format("{{.Config.Cmd}} {{len .Config.Cmd}}"), "[sleep 1000] 2");
        assert_eq!(format("{{if .State.Running}}up{{else}}down{{end}}"), "up");
        assert_eq!(format("{{upper .State.Status}} {{println \"x\"}}"), "RUNNING x");
        assert_eq!(format("{{printf \"%s:%d\" .Config.Image .State.ExitCode}}"), "busybox:0");
        assert_eq!(format("{{with .Config}}{{.Image}}{{end}}"), "busybox");
        let port = format("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}");
        assert!(port.parse::<u16>().is_ok(), "{port}");
        assert_eq!(format("{{range $p, $conf := .NetworkSettings.Ports}}{{$p}}{{end}}"), "80/tcp");
        let split = format("{{(split .Config.Image \"y\")}} {{title \"abc\"}} {{truncate \"abcdef\" 3}}");
        assert_eq!(split, "[bus box] Abc abc");
        t.args(&["inspect", "-f", "{{.NoSuchField}}", &name]).fails();
        t.args(&["inspect", "-f", "{{.Name", &name]).fails();
    });
}

#[test]
fn inspect_has_the_fields_that_clients_read() {
    both(|t| {
        let name = sleeper(t);
        let all = t.cli(&format!("inspect {name}")).ok().json();
        let container = &all[0];
        let keys = "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver \
                    Platform MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig Mounts Config NetworkSettings";
        for key in keys.split_whitespace() {
            assert!(container.get(key).is_some(), "{key} is missing");
        }
        let state = &container["State"];
        for key in "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt".split(' ')
        {
            assert!(state.get(key).is_some(), "State.{key} is missing");
        }
        assert_eq!(state["FinishedAt"], "0001-01-01T00:00:00Z");
        let host = &container["HostConfig"];
        assert_eq!((&host["ShmSize"], &host["IpcMode"]), (&json!(64 << 20), &json!("private")));
        assert_eq!((&host["NetworkMode"], &host["RestartPolicy"]["Name"]), (&json!("bridge"), &json!("no")));
        assert_eq!((&host["LogConfig"]["Type"], &host["CapAdd"]), (&json!("json-file"), &json!(null)));
        assert!(host["MaskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
        let bridge = &container["NetworkSettings"]["Networks"]["bridge"];
        assert!(bridge["IPAddress"].as_str().unwrap().contains('.') && bridge["MacAddress"].is_string(), "{bridge}");
    });
}

#[test]
fn inspect_takes_several_and_tells_which_is_missing() {
    both(|t| {
        let name = sleeper(t);
        let ran = t.cli(&format!("inspect {name} no-such-thing")).fails_with(1);
        assert_eq!(ran.json().as_array().unwrap().len(), 1);
        assert!(ran.stderr.to_lowercase().contains("no such object: no-such-thing"), "{ran}");
        t.cli("inspect --type image busybox").ok().says("sha256:");
        t.cli(&format!("inspect --type image {name}")).fails();
        let sized = t.cli(&format!("inspect -s {name}")).ok().json();
        assert!(sized[0]["SizeRootFs"].as_u64() > Some(100_000), "{sized}");
    });
}

#[test]
fn objects_are_found_by_name_and_by_a_prefix_of_the_id() {
    engine(|t| {
        let api = t.api();
        let name = t.name("prefix");
        let id = api
            .post_json(&format!("/containers/create?name={name}"), &json!({ "Image": "busybox" }))
            .status(201)
            .json();
        let id = id["Id"].as_str().unwrap().to_string();
        for query in [name.as_str(), &id, &id[..12], &id[..6]] {
            assert_eq!(api.get(&format!("/containers/{query}/json")).status(200).json()["Id"], id);
        }
        api.delete(&format!("/containers/{id}")).status(204);
    });
}

#[test]
fn top_shows_the_hosts_view_of_the_processes() {
    both(|t| {
        let name = sleeper(t);
        let top = t.cli(&format!("top {name}")).ok().matches("^UID +PID +PPID +C +STIME +TTY +TIME +CMD");
        assert!(top.row("sleep 1000").starts_with("root"), "{top}");
        let pid = t.inspect(&name)["State"]["Pid"].to_string();
        let top = t.cli(&format!("top {name} -o pid,comm")).ok().matches("^PID +COMMAND");
        assert!(top.row("sleep").starts_with(&pid), "{top}");
        t.cli(&format!("stop -t 0 {name}")).ok();
        t.cli(&format!("top {name}")).fails_with(1).complains("is not running");
    });
}

#[test]
fn diff_tells_added_changed_and_deleted() {
    both(|t| {
        let name = t.name("diff");
        t.cli(&format!(
            "run --name {name} busybox sh -c 'echo x > /new; rm /etc/group; echo >> /etc/passwd; mkdir /d'"
        ))
        .ok();
        let diff = t.cli(&format!("diff {name}")).ok();
        let mut lines = diff.lines();
        lines.sort_unstable();
        assert_eq!(lines, ["A /d", "A /new", "C /etc", "C /etc/passwd", "D /etc/group"]);
    });
}

#[test]
fn diff_tells_what_a_new_directory_hides_and_no_mere_copies() {
    both(|t| {
        let image = t.name("layered");
        let files = ["data/a", "data/b/x", "data/c/y", "kept/f"].map(|path| Entry::file(path, "x"));
        t.load(&format!("{image}:latest"), &Image::busybox_with(&files, json!({})));
        let diff = |script: &str| {
            let name = t.name("diff");
            t.args(&["run", "--name", &name, &image, "sh", "-c", script]).ok();
            let diff = t.cli(&format!("diff {name}")).ok();
            t.cli(&format!("rm {name}")).ok();
            let mut lines: Vec<String> = diff.lines().iter().map(|line| (*line).to_string()).collect();
            lines.sort_unstable();
            lines
        };
        let replaced = diff("rm -r /data; mkdir -p /data/b; echo x > /data/b/zz");
        assert_eq!(replaced, ["A /data/b/zz", "C /data", "C /data/b", "D /data/a", "D /data/b/x", "D /data/c"]);
        let copied = diff("chmod 644 /kept/f; ln /kept/f /kept/g; rm /kept/g; touch -d @0 /kept; chown 0:0 /data/c/y");
        assert!(copied.is_empty(), "{copied:?}");
        assert_eq!(diff("chmod 600 /kept/f; touch /data/a"), ["C /data", "C /data/a", "C /kept", "C /kept/f"]);
        assert_eq!(diff("rm -r /data/b; echo > /data/b"), ["C /data", "C /data/b"]);
        t.cli(&format!("rmi {image}")).ok();
    });
}

#[test]
fn version_and_info_name_the_server() {
    both(|t| {
        t.args(&["version", "--format", "{{.Server.Os}} {{.Server.Arch}}"]).ok().matches("^linux (amd64|arm64)$");
        t.cli("version").ok().says("Client:").says("Server:").says("API version:");
        let info = t.cli("info").ok();
        info.says("Containers:")
            .says("Running:")
            .says("Storage Driver:")
            .says("Cgroup Version:")
            .says("Kernel Version:");
        t.args(&["info", "-f", "{{.OSType}} {{.DefaultRuntime}}"]).ok().matches("^linux [a-z]+$");
    });
}

#[test]
fn ping_and_version_headers_are_dockers() {
    engine(|t| {
        let api = t.api();
        for reply in [api.get("/_ping").status(200), api.head("/_ping").status(200)] {
            assert!(reply.header("Api-Version").is_some() && reply.header("Ostype") == Some("linux"));
            assert!(reply.header("Server").unwrap().starts_with("Docker/"), "{:?}", reply.headers);
        }
        assert_eq!(api.get("/_ping").text(), "OK");
        assert_eq!(api.get("/v1.24/_ping").status(200).text(), "OK");
        let missing = api.get("/no/such/route").status(404);
        assert_eq!(missing.json(), json!({ "message": "page not found" }));
        assert!(api.get("/v1.9/version").status == 400 && api.get("/v9.9/version").status == 400);
        assert!(api.get("/v9.9/info").message().contains("too new"));
        let version = api.get("/version").status(200).json();
        for key in ["Version", "ApiVersion", "MinAPIVersion", "Os", "Arch", "KernelVersion", "Components"] {
            assert!(version.get(key).is_some(), "{key} is missing");
        }
    });
}

#[test]
fn ps_a_hundred_times_while_containers_come_and_go() {
    both(|t| {
        let name = t.name("churn");
        let churn = t.spawn(&format!("run --name {name} busybox sh -c 'for i in $(seq 20); do sleep 0.05; done'"));
        for _ in 0..10 {
            t.cli("ps -a").ok();
        }
        churn.finish().ok();
        eventually("it is listed as ended", || t.cli(&format!("ps -a -f name={name}")).stdout.contains("Exited (0)"));
    });
}

#[test]
fn ps_filters_by_ports_of_the_host_and_of_the_container() {
    both(|t| {
        let (name, made, mark) = (t.name("ports"), t.name("ports"), t.name("mark"));
        t.cli(&format!("run -d --name {name} -l {mark} -p 127.0.0.1::80 -p 127.0.0.1::81/udp busybox sleep 1000")).ok();
        t.cli(&format!("create --name {made} -l {mark} -p 127.0.0.1::80 --expose 99 busybox sleep 1000")).ok();
        let ports = &t.inspect(&name)["NetworkSettings"]["Ports"];
        let host = |port: &str| ports[port][0]["HostPort"].as_str().unwrap().to_string();
        let (tcp, udp) = (host("80/tcp"), host("81/udp"));
        let list = |filter: &str| t.cli(&format!("ps -a --format {{{{.Names}}}} -f label={mark} -f {filter}")).ok();
        for found in [&format!("publish={tcp}"), &format!("publish={tcp}-{tcp}/tcp"), &format!("publish={udp}/udp")] {
            list(found).prints(&name);
        }
        for found in ["expose=80", "expose=79-80/tcp", "expose=81/udp"] {
            list(found).prints(&name);
        }
        // 80 and 99 are ports of containers; what does not run has none.
        for nobody in ["publish=80", "publish=81/udp", "expose=81", "expose=99", &format!("publish={tcp}/sctp")] {
            list(nobody).prints("");
        }
        for (wrong, why) in [
            ("publish=5-3", "publish 5-3: Invalid range specified for the Port: 5-3"),
            ("publish=99999", "publish 99999: strconv.ParseUint: parsing \"99999\": value out of range"),
            ("expose=foo", "expose foo: strconv.ParseUint: parsing \"foo\": invalid syntax"),
            ("publish=", "publish : Empty string specified for ports."),
        ] {
            let text = format!("error while looking up for {why}");
            t.cli(&format!("ps -f {wrong}")).fails_with(1).complains(&text);
        }
    });
}

#[test]
fn ps_filters_with_nothing_in_them() {
    both(|t| {
        let (name, mark) = (t.name("empty"), t.name("mark"));
        t.cli(&format!("create --name {name} -l {mark} busybox true")).ok();
        let list = |filter: &str| t.cli(&format!("ps -a --format {{{{.Names}}}} -f label={mark} -f {filter}")).ok();
        for everybody in ["name=", "network=", "isolation="] {
            list(everybody).prints(&name);
        }
        for nobody in ["id=", "ancestor=", "volume=", "name=["] {
            list(nobody).prints("");
        }
        for (wrong, text) in [("status=", "invalid filter 'status='"), ("health=", "invalid filter 'health='")] {
            t.cli(&format!("ps -f {wrong}")).fails_with(1).complains(text);
        }
    });
}

#[test]
fn inspect_tells_what_was_asked_for_and_what_was_before() {
    both(|t| {
        let (name, volume) = (t.name("inspect"), t.name("volume"));
        let flags = format!(
            "--pid host --mac-address 02:42:ac:11:00:99 -v {volume}:/x --mount type=tmpfs,dst=/t,tmpfs-size=1m"
        );
        t.cli(&format!("create --name {name} {flags} busybox true")).ok();
        let made = t.inspect(&name);
        assert_eq!(made["HostConfig"]["SecurityOpt"], json!(["label=disable"]));
        assert_eq!(made["HostConfig"]["Mounts"][0]["TmpfsOptions"], json!({ "SizeBytes": 1_048_576 }));
        let mount = made["Mounts"].as_array().unwrap().iter().find(|mount| mount["Type"] == "volume").unwrap();
        assert_eq!(mount["Mode"], "z");
        assert_eq!(made["Config"]["Volumes"], json!(null));
        t.cli(&format!("start {name}")).ok();
        t.cli(&format!("wait {name}")).ok();
        eventually("it has ended", || t.inspect(&name)["State"]["Status"] == "exited");
        let bridge = t.api().get("/networks/bridge").status(200).json()["Id"].clone();
        let network = t.inspect(&name)["NetworkSettings"]["Networks"]["bridge"].clone();
        assert_eq!((&network["NetworkID"], &network["MacAddress"]), (&bridge, &json!("")));
    });
}
