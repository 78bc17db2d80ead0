//! Output, input, terminals, logs, attachments that are slow or go away.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use hoist_runtime::launch::{Log, LogFile};
use hoist_runtime::protocol::ToSupervisor;
use hoist_runtime::spawner::Spawner;

use super::Test;
use super::container::{Container, Running, demultiplex, wait_for};

pub(crate) const TESTS: &[Test] = &[
    ("input_reaches_the_program_and_its_end_closes_stdin_when_asked_for", input),
    ("a_megabyte_goes_through_unchanged_both_ways", bulk),
    ("a_terminal_has_its_size_and_takes_a_new_one", terminal),
    ("the_log_has_every_line_with_its_stream", log),
    ("a_slow_attachment_slows_the_container_and_loses_nothing_and_signals_still_work", slow_attachment),
    ("an_attachment_that_goes_away_is_forgotten", closed_attachment),
    ("output_after_the_end_reaches_a_slow_attachment_while_the_exit_is_known_at_once", late_reader),
    ("a_full_disk_costs_log_lines_and_not_the_exit_code", full_disk),
    ("a_log_that_does_not_block_drops_what_its_buffer_cannot_hold_and_tells", stuck_log),
    ("a_log_that_does_not_block_is_whole_when_the_end_is_told", buffered_log),
    ("rotated_logs_are_compressed_when_the_end_is_told", compressed_log),
    ("two_attachments_get_what_they_asked_for", two_attachments),
    ("background_processes_that_hold_the_output_do_not_hold_up_the_end", leaked_output),
];

fn attach(running: &Running, stdin: bool, stdout: bool, stderr: bool) -> UnixStream {
    let (own, theirs) = UnixStream::pair().unwrap();
    own.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    running.link.send(&ToSupervisor::Attach { stdin, stdout, stderr }, &[theirs.as_fd()]).unwrap();
    own
}

fn input(spawner: &Spawner) {
    let mut container = Container::new(&["cat"]);
    container.launch.stdio.open_stdin = true;
    container.launch.stdio.stdin_once = true;
    let mut running = container.run(spawner);
    running.write(b"some words");
    running.stream.as_ref().unwrap().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(demultiplex(&running.read_to_end(), 1), b"some words");
    assert_eq!(running.end().unwrap().exit_code, 0);

    // Closed both ways right after writing: the words still come first.
    let mut container = Container::new(&["sh", "-c", "cat > /out; read x < /out; test \"$x\" = words"]);
    container.launch.stdio.open_stdin = true;
    container.launch.stdio.stdin_once = true;
    let mut running = container.run(spawner);
    running.write(b"words\n");
    running.stream = None;
    assert_eq!(running.end().unwrap().exit_code, 0);

    // Without stdin_once the next attachment goes on.
    container.launch.stdio.stdin_once = false;
    container
        .launch
        .spec
        .process_mut()
        .as_mut()
        .unwrap()
        .set_args(Some(["sh", "-c", "read x; read y; echo $x $y"].map(str::to_owned).to_vec()));
    let mut running = container.run(spawner);
    running.write(b"one\n");
    running.stream = None;
    let mut second = attach(&running, true, true, true);
    second.write_all(b"two\n").unwrap();
    let mut output = Vec::new();
    second.read_to_end(&mut output).unwrap();
    assert_eq!(demultiplex(&output, 1), b"one two\n");
    assert_eq!(running.end().unwrap().exit_code, 0);

    // stdin that was not asked for is /dev/null.
    let container = Container::new(&["sh", "-c", "cat; readlink /proc/self/fd/0"]);
    assert_eq!(container.stdout(spawner), "/dev/null\n");
}

fn bulk(spawner: &Spawner) {
    let mut container = Container::new(&["cat"]);
    container.launch.stdio.open_stdin = true;
    container.launch.stdio.stdin_once = true;
    let mut running = container.run(spawner);
    let data: Vec<u8> = (0..1_500_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut writer = running.stream.as_ref().unwrap().try_clone().unwrap();
    let copy = data.clone();
    let thread = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(std::net::Shutdown::Write).unwrap();
    });
    let output = running.read_to_end();
    thread.join().unwrap();
    assert!(demultiplex(&output, 1) == data);
    assert_eq!(running.end().unwrap().exit_code, 0);
}

