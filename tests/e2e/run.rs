//! `run`: output, exit codes, terminals, and what the container sees of its options.

use hoist_tests::{both, eventually};

#[test]
fn run_prints_what_the_command_prints_to_both_streams() {
    both(|t| {
        let ran = t.cli("run --rm busybox sh -c 'echo out; echo err >&2'").ok();
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("out\n", "err\n"));
    });
}

#[test]
fn the_exit_code_of_the_command_is_the_exit_code_of_run() {
    both(|t| {
        t.cli("run --rm busybox true").ok();
        t.cli("run --rm busybox sh -c 'exit 42'").fails_with(42);
        t.cli("run --rm --init busybox sh -c 'kill -9 $$'").fails_with(137);
        // The first process of a PID namespace has no default action for a signal from itself.
        t.cli("run --rm busybox sh -c 'kill -TERM $$; sleep 1'").fails_with(0);
    });
}

#[test]
fn a_command_that_does_not_exist_is_127_and_one_that_cannot_run_is_126() {
    both(|t| {
        t.cli("run --rm busybox no-such-command").fails_with(127).complains("no-such-command");
        t.cli("run --rm busybox /no/such/file").fails_with(127);
        t.cli("run --rm busybox /etc").fails_with(126);
        t.cli("run --rm busybox /etc/passwd").fails_with(126).complains("permission denied");
    });
}

#[test]
fn a_wrong_option_is_125() {
    both(|t| {
        t.cli("run --rm --no-such-option busybox true").fails_with(125).complains("no-such-option");
        t.cli("run --rm --memory 1 busybox true").fails_with(125);
        t.cli("run --rm --network no-such-network busybox true").fails_with(125).complains("no-such-network");
    });
}

#[test]
fn standard_input_reaches_the_command_only_with_i() {
    both(|t| {
        t.cli_with("run --rm -i busybox cat", b"through the pipe\n").ok().prints("through the pipe");
        t.cli_with("run --rm busybox cat", b"not through\n").ok().prints("");
    });
}

#[test]
fn a_megabyte_goes_in_and_comes_out_unchanged() {
    both(|t| {
        let input: Vec<u8> = (0..1_000_000u32).map(|number| b'a' + (number % 23) as u8).collect();
        let ran = t.cli_with("run --rm -i busybox cat", &input).ok();
        assert!(ran.stdout.as_bytes() == input, "{} bytes came back", ran.stdout.len());
    });
}

#[test]
fn the_environment_is_the_images_then_ours() {
    both(|t| {
        t.set("FROM_CLIENT", "inherited");
        let ran = t.cli("run --rm -h box -e A=1 -e 'B=x y' -e FROM_CLIENT -e NOT_SET busybox env").ok();
        let mut lines = ran.lines();
        lines.sort_unstable();
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(lines, ["A=1", "B=x y", "FROM_CLIENT=inherited", "HOME=/root", "HOSTNAME=box", path]);
    });
}

#[test]
fn an_environment_file_has_comments_and_takes_values_from_outside() {
    both(|t| {
        t.set("OUTSIDE", "yes");
        std::fs::write(t.home().join("env"), "# a comment\nX=1\n\nOUTSIDE\nQUOTED=\"kept\"\n").unwrap();
        let ran = t.cli("run --rm --env-file env busybox env").ok();
        for line in ["X=1", "OUTSIDE=yes", "QUOTED=\"kept\""] {
            assert!(ran.lines().contains(&line), "{line} is missing: {ran}");
        }
    });
}

#[test]
fn the_hostname_is_the_short_id_or_what_was_asked_for() {
    both(|t| {
        t.cli("run --rm -h some.where busybox hostname").ok().prints("some.where");
        let name = t.name("host");
        let hostname = t.cli(&format!("run --name {name} busybox hostname")).ok();
        let id = t.inspect(&name)["Id"].as_str().unwrap().to_string();
        assert_eq!(hostname.text(), &id[..12]);
        t.cli(&format!("rm {name}")).ok().prints(&name);
    });
}

#[test]
fn the_working_directory_is_made_when_it_is_missing() {
    both(|t| {
        t.cli("run --rm -w /made/for/this busybox pwd").ok().prints("/made/for/this");
        t.cli("run --rm -w relative busybox pwd").fails_with(125);
    });
}

