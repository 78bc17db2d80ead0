//! From create to delete, and what can be done between.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use rustix::net::RecvFlags;

use super::Test;
use super::bundle::Bundle;

pub(crate) const TESTS: &[Test] = &[
    ("a_container_is_created_started_killed_and_deleted", created_started_killed_deleted),
    ("after_create_the_bundle_is_not_read_and_a_second_start_does_nothing", decided_at_create),
    ("run_ends_with_the_programs_exit_code_and_leaves_nothing", run_leaves_nothing),
    ("exec_runs_in_the_container_with_its_own_user_and_environment", exec_in_container),
    ("a_process_file_decides_everything_about_an_exec", exec_process_file),
    ("a_paused_container_is_resumed", paused_and_resumed),
    ("limits_are_updated_and_told", updated_limits),
    ("the_terminal_goes_to_the_console_socket", console_socket),
    ("preserved_fds_and_only_these_reach_the_program", preserved_fds),
    ("a_container_shares_namespaces_of_another", shared_namespaces),
    ("list_shows_what_is_there", list),
    ("a_killed_create_can_be_cleared_away", killed_create),
    ("cve_2019_5736_the_runtimes_program_cannot_be_written_from_inside", own_program_cannot_be_written),
];

/// A script whose interpreter is `/proc/self/exe` has the kernel execute the runtime inside the container, whatever the
/// runtime looks at before; and init is the runtime until it is started.
fn own_program_cannot_be_written() {
    const EROFS: i32 = 30;
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.change(|config| config["root"]["readonly"] = false.into());
    bundle.create(&[]);
    let init = format!("/proc/{}/exe", bundle.state()["pid"]);
    // Truncating comes first: a file that can be written would be busy, since it is being executed.
    let write = |path: &str| std::fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap_err();
    assert_eq!(write(&init).raw_os_error(), Some(EROFS));
    bundle.run(&["start", &bundle.id]);
    let script = "f=/bin/trick; printf '#!/proc/self/exe runtime\n' > $f; chmod +x $f";
    bundle.run(&["exec", &bundle.id, "sh", "-c", script]);
    let told = bundle.fail(&["exec", &bundle.id, "/bin/trick"]);
    assert!(!told.contains("busy"), "{told}");
    bundle.run(&["kill", &bundle.id, "KILL"]);
    bundle.wait_for("stopped");
    bundle.run(&["delete", &bundle.id]);
}

fn created_started_killed_deleted() {
    let bundle = Bundle::new(&["sh", "-c", "echo runs; exec sleep 1000"]);
    bundle.create(&["--pid-file", "pid"]);
    let state = bundle.state();
    assert_eq!(state["status"], "created");
    let pid = std::fs::read_to_string(bundle.path.join("pid")).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    assert_eq!(bundle.container_output(), "");
    bundle.run(&["start", &bundle.id]);
    assert_eq!(bundle.status(), "running");
    assert!(bundle.fail(&["start", &bundle.id]).contains("cannot start an already running container"));
    assert!(bundle.fail(&["delete", &bundle.id]).contains("that is not stopped: running"));
    assert_eq!(bundle.run(&["ps", "--format", "json", &bundle.id]).trim(), format!("[{pid}]"));
    bundle.run(&["kill", &bundle.id, "KILL"]);
    bundle.wait_for("stopped");
    assert_eq!(bundle.state()["pid"], 0);
    assert!(bundle.fail(&["kill", &bundle.id]).contains("container not running"));
    assert_eq!(bundle.container_output(), "runs\n");
    bundle.run(&["delete", &bundle.id]);
    bundle.assert_gone();
    assert!(bundle.fail(&["state", &bundle.id]).contains("does not exist"));
}

