//! `exec`: another process in a running container.

use std::time::{Duration, Instant};

use hoist_tests::{Bed, both, demultiplex, engine, eventually};
use serde_json::json;

fn sleeper(t: &Bed) -> String {
    let name = t.name("exec");
    t.cli(&format!("run -d --name {name} busybox sleep 1000")).ok();
    name
}

#[test]
fn exec_runs_beside_the_first_process_and_returns_its_exit_code() {
    both(|t| {
        let name = sleeper(t);
        t.cli(&format!("exec {name} echo hello")).ok().prints("hello");
        t.cli(&format!("exec {name} sh -c 'echo err >&2; exit 5'")).fails_with(5).complains("err");
        t.cli(&format!("exec {name} ps")).ok().matches(r"^ +1 root .*sleep 1000");
        t.cli_with(&format!("exec -i {name} cat"), b"piped").ok().prints("piped");
        // Who still has input when the program ends gets its output and its exit code all the same.
        let much = vec![b'x'; 4_000_000];
        for _ in 0..5 {
            t.cli_with(&format!("exec -i {name} sh -c 'echo over; exit 5'"), &much).fails_with(5).prints("over\n");
            t.cli_with("run --rm -i busybox sh -c 'echo over; exit 4'", &much).fails_with(4).prints("over\n");
        }
    });
}

#[test]
fn exec_takes_as_much_as_the_kernel_takes() {
    both(|t| {
        let name = sleeper(t);
        let long = "x".repeat(100_000);
        let arguments =
            ["exec", "-e", &format!("LONG={long}"), &name, "sh", "-c", "echo $#", "sh", &long, &long, &long];
        t.args(&arguments).ok().prints("3");
        let longer = json!({ "Cmd": ["sh", "-c", "true", "x".repeat(200_000)], "AttachStderr": true });
        let id = t.api().post_json(&format!("/containers/{name}/exec"), &longer).status(201).json()["Id"].clone();
        let id = id.as_str().unwrap();
        let stream = t.api().hijack(&format!("/exec/{id}/start"), &json!({ "Detach": false, "Tty": false }));
        assert!(demultiplex(&stream.rest()).1.ends_with("sh: argument list too long\n"));
        assert_eq!(t.api().get(&format!("/exec/{id}/json")).status(200).json()["ExitCode"], 255);
    });
}

#[test]
fn output_of_what_an_exec_leaves_behind_is_waited_for_but_not_for_long() {
    both(|t| {
        let name = sleeper(t);
        t.args(&["exec", &name, "sh", "-c", "(sleep 0.5; echo late) & echo now"]).ok().prints("now\nlate");
        let endless = "(while sleep 0.05; do echo more; done) & echo now; exit 3";
        let started = Instant::now();
        t.args(&["exec", &name, "sh", "-c", endless]).fails_with(3).says("now\n");
        assert!(started.elapsed() < Duration::from_secs(30));
        t.cli(&format!("rm -f {name}")).ok();
    });
}

#[test]
fn the_exit_code_is_told_though_the_container_is_removed() {
    both(|t| {
        for _ in 0..5 {
            let name = sleeper(t);
            let mut running = t.spawn(&format!("exec {name} sh -c 'echo started; exec sleep 1000'"));
            running.wait_for("started");
            t.cli(&format!("rm -f {name}")).ok();
            running.finish().fails_with(137);
        }
    });
}

#[test]
fn exec_of_something_that_cannot_run_is_126_or_127() {
    both(|t| {
        let name = sleeper(t);
        let missing = t.cli(&format!("exec {name} no-such-command")).fails_with(127);
        assert!(format!("{}{}", missing.stdout, missing.stderr).contains("no-such-command"), "{missing}");
        t.cli(&format!("exec {name} /etc/passwd")).fails_with(126);
        for (command, code, text) in [
            ("no-such-command", 127, "exec: \"no-such-command\": executable file not found in $PATH"),
            ("/etc", 126, "exec: \"/etc\": is a directory: permission denied"),
            (
                "/etc/passwd/x",
                127,
                "stat /etc/passwd/x: not a directory: Are you trying to mount a directory onto a file",
            ),
        ] {
            let failed = t.cli(&format!("exec {name} {command}")).fails_with(code);
            let told = format!("{}{}", failed.stdout, failed.stderr);
            assert!(told.contains(text) && !told.contains(": unknown"), "{failed}");
        }
        t.cli(&format!("exec -w /no/such/directory {name} true")).fails();
        t.cli(&format!("exec {name} true")).ok();
    });
}

#[test]
fn exec_as_nobody_known_or_in_a_relative_directory_is_refused_as_dockerd_does() {
    both(|t| {
        let name = sleeper(t);
        let unknown = t.cli(&format!("exec -u nosuch {name} true")).fails_with(1);
        unknown.complains("Error response from daemon: unable to find user nosuch: no matching entries in passwd file");
        let relative = t.cli(&format!("exec -w tmp {name} true")).fails_with(128);
        let told = format!("{}{}", relative.stdout, relative.stderr);
        assert!(told.contains("OCI runtime exec failed: exec failed: Cwd must be an absolute path"), "{relative}");
    });
}

