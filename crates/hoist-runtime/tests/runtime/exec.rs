//! Processes added to a running container.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;

use hoist_runtime::protocol::{ExecProcess, FailureKind, FromSupervisor, ToSupervisor};
use hoist_runtime::spawner::Spawner;

use super::Test;
use super::container::{Container, Running, demultiplex};

pub(crate) const TESTS: &[Test] = &[
    ("an_exec_runs_in_all_namespaces_and_limits_of_the_container", runs_inside),
    ("an_exec_with_more_than_fits_a_datagram_runs_and_one_with_more_than_the_kernel_takes_is_told", long),
    ("an_exec_that_cannot_start_says_why_in_runcs_words", failures),
    ("an_exec_with_a_terminal_hands_its_master_over", terminal),
    ("a_privileged_exec_has_all_capabilities_and_a_user_none", privileges),
    ("an_exec_is_signalled_by_its_id_and_dies_with_the_container", signals),
    ("a_working_directory_that_is_an_open_fd_is_refused", no_escape_by_directory),
    ("nothing_of_an_exec_can_be_read_or_traced_before_its_program_runs", unreadable_until_exec),
    ("the_programs_file_behind_proc_exe_cannot_be_written", own_file_is_read_only),
];

/// A container that waits to be killed.
fn sleeper(spawner: &Spawner, container: &Container) -> Running {
    let mut running = container.run(spawner);
    running.read_until("ready");
    running
}

fn sleeping() -> Container {
    Container::new(&["sh", "-c", "echo ready; exec sleep 1000"])
}

fn request(container: &Container, args: &[&str]) -> ExecProcess {
    let mut process = container.launch.spec.process().clone().unwrap();
    process.set_args(Some(args.iter().map(|arg| (*arg).to_owned()).collect()));
    ExecProcess { process, privileged: false }
}

fn long(spawner: &Spawner) {
    let container = sleeping();
    let running = sleeper(spawner, &container);
    let with_environment = |count: usize| {
        let mut request = request(&container, &["sh", "-c", "echo $#", "sh", "one", "two"]);
        let variables = (0..count).map(|number| format!("A{number}={}", "x".repeat(100_000)));
        request.process.set_env(Some([String::from("PATH=/bin")].into_iter().chain(variables).collect()));
        request
    };
    for count in [1, 2, 15] {
        let (output, end) = exec(&running, &format!("long{count}"), with_environment(count));
        assert_eq!((output.as_str(), end), ("2\n", Ok(0)), "{count} variables");
    }
    let (output, end) = exec(&running, "longer", with_environment(64));
    assert!(output.ends_with("argument list too long\n"), "{output}");
    assert_eq!(end, Ok(255));
    running.kill();
}

/// Runs to the end: output of both streams, exit code or failure.
fn exec(running: &Running, id: &str, request: ExecProcess) -> (String, Result<i32, (FailureKind, String)>) {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let null = std::fs::File::open("/dev/null").unwrap();
    let message = ToSupervisor::Exec { exec_id: id.to_owned(), process: Box::new(request) };
    running.link.send(&message, &[null.as_fd(), writer.as_fd(), writer.as_fd()]).unwrap();
    drop(writer);
    let mut output = String::new();
    std::fs::File::from(reader).read_to_string(&mut output).unwrap();
    (output, end(running, id))
}

fn end(running: &Running, id: &str) -> Result<i32, (FailureKind, String)> {
    let mut started = false;
    loop {
        let end = running.wait_for(|message| match message {
            FromSupervisor::ExecStarted { exec_id, pid } if exec_id == id => {
                assert!(pid > 0);
                Some(None)
            }
            FromSupervisor::ExecExited { exec_id, exit_code } if exec_id == id => Some(Some(Ok(exit_code))),
            FromSupervisor::ExecFailed { exec_id, failure } if exec_id == id => {
                Some(Some(Err((failure.kind, failure.message))))
            }
            _ => None,
        });
        match end {
            None => started = true,
            Some(end) => {
                assert_eq!(started, end.is_ok());
                return end;
            }
        }
    }
}