fn decided_at_create() {
    let bundle = Bundle::new(&["sh", "-c", "echo ran >> /tmp/runs"]);
    bundle.change(|config| config["root"]["readonly"] = false.into());
    let runs = bundle.path.join("rootfs/tmp/runs");
    std::fs::create_dir_all(bundle.path.join("rootfs/tmp")).unwrap();
    bundle.create(&[]);
    assert!(!runs.exists(), "the program ran before its start");
    bundle.change(|config| config["process"]["args"] = ["sh", "-c", "echo changed >> /tmp/runs"].as_slice().into());
    assert!(bundle.fail(&["create", &bundle.id]).contains("already exists"));
    bundle.run(&["start", &bundle.id]);
    bundle.wait_for("stopped");
    assert!(bundle.fail(&["start", &bundle.id]).contains("that has stopped"));
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "ran\n");
    bundle.run(&["delete", &bundle.id]);
    assert!(runs.exists(), "the bundle is not the runtime's to delete");
    bundle.assert_gone();
}

fn run_leaves_nothing() {
    let bundle = Bundle::new(&["sh", "-c", "echo to stdout; echo to stderr >&2; exit 42"]);
    let output = bundle.output(&["run", &bundle.id]);
    assert_eq!(output.status.code(), Some(42));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"to stdout\n"[..], &b"to stderr\n"[..]));
    bundle.assert_gone();
    bundle.change(|config| config["process"]["args"] = ["no-such-program"].as_slice().into());
    let text = bundle.fail(&["run", &bundle.id]);
    assert!(text.contains("exec: \\\"no-such-program\\\": executable file not found in $PATH"), "{text}");
    bundle.assert_gone();
}

fn exec_in_container() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.run_detached();
    let script = "echo $A $PWD $(id -u) $(id -g); readlink /proc/self/ns/pid /proc/1/ns/pid; exit 9";
    let args = ["exec", "--env", "A=b", "--cwd", "/bin", "--user", "7:8", &bundle.id, "sh", "-c", script];
    let output = bundle.output(&args);
    assert_eq!(output.status.code(), Some(9), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "b /bin 7 8");
    let output = bundle.output(&["exec", &bundle.id, "nope"]);
    assert_eq!(output.status.code(), Some(255));
    let fds = bundle.run(&["exec", &bundle.id, "sh", "-c", "ls /proc/$$/fd; true"]);
    assert_eq!(
        fds.split_whitespace().filter(|fd| fd.parse::<u32>().unwrap() < 10).collect::<Vec<_>>(),
        ["0", "1", "2"]
    );
}

fn exec_process_file() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.run_detached();
    let process = serde_json::json!({
        "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin", "X=1"],
        "args": ["sh", "-c", "echo $X; grep -E 'CapBnd|NoNewPrivs' /proc/self/status"], "noNewPrivileges": true,
    });
    std::fs::write(bundle.path.join("process.json"), process.to_string()).unwrap();
    let text = bundle.run(&["exec", "-p", "process.json", "--pid-file", "exec.pid", &bundle.id]);
    assert_eq!(text, "1\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n");
    assert!(std::fs::read_to_string(bundle.path.join("exec.pid")).unwrap().parse::<i32>().unwrap() > 1);
}

fn paused_and_resumed() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.run_detached();
    assert!(bundle.fail(&["resume", &bundle.id]).contains("is not paused"));
    bundle.run(&["pause", &bundle.id]);
    assert_eq!(bundle.status(), "paused");
    assert!(bundle.fail(&["exec", &bundle.id, "true"]).contains("cannot exec in a paused container"));
    bundle.run(&["resume", &bundle.id]);
    assert_eq!(bundle.status(), "running");
    bundle.run(&["pause", &bundle.id]);
    bundle.run(&["delete", "--force", &bundle.id]);
    bundle.assert_gone();
}

fn updated_limits() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    bundle.run_detached();
    bundle.run(&["update", "--memory", "64m", "--pids-limit", "33", "--cpu-quota", "50000", &bundle.id]);
    let event: serde_json::Value = serde_json::from_str(&bundle.run(&["events", "--stats", &bundle.id])).unwrap();
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 64 << 20);
    assert_eq!(event["data"]["pids"]["limit"], 33);
    assert!(bundle.fail(&["update", "--memory", "many", &bundle.id]).contains("invalid value for memory"));
    std::fs::write(bundle.path.join("more.json"), r#"{"memory":{"limit":134217728}}"#).unwrap();
    bundle.run(&["update", "--resources", "more.json", &bundle.id]);
    let event: serde_json::Value = serde_json::from_str(&bundle.run(&["events", "--stats", &bundle.id])).unwrap();
    assert_eq!(event["data"]["memory"]["usage"]["limit"], 128 << 20);
}

