//! Reading a container's log: oldest file first, `tail` from the end, following across rotations. Runs on a thread of
//! its own and hands over chunks ready for the client; never touches the container.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hoist_api::time::{parse_rfc3339, rfc3339_fixed};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use crate::Status;
use crate::container::record::Record;
use crate::containers::Containers;
use crate::error::{Error, Result};
use crate::logs::files::Files;
use crate::logs::{attributes, tail};
use crate::stream::frame_header;

/// Longest entry that is read, in bytes: a 16 KiB line can grow sixfold by escapes.
const MAX_ENTRY_BYTES: u64 = 1024 * 1024;
/// How long a follower sleeps at most before it looks whether the container still runs.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What `GET /containers/{id}/logs` asks for.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    pub stdout: bool,
    pub stderr: bool,
    pub follow: bool,
    pub timestamps: bool,
    pub details: bool,
    /// Nanoseconds since the epoch.
    pub since_ns: Option<i64>,
    pub until_ns: Option<i64>,
    /// Last N entries; `None`: all.
    pub tail: Option<usize>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    log: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    time: String,
    #[serde(default)]
    attrs: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Containers {
    /// Opens a container's log; chunks arrive in stdcopy frames (raw with a tty). The channel ends with the log, or with
    /// the container when following.
    pub fn logs(&self, name: &str, options: LogOptions) -> Result<(Arc<Record>, mpsc::Receiver<Vec<u8>>)> {
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        let handle = self.get(name)?;
        let record = handle.record();
        let directory = self.context().directory(record.id());
        let Some(path) = super::path(&record, &directory) else {
            return Err(Error::internal("configured logging driver does not support reading"));
        };
        let (sender, receiver) = mpsc::channel(16);
        // Opened here and now: the container may be gone before the reader's thread runs.
        let files = Files::open(&path);
        let tty = record.fixed.config.tty;
        let mut reader = Reader { path, files, options, tty, last_ns: 0, sender, alive: handle.watch() };
        std::thread::Builder::new()
            .name("logs".to_owned())
            .spawn(move || {
                if let Err(Stop::Failed(e)) = reader.run() {
                    tracing::warn!(path = %reader.path.display(), "reading a log failed: {e}");
                }
            })
            .map_err(|e| Error::internal(format!("cannot start a log reader: {e}")))?;
        Ok((record, receiver))
    }
}

struct Reader {
    path: PathBuf,
    /// The log as it was when it was asked for.
    files: Files,
    options: LogOptions,
    tty: bool,
    /// Of the entry that was read last.
    last_ns: i64,
    sender: mpsc::Sender<Vec<u8>>,
    alive: watch::Receiver<Arc<Record>>,
}

/// Why reading stops early.
enum Stop {
    /// The client is gone, or `until` is reached.
    Enough,
    Failed(io::Error),
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Stop {
        Stop::Failed(e)
    }
}

impl Reader {
    fn run(&mut self) -> std::result::Result<(), Stop> {
        let only = self.only_stream();
        let (first, mut offset) = match self.options.tail {
            Some(count) => tail::start(&mut self.files, count, only)?,
            None => (0, 0),
        };
        self.files.skip(first);
        let mut last = None;
        loop {
            while let Some(mut file) = self.files.next()? {
                file.seek(SeekFrom::Start(std::mem::take(&mut offset)))?;
                let mut source = Source::new(file);
                self.drain(&mut source)?;
                last = Some(source);
            }
            if !self.options.follow || !self.wait_for_newer(last.as_mut())? {
                return Ok(());
            }
        }
    }

    /// The stream that was asked for, if it is only one.
    fn only_stream(&self) -> Option<&'static str> {
        match (self.options.stdout, self.options.stderr) {
            (true, false) => Some("stdout"),
            (false, true) => Some("stderr"),
            _ => None,
        }
    }

    /// Sends all complete entries that are there.
    fn drain(&mut self, source: &mut Source) -> std::result::Result<(), Stop> {
        while let Some(line) = source.next_line()? {
            self.entry(&line)?;
        }
        Ok(())
    }

    fn entry(&mut self, line: &[u8]) -> std::result::Result<(), Stop> {
        // A line that is no entry (a crash cut it) is skipped: the rest of the log is still good.
        let Ok(entry) = serde_json::from_slice::<Entry>(line) else { return Ok(()) };
        let options = &self.options;
        let wanted = match entry.stream.as_str() {
            "stderr" => options.stderr,
            _ => options.stdout,
        };
        let time_ns = parse_rfc3339(&entry.time).unwrap_or(0);
        self.last_ns = time_ns;
        if options.until_ns.is_some_and(|until| time_ns > until) {
            return Err(Stop::Enough);
        }
        if !wanted || options.since_ns.is_some_and(|since| time_ns < since) {
            return Ok(());
        }
        let text = shown(&entry, options.timestamps, options.details);
        let mut chunk = Vec::with_capacity(text.len() + 8);
        if !self.tty {
            chunk.extend_from_slice(&frame_header(if entry.stream == "stderr" { 2 } else { 1 }, text.len()));
        }
        chunk.extend_from_slice(text.as_bytes());
        self.sender.blocking_send(chunk).map_err(|_| Stop::Enough)
    }

    fn running(&self) -> bool {
        let record = self.alive.borrow();
        (record.state.status.alive() || record.state.status == Status::Restarting) && !record.state.removed
    }

    /// Reads on in the newest file until there is another, or several: [`Reader::files`] has them then. False at the end of
    /// the container or of the client.
    fn wait_for_newer(&mut self, mut source: Option<&mut Source>) -> std::result::Result<bool, Stop> {
        let watch = Watch::new(self.path.parent().unwrap_or(Path::new("/")))?;
        loop {
            // Asked before draining: what was written before the end is then still read.
            let running = self.running();
            if let Some(source) = &mut source {
                self.drain(source)?;
            }
            if is_replaced(&self.path, source.as_deref())? {
                self.files = Files::open(&self.path);
                if let Some(source) = source {
                    // Its last entries came between the two.
                    self.drain(source)?;
                    let last_ns = self.last_ns;
                    self.files.skip_read(source.input.get_ref(), |file| Ok(first_ns(file)? > Some(last_ns)))?;
                }
                return Ok(true);
            }
            if !running || self.sender.is_closed() {
                return Ok(false);
            }
            watch.wait()?;
        }
    }
}

