//! Entries, partial entries, rotation, and a disk without room.

use std::path::PathBuf;

use super::*;
use crate::launch::LogFile;

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("hoist-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn logger(&self, max_size_bytes: u64, max_files: u32) -> Logger {
        let path = self.0.join("log");
        Logger::open(&Log::File(LogFile { path, max_size_bytes, max_files, ..LogFile::default() })).unwrap()
    }

    fn read(&self, name: &str) -> Vec<serde_json::Value> {
        let content = std::fs::read_to_string(self.0.join(name)).unwrap();
        content.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn text_is_escaped_as_go_does() {
    let mut out = Vec::new();
    escape(&mut out, "a\"\\\t\r\n<>&\u{7f}\u{2028}é\u{1}".as_bytes());
    out.push(b'|');
    escape(&mut out, b"x\xff\xe2\x82y");
    let expected = r#"a\"\\\u0009\r\n\u003c\u003e\u0026"#.to_owned() + "\u{7f}" + r"\u2028é\u0001|x\ufffd\ufffd\ufffdy";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn lines_split_over_chunks_become_one_entry_and_streams_do_not_mix() {
    let directory = Directory::new("lines");
    let mut logger = directory.logger(0, 1);
    logger.write(1, b"one\ntw");
    logger.write(2, b"err\n");
    logger.write(1, b"o\nrest");
    logger.end(1);
    logger.end(2);
    let entries = directory.read("log");
    let texts: Vec<_> = entries.iter().map(|entry| entry["log"].as_str().unwrap()).collect();
    assert_eq!(texts, ["one\n", "err\n", "two\n", "rest"]);
    assert_eq!(entries[1]["stream"], "stderr");
}

#[test]
fn long_lines_are_split_at_16_kib_and_bear_one_time() {
    let directory = Directory::new("long");
    let mut logger = directory.logger(0, 1);
    let mut line = vec![b'x'; MAX_LINE_BYTES * 2 + 5];
    line.push(b'\n');
    logger.write(1, &line);
    let entries = directory.read("log");
    let lengths: Vec<_> = entries.iter().map(|entry| entry["log"].as_str().unwrap().len()).collect();
    assert_eq!(lengths, [MAX_LINE_BYTES, MAX_LINE_BYTES, 6]);
    assert_eq!(entries[0]["time"], entries[2]["time"]);
}

#[test]
fn rotation_keeps_as_many_files_as_asked_for() {
    let directory = Directory::new("rotate");
    let mut logger = directory.logger(300, 3);
    for number in 0..40 {
        logger.write(1, format!("line {number}\n").as_bytes());
    }
    let mut names: Vec<_> = std::fs::read_dir(&directory.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["log", "log.1", "log.2"]);
    assert_eq!(directory.read("log").last().unwrap()["log"], "line 39\n");
    let size = std::fs::metadata(directory.0.join("log.1")).unwrap().len();
    assert!((300..400).contains(&size), "{size}");
}

#[test]
fn compressed_files_keep_their_number_and_are_rotated_on() {
    let directory = Directory::new("compress");
    let path = directory.0.join("log");
    let numbered = |suffix: &str| PathBuf::from(format!("{}.{suffix}", path.display()));
    std::fs::write(numbered("1"), "newer").unwrap();
    std::fs::write(numbered("2"), "older").unwrap();
    compress::compress_all(&path, 3).unwrap();
    let unpacked = |suffix: &str| {
        let mut text = String::new();
        let file = std::fs::File::open(numbered(suffix)).unwrap();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(file), &mut text).unwrap();
        text
    };
    assert_eq!((unpacked("1.gz"), unpacked("2.gz")), ("newer".to_owned(), "older".to_owned()));
    assert!(!numbered("1").exists() && !numbered("2").exists() && !numbered("gz.tmp").exists());
    let mut logger = directory.logger(1, 3);
    logger.write(1, b"one\ntwo\n");
    assert_eq!(unpacked("2.gz"), "newer");
    assert_eq!(directory.read("log.1")[0]["log"], "one\n");
    assert!(!numbered("1.gz").exists());
}

#[test]
fn attributes_stand_between_stream_and_time() {
    let mut out = Vec::new();
    render(&mut out, b"x\n", 1, r#"{"a":"b"}"#, 0);
    let expected = r#"{"log":"x\n","stream":"stdout","attrs":{"a":"b"},"time":"1970-01-01T00:00:00Z"}"#;
    assert_eq!(String::from_utf8(out).unwrap().trim_end(), expected);
}

#[test]
fn a_full_disk_loses_entries_and_nothing_else() {
    let mut logger = Logger::open(&Log::File(LogFile { path: "/dev/full".into(), ..LogFile::default() })).unwrap();
    logger.write(1, b"lost\n");
    logger.write(1, b"lost too\n");
    logger.end(1);
    assert!(logger.rendered.is_empty());
}

#[test]
fn a_file_that_cannot_be_compressed_is_tried_twice_at_most() {
    let directory = Directory::new("hopeless");
    let path = directory.0.join("log");
    // Opens, and cannot be read.
    std::fs::create_dir(directory.0.join("log.1")).unwrap();
    let mut compressor = compress::Compressor::new(&path, 3);
    compressor.start();
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        compressor.finish();
        let _ = done.send(());
    });
    waiting.recv_timeout(std::time::Duration::from_secs(20)).expect("finish does not return");
    assert!(!directory.0.join("log.gz.tmp").exists());
    assert_eq!(children_of(std::process::id()), Vec::<u32>::new());
}