fn console_socket() {
    let bundle = Bundle::new(&["sh", "-c", "tty; exec sleep 1000"]);
    bundle.change(|config| config["process"]["terminal"] = true.into());
    assert!(bundle.fail(&["create", &bundle.id]).contains("without setting console socket"));
    bundle.assert_gone();
    let listener = UnixListener::bind(bundle.path.join("console")).unwrap();
    bundle.create(&["--console-socket", "console"]);
    let (stream, _) = listener.accept().unwrap();
    let (_, fds) = hoist_sys::socket::receive(stream.as_fd(), &mut [0; 64], RecvFlags::empty()).unwrap();
    let master: OwnedFd = fds.into_iter().next().unwrap();
    bundle.run(&["start", &bundle.id]);
    // A terminal hands out a line in as many pieces as it was written in.
    let mut text = String::new();
    BufReader::new(std::fs::File::from(master)).read_line(&mut text).unwrap();
    assert_eq!(text, "/dev/pts/0\r\n");
}

fn preserved_fds() {
    let bundle = Bundle::new(&["sh", "-c", ""]);
    bundle.change(|config| config["process"]["args"][2] = "cat <&3; ls /proc/$$/fd; true".into());
    std::fs::write(bundle.path.join("file"), "from fd 3\n").unwrap();
    let me = std::env::current_exe().unwrap();
    let script = format!(
        "exec 3<file 4<file; exec {} {} --root {} run --preserve-fds 1 {}",
        me.display(),
        super::AS_RUNTIME,
        bundle.root.display(),
        bundle.id
    );
    let output =
        std::process::Command::new("/bin/sh").args(["-c", &script]).current_dir(&bundle.path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let fds: Vec<&str> = text.lines().filter(|line| line.len() == 1).collect();
    assert_eq!((text.lines().next(), fds), (Some("from fd 3"), vec!["0", "1", "2", "3"]), "{:?}", output.stderr);
    let missing = bundle.fail(&["run", "--preserve-fds", "7", &bundle.id]);
    assert!(missing.contains("unable to stat preserved fd 3 (of 7)"), "{missing}");
}

fn shared_namespaces() {
    let one = Bundle::new(&["sleep", "1000"]);
    one.run_detached();
    let pid = one.state()["pid"].to_string();
    let two =
        Bundle::new(&["sh", "-c", "readlink /proc/self/ns/net; readlink /proc/self/ns/pid; readlink /proc/1/exe"]);
    two.change(|config| {
        for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
            let file = match namespace["type"].as_str().unwrap() {
                "network" => "net",
                "pid" => "pid",
                "ipc" => "ipc",
                _ => continue,
            };
            namespace["path"] = format!("/proc/{pid}/ns/{file}").into();
        }
    });
    let text = two.run(&["run", &two.id]);
    let own = |file: &str| std::fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap().display().to_string();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], [own("net"), own("pid")]);
    assert_eq!(lines[2], "/bin/busybox", "the first container's init is seen");
    assert_eq!(one.status(), "running");
}

fn list() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    assert_eq!(bundle.run(&["list", "-q"]), "");
    bundle.create(&[]);
    assert_eq!(bundle.run(&["list", "-q"]).trim(), bundle.id);
    let states: serde_json::Value = serde_json::from_str(&bundle.run(&["list", "-f", "json"])).unwrap();
    assert_eq!((states[0]["id"].as_str(), states[0]["status"].as_str()), (Some(bundle.id.as_str()), Some("created")));
    assert!(bundle.run(&["list"]).starts_with("ID "));
    bundle.run(&["delete", &bundle.id]);
    bundle.assert_gone();
}

fn killed_create() {
    let bundle = Bundle::new(&["true"]);
    std::fs::create_dir_all(bundle.root.join(&bundle.id)).unwrap();
    assert!(bundle.fail(&["create", &bundle.id]).contains("already exists"));
    bundle.run(&["delete", "--force", &bundle.id]);
    bundle.run(&["delete", "--force", &bundle.id]);
    assert_eq!(bundle.output(&["run", &bundle.id]).status.code(), Some(0));
}