fn terminal(spawner: &Spawner) {
    let script = "stty size; tty; ls -l /dev/console | cut -c1-10; trap 'stty size' WINCH; echo err >&2; until read x; do :; done; \
                  echo got $x; exit 3";
    let container = Container::new(&["sh", "-c", script]);
    std::os::unix::fs::symlink("busybox", container.lower("bin/cut")).unwrap();
    let mut container = container.with_log();
    container.launch.stdio.tty = true;
    container.launch.stdio.open_stdin = true;
    container.launch.stdio.console_size = (44, 155);
    let mut running = container.run(spawner);
    let text = running.read_until("err");
    assert_eq!(text.trim_end(), "44 155\r\n/dev/pts/0\r\ncrw--w----\r\nerr");
    running.link.send(&ToSupervisor::Resize { rows: 10, columns: 20 }, &[]).unwrap();
    running.read_until("10 20");
    running.write(b"word\n");
    let rest = String::from_utf8(running.read_to_end()).unwrap();
    assert!(rest.ends_with("got word\r\n"), "{rest:?}");
    assert_eq!(running.end().unwrap().exit_code, 3);
    assert_eq!(container.log_entries()[0]["log"], "44 155\r\n");
    assert!(container.log_entries().iter().all(|entry| entry["stream"] == "stdout"));
}

fn log(spawner: &Spawner) {
    let container = Container::new(&["sh", "-c", "for i in $(seq 1000); do echo line $i; done; echo end >&2"]);
    let container = container.with_log();
    let (output, end) = container.output(spawner);
    assert_eq!(end.unwrap().exit_code, 0);
    let entries = container.log_entries();
    let logged = |stream: &str| {
        let lines = entries.iter().filter(|entry| entry["stream"] == stream);
        lines.map(|entry| entry["log"].as_str().unwrap()).collect::<String>().into_bytes()
    };
    assert!(logged("stdout") == demultiplex(&output, 1));
    assert_eq!(logged("stderr"), b"end\n");
    assert_eq!(entries.len(), 1001);
    assert!(entries.windows(2).all(|pair| pair[0]["time"].as_str().unwrap().len() >= 20));
}

fn slow_attachment(spawner: &Spawner) {
    let script = "i=0; trap 'echo stop >&2; exit 2' TERM; while true; do i=$((i+1)); echo $i > /count; \
                  head -c 4096 /dev/zero; done";
    let container = Container::new(&["sh", "-c", script]);
    let mut running = container.run(spawner);
    running.started();
    let count = || std::fs::read_to_string(container.directory.join("upper/count")).unwrap_or_default();
    // The container comes to a stand because nobody reads.
    wait_for(|| {
        let before = count();
        std::thread::sleep(Duration::from_millis(200));
        !before.is_empty() && count() == before
    });
    let standing = count();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(count(), standing, "the container went on");
    running.link.send(&ToSupervisor::Status, &[]).unwrap();
    running.started_pid();
    running.signal(15);
    let output = running.read_to_end();
    assert_eq!(demultiplex(&output, 2), b"stop\n");
    assert!(demultiplex(&output, 1).len() >= 4096);
    assert_eq!(running.end().unwrap().exit_code, 2);
}

fn closed_attachment(spawner: &Spawner) {
    let container = Container::new(&["sh", "-c", "for i in $(seq 20000); do echo line $i; done; exit 4"]);
    let mut running = container.run(spawner);
    let mut some = [0; 100];
    running.stream.as_mut().unwrap().read_exact(&mut some).unwrap();
    running.stream = None;
    assert_eq!(running.end().unwrap().exit_code, 4);
}

fn late_reader(spawner: &Spawner) {
    let container = Container::new(&["sh", "-c", "head -c 300000 /dev/zero; exit 6"]).with_log();
    // With nobody reading, the container stands still until its output fits into pipe and socket.
    let mut running = container.run(spawner);
    let mut output = vec![0; 150_000];
    running.stream.as_mut().unwrap().read_exact(&mut output).unwrap();
    let start = Instant::now();
    assert_eq!(running.end().unwrap().exit_code, 6);
    assert!(start.elapsed() < Duration::from_secs(5));
    container.assert_nothing_left();
    output.extend(running.read_to_end());
    assert_eq!(demultiplex(&output, 1).len(), 300_000);
    let logged: usize = container.log_entries().iter().map(|entry| entry["log"].as_str().unwrap().len()).sum();
    assert_eq!(logged, 300_000);
}

