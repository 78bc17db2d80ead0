//! The container's log in Docker's json-file form: lines become entries. Where these go is [`files`]' part, by way of
//! [`buffer`] if the container must not wait. A log that cannot be written is lost; the container and its exit code are not.

use hoist_sys::poll::Set;

use super::time;
use crate::failure::Result;
use crate::launch::Log;
use buffer::Buffer;
use files::Files;

mod buffer;
mod compress;
mod files;

/// Longest text of one entry; longer lines are split into entries without a newline at their end.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// Rendered entries are written when this many bytes have gathered, and at the end of each chunk of output.
const WRITE_BYTES: usize = 64 * 1024;

/// Writes the log of one container.
pub(super) struct Logger {
    sink: Option<Sink>,
    attrs: String,
    lines: [Line; 2],
    rendered: Vec<u8>,
}

enum Sink {
    Files(Files),
    Buffered(Buffer),
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
        let Log::File(log) = log else {
            return Ok(Logger { sink: None, attrs: String::new(), lines: Default::default(), rendered: Vec::new() });
        };
        let files = Files::open(log)?;
        let sink = match log.buffer_bytes {
            None => Sink::Files(files),
            Some(bytes) => Sink::Buffered(Buffer::start(files, bytes)?),
        };
        Ok(Logger { sink: Some(sink), attrs: log.attrs.clone(), lines: Default::default(), rendered: Vec::new() })
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
        let line = &mut self.lines[usize::from(stream == 2)];
        let whole = line.text.last() == Some(&b'\n');
        let time_ns = line.part_of_ns.unwrap_or_else(time::now_ns);
        line.part_of_ns = (!whole).then_some(time_ns);
        render(&mut self.rendered, &line.text, stream, &self.attrs, time_ns);
        line.text.clear();
        if self.rendered.len() >= WRITE_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.rendered.is_empty() {
            return;
        }
        match &mut self.sink {
            Some(Sink::Files(files)) => files.write_entries(&self.rendered),
            Some(Sink::Buffered(buffer)) => buffer.push_entries(&self.rendered),
            None => {}
        }
        self.rendered.clear();
    }

    /// What is waited for besides the container: room for entries that wait.
    pub(super) fn register(&mut self, set: &mut Set) {
        if let Some(Sink::Buffered(buffer)) = &mut self.sink {
            buffer.register(set);
        }
    }

    pub(super) fn handle(&mut self, set: &Set) {
        if let Some(Sink::Buffered(buffer)) = &mut self.sink {
            buffer.handle(set);
        }
    }

    /// After the last entry: waits, not for ever, until everything is where it belongs. Returns how many entries were
    /// dropped.
    pub(super) fn finish(&mut self) -> u64 {
        match self.sink.take() {
            Some(Sink::Files(files)) => {
                files.finish();
                0
            }
            Some(Sink::Buffered(buffer)) => buffer.finish(),
            None => 0,
        }
    }
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
