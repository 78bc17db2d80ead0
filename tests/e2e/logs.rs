//! `logs`: what was written, by stream, by line and by time.

use hoist_tests::{Bed, Cli, both, demultiplex, engine, eventually};
use serde_json::json;

fn finished(t: &Bed, script: &str) -> String {
    let name = t.name("logs");
    t.args(&["run", "--name", &name, "busybox", "sh", "-c", script]);
    name
}

#[test]
fn logs_keep_the_streams_apart() {
    both(|t| {
        let name = finished(t, "echo out; echo err >&2; printf 'no newline'");
        let ran = t.cli(&format!("logs {name}")).ok();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\nno newline", "err\n"));
    });
}

#[test]
fn tail_counts_lines() {
    both(|t| {
        let name = finished(t, "for i in 1 2 3 4 5; do echo $i; done");
        t.cli(&format!("logs --tail 2 {name}")).ok().prints("4\n5");
        t.cli(&format!("logs -n 0 {name}")).ok().prints("");
        t.cli(&format!("logs --tail all {name}")).ok().prints("1\n2\n3\n4\n5");
        t.cli(&format!("logs --tail 100 {name}")).ok().prints("1\n2\n3\n4\n5");
        // Docker takes what is no number for all of it.
        t.cli(&format!("logs --tail none {name}")).ok().prints("1\n2\n3\n4\n5");
    });
}

