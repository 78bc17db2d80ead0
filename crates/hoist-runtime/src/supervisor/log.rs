//! The container's log in Docker's json-file form, and its rotation. A log that cannot be written is lost; the container
//! and its exit code are not.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::time;
use crate::failure::{OrFail, Result};
use crate::launch::Log;

/// Longest text of one entry; longer lines are split into entries without a newline at their end.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// Rendered entries are written when this many bytes have gathered, and at the end of each chunk of output.
const WRITE_BYTES: usize = 64 * 1024;

/// Writes the log of one container.
pub(super) struct Logger {
    sink: Option<Sink>,
    lines: [Line; 2],
    rendered: Vec<u8>,
}

struct Sink {
    path: PathBuf,
    file: File,
    size_bytes: u64,
    max_size_bytes: u64,
    max_files: u32,
    attrs: String,
}

/// The beginning of a line whose end has not come yet.
#[derive(Default)]
struct Line {
    text: Vec<u8>,
    /// When the first of several parts of a long line was seen; all parts bear it.
    part_of_ns: Option<i64>,
}

impl Logger {
    pub(super) fn open(log: &Log) -> Result<Logger> {
        let (path, max_size_bytes, max_files, attrs) = match log {
            Log::None => return Ok(Logger { sink: None, lines: Default::default(), rendered: Vec::new() }),
            Log::JsonFile { path, max_size_bytes, max_files, attrs } => {
                (path, *max_size_bytes, *max_files, attrs.clone())
            }
            Log::Local { path, max_size_bytes, max_files } => (path, *max_size_bytes, *max_files, String::new()),
        };
        let file = open_file(path).or_fail(|| format!("open log {}", path.display()))?;
        let size_bytes = file.metadata().or_fail(|| format!("stat log {}", path.display()))?.len();
        let sink = Sink { path: path.clone(), file, size_bytes, max_size_bytes, max_files, attrs };
        Ok(Logger { sink: Some(sink), lines: Default::default(), rendered: Vec::new() })
    }

    /// Takes output as it comes. `stream` is 1 or 2.
    pub(super) fn write(&mut self, stream: u8, mut output: &[u8]) {
        if self.sink.is_none() {
            return;
        }
        while !output.is_empty() {
            let line = &mut self.lines[usize::from(stream == 2)];
            let room = MAX_LINE_BYTES - line.text.len();
            let window = &output[..room.min(output.len())];
            match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    line.text.extend_from_slice(&output[..=end]);
                    output = &output[end + 1..];
                }
                None => {
                    line.text.extend_from_slice(window);
                    output = &output[window.len()..];
                    if line.text.len() < MAX_LINE_BYTES {
                        break;
                    }
                }
            }
            self.finish_line(stream);
        }
        self.flush();
    }

    /// What has no newline at the end of a stream is an entry too.
    pub(super) fn end(&mut self, stream: u8) {
        if self.sink.is_some() && !self.lines[usize::from(stream == 2)].text.is_empty() {
            self.finish_line(stream);
        }
        self.flush();
    }

    /// Renders what has gathered of a line as one entry.
    fn finish_line(&mut self, stream: u8) {
        let Some(sink) = &mut self.sink else { return };
        let line = &mut self.lines[usize::from(stream == 2)];
        let whole = line.text.last() == Some(&b'\n');
        let time_ns = line.part_of_ns.unwrap_or_else(time::now_ns);
        line.part_of_ns = (!whole).then_some(time_ns);
        let before = self.rendered.len();
        render(&mut self.rendered, &line.text, stream, &sink.attrs, time_ns);
        line.text.clear();
        // Docker rotates before the write that finds the file at its limit.
        if sink.is_full(before as u64) {
            sink.append(&self.rendered[..before]);
            self.rendered.drain(..before);
            sink.rotate();
        } else if self.rendered.len() >= WRITE_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Some(sink) = &mut self.sink
            && !self.rendered.is_empty()
        {
            sink.append(&self.rendered);
            self.rendered.clear();
        }
    }
}

impl Sink {
    fn is_full(&self, pending_bytes: u64) -> bool {
        self.max_size_bytes > 0 && self.size_bytes + pending_bytes >= self.max_size_bytes
    }

    /// A full disk costs these entries, whole ones: a half-written entry would spoil the next.
    fn append(&mut self, bytes: &[u8]) {
        match self.file.write_all(bytes) {
            Ok(()) => self.size_bytes += bytes.len() as u64,
            Err(_) => {
                let _ = self.file.set_len(self.size_bytes);
            }
        }
    }

    /// `path` becomes `path.1`, and so on; the oldest goes. Without room for old ones the file starts anew.
    fn rotate(&mut self) {
        if self.max_files > 1 {
            for number in (1..self.max_files).rev() {
                let from = if number == 1 { self.path.clone() } else { numbered(&self.path, number - 1) };
                let _ = std::fs::rename(from, numbered(&self.path, number));
            }
        } else {
            let _ = std::fs::remove_file(&self.path);
        }
        match open_file(&self.path) {
            Ok(file) => {
                self.size_bytes = file.metadata().map_or(0, |metadata| metadata.len());
                self.file = file;
            }
            // Goes on in the old file, and tries again when as much again has come.
            Err(_) => self.size_bytes = 0,
        }
    }
}

fn open_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn render(out: &mut Vec<u8>, text: &[u8], stream: u8, attrs: &str, time_ns: i64) {
    out.extend_from_slice(br#"{"log":""#);
    escape(out, text);
    out.extend_from_slice(if stream == 2 { br#"","stream":"stderr""# } else { br#"","stream":"stdout""# });
    if !attrs.is_empty() {
        out.extend_from_slice(br#","attrs":"#);
        out.extend_from_slice(attrs.as_bytes());
    }
    out.extend_from_slice(br#","time":""#);
    time::push_rfc3339_nano(out, time_ns);
    out.extend_from_slice(b"\"}\n");
}

/// JSON string content as Go's encoder writes it: `<`, `>`, `&`, U+2028 and U+2029 escaped, invalid UTF-8 as `\ufffd`.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    for chunk in text.utf8_chunks() {
        let valid = chunk.valid().as_bytes();
        let mut plain_from = 0;
        for (at, byte) in valid.iter().copied().enumerate() {
            let special = byte < 0x20 || matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&');
            let separator = byte == 0xe2 && matches!(valid.get(at + 1..at + 3), Some([0x80, 0xa8 | 0xa9]));
            if !special && !separator {
                continue;
            }
            out.extend_from_slice(&valid[plain_from..at]);
            plain_from = at + if separator { 3 } else { 1 };
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                0xe2 => {
                    out.extend_from_slice(b"\\u202");
                    out.push(valid[at + 2] - 0xa8 + b'8');
                }
                _ => {
                    let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
                    out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
                }
            }
        }
        out.extend_from_slice(&valid[plain_from..]);
        // Go replaces each invalid byte on its own.
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

#[cfg(test)]
mod tests;