fn runs_inside(spawner: &Spawner) {
    let container = sleeping();
    let running = sleeper(spawner, &container);
    let pid = running.started_pid();
    let script = "cat /proc/self/cgroup /proc/1/comm; for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done; \
                  ls /proc/self/fd | wc -l; echo $HOME; exit 6";
    let (output, end) = exec(&running, "a", request(&container, &["sh", "-c", script]));
    assert_eq!(end, Ok(6), "{output}");
    // In an own cgroup namespace (version 2) the group is the root.
    let mut expected = match hoist_runtime::cgroup::version() {
        hoist_runtime::cgroup::Version::V1 => std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap(),
        hoist_runtime::cgroup::Version::V2 => "0::/\n".to_owned(),
    };
    expected.push_str("sleep\n");
    for name in ["net", "ipc", "uts", "pid", "mnt"] {
        let link = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        expected.push_str(&format!("{}\n", link.display()));
    }
    assert_eq!(output, expected + "4\n/root\n");
    // The supervisor itself is where it was: the next container gets a new pid namespace of the host's.
    let (output, end) = exec(&running, "b", request(&container, &["sh", "-c", "readlink /proc/1/ns/pid"]));
    assert_eq!(
        (end, output),
        (Ok(0), format!("{}\n", std::fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap().display()))
    );
    running.kill();
    container.assert_nothing_left();
}

fn failures(spawner: &Spawner) {
    let container = sleeping();
    let running = sleeper(spawner, &container);
    for (command, kind, text) in [
        ("nope", FailureKind::NotFound, "exec: \"nope\": executable file not found in $PATH"),
        ("/nope", FailureKind::NotFound, "exec: \"/nope\": stat /nope: no such file or directory"),
        ("/etc/passwd", FailureKind::NotExecutable, "exec: \"/etc/passwd\": permission denied"),
    ] {
        let (_, end) = exec(&running, command, request(&container, &[command]));
        assert_eq!(end, Err((kind, text.to_owned())));
    }
    let mut request = request(&container, &["true"]);
    request.process.set_cwd("/nope".into());
    let text = "chdir to cwd (\"/nope\") set in config.json failed: no such file or directory";
    assert_eq!(exec(&running, "cwd", request).1, Err((FailureKind::NotFound, text.to_owned())));
    running.kill();
}

