//! `kill -9` of the engine at any moment: every container is found again, nothing is lost, nothing leaks.

use std::collections::BTreeMap;
use std::time::Duration;

use hoist_tests::{Bed, Cli, Engine, Entry, Image, engine, eventually, hoist, skip};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::stalling::Stalling;

/// Change it to try another sequence; a failure prints it.
const SEED: u64 = 20_240_607;
const ROUNDS: usize = 200;

#[test]
fn a_container_goes_on_while_the_engine_is_away() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "kills the engine");
        }
        t.args(&[
            "run",
            "-d",
            "--name",
            "on",
            "busybox",
            "sh",
            "-c",
            "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done",
        ])
        .ok();
        let pid = t.inspect("on")["State"]["Pid"].clone();
        t.engine.kill();
        std::thread::sleep(Duration::from_millis(500));
        t.engine.start_again();
        assert_eq!(t.inspect("on")["State"]["Pid"], pid);
        t.cli("exec on echo still here").ok().prints("still here");
        t.cli("stop -t 0 on").ok();
        let logs = t.cli("logs on").ok();
        let lines = logs.lines();
        assert!(lines.len() > 5, "what was written while nobody was there is kept: {} lines", lines.len());
        assert!(lines.iter().zip(1..).all(|(line, number)| *line == number.to_string()), "no line is missing: {logs}");
        t.cli("rm on").ok();
    });
}

#[test]
fn an_exit_while_the_engine_is_away_is_known_afterwards() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "kills the engine");
        }
        t.cli("run -d --name ends busybox sh -c 'sleep 0.5; echo last words; exit 23'").ok();
        t.cli("run -d --rm --name vanishes busybox sh -c 'sleep 0.5; exit 1'").ok();
        t.cli("run -d --restart always --name again busybox sh -c 'sleep 0.5; exit 1'").ok();
        t.engine.kill();
        std::thread::sleep(Duration::from_millis(1000));
        t.engine.start_again();
        eventually("the exit code is there", || t.inspect("ends")["State"]["ExitCode"] == 23);
        t.cli("wait ends").ok().prints("23");
        t.cli("logs ends").ok().prints("last words");
        eventually("--rm is kept", || t.api().get("/containers/vanishes/json").status == 404);
        eventually("the policy is kept", || t.inspect("again")["RestartCount"].as_u64() > Some(0));
        t.cli("rm -f ends again").ok();
    });
}

#[test]
fn a_terminal_and_standard_input_survive_the_engine() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "kills the engine");
        }
        t.cli("run -dit --name shell busybox sh").ok();
        t.engine.kill();
        t.engine.start_again();
        let mut terminal = t.terminal("attach shell");
        terminal.line("echo $((20+3))").expect("23").line("exit 4");
        assert_eq!(terminal.finish().0, 4);
        t.cli("rm shell").ok();
    });
}

#[test]
fn a_published_port_answers_while_the_engine_is_away() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "kills the engine");
        }
        t.load("nginx:latest", &hoist_tests::Image::nginx());
        let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        t.cli(&format!("run -d --name web -p {port}:80 nginx")).ok();
        let address =
            t.inspect("web")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap().to_string();
        eventually("it answers", || std::net::TcpStream::connect((address.as_str(), 80)).is_ok());
        t.engine.kill();
        assert!(std::net::TcpStream::connect((address.as_str(), 80)).is_ok());
        t.engine.start_again();
        eventually("the published port answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        t.cli("rm -f web").ok();
    });
}

#[test]
fn two_engines_side_by_side_do_not_see_each_other() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "starts another engine");
        }
        let other = Bed::new(Cli::Docker, &[]);
        t.cli("run -d --name same busybox sleep 1000").ok();
        other.cli("run -d --name same busybox sleep 1000").ok();
        assert_ne!(t.inspect("same")["Id"], other.inspect("same")["Id"]);
        t.cli("rm -f same").ok();
        assert_eq!(other.inspect("same")["State"]["Running"], true);
        other.cli("rm -f same").ok();
    });
}

#[test]
fn a_second_engine_in_the_same_place_is_refused() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "starts another engine");
        }
        t.cli("run -d --name first busybox sleep 1000").ok();
        let second = t.engine.start_twin();
        second.fails();
        assert_eq!(t.inspect("first")["State"]["Running"], true);
        t.cli("rm -f first").ok();
    });
}

/// What the test knows about a container that it made.
struct Expected {
    exit_code: Option<i64>,
    lines: usize,
}