#[test]
fn users_are_names_or_numbers_and_bring_their_groups() {
    both(|t| {
        t.cli("run --rm busybox id").ok().matches(r"^uid=0\(root\) gid=0\(root\)");
        t.cli("run --rm -u worker busybox id")
            .ok()
            .prints("uid=1000(worker) gid=1001(workers) groups=50(staff),1001(workers),1002(extra)");
        t.cli("run --rm -u 1000:50 busybox id").ok().matches(r"^uid=1000\(worker\) gid=50\(staff\)");
        t.cli("run --rm -u 4242 busybox id").ok().matches(r"^uid=4242 gid=0\(root\)");
        t.cli("run --rm -u 4242:extra busybox id -g").ok().prints("1002");
        t.cli("run --rm -u 4242 --group-add extra --group-add 777 busybox id -G").ok().matches("1002 777|777 1002");
        t.cli("run --rm -u nobody-here busybox id").fails_with(125).complains("nobody-here");
        t.cli("run --rm -u worker busybox sh -c 'echo $HOME'").ok().prints("/home");
    });
}

#[test]
fn the_entrypoint_can_be_replaced_and_takes_the_arguments() {
    both(|t| {
        t.cli("run --rm --entrypoint /bin/echo busybox one two").ok().prints("one two");
        t.cli("run --rm --entrypoint echo busybox").ok().prints("");
    });
}

#[test]
fn a_terminal_is_a_terminal() {
    both(|t| {
        let mut terminal = t.terminal("run --rm -it busybox sh");
        terminal.expect("/ # ").line("tty").expect("/dev/pts/0").expect("/ # ");
        terminal.line("stty size").expect("24 80").expect("/ # ");
        terminal.resize(40, 132).line("sleep 0.3; stty size").expect("40 132").expect("/ # ");
        terminal.line("exit 7");
        let (code, _) = terminal.finish();
        assert_eq!(code, 7);
    });
}

#[test]
fn control_c_reaches_the_foreground_of_the_terminal() {
    both(|t| {
        let mut terminal = t.terminal("run --rm -it busybox sh");
        terminal.expect("/ # ").line("sleep 1000").expect("sleep 1000");
        // Until the shell has given the terminal to its child, the key would be one of its line editor.
        std::thread::sleep(std::time::Duration::from_millis(300));
        terminal.send("\x03").expect("/ # ");
        terminal.line("echo still $((40+2))").expect("still 42").send("\x04");
        assert_eq!(terminal.finish().0, 0);
    });
}

#[test]
fn a_terminal_is_refused_when_the_client_has_none() {
    both(|t| {
        t.cli("run --rm -it busybox true").fails().complains("the input device is not a TTY");
    });
}

#[test]
fn t_without_i_allocates_a_terminal_inside() {
    both(|t| {
        let ran = t.cli("run --rm -t busybox sh -c 'echo out; echo err >&2; tty'").ok();
        assert_eq!(ran.stdout, "out\r\nerr\r\n/dev/pts/0\r\n");
    });
}

