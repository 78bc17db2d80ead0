//! Questions at the terminal. A secret is typed without echo, which is turned on again whatever happens.

use std::{
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixStream},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr},
};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::app::{Failure, Outcome};

/// Longest line that is taken, in bytes.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Asks for a line; blank space at its ends is not part of it.
pub(crate) fn line(question: &str) -> Outcome<String> {
    print!("{question}");
    io::stdout().flush()?;
    read_line()
}

/// Asks for a line that does not appear on the terminal.
pub(crate) fn secret(question: &str) -> Outcome<String> {
    let quiet = Quiet::enter()?;
    let answer = line(question);
    drop(quiet);
    println!();
    answer
}

/// The terminal at standard input without echo until dropped.
struct Quiet {
    before: Termios,
}

impl Quiet {
    fn enter() -> io::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        quiet.local_modes.insert(LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &quiet)?;
        Ok(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // nothing can be done about a terminal that is gone
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Reads a line, or less at the end of the input. Bytes behind it stay unread: the terminal gives one line at a time.
fn read_line() -> Outcome<String> {
    let (interrupted, signal) = UnixStream::pair()?;
    let mut caught = Vec::new();
    for number in [SIGINT, SIGTERM] {
        caught.push(signal_hook::low_level::pipe::register(number, signal.try_clone()?)?);
    }
    let answer = read_line_unless(&interrupted);
    for id in caught {
        signal_hook::low_level::unregister(id);
    }
    answer
}

fn read_line_unless(interrupted: &UnixStream) -> Outcome<String> {
    let mut bytes = Vec::new();
    loop {
        let stdin = rustix::stdio::stdin();
        let mut fds =
            [PollFd::new(&stdin, PollFlags::IN), PollFd::from_borrowed_fd(interrupted.as_fd(), PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        if fds[1].revents().contains(PollFlags::IN) {
            println!();
            return Err(Failure::silent(130));
        }
        if fds[0].revents().is_empty() {
            continue;
        }
        let mut byte = [0; 1];
        match rustix::io::read(stdin, &mut byte) {
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if bytes.len() < MAX_LINE_BYTES => bytes.push(byte[0]),
            Ok(_) => return Err("the line is too long".into()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| "what was typed is not UTF-8")?;
    Ok(text.trim().to_owned())
}