#[test]
fn exec_takes_user_directory_and_environment() {
    both(|t| {
        let name = sleeper(t);
        t.cli(&format!("exec -u worker {name} id -un")).ok().prints("worker");
        t.cli(&format!("exec -u 7:8 {name} id")).ok().matches("^uid=7 gid=8");
        t.cli(&format!("exec -w /tmp {name} pwd")).ok().prints("/tmp");
        t.cli(&format!("exec -e A=1 {name} sh -c 'echo $A'")).ok().prints("1");
        t.set("LATER", "x");
        t.cli(&format!("exec -e LATER {name} sh -c 'echo $LATER'")).ok().prints("x");
    });
}

#[test]
fn exec_inherits_the_containers_environment_and_user() {
    both(|t| {
        let name = t.name("exec");
        t.cli(&format!("run -d --name {name} -u worker -w /tmp -e FROM=run busybox sleep 1000")).ok();
        t.cli(&format!("exec {name} sh -c 'id -un; pwd; echo $FROM $HOSTNAME'")).ok().says("worker\n/tmp\nrun ");
    });
}

#[test]
fn exec_on_a_terminal() {
    both(|t| {
        let name = sleeper(t);
        let mut terminal = t.terminal(&format!("exec -it {name} sh"));
        terminal.expect("/ # ").line("stty size").expect("24 80").expect("/ # ").line("exit 3");
        assert_eq!(terminal.finish().0, 3);
    });
}

#[test]
fn a_detached_exec_returns_at_once() {
    both(|t| {
        let name = sleeper(t);
        t.cli(&format!("exec -d {name} sh -c 'sleep 0.2; touch /done; sleep 1000'")).ok().prints("");
        eventually("the detached process did its work", || t.cli(&format!("exec {name} test -e /done")).code == 0);
    });
}

#[test]
fn exec_in_a_container_that_does_not_run_is_refused() {
    both(|t| {
        let name = t.name("exec");
        t.cli(&format!("create --name {name} busybox sleep 1000")).ok();
        t.cli(&format!("exec {name} true")).fails_with(1).complains("is not running");
        t.cli(&format!("start {name}")).ok();
        t.cli(&format!("pause {name}")).ok();
        t.cli(&format!("exec {name} true")).fails_with(1).complains("is paused");
        t.cli("exec no-such-container true").fails_with(1).complains("No such container: no-such-container");
    });
}

#[test]
fn privileged_exec_has_more_than_the_container() {
    both(|t| {
        let name = sleeper(t);
        let caps = |options: &str| {
            let line = t.cli(&format!("exec {options} {name} grep CapEff /proc/self/status")).ok();
            u64::from_str_radix(line.text().rsplit('\t').next().unwrap(), 16).unwrap()
        };
        assert_eq!(caps(""), 0xa804_25fb);
        assert!(caps("--privileged").count_ones() > 30);
    });
}

#[test]
fn the_exit_code_is_known_when_the_exec_stream_closes() {
    engine(|t| {
        let name = t.name("exec");
        let api = t.api();
        let body = json!({ "Image": "busybox", "Cmd": ["sleep", "1000"], "Labels": { "hoist.test": t.label()[11..] } });
        api.post_json(&format!("/containers/create?name={name}"), &body).status(201);
        api.post(&format!("/containers/{name}/start")).status(204);
        for code in 0..20 {
            let body = json!({ "Cmd": ["sh", "-c", format!("echo out; exit {code}")], "AttachStdout": true, "AttachStderr": true });
            let id = api.post_json(&format!("/containers/{name}/exec"), &body).status(201).json()["Id"].clone();
            let id = id.as_str().unwrap();
            let stream = api.hijack(&format!("/exec/{id}/start"), &json!({ "Detach": false, "Tty": false }));
            assert_eq!(stream.status, 101);
            assert_eq!(demultiplex(&stream.rest()).0, "out\n");
            let exec = api.get(&format!("/exec/{id}/json")).status(200).json();
            assert_eq!((&exec["Running"], &exec["ExitCode"]), (&json!(false), &json!(code)), "{exec}");
        }
        api.get("/exec/no-such-exec/json").status(404);
        api.delete(&format!("/containers/{name}?force=1")).status(204);
    });
}

#[test]
fn a_hundred_execs_leave_no_zombie() {
    both(|t| {
        let name = sleeper(t);
        let loops: Vec<_> =
            (0..4).map(|_| t.spawn(&format!("exec {name} sh -c 'for i in $(seq 25); do /bin/true; done'"))).collect();
        for one in loops {
            one.finish().ok();
        }
        eventually("only the first process and ps are left", || {
            let ps = t.cli(&format!("exec {name} ps")).ok();
            ps.lines().len() == 3
        });
    });
}