fn full_disk(spawner: &Spawner) {
    let mut container = Container::new(&["sh", "-c", "for i in $(seq 1000); do echo line $i; done; exit 9"]);
    container.launch.log = Log::File(LogFile { path: "/dev/full".into(), ..LogFile::default() });
    let (output, end) = container.output(spawner);
    assert_eq!(end.unwrap().exit_code, 9);
    assert!(demultiplex(&output, 1).ends_with(b"line 1000\n"));
}

/// A log on a disk that takes nothing more: a fifo that nobody reads.
fn stuck_log(spawner: &Spawner) {
    let mut container = Container::new(&["sh", "-c", "seq 200000; exit 9"]);
    let path = container.directory.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    let _both_ends = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    container.launch.log = Log::File(LogFile { path, buffer_bytes: Some(100_000), ..LogFile::default() });
    let (output, end) = container.output(spawner);
    let end = end.unwrap();
    assert!(demultiplex(&output, 1).ends_with(b"200000\n"));
    assert_eq!(end.exit_code, 9);
    assert!((190_000..200_000).contains(&end.log_entries_dropped), "{}", end.log_entries_dropped);
    container.assert_nothing_left();
}

fn buffered_log(spawner: &Spawner) {
    let mut container = Container::new(&["seq", "20000"]);
    let path = container.directory.join("log");
    container.launch.log = Log::File(LogFile { path, buffer_bytes: Some(8 << 20), ..LogFile::default() });
    assert_eq!(container.output(spawner).1.unwrap().log_entries_dropped, 0);
    let lines = container.log_entries().into_iter().map(|entry| entry["log"].as_str().unwrap().to_owned());
    assert!(lines.eq((1..=20_000).map(|number| format!("{number}\n"))));
}

fn compressed_log(spawner: &Spawner) {
    for buffer_bytes in [None, Some(8 << 20)] {
        let mut container = Container::new(&["seq", "20000"]);
        let path = container.directory.join("log");
        let (max_size_bytes, max_files, compress) = (100_000, 4, true);
        container.launch.log =
            Log::File(LogFile { path, max_size_bytes, max_files, compress, buffer_bytes, ..LogFile::default() });
        container.output(spawner).1.unwrap();
        let names = std::fs::read_dir(&container.directory).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| name.starts_with("log"));
        names.sort();
        assert_eq!(names, ["log", "log.1.gz", "log.2.gz", "log.3.gz"]);
        assert_eq!(container.log_entries().last().unwrap()["log"], "20000\n");
    }
}

fn two_attachments(spawner: &Spawner) {
    let mut container = Container::new(&["sh", "-c", "echo ready; read x; echo out; echo err >&2"]);
    container.launch.stdio.open_stdin = true;
    let mut running = container.run(spawner);
    running.read_until("ready");
    let mut second = attach(&running, false, false, true);
    running.started_pid();
    running.write(b"\n");
    assert_eq!(demultiplex(&running.read_to_end(), 1), b"out\n");
    let mut output = Vec::new();
    second.read_to_end(&mut output).unwrap();
    assert_eq!((demultiplex(&output, 1), demultiplex(&output, 2)), (Vec::new(), b"err\n".to_vec()));
}

fn leaked_output(spawner: &Spawner) {
    let mut container = Container::new(&["sh", "-c", "sleep 1000 & echo done; exit 5"]);
    // In the host's pid namespace nothing ends by itself when the first process does.
    let namespaces = container.launch.spec.linux_mut().as_mut().unwrap().namespaces_mut().as_mut().unwrap();
    namespaces.retain(|namespace| namespace.typ() != oci_spec::runtime::LinuxNamespaceType::Pid);
    let start = Instant::now();
    let (output, end) = container.output(spawner);
    assert_eq!(end.unwrap().exit_code, 5);
    assert_eq!(demultiplex(&output, 1), b"done\n");
    assert!(start.elapsed() < Duration::from_secs(5));
    container.assert_nothing_left();
}
