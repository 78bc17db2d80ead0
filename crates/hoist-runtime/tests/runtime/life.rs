//! From launch to exit code: outcomes, signals, what the program finds.

use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use hoist_runtime::protocol::{FailureKind, FromSupervisor, State, ToSupervisor};
use hoist_runtime::spawner::{Link, Spawner};

use super::Test;
use super::container::{Container, demultiplex, receive, wait_for};

pub(crate) const TESTS: &[Test] = &[
    ("a_container_runs_and_its_output_and_exit_code_come_back", runs),
    ("a_command_that_is_not_there_or_not_executable_is_told_in_runcs_words", commands_that_fail),
    ("a_program_that_the_kernel_refuses_ends_with_255_and_says_why", kernel_refuses),
    ("signals_reach_pid_1_and_count_as_128_and_the_number", signals),
    ("init_forwards_signals_reaps_and_passes_the_exit_code_on", own_init),
    ("the_program_finds_user_groups_directory_limits_and_environment_as_asked_for", process_settings),
    ("the_program_is_confined_as_dockers_default_has_it", confinement),
    ("a_container_that_is_never_told_to_start_waits_and_can_be_given_up", waits_for_start),
    ("a_container_is_not_started_before_it_is_recorded", a_container_is_not_started_before_it_is_recorded),
    ("a_later_engine_finds_the_supervisor_and_the_exit_file_tells_the_rest", later_engine),
    ("joined_namespaces_are_those_of_the_other_container", joined_namespaces),
    ("many_containers_start_at_once", many_at_once),
    ("the_spawner_is_started_again_when_it_died", spawner_restarts),
    ("the_oom_killer_is_told_when_it_strikes_and_in_the_exit", oom),
    ("a_supervisor_needs_little_memory", memory),
    ("a_container_does_not_outlive_its_supervisor", supervisor_killed),
    ("what_is_not_supported_is_refused_by_name", refused),
];