/// Whether there is a file under `path` that is not the one being read.
fn is_replaced(path: &Path, read: Option<&Source>) -> io::Result<bool> {
    let Ok(now) = std::fs::metadata(path) else { return Ok(false) };
    let Some(read) = read else { return Ok(true) };
    Ok(read.input.get_ref().metadata()?.ino() != now.ino())
}

/// When the first entry of a file was written.
fn first_ns(file: &File) -> io::Result<Option<i64>> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    let line = Source::new(file).next_line()?;
    let entry = line.and_then(|line| serde_json::from_slice::<Entry>(&line).ok());
    Ok(entry.and_then(|entry| parse_rfc3339(&entry.time)))
}

/// The text of an entry with what was asked for before it.
fn shown(entry: &Entry, timestamps: bool, with_details: bool) -> String {
    let mut text = String::with_capacity(entry.log.len() + 40);
    if timestamps {
        text.push_str(&rfc3339_fixed(parse_rfc3339(&entry.time).unwrap_or(0)));
        text.push(' ');
    }
    if with_details {
        text.push_str(&attributes::shown(entry.attrs.as_ref()));
        text.push(' ');
    }
    text.push_str(&entry.log);
    text
}

/// A log file being read, and the line that is not complete yet.
struct Source {
    input: BufReader<File>,
    partial: Vec<u8>,
}

impl Source {
    fn new(file: File) -> Source {
        Source { input: BufReader::with_capacity(64 * 1024, file), partial: Vec::new() }
    }

    /// The next complete line; `None` when there is none now.
    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let room = MAX_ENTRY_BYTES.saturating_sub(self.partial.len() as u64);
        (&mut self.input).take(room).read_until(b'\n', &mut self.partial)?;
        if self.partial.ends_with(b"\n") || self.partial.len() as u64 >= MAX_ENTRY_BYTES {
            return Ok(Some(std::mem::take(&mut self.partial)));
        }
        Ok(None)
    }
}

/// Wakes a follower when something in the log's directory changes.
struct Watch {
    fd: std::os::fd::OwnedFd,
}

impl Watch {
    fn new(directory: &Path) -> io::Result<Watch> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CREATE;
        inotify::add_watch(&fd, directory, flags)?;
        Ok(Watch { fd })
    }

    fn wait(&self) -> io::Result<()> {
        let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK_AGAIN.subsec_nanos()) };
        poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&timeout))?;
        let mut buffer = [0_u8; 4096];
        while rustix::io::read(&self.fd, &mut buffer).is_ok_and(|n| n > 0) {}
        Ok(())
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    //! Reading a log whose bytes somebody else wrote.

    use std::io::Write;

    use super::*;

    pub(crate) fn read(bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        for count in [0, 1, 3] {
            let mut files = Files::of([file.try_clone()?]);
            for only in [None, Some("stdout"), Some("stderr")] {
                let (index, offset) = tail::start(&mut files, count, only)?;
                assert!(index == 0 && offset <= bytes.len() as u64, "the tail begins at {index}, {offset}");
            }
        }
        file.seek(SeekFrom::Start(0))?;
        let mut source = Source::new(file);
        let mut found = 0;
        while let Some(line) = source.next_line()? {
            assert!(!line.is_empty() && line.len() as u64 <= MAX_ENTRY_BYTES, "a line of {} bytes", line.len());
            found += 1;
            let Ok(entry) = serde_json::from_slice::<Entry>(&line) else { continue };
            let _ = (shown(&entry, true, true), parse_rfc3339(&entry.time));
        }
        assert!(found >= lines, "{found} of {lines} lines were read");
        Ok(())
    }
}