/// One step of the loop, from the same numbers every time. A step that fails because the engine is being killed is no
/// failure: what it was told before is what counts.
fn step(t: &Bed, random: &mut StdRng, number: usize, known: &mut BTreeMap<String, Expected>) {
    let api = t.api();
    let json = [("Content-Type", "application/json")];
    let post = |path: &str, body: String| {
        let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &json };
        api.try_request("POST", path, headers, body.as_bytes()).ok().map(|reply| reply.status)
    };
    let victim = known.keys().nth(random.random_range(0..known.len().max(1))).cloned();
    match (random.random_range(0..6), victim) {
        (0..=2, _) | (_, None) => {
            let name = format!("c{number}");
            let (code, lines) = (random.random_range(0..100), random.random_range(1..50));
            let script = format!("seq {lines}; exit {code}");
            let body = json!({ "Image": "busybox", "Cmd": ["sh", "-c", script] }).to_string();
            if post(&format!("/containers/create?name={name}"), body) == Some(201) {
                known.insert(name.clone(), Expected { exit_code: None, lines: 0 });
                if post(&format!("/containers/{name}/start"), String::new()) == Some(204) {
                    known.insert(name, Expected { exit_code: Some(code), lines });
                }
            }
        }
        (3, Some(name)) => {
            let body = json!({ "Cmd": ["true"] }).to_string();
            let _ = post(&format!("/containers/{name}/exec"), body);
        }
        (4, Some(name)) => {
            let _ = post(&format!("/containers/{name}/stop?t=0"), String::new());
            // A stop that came in time replaces the exit code by that of the signal.
            if let Some(expected) = known.get_mut(&name) {
                expected.exit_code = expected.exit_code.map(|_| -1);
            }
        }
        (_, Some(name)) => {
            let reply = api.try_request("DELETE", &format!("/containers/{name}?force=1"), &[], b"");
            // Without an answer it may be gone or not: then it is removed for good, so that one knows.
            let _ = reply;
            known.remove(&name);
        }
    }
}

#[test]
fn two_hundred_kills_lose_nothing() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "kills the engine");
        }
        println!("seed {SEED}");
        let mut random = StdRng::seed_from_u64(SEED);
        let mut known = BTreeMap::new();
        let mut number = 0;
        for round in 0..ROUNDS {
            let delay = Duration::from_micros(random.random_range(0..60_000));
            let pid = t.engine.pid().unwrap();
            let killer = std::thread::spawn(move || {
                std::thread::sleep(delay);
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            });
            while t.engine.runs() {
                number += 1;
                step(t, &mut random, number, &mut known);
            }
            killer.join().unwrap();
            t.engine.start_again();
            if round % 20 == 19 {
                check(t, &known);
            }
        }
        check(t, &known);
        for name in known.keys() {
            t.api().delete(&format!("/containers/{name}?force=1"));
        }
    });
}

/// Every container that is known is there, ended as it was to end, with every line of its log.
fn check(t: &Bed, known: &BTreeMap<String, Expected>) {
    for (name, expected) in known {
        let Some(code) = expected.exit_code else {
            t.api().get(&format!("/containers/{name}/json")).status(200);
            continue;
        };
        eventually(&format!("{name} has ended"), || t.inspect(name)["State"]["Running"] == false);
        let state = t.inspect(name)["State"].clone();
        assert_ne!(state["Status"], "dead", "{name}: {state}");
        if code >= 0 {
            assert_eq!(state["ExitCode"], code, "{name}: {state}");
            let logs = t.api().get(&format!("/containers/{name}/logs?stdout=1")).status(200);
            let (out, _) = hoist_tests::demultiplex(&logs.body);
            assert_eq!(out.lines().count(), expected.lines, "the log of {name}: {out:?}");
        }
    }
}

#[test]
fn an_engine_that_ends_leaves_nothing_but_its_files() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "ends the engine");
        }
        let mut other = Engine::start_own(&[]);
        other.terminate();
        assert!(!other.socket.exists(), "the socket is still there");
        other.start_again();
    });
}