#[test]
fn timestamps_have_nine_digits_and_bounds_select_by_them() {
    both(|t| {
        let name = finished(t, "echo one; sleep 1.1; echo two");
        let ran = t.cli(&format!("logs -t {name}")).ok();
        let ran = ran.matches(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z one$").matches(r"Z two$");
        let second = ran.row("two").split(' ').next().unwrap().to_string();
        t.cli(&format!("logs --since {second} {name}")).ok().prints("two");
        t.cli(&format!("logs --until {} {name}", &second[..second.len() - 5])).ok().says("one");
        t.cli(&format!("logs --since 1h {name}")).ok().prints("one\ntwo");
        t.cli(&format!("logs --until 1h {name}")).ok().prints("");
        t.cli(&format!("logs --since yesterday {name}")).fails();
    });
}

#[test]
fn follow_ends_with_the_container() {
    both(|t| {
        let name = t.name("follow");
        t.args(&["run", "-d", "--name", &name, "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done"]);
        t.cli(&format!("logs -f {name}")).ok().prints("1\n2\n3");
        t.cli(&format!("logs -f {name}")).ok().prints("1\n2\n3");
    });
}

#[test]
fn follow_shows_lines_as_they_come() {
    both(|t| {
        let name = t.name("follow");
        t.args(&["run", "-di", "--name", &name, "busybox", "cat"]);
        let mut logs = t.spawn(&format!("logs -f {name}"));
        let mut writer = t.spawn(&format!("attach {name}"));
        for line in ["first", "second"] {
            writer.write(format!("{line}\n").as_bytes());
            logs.wait_for(line);
        }
        t.cli(&format!("rm -f {name}")).ok();
        logs.finish_with_open_stdin();
    });
}

#[test]
fn details_show_the_labels_that_the_log_options_name() {
    both(|t| {
        let name = t.name("details");
        t.cli(&format!("run --name {name} --log-opt labels=a --log-opt env=B -l a=1 -e B=2 busybox echo line")).ok();
        t.cli(&format!("logs --details {name}")).ok().prints("B=2,a=1 line");
        t.cli(&format!("logs {name}")).ok().prints("line");
    });
}

#[test]
fn a_driver_that_keeps_nothing_says_so() {
    both(|t| {
        let name = t.name("none");
        t.cli(&format!("run --name {name} --log-driver none busybox echo lost")).ok().prints("lost");
        t.cli(&format!("logs {name}")).fails_with(1).complains("configured logging driver does not support reading");
        t.cli("run --rm --log-driver no-such-driver busybox true").fails_with(125).complains("no-such-driver");
    });
}

#[test]
fn the_local_driver_can_be_read() {
    both(|t| {
        let name = t.name("local");
        t.cli(&format!("run --name {name} --log-driver local busybox sh -c 'echo out; echo err >&2'")).ok();
        let ran = t.cli(&format!("logs {name}")).ok();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
    });
}

#[test]
fn rotation_keeps_the_newest_lines() {
    both(|t| {
        let name = t.name("rotate");
        let options = "--log-opt max-size=20k --log-opt max-file=2";
        t.cli(&format!("run --name {name} {options} busybox sh -c 'for i in $(seq 2000); do echo line $i; done'")).ok();
        let ran = t.cli(&format!("logs {name}")).ok();
        let lines = ran.lines();
        assert_eq!(lines.last(), Some(&"line 2000"));
        assert!(lines.len() < 1000, "{} lines are kept", lines.len());
        let first: usize = lines[0].trim_start_matches("line ").parse().unwrap();
        assert_eq!(lines.len(), 2000 - first + 1, "no hole in what is kept");
        t.cli("run --rm --log-opt max-size=nonsense busybox true").fails_with(125);
        t.cli("run --rm --log-opt no-such-option=1 busybox true").fails_with(125).complains("no-such-option");
    });
}

#[test]
fn a_long_line_comes_back_whole() {
    both(|t| {
        let name = finished(t, "head -c 100000 /dev/zero | tr '\\0' x; echo; echo end");
        let ran = t.cli(&format!("logs {name}")).ok();
        assert_eq!(ran.stdout.len(), 100_000 + 1 + 4);
        assert!(ran.stdout.ends_with("x\nend\n"));
    });
}

/// Others read this file: kubelet, log shippers.
#[test]
fn the_log_file_is_dockers_json() {
    engine(|t| {
        let name = t.name("json");
        let name = {
            t.cli = Cli::Docker;
            t.args(&["run", "--name", &name, "busybox", "sh", "-c", "echo 'a \"quoted\" line'; printf partial >&2"]);
            name
        };
        let path = t.inspect(&name)["LogPath"].as_str().unwrap().to_string();
        if !t.engine.is_own() {
            hoist_tests::skip!("own-engine", "the peer's files are in a root of its own: {path}");
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |stream: &str| lines.iter().find(|line| line["stream"] == stream).cloned().unwrap();
        assert_eq!(of("stdout")["log"], "a \"quoted\" line\n");
        assert_eq!(of("stderr")["log"], "partial");
        assert!(of("stdout")["time"].as_str().unwrap().ends_with('Z'));
    });
}

#[test]
fn headers_of_logs_come_at_once_and_wrong_questions_are_refused() {
    engine(|t| {
        let api = t.api();
        let name = t.name("silent");
        let body = json!({ "Image": "busybox", "Cmd": ["sleep", "1000"] });
        api.post_json(&format!("/containers/create?name={name}"), &body).status(201);
        api.post(&format!("/containers/{name}/start")).status(204);
        let following = api.stream("GET", &format!("/containers/{name}/logs?stdout=1&follow=1"), b"");
        assert_eq!(following.status, 200);
        assert_eq!(following.header("Content-Type"), Some("application/vnd.docker.multiplexed-stream"));
        let nothing = api.get(&format!("/containers/{name}/logs")).status(400).message();
        assert_eq!(nothing, "Bad parameters: you must choose at least one stream");
        api.get("/containers/no-such-container/logs?stdout=1").status(404);
        api.delete(&format!("/containers/{name}?force=1")).status(204);
        assert_eq!(demultiplex(&following.rest()), (String::new(), String::new()));
    });
}

#[test]
fn nothing_is_missing_from_a_fast_writer() {
    both(|t| {
        let name = t.name("fast");
        t.cli(&format!("run -d --name {name} busybox seq 200000")).ok();
        eventually("it ended", || t.inspect(&name)["State"]["Status"] == "exited");
        let ran = t.cli(&format!("logs {name}")).ok();
        assert!(ran.lines().iter().zip(1..).all(|(line, number)| *line == number.to_string()), "a line is missing");
        assert_eq!(ran.lines().len(), 200_000);
    });
}