fn runs(spawner: &Spawner) {
    let container = Container::new(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let mut running = container.run(spawner);
    let phases = running.wait_for(|message| match message {
        FromSupervisor::Started { phases, .. } => Some(phases),
        FromSupervisor::StartFailed(failure) => panic!("{failure}"),
        _ => None,
    });
    assert!(phases.iter().any(|(name, duration_ns)| name == "clone" && *duration_ns > 0), "{phases:?}");
    let output = running.read_to_end();
    assert_eq!(demultiplex(&output, 1), b"out\n");
    assert_eq!(demultiplex(&output, 2), b"err\n");
    let exit = running.end().unwrap();
    assert_eq!(exit.exit_code, 7);
    assert!(exit.finished_at_ns >= exit.started_at_ns && exit.started_at_ns > 0);
    let file = std::fs::read_to_string(container.directory.join("state/exit.json")).unwrap();
    assert!(file.contains("\"exit_code\":7"), "{file}");
    container.assert_nothing_left();
}

fn commands_that_fail(spawner: &Spawner) {
    use FailureKind::{NotExecutable, NotFound, Other};
    for (command, kind, text) in [
        ("nope", NotFound, r#"exec: "nope": executable file not found in $PATH"#),
        ("", NotFound, r#"exec: "": executable file not found in $PATH"#),
        ("/nope", NotFound, r#"exec: "/nope": stat /nope: no such file or directory"#),
        ("/etc", NotExecutable, r#"exec: "/etc": is a directory"#),
        ("/etc/passwd", NotExecutable, r#"exec: "/etc/passwd": permission denied"#),
        ("/etc/passwd/x", Other, r#"exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory"#),
    ] {
        let container = Container::new(&[command]);
        let failure = container.failure(spawner);
        assert_eq!(failure.message, format!("error during container init: {text}"));
        assert_eq!(failure.kind, kind, "{text}");
        container.assert_nothing_left();
    }
}

fn kernel_refuses(spawner: &Spawner) {
    for (content, reason) in [("garbage", "exec format error"), ("#!/nope\n", "no such file or directory")] {
        let container = Container::new(&["/x"]);
        std::fs::write(container.lower("x"), content).unwrap();
        std::fs::set_permissions(container.lower("x"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (output, end) = container.output(spawner);
        assert_eq!(end.unwrap().exit_code, 255);
        assert_eq!(String::from_utf8(demultiplex(&output, 2)).unwrap(), format!("exec /x: {reason}\n"));
    }
}

fn signals(spawner: &Spawner) {
    let container = Container::new(&["sleep", "100"]);
    let running = container.run(spawner);
    running.started();
    // pid 1 has no default action for SIGTERM; SIGKILL comes from outside.
    running.signal(15);
    running.signal(9);
    assert_eq!(running.end().unwrap().exit_code, 137);

    let container = Container::new(&["sh", "-c", "trap 'exit 5' TERM; echo ready; while true; do sleep 0.01; done"]);
    let mut running = container.run(spawner);
    running.read_until("ready");
    running.signal(15);
    assert_eq!(running.end().unwrap().exit_code, 5);
}

fn own_init(spawner: &Spawner) {
    let script = "cat /proc/1/comm; (sleep 0.05 & ) ; sh -c '(sleep 0.02 &) ; true'; sleep 0.3; \
                  grep State:.Z /proc/[0-9]*/status; exit 9";
    let mut container = Container::new(&["sh", "-c", script]);
    container.launch.init = true;
    let (output, end) = container.output(spawner);
    assert_eq!(end.unwrap().exit_code, 9);
    let text = String::from_utf8(demultiplex(&output, 1)).unwrap();
    assert_eq!(text, "docker-init\n", "the orphans were not reaped");

    let mut container = Container::new(&["sh", "-c", "echo ready; exec sleep 100"]);
    container.launch.init = true;
    let mut running = container.run(spawner);
    running.read_until("ready");
    running.signal(15);
    assert_eq!(running.end().unwrap().exit_code, 143);
}

fn process_settings(spawner: &Spawner) {
    let script = "id; pwd; ulimit -n; umask; echo $HOME $A; cat /proc/self/oom_score_adj; hostname; \
                  cat /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_unprivileged_port_start; echo x > /dev/stdout";
    let mut container = Container::new(&["sh", "-c", script]);
    let process = container.launch.spec.process_mut().as_mut().unwrap();
    let mut user = process.user().clone();
    user.set_uid(1000).set_gid(1001).set_additional_gids(Some(vec![5, 77]));
    let limit: oci_spec::runtime::PosixRlimit =
        serde_json::from_str(r#"{"type":"RLIMIT_NOFILE","soft":123,"hard":456}"#).unwrap();
    process.set_user(user).set_rlimits(Some(vec![limit])).set_cwd("/made/for/me".into()).set_oom_score_adj(Some(77));
    process.env_mut().as_mut().unwrap().push("A=b c".to_owned());
    container.launch.spec.set_hostname(Some("a-name".to_owned()));
    let sysctls = [("kernel.shmmax", "12345"), ("net.ipv4.ip_unprivileged_port_start", "7")];
    let sysctls = sysctls.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    container.launch.spec.linux_mut().as_mut().unwrap().set_sysctl(Some(sysctls));
    let expected =
        "uid=1000(me) gid=1001 groups=5,77\n/made/for/me\n123\n0022\n/home/me b c\n77\na-name\n12345\n7\nx\n";
    assert_eq!(container.stdout(spawner), expected);
}

fn confinement(spawner: &Spawner) {
    let script = "grep -E 'Cap|Seccomp:|NoNewPrivs' /proc/self/status | sed 's/\\s\\+/ /'; ls /proc/self/fd | wc -l; \
                  echo x > /proc/sys/kernel/core_pattern; cat /proc/keys; mount -t tmpfs x /tmp; ip link | grep -c lo:; \
                  ls /dev | tr '\\n' ' '; stat -c %a /dev/null /dev/tty | tr '\\n' ' '; wc -c < /proc/interrupts; cat /proc/1/comm; exit 0";
    let mut container = Container::new(&["sh", "-c", script]);
    let capabilities: Vec<String> =
        hoist_runtime::defaults::DEFAULT_CAPABILITIES.iter().map(|name| (*name).to_owned()).collect();
    let profile = hoist_runtime::seccomp::default_profile(&capabilities);
    container.launch.seccomp_program = Some(hoist_runtime::seccomp::compile(&profile).unwrap());
    std::os::unix::fs::symlink("busybox", container.lower("bin/tr")).unwrap();
    let text = container.stdout(spawner);
    let expected = "CapInh: 0000000000000000\nCapPrm: 00000000a80425fb\nCapEff: 00000000a80425fb\n\
        CapBnd: 00000000a80425fb\nCapAmb: 0000000000000000\nNoNewPrivs: 0\nSeccomp: 2\n4\n1\n\
        fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero 666 666 0\nsh\n";
    assert_eq!(text.replace("core fd", "fd"), expected);
}

fn waits_for_start(spawner: &Spawner) {
    let container = Container::new(&["true"]);
    let link = spawner.launch(&container.launch).unwrap();
    let prepared = |message| match message {
        FromSupervisor::Hello { state, .. } => Some(state),
        FromSupervisor::StartFailed(failure) => panic!("{failure}"),
        _ => None,
    };
    while receive(&link, prepared) != State::Prepared {
        std::thread::sleep(std::time::Duration::from_millis(5));
        link.send(&ToSupervisor::Status, &[]).unwrap();
    }
    link.send(&ToSupervisor::Abort, &[]).unwrap();
    let failure = receive(&link, |message| match message {
        FromSupervisor::StartFailed(failure) => Some(failure),
        FromSupervisor::Started { .. } => panic!("it started"),
        _ => None,
    });
    assert_eq!(failure.message, "start was given up");
    container.assert_nothing_left();
    assert!(!container.directory.join("state/exit.json").exists());

    let link = spawner.launch(&container.launch).unwrap();
    while receive(&link, prepared) != State::Prepared {
        link.send(&ToSupervisor::Status, &[]).unwrap();
    }
    link.send(&ToSupervisor::Start, &[]).unwrap();
    assert_eq!(receive(&link, exit_code), 0);
}

fn a_container_is_not_started_before_it_is_recorded(spawner: &Spawner) {
    let container = Container::new(&["touch", "/ran"]);
    let prepared = |link: &Link| {
        let state = |message| match message {
            FromSupervisor::Hello { state, .. } => Some(state),
            _ => None,
        };
        while receive(link, state) != State::Prepared {
            std::thread::sleep(std::time::Duration::from_millis(5));
            link.send(&ToSupervisor::Status, &[]).unwrap();
        }
    };
    let link = spawner.launch(&container.launch).unwrap();
    prepared(&link);
    drop(link);
    wait_for(|| Link::connect(&container.directory.join("run")).is_err());
    container.assert_nothing_left();
    assert!(!container.directory.join("upper/ran").exists());
    assert!(!container.directory.join("state/exit.json").exists());
}

fn exit_code(message: FromSupervisor) -> Option<i32> {
    match message {
        FromSupervisor::Exited(exit) => Some(exit.exit_code),
        _ => None,
    }
}

fn later_engine(spawner: &Spawner) {
    let container = Container::new(&["sh", "-c", "echo ready; read x; echo got $x; exit 3"]);
    let mut container = container.with_log();
    container.launch.stdio.open_stdin = true;
    let mut running = container.run(spawner);
    running.read_until("ready");
    drop(running);

    let run_dir = container.directory.join("run");
    let link = Link::connect(&run_dir).unwrap();
    let state = receive(&link, |message| match message {
        FromSupervisor::Hello { state, id, .. } => {
            assert_eq!(id, container.launch.id);
            Some(state)
        }
        _ => None,
    });
    assert!(matches!(state, State::Running { pid, .. } if pid > 0));
    let (mut own, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    link.send(&ToSupervisor::Attach { stdin: true, stdout: true, stderr: true }, &[theirs.as_fd()]).unwrap();
    drop(theirs);
    std::io::Write::write_all(&mut own, b"word\n").unwrap();
    let mut output = Vec::new();
    std::io::Read::read_to_end(&mut own, &mut output).unwrap();
    assert_eq!(demultiplex(&output, 1), b"got word\n");
    assert_eq!(receive(&link, exit_code), 3);
    container.assert_nothing_left();
    assert!(Link::connect(&run_dir).is_err());
    assert_eq!(container.log_entries().len(), 2);

    // Without any engine the exit file tells.
    let mut running = container.run(spawner);
    running.read_until("ready");
    std::fs::remove_file(container.directory.join("state/exit.json")).unwrap();
    running.write(b"x\n");
    drop(running);
    super::container::wait_for(|| container.directory.join("state/exit.json").exists());
}

fn joined_namespaces(spawner: &Spawner) {
    let first = Container::new(&["sh", "-c", "hostname first; echo ready; sleep 100"]);
    let mut running = first.run(spawner);
    running.read_until("ready");
    let pid = running.started_pid();
    let script = "ps | grep -q '[s]leep 100' && echo seen; readlink /proc/self/ns/net; readlink /proc/self/ns/ipc; echo $$ > /dev/null";
    let mut second = Container::new(&["sh", "-c", script]);
    for namespace in second.launch.spec.linux_mut().as_mut().unwrap().namespaces_mut().iter_mut().flatten() {
        let name = match namespace.typ().to_string().as_str() {
            name @ ("net" | "ipc" | "pid") => name.to_owned(),
            _ => continue,
        };
        namespace.set_path(Some(format!("/proc/{pid}/ns/{name}").into()));
    }
    let text = second.stdout(spawner);
    let link = |name: &str| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string();
    assert_eq!(text, format!("seen\n{}\n{}\n", link("net"), link("ipc")), "{text}");
    running.kill();
}

fn many_at_once(spawner: &Spawner) {
    let containers: Vec<Container> =
        (0..20).map(|number| Container::new(&["sh", "-c", &format!("exit {number}")])).collect();
    let running: Vec<_> = containers.iter().map(|container| container.run(spawner)).collect();
    for (number, running) in running.iter().enumerate() {
        assert_eq!(running.end().unwrap().exit_code, number as i32);
    }
    containers.iter().for_each(Container::assert_nothing_left);
}

fn spawner_restarts(spawner: &Spawner) {
    let container = Container::new(&["sh", "-c", "read x; exit 4"]);
    let mut container = container;
    container.launch.stdio.open_stdin = true;
    let mut running = container.run(spawner);
    running.started();
    let pid = spawner.pid();
    hoist_sys::signal::send(pid as i32, 9).unwrap();
    // What is sent to a dying process is lost with it: until then the start would fail, and say so.
    wait_for(|| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z ")));
    assert_eq!(Container::new(&["true"]).output(spawner).1.unwrap().exit_code, 0);
    running.write(b"\n");
    assert_eq!(running.end().unwrap().exit_code, 4);
}

fn refused(spawner: &Spawner) {
    let mut container = Container::new(&["true"]);
    container.launch.spec.process_mut().as_mut().unwrap().set_apparmor_profile(Some("x".to_owned()));
    let message = container.failure(spawner).message;
    assert!(
        message.contains("AppArmor is not enabled") || message.contains("unable to apply apparmor profile"),
        "{message}"
    );
    let mut container = Container::new(&["true"]);
    container.launch.spec.set_hostname(Some("x".to_owned()));
    let namespaces = container.launch.spec.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap();
    namespaces.retain(|namespace| namespace.typ() != oci_spec::runtime::LinuxNamespaceType::Uts);
    assert!(container.failure(spawner).message.ends_with("unable to set hostname without a private UTS namespace"));
    let mut container = Container::new(&["true"]);
    let sysctls = [("kernel.core_pattern".to_owned(), "x".to_owned())].into();
    container.launch.spec.linux_mut().as_mut().unwrap().set_sysctl(Some(sysctls));
    assert!(container.failure(spawner).message.contains("not in a separate kernel namespace"));
    let mut container = Container::new(&["true"]);
    let user = r#"[{"type":"mount"},{"type":"user"}]"#;
    let linux = container.launch.spec.linux_mut().as_mut().unwrap();
    linux.set_namespaces(serde_json::from_str(user).unwrap()).set_sysctl(None);
    assert!(container.failure(spawner).message.contains("user and time namespaces are not supported"));
    let mut container = Container::new(&["true"]);
    let linux = container.launch.spec.linux_mut().as_mut().unwrap();
    linux.set_namespaces(serde_json::from_str(r#"[{"type":"pid"}]"#).unwrap()).set_sysctl(None);
    container.launch.spec.set_hostname(None);
    assert!(container.failure(spawner).message.contains("the container needs a mount namespace"));
    container.assert_nothing_left();
}

fn oom(spawner: &Spawner) {
    let limited = |script: &str| {
        let mut container = Container::new(&["sh", "-c", script]);
        let resources = container.launch.spec.linux_mut().as_mut().unwrap().resources_mut().as_mut().unwrap();
        let limit = serde_json::from_str(r#"{"limit":16777216,"swap":16777216}"#).unwrap();
        resources.set_memory(Some(limit));
        container
    };
    // A process of it, not the first one.
    let container = limited("dd if=/dev/zero of=/dev/null bs=200M count=1; echo survived; read x; exit 0");
    let mut container = container;
    container.launch.stdio.open_stdin = true;
    let mut running = container.run(spawner);
    running.wait_for(|message| match message {
        FromSupervisor::Oom => Some(()),
        FromSupervisor::Exited(exit) => panic!("{exit:?}"),
        _ => None,
    });
    running.read_until("survived");
    running.write(b"\n");
    let exit = running.end().unwrap();
    assert_eq!((exit.exit_code, exit.oom_killed), (0, true));
    container.assert_nothing_left();

    let exit = limited("exec dd if=/dev/zero of=/dev/null bs=200M count=1").output(spawner).1.unwrap();
    assert_eq!((exit.exit_code, exit.oom_killed), (137, true));
}

fn memory(spawner: &Spawner) {
    let containers: Vec<Container> =
        (0..10).map(|_| Container::new(&["sh", "-c", "echo ready; exec sleep 100"]).with_log()).collect();
    let mut running: Vec<_> = containers.iter().map(|container| container.run(spawner)).collect();
    running.iter_mut().for_each(|running| {
        running.read_until("ready");
        running.started_pid();
    });
    let pid = std::fs::read_to_string(containers[5].directory.join("run/supervisor.pid")).unwrap();
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let kilobytes = |name: &str| -> u64 {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    };
    println!("supervisor: {} kB PSS, {} kB dirty", kilobytes("Pss:"), kilobytes("Private_Dirty:"));
    // Unoptimised code has larger stacks and more pages.
    assert!(cfg!(debug_assertions) || kilobytes("Pss:") < 350, "{rollup}");
    running.iter().for_each(super::container::Running::kill);
}

fn supervisor_killed(spawner: &Spawner) {
    for init in [false, true] {
        let mut container = Container::new(&["sh", "-c", "echo ready; while true; do sleep 1; done"]);
        container.launch.init = init;
        let mut running = container.run(spawner);
        running.read_until("ready");
        let pid = running.started_pid();
        let supervisor = std::fs::read_to_string(container.directory.join("run/supervisor.pid")).unwrap();
        hoist_sys::signal::send(supervisor.parse().unwrap(), 9).unwrap();
        super::container::wait_for(|| !std::path::Path::new(&format!("/proc/{pid}")).exists());
        let path = container.launch.spec.linux().as_ref().unwrap().cgroups_path().clone().unwrap();
        hoist_runtime::cgroup::at(&path).remove().unwrap();
    }
}