#[test]
fn what_another_worker_writes_to_is_left_alone() {
    let directory = Directory::new("busy");
    let path = directory.0.join("log");
    std::fs::write(directory.0.join("log.1"), "text").unwrap();
    std::fs::write(directory.0.join("log.gz.tmp"), "of another").unwrap();
    let other = std::fs::File::open(directory.0.join("log.gz.tmp")).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(compress::compress_all(&path, 3).is_err());
    assert_eq!(std::fs::read_to_string(directory.0.join("log.gz.tmp")).unwrap(), "of another");
    drop(other);
    compress::compress_all(&path, 3).unwrap();
    assert!(directory.0.join("log.1.gz").exists() && !directory.0.join("log.gz.tmp").exists());
}

#[test]
fn the_writer_of_a_buffered_log_leaves_no_zombies() {
    let directory = Directory::new("zombies");
    let log = LogFile {
        path: directory.0.join("log"),
        max_size_bytes: 1,
        max_files: 3,
        compress: true,
        buffer_bytes: Some(0),
        ..LogFile::default()
    };
    let mut logger = Logger::open(&Log::File(log)).unwrap();
    let writers = children_of(std::process::id());
    for _ in 0..4 {
        logger.write(1, b"line\n");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(writers.len(), 1);
    // Workers may still be busy; those that have ended and are not reaped stay for ever.
    let wait = std::time::Instant::now();
    let busy = || !directory.0.join("log.2.gz").exists() || !children_of(writers[0]).is_empty();
    while busy() && wait.elapsed().as_secs() < 10 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(children_of(writers[0]), Vec::<u32>::new());
    assert_eq!(logger.finish(), 0);
    assert_eq!(children_of(std::process::id()), Vec::<u32>::new());
}

#[test]
fn entries_that_wait_for_a_writer_that_dies_count_as_dropped() {
    let directory = Directory::new("dead-writer");
    let log = LogFile { path: directory.0.join("log"), buffer_bytes: Some(1 << 20), ..LogFile::default() };
    let mut logger = Logger::open(&Log::File(log)).unwrap();
    let writer = children_of(std::process::id())[0].cast_signed();
    hoist_sys::signal::send(writer, 19).unwrap();
    // More than the pipe takes.
    for _ in 0..20_000 {
        logger.write(1, b"line\n");
    }
    let Some(Sink::Buffered(buffer)) = &logger.sink else { panic!("not buffered") };
    let waiting = buffer.waiting_entries();
    assert!(waiting > 0);
    hoist_sys::signal::send(writer, hoist_sys::signal::KILL).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    logger.write(1, b"line\n");
    assert!(logger.finish() >= waiting);
}

#[test]
fn without_a_new_file_nothing_is_rotated_and_what_was_written_stays() {
    let directory = Directory::new("no-room");
    std::fs::create_dir(directory.0.join("log.new")).unwrap();
    std::fs::write(directory.0.join("log.1"), "old").unwrap();
    let mut logger = directory.logger(1, 3);
    logger.write(1, b"one\ntwo\n");
    let length = std::fs::metadata(directory.0.join("log")).unwrap().len();
    // In a process of its own, because the limit is the process's.
    match hoist_sys::process::clone(hoist_sys::namespace::Namespaces::default(), None).unwrap() {
        hoist_sys::process::Cloned::Child => {
            let _ = hoist_sys::signal::ignore(25); // SIGXFSZ
            let limit = rustix::process::Rlimit { current: Some(length + 10), maximum: Some(length + 10) };
            let limited = rustix::process::setrlimit(rustix::process::Resource::Fsize, limit);
            logger.write(1, b"three\n");
            hoist_sys::process::exit_now(limited.is_err().into())
        }
        hoist_sys::process::Cloned::Parent { pid, .. } => {
            assert_eq!(hoist_sys::process::wait(pid).unwrap().exit_code, 0);
        }
    }
    let texts: Vec<_> = directory.read("log").iter().map(|entry| entry["log"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts, ["one\n", "two\n"]);
    assert_eq!(std::fs::read_to_string(directory.0.join("log.1")).unwrap(), "old");
}

/// Also those that have ended and were not reaped.
fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
            fields.split(' ').nth(1) == Some(&parent.to_string())
        })
        .collect()
}