fn terminal(spawner: &Spawner) {
    let container = sleeping();
    let running = sleeper(spawner, &container);
    let mut request = request(&container, &["sh", "-c", "stty size; tty; read x; echo got $x; exit 8"]);
    request.process.set_terminal(Some(true));
    request.process.set_console_size(serde_json::from_str(r#"{"height":33,"width":99}"#).unwrap());
    let (own, theirs) = UnixStream::pair().unwrap();
    let message = ToSupervisor::Exec { exec_id: "tty".to_owned(), process: Box::new(request) };
    running.link.send(&message, &[theirs.as_fd()]).unwrap();
    drop(theirs);
    let mut byte = [0; 1];
    let (length, mut fds) =
        hoist_sys::socket::receive(own.as_fd(), &mut byte, rustix::net::RecvFlags::empty()).unwrap();
    assert_eq!((length, byte[0], fds.len()), (1, b'm', 1));
    let master: OwnedFd = fds.remove(0);
    let mut file = std::fs::File::from(master);
    let mut output = Vec::new();
    // What is typed is echoed: not into the middle of what is expected.
    while !output.ends_with(b"/dev/pts/0\r\n") {
        let mut byte = [0];
        file.read_exact(&mut byte).unwrap();
        output.push(byte[0]);
    }
    rustix::io::write(&file, b"word\n").unwrap();
    // A terminal ends with EIO.
    let _ = file.read_to_end(&mut output);
    let output = String::from_utf8(output).unwrap();
    assert!(output.contains("33 99\r\n/dev/pts/0\r\n") && output.ends_with("got word\r\n"), "{output:?}");
    assert_eq!(end(&running, "tty"), Ok(8));
    running.kill();
}

fn privileges(spawner: &Spawner) {
    let container = sleeping();
    let running = sleeper(spawner, &container);
    let all = hoist_sys::capability::permitted().unwrap().0;
    let show = ["grep", "-E", "CapEff|CapInh", "/proc/self/status"];
    let mut privileged = request(&container, &show);
    privileged.privileged = true;
    let expected = format!("CapInh:\t{:016x}\nCapEff:\t{all:016x}\n", 0);
    assert_eq!(exec(&running, "p", privileged), (expected, Ok(0)));
    let mut user = request(&container, &["sh", "-c", "id -u; grep CapEff /proc/self/status"]);
    let mut numbers = user.process.user().clone();
    numbers.set_uid(1000).set_gid(1000);
    let mut capabilities = user.process.capabilities().clone().unwrap();
    capabilities.set_effective(None).set_permitted(None);
    user.process.set_user(numbers).set_capabilities(Some(capabilities));
    assert_eq!(exec(&running, "u", user), (format!("1000\nCapEff:\t{:016x}\n", 0), Ok(0)));
    running.kill();
}

fn signals(spawner: &Spawner) {
    let container = sleeping();
    let running = sleeper(spawner, &container);
    let null = std::fs::File::open("/dev/null").unwrap();
    for id in ["one", "two"] {
        let process = Box::new(request(&container, &["sleep", "1000"]));
        let message = ToSupervisor::Exec { exec_id: id.to_owned(), process };
        running.link.send(&message, &[null.as_fd(), null.as_fd(), null.as_fd()]).unwrap();
    }
    // Both, in whatever order: what is signalled before its program runs has not started.
    for _ in ["one", "two"] {
        running.wait_for(|message| matches!(message, FromSupervisor::ExecStarted { .. }).then_some(()));
    }
    running.link.send(&ToSupervisor::ExecSignal { exec_id: "one".to_owned(), signal: 15 }, &[]).unwrap();
    let exited = |id: &str| {
        running.wait_for(|message| match message {
            FromSupervisor::ExecExited { exec_id, exit_code } if exec_id == id => Some(exit_code),
            FromSupervisor::Exited(_) => panic!("the container's end was told before that of {id}"),
            _ => None,
        })
    };
    assert_eq!(exited("one"), 143);
    running.signal(9);
    assert_eq!(exited("two"), 137);
    assert_eq!(running.end().unwrap().exit_code, 137);
}

fn no_escape_by_directory(spawner: &Spawner) {
    let container = sleeping();
    let running = sleeper(spawner, &container);
    for number in 3..24 {
        let mut request = request(&container, &["pwd"]);
        request.process.set_cwd(format!("/proc/self/fd/{number}").into());
        let (output, end) = exec(&running, &number.to_string(), request);
        assert!(end.is_err() && output.is_empty(), "{number}: {output}");

        let mut container = Container::new(&["pwd"]);
        container.launch.spec.process_mut().as_mut().unwrap().set_cwd(format!("/proc/self/fd/{number}").into());
        container.failure(spawner);
    }
    running.kill();
}

/// CVE-2016-9962: pid 1 looks at processes that are entering and tries to see what they hold.
fn unreadable_until_exec(spawner: &Spawner) {
    let script = "echo ready; while true; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) continue;; esac; \
                  for f in $p/fd/[3-9] $p/fd/[1-9][0-9] $p/exe; do readlink $f; done; done 2>/dev/null; done";
    let container = Container::new(&["sh", "-c", script]);
    let mut running = sleeper(spawner, &container);
    for number in 0..200 {
        assert_eq!(exec(&running, &number.to_string(), request(&container, &["true"])).1, Ok(0));
    }
    running.signal(9);
    let output = String::from_utf8(demultiplex(&running.read_to_end(), 1)).unwrap();
    // Of what runs in the container itself only the program can be seen.
    let foreign: Vec<_> = output.lines().filter(|line| !["/bin/busybox", "/proc"].contains(line)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    running.end().unwrap();
}

/// CVE-2019-5736: a container that gets hold of our own program must not be able to write to its file.
fn own_file_is_read_only(spawner: &Spawner) {
    let own = std::fs::canonicalize("/proc/self/exe").unwrap();
    let before = std::fs::metadata(&own).unwrap();
    let mut container =
        Container::new(&["sh", "-c", "echo ready; for p in /proc/1 /proc/self; do echo x >> $p/exe; done; sleep 100"]);
    container.launch.init = true;
    let running = sleeper(spawner, &container);
    // The kernel says ETXTBSY while the program runs anywhere. What holds afterwards is the mount.
    for pid in [spawner.pid() as i32, running.started_pid()] {
        let program = std::fs::File::open(format!("/proc/{pid}/exe")).unwrap();
        assert_eq!(program.metadata().unwrap().ino(), before.ino());
        let flags = rustix::fs::fstatvfs(&program).unwrap().f_flag;
        assert!(flags.contains(rustix::fs::StatVfsMountFlags::RDONLY), "{flags:?}");
    }
    running.kill();

    let container = Container::new(&["/entry"]);
    std::fs::write(container.lower("entry"), "#!/proc/self/exe\n").unwrap();
    std::fs::set_permissions(container.lower("entry"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let _ = container.output(spawner).1;
    let after = std::fs::metadata(&own).unwrap();
    assert_eq!((before.len(), before.modified().unwrap()), (after.len(), after.modified().unwrap()));
}
