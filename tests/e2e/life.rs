//! The life of a container: create, start, stop, kill, restart, pause, rename, update, wait, remove, prune.

use std::time::{Duration, Instant};

use hoist_tests::{Bed, both, engine, eventually};
use serde_json::json;

fn sleeper(t: &Bed) -> String {
    let name = t.name("life");
    t.cli(&format!("run -d --name {name} busybox sleep 1000")).ok();
    name
}

fn state(t: &Bed, name: &str) -> serde_json::Value {
    t.inspect(name)["State"].clone()
}

#[test]
fn stop_sends_sigterm_and_waits_for_the_end() {
    both(|t| {
        let name = t.name("stop");
        let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
        t.args(&["run", "-d", "--name", &name, "busybox", "sh", "-c", script]).ok();
        eventually("the trap is set", || t.cli(&format!("logs {name}")).stdout.contains("ready"));
        t.cli(&format!("stop {name}")).ok().prints(&name);
        assert_eq!((&state(t, &name)["Status"], &state(t, &name)["ExitCode"]), (&json!("exited"), &json!(5)));
        t.cli(&format!("logs {name}")).ok().says("bye");
        t.cli(&format!("stop {name}")).ok();
    });
}

#[test]
fn stop_kills_after_the_timeout() {
    both(|t| {
        let name = sleeper(t);
        let start = Instant::now();
        t.cli(&format!("stop -t 1 {name}")).ok();
        let took = start.elapsed();
        assert!(took > Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
        assert_eq!(state(t, &name)["ExitCode"], 137);
        assert_eq!(state(t, &name)["OOMKilled"], false);
    });
}

#[test]
fn what_was_killed_has_ended_when_kill_returns() {
    both(|t| {
        let name = sleeper(t);
        for _ in 0..10 {
            t.cli(&format!("kill {name}")).ok().prints(&name);
            assert_eq!((&state(t, &name)["Status"], &state(t, &name)["ExitCode"]), (&json!("exited"), &json!(137)));
            t.cli(&format!("start {name}")).ok();
            assert_eq!(state(t, &name)["Status"], "running");
        }
    });
}

#[test]
fn the_stop_signal_and_timeout_of_the_container_are_used() {
    both(|t| {
        let name = t.name("signal");
        let script = "trap 'exit 8' USR1; echo ready; while :; do sleep 0.05; done";
        t.args(&["run", "-d", "--stop-signal", "USR1", "--name", &name, "busybox", "sh", "-c", script]).ok();
        eventually("the trap is set", || t.cli(&format!("logs {name}")).stdout.contains("ready"));
        t.cli(&format!("stop {name}")).ok();
        assert_eq!(state(t, &name)["ExitCode"], 8);
        let name = t.name("timeout");
        t.cli(&format!("run -d --stop-timeout 0 --name {name} busybox sleep 1000")).ok();
        let start = Instant::now();
        t.cli(&format!("stop {name}")).ok();
        assert!(start.elapsed() < Duration::from_secs(5));
        t.cli("run --rm --stop-signal NONSENSE busybox true").fails_with(125).complains("NONSENSE");
    });
}

#[test]
fn kill_sends_any_signal_by_name_or_number() {
    both(|t| {
        let name = t.name("kill");
        let script = "trap 'echo hup' HUP; trap 'echo usr2' USR2; echo ready; while :; do sleep 0.05; done";
        t.args(&["run", "-d", "--name", &name, "busybox", "sh", "-c", script]).ok();
        eventually("the traps are set", || t.cli(&format!("logs {name}")).stdout.contains("ready"));
        for (signal, seen) in [("HUP", "hup"), ("12", "usr2")] {
            t.cli(&format!("kill -s {signal} {name}")).ok().prints(&name);
            eventually("the signal arrives", || t.cli(&format!("logs {name}")).stdout.contains(seen));
        }
        t.cli(&format!("kill -s SIGNONSENSE {name}")).fails_with(1).complains("SIGNONSENSE");
        t.cli(&format!("kill {name}")).ok();
        eventually("it is dead", || state(t, &name)["Running"] == false);
        assert_eq!(state(t, &name)["ExitCode"], 137);
        t.cli(&format!("kill {name}")).fails_with(1).complains("is not running");
    });
}

#[test]
fn restart_starts_it_again_with_the_same_files() {
    both(|t| {
        let name = t.name("restart");
        t.args(&["run", "-d", "--name", &name, "busybox", "sh", "-c", "echo x >> /count; wc -l < /count; sleep 1000"])
            .ok();
        eventually("the first run is in the log", || t.cli(&format!("logs {name}")).text() == "1");
        let first = state(t, &name)["StartedAt"].clone();
        t.cli(&format!("restart -t 0 {name}")).ok().prints(&name);
        assert_ne!(state(t, &name)["StartedAt"], first);
        eventually("both runs are in the log", || t.cli(&format!("logs {name}")).text() == "1\n2");
        t.cli(&format!("stop -t 0 {name}")).ok();
        t.cli(&format!("start {name}")).ok().prints(&name);
        t.cli(&format!("start {name}")).ok();
        assert_eq!(state(t, &name)["Running"], true);
    });
}

#[test]
fn pause_freezes_and_unpause_goes_on() {
    both(|t| {
        let name = t.name("pause");
        t.args(&["run", "-d", "--name", &name, "busybox", "sh", "-c", "while :; do echo x; sleep 0.02; done"]).ok();
        t.cli(&format!("pause {name}")).ok().prints(&name);
        assert_eq!(state(t, &name)["Status"], "paused");
        t.cli(&format!("ps -f name={name}")).ok().says("(Paused)");
        std::thread::sleep(Duration::from_millis(200));
        let count = t.cli(&format!("logs {name}")).lines().len();
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(t.cli(&format!("logs {name}")).lines().len(), count);
        t.cli(&format!("pause {name}")).fails_with(1).complains("is already paused");
        t.cli(&format!("unpause {name}")).ok();
        eventually("it writes again", || t.cli(&format!("logs {name}")).lines().len() > count);
        t.cli(&format!("unpause {name}")).fails_with(1).complains("is not paused");
        t.cli(&format!("pause {name}")).ok();
        t.cli(&format!("rm -f {name}")).ok();
    });
}

#[test]
fn rename_frees_the_old_name() {
    both(|t| {
        let (old, new) = (t.name("old"), t.name("new"));
        t.cli(&format!("create --name {old} busybox")).ok();
        t.cli(&format!("rename {old} {new}")).ok();
        assert_eq!(t.inspect(&new)["Name"], format!("/{new}"));
        t.cli(&format!("inspect {old}")).fails();
        t.cli(&format!("create --name {old} busybox")).ok();
        t.cli(&format!("rename {old} {new}")).fails_with(1).complains("already in use");
        t.cli(&format!("rename {old} {old}")).fails_with(1);
    });
}

#[test]
fn wait_prints_the_exit_code_of_each() {
    both(|t| {
        let (one, two) = (t.name("wait"), t.name("wait"));
        t.cli(&format!("run -d --name {one} busybox sh -c 'sleep 0.3; exit 3'")).ok();
        t.cli(&format!("run -d --name {two} busybox sh -c 'exit 4'")).ok();
        t.cli(&format!("wait {one} {two}")).ok().prints("3\n4");
        t.cli(&format!("wait {one}")).ok().prints("3");
        t.cli("wait no-such-container").fails_with(1).complains("No such container: no-such-container");
    });
}

#[test]
fn a_running_container_is_removed_by_force_only() {
    both(|t| {
        let name = sleeper(t);
        t.cli(&format!("rm {name}"))
            .fails_with(1)
            .complains("container is running: stop the container before removing");
        assert_eq!(state(t, &name)["Running"], true);
        t.cli(&format!("rm -f {name}")).ok().prints(&name);
        t.cli(&format!("rm {name}")).fails_with(1).complains(&format!("No such container: {name}"));
        t.cli(&format!("rm -f {name}")).ok();
    });
}

#[test]
fn prune_removes_what_has_stopped() {
    both(|t| {
        let (stopped, running) = (t.name("stopped"), sleeper(t));
        let label = t.name("prune");
        t.cli(&format!("run --name {stopped} -l {label} busybox true")).ok();
        let pruned = t.cli(&format!("container prune -f --filter label={label}")).ok();
        pruned.says("Deleted Containers:").says("Total reclaimed space:");
        t.cli(&format!("inspect {stopped}")).fails();
        assert_eq!(state(t, &running)["Running"], true);
    });
}

#[test]
fn a_policy_restarts_what_fails_up_to_its_limit() {
    both(|t| {
        let name = t.name("policy");
        t.cli(&format!("run -d --name {name} --restart on-failure:2 busybox sh -c 'echo run; exit 1'")).ok();
        eventually("it gave up", || {
            let inspected = t.inspect(&name);
            inspected["RestartCount"] == 2 && inspected["State"]["Status"] == "exited"
        });
        t.cli(&format!("logs {name}")).ok().prints("run\nrun\nrun");
        t.cli("run --rm --restart always busybox true").fails_with(125).complains("conflicting options");
        t.cli("create --restart sometimes busybox true").fails_with(1);
    });
}

#[test]
fn a_policy_of_always_ends_with_stop() {
    both(|t| {
        let name = t.name("always");
        t.cli(&format!("run -d --name {name} --restart always busybox sh -c 'sleep 0.1'")).ok();
        eventually("it was restarted", || t.inspect(&name)["RestartCount"].as_u64() > Some(1));
        t.cli(&format!("stop -t 1 {name}")).ok();
        let count = t.inspect(&name)["RestartCount"].clone();
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!((&t.inspect(&name)["RestartCount"], &state(t, &name)["Running"]), (&count, &json!(false)));
    });
}

#[test]
fn update_changes_limits_and_the_policy() {
    both(|t| {
        let name = sleeper(t);
        t.cli(&format!("update --memory 64m --memory-swap 64m --restart unless-stopped {name}")).ok().prints(&name);
        let host = t.inspect(&name)["HostConfig"].clone();
        assert_eq!((&host["Memory"], &host["RestartPolicy"]["Name"]), (&json!(64 << 20), &json!("unless-stopped")));
        for who in [name.as_str(), "no-such-container"] {
            let refused = t.cli(&format!("update --memory 1k {who}")).fails_with(1);
            refused.complains("Minimum memory limit allowed is 6MB");
        }
    });
}

#[test]
fn states_that_do_not_change_are_304_without_a_body() {
    engine(|t| {
        let api = t.api();
        let name = t.name("again");
        let body = json!({ "Image": "busybox", "Cmd": ["sleep", "1000"], "StopTimeout": 0 });
        api.post_json(&format!("/containers/create?name={name}"), &body).status(201);
        assert!(api.post(&format!("/containers/{name}/stop")).status(304).body.is_empty());
        api.post(&format!("/containers/{name}/start")).status(204);
        assert!(api.post(&format!("/containers/{name}/start")).status(304).body.is_empty());
        api.post(&format!("/containers/{name}/stop")).status(204);
        assert!(api.post(&format!("/containers/{name}/stop")).status(304).body.is_empty());
        api.post(&format!("/containers/{name}/kill")).status(409);
        api.post(&format!("/containers/{name}/wait?condition=foo")).status(400);
        api.delete(&format!("/containers/{name}")).status(204);
        api.delete(&format!("/containers/{name}")).status(404);
    });
}

/// The client sends `start` only when `wait` has answered, and leaves that connection waiting.
#[test]
fn wait_answers_its_headers_before_the_end() {
    engine(|t| {
        let api = t.api();
        let name = t.name("wait");
        let body = json!({ "Image": "busybox", "Cmd": ["sh", "-c", "exit 9"], "HostConfig": { "AutoRemove": true } });
        api.post_json(&format!("/containers/create?name={name}"), &body).status(201);
        let mut next = api.stream("POST", &format!("/containers/{name}/wait?condition=next-exit"), b"");
        let mut removed = api.stream("POST", &format!("/containers/{name}/wait?condition=removed"), b"");
        assert_eq!((next.status, removed.status), (200, 200));
        api.post(&format!("/containers/{name}/start")).status(204);
        assert_eq!(next.next_json().unwrap()["StatusCode"], 9);
        assert_eq!(removed.next_json().unwrap()["StatusCode"], 9);
        api.get(&format!("/containers/{name}/json")).status(404);
    });
}
