//! Entry points for the fuzzers in `fuzz/`: bytes in, no panic, hang or unbounded memory. Built for tests and with the
//! feature `fuzzing` only, so that what is private stays so.

#![expect(clippy::expect_used, reason = "what fails here is to be found")]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use crate::stdcopy::{Demux, Piece};
use crate::{Error, Response, Stream, head};

/// Takes a fuzzer's bytes.
pub type Target = fn(&[u8]);

pub const TARGETS: &[(&str, Target)] = &[("http_answer", http_answer), ("stdcopy", stdcopy)];

/// What fits into a socket's buffer, so that one thread can write and read it.
const ANSWER_MAX_BYTES: usize = 64 * 1024;

/// An answer's head and body; the first byte says how it is read.
pub fn http_answer(bytes: &[u8]) {
    let (how, answer) = bytes.split_first().unwrap_or((&0, &[]));
    if answer.len() > ANSWER_MAX_BYTES {
        return;
    }
    let (mut engine, client) = UnixStream::pair().expect("a pair of sockets");
    engine.write_all(answer).expect("room in a socket");
    engine.shutdown(Shutdown::Write).expect("a half-closed socket");
    let mut stream = Stream::Unix(client);
    let Ok(Some((head, rest))) = head::read(&mut stream) else { return };
    let idle = Rc::new(RefCell::new(None));
    let Ok(mut response) = Response::new(head, rest, stream, &idle, how & 1 == 1).checked() else { return };
    match how >> 1 & 1 {
        0 => {
            let _ = std::io::copy(&mut response.body, &mut std::io::sink());
            assert_eq!(response.body.read(&mut [0; 8]).unwrap_or(0), 0, "a body goes on after its end");
        }
        _ => {
            // An error ends the stream soon: otherwise a caller that goes on would never end.
            let mut failures = 0;
            for item in response.json_stream() {
                failures += usize::from(item.is_err());
                assert!(failures < 3, "a stream goes on after it failed");
            }
        }
    }
}

/// A multiplexed stream in pieces of the length that the first byte tells: what comes out does not depend on it.
pub fn stdcopy(bytes: &[u8]) {
    let (step, stream) = bytes.split_first().unwrap_or((&1, &[]));
    assert_eq!(taken_apart(stream, usize::from(*step).max(1)), taken_apart(stream, usize::MAX));
}

fn taken_apart(stream: &[u8], step: usize) -> (Vec<u8>, Vec<u8>, Vec<u8>, bool) {
    let (mut out, mut err, mut control) = (Vec::new(), Vec::new(), Vec::new());
    let mut demux = Demux::default();
    let mut push = |part: &[u8]| {
        demux.push(part, |piece| {
            match piece {
                Piece::Stdout(payload) => out.extend_from_slice(payload),
                Piece::Stderr(payload) => err.extend_from_slice(payload),
                Piece::Control(payload) => control.extend_from_slice(payload),
            }
            Ok::<(), Error>(())
        })
    };
    let whole = stream.chunks(step.min(stream.len().max(1))).all(|part| push(part).is_ok());
    (out, err, control, whole)
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