#[test]
fn detached_prints_the_id_and_the_container_goes_on() {
    both(|t| {
        let name = t.name("background");
        let id = t.cli(&format!("run -d --name {name} busybox sleep 1000")).ok();
        assert!(id.text().len() == 64 && id.text().bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert_eq!(t.inspect(&name)["Id"], id.text());
        assert_eq!(t.inspect(&name)["State"]["Running"], true);
        t.cli(&format!("rm -f {name}")).ok().prints(&name);
        t.cli(&format!("inspect {name}")).fails_with(1);
    });
}

#[test]
fn rm_removes_the_container_when_it_ends() {
    both(|t| {
        let name = t.name("brief");
        t.cli(&format!("run --rm --name {name} busybox true")).ok();
        t.cli(&format!("inspect {name}")).fails();
        t.cli(&format!("run -d --rm --name {name} busybox sleep 0.2")).ok();
        eventually("the detached container is gone", || t.api().get(&format!("/containers/{name}/json")).status == 404);
    });
}

#[test]
fn a_failed_start_with_rm_leaves_nothing_and_does_not_hang() {
    both(|t| {
        let name = t.name("broken");
        t.cli(&format!("run --rm --name {name} busybox no-such-command")).fails_with(127);
        eventually("the broken container is gone", || t.api().get(&format!("/containers/{name}/json")).status == 404);
    });
}

#[test]
fn the_cidfile_is_written_once() {
    both(|t| {
        let name = t.name("cid");
        t.cli(&format!("run --name {name} --cidfile cid busybox true")).ok();
        let id = std::fs::read_to_string(t.home().join("cid")).unwrap();
        assert_eq!(t.inspect(&name)["Id"], id);
        t.cli("run --rm --cidfile cid busybox true").fails_with(125).complains("cid");
        t.cli("run --rm --cidfile no/cid busybox true")
            .fails_with(127)
            .complains("failed to create the container ID file: open no/cid: no such file or directory");
    });
}

#[test]
fn a_taken_name_is_refused_with_the_id_that_has_it() {
    both(|t| {
        let name = t.name("taken");
        let id = t.cli(&format!("create --name {name} busybox")).ok();
        let again = t.cli(&format!("run --name {name} busybox true")).fails_with(125);
        again.complains(&format!("The container name \"/{name}\" is already in use by container \"{}\"", id.text()));
    });
}

#[test]
fn signals_to_the_client_reach_the_command() {
    both(|t| {
        let script = "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
        let mut run = t.spawn(&format!("run --rm busybox sh -c \"{script}\""));
        run.wait_for("ready").signal(rustix::process::Signal::TERM);
        run.finish_with_open_stdin().fails_with(9).says("got it");
    });
}

#[test]
fn init_reaps_and_forwards() {
    both(|t| {
        t.cli("run --rm --init busybox sh -c 'ps | grep -c \" sh -c\"; cat /proc/1/comm'").ok().matches("init|hoist");
        t.cli("run --rm --init busybox sh -c 'exit 3'").fails_with(3);
        let name = t.name("init");
        t.cli(&format!("run -d --init --name {name} busybox sleep 1000")).ok();
        let start = std::time::Instant::now();
        t.cli(&format!("stop {name}")).ok();
        assert!(start.elapsed().as_secs() < 5, "sleep as PID 1's child ends on SIGTERM");
    });
}

#[test]
fn read_only_is_read_only_with_writable_exceptions() {
    both(|t| {
        t.cli("run --rm --read-only busybox touch /x").fails_with(1).complains("Read-only file system");
        t.cli("run --rm --read-only --tmpfs /scratch busybox touch /scratch/x /dev/shm/x").ok();
    });
}

#[test]
fn names_of_containers_are_checked() {
    both(|t| {
        t.cli("run --rm --name 'no blanks' busybox true")
            .fails_with(125)
            .complains("Invalid container name (no blanks)");
        t.cli("run --rm --name / busybox true").fails_with(125).complains("Invalid container name (/)");
    });
}

#[test]
fn labels_come_from_options_and_files() {
    both(|t| {
        let name = t.name("labels");
        std::fs::write(t.home().join("labels"), "from.file=1\n# none\nbare\n").unwrap();
        t.cli(&format!("create --name {name} -l a=b -l empty --label-file labels busybox")).ok();
        let labels = &t.inspect(&name)["Config"]["Labels"];
        assert_eq!((&labels["a"], &labels["empty"]), (&"b".into(), &"".into()));
        assert_eq!(labels["from.file"], "1");
        assert!(labels.get("bare").is_none(), "a name alone in a file is a variable of the client that is not set");
    });
}

#[test]
fn a_detached_run_that_cannot_start_prints_the_id_all_the_same() {
    both(|t| {
        let run = |options: &str| t.cli(&format!("run -d {options} busybox no-such-program")).fails_with(127);
        let name = t.name("stillborn");
        let ran = run(&format!("--name {name} --cidfile first")).complains("executable file not found in $PATH");
        assert_eq!(ran.text(), t.inspect(&name)["Id"].as_str().unwrap());
        let cidfile = |name: &str| std::fs::read_to_string(t.home().join(name)).unwrap();
        assert_eq!(ran.text(), cidfile("first"));
        let ran = run("--rm --cidfile second");
        assert_eq!((ran.text().len(), ran.text()), (64, cidfile("second").as_str()));
        t.cli("run -d --memory 1 --cidfile third busybox true").fails_with(125).prints("");
        assert!(!t.home().join("third").exists());
    });
}