#[test]
fn a_pull_whose_engine_was_killed_fetches_only_what_is_missing() {
    hoist(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "kills the engine");
        }
        let mut bytes = vec![0; 6_000_000];
        rand::Rng::fill(&mut rand::rng(), bytes.as_mut_slice());
        let image = Image::busybox_with(&[Entry::file("before", "whole"), Entry::file("big", bytes)], json!({}));
        let whole = image.layers[1].blob.len();
        let stop = whole - whole / 100;
        let registry = Stalling::serve(&image, stop);
        let name = registry.name("x:v1");
        t.cli("rmi -f busybox").ok();
        let pull = t.spawn(&format!("pull {name}"));
        registry.wait_until_stalled();
        // What has come is on its way through the unpacker for a moment.
        let partial = t.engine.directory().join("d/image/partial");
        let files = || -> Vec<(String, u64)> {
            let boots = std::fs::read_dir(&partial).unwrap().flatten();
            let files = boots.flat_map(|boot| std::fs::read_dir(boot.path()).unwrap().flatten());
            files
                .filter_map(|f| Some((f.file_name().to_string_lossy().into_owned(), f.metadata().ok()?.len())))
                .collect()
        };
        let longest = || files().into_iter().map(|(_, length)| length).max().unwrap_or(0);
        eventually("what was sent is kept", || longest() + 1_000_000 >= stop as u64);
        eventually("the other layer is whole", || files().iter().any(|(name, _)| name.starts_with("layer-")));
        let kept = longest();
        t.engine.kill();
        pull.finish();
        t.engine.start_again();
        registry.go_on();
        t.cli(&format!("pull {name}")).ok();
        let starts = registry.starts();
        assert!(starts.len() == 2 && starts[0] == 0 && starts[1] as u64 >= kept, "{starts:?}, {kept} were kept");
        assert_eq!(registry.requests_for_other_layers(), 1, "the layer that was whole is not fetched again");
        t.cli(&format!("run --rm {name} wc -c /big")).ok().prints("6000000 /big");
        t.cli("image verify").ok().says_not("damaged");
    });
}

#[test]
fn what_was_to_go_with_its_container_and_was_never_started_is_gone_after_a_restart() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "ends the engine");
        }
        t.cli("create --rm --name goes -v /data -v named:/named busybox").ok();
        t.cli("create --name stays -v /data busybox").ok();
        let volume = |name: &str| {
            let mounts = t.inspect(name)["Mounts"].clone();
            let anonymous = mounts.as_array().unwrap().iter().find(|mount| mount["Destination"] == "/data").cloned();
            anonymous.unwrap()["Name"].as_str().unwrap().to_string()
        };
        let (gone, kept) = (volume("goes"), volume("stays"));
        t.engine.terminate();
        t.engine.start_again();
        t.api().get("/containers/goes/json").status(404);
        t.api().get(&format!("/volumes/{gone}")).status(404);
        for volume in [kept.as_str(), "named"] {
            t.api().get(&format!("/volumes/{volume}")).status(200);
        }
        t.cli("rm -v stays").ok();
        // Nobody holds it any more.
        t.api().delete("/volumes/named").status(204);
    });
}

/// Makes containers with anonymous volumes and removes them with these, until the engine is gone.
fn make_and_remove(t: &Bed, round: usize) {
    let api = t.api();
    let body = json!({ "Image": "busybox", "Volumes": { "/a": {}, "/b": {} } }).to_string();
    for number in 0.. {
        let path = format!("/containers/create?name=v{round}-{number}");
        if api.try_request("POST", &path, &[("Content-Type", "application/json")], body.as_bytes()).is_err()
            || api.try_request("DELETE", &format!("/containers/v{round}-{number}?v=1"), &[], b"").is_err()
        {
            return;
        }
    }
}

#[test]
fn kills_leave_no_anonymous_volume_of_nobody_and_take_none_that_was_left_on_purpose() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "kills the engine");
        }
        println!("seed {SEED}");
        let mut random = StdRng::seed_from_u64(SEED);
        t.cli("create --name leaves -v /data busybox").ok();
        t.cli("rm leaves").ok();
        let kept = t.api().get("/volumes").status(200).json()["Volumes"].clone();
        assert_eq!(kept.as_array().map(Vec::len), Some(1));
        for round in 0..40 {
            let delay = Duration::from_micros(random.random_range(1_000..40_000));
            let pid = t.engine.pid().unwrap();
            let killer = std::thread::spawn(move || {
                std::thread::sleep(delay);
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            });
            make_and_remove(t, round);
            killer.join().unwrap();
            t.engine.kill();
            t.engine.start_again();
        }
        for container in t.api().get("/containers/json?all=1").status(200).json().as_array().unwrap() {
            let id = container["Id"].as_str().unwrap();
            t.api().delete(&format!("/containers/{id}?v=1")).status(204);
        }
        assert_eq!(t.api().get("/volumes").status(200).json()["Volumes"], kept);
        assert!(!t.engine.log().contains("cannot collect a leftover"), "{}", t.engine.log());
    });
}
