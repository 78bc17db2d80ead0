//! A process in the foreground: its terminal is relayed to ours, signals go on to it, its end is ours.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hoist_sys::poll::{Interest, Set};
use hoist_sys::{process, signal};
use rustix::termios::{OptionalActions, Termios};

use super::fault::{Fault, Result, Trying};
use crate::init::set_terminal_size;

// signal(7)
const PIPE: i32 = 13;
const URGENT: i32 = 23;
const WINDOW_CHANGE: i32 = 28;

/// Must be called before the process is cloned: from then on signals wait until they are forwarded.
pub(super) fn hold_signals() -> Result<OwnedFd> {
    signal::block_all().trying(|| "block signals")?;
    signal::descriptor(None).trying(|| "signalfd")
}

/// Our own terminal in raw mode, put back when dropped.
struct RawMode(Option<Termios>);

impl RawMode {
    fn enter() -> RawMode {
        let stdin = rustix::stdio::stdin();
        let Ok(before) = rustix::termios::tcgetattr(stdin) else { return RawMode(None) };
        let mut raw = before.clone();
        raw.make_raw();
        RawMode(rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw).ok().map(|()| before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Relays until the process `pid` ends; its exit code.
pub(super) fn wait(pid: i32, pidfd: &OwnedFd, signals: &OwnedFd, terminal: Option<OwnedFd>) -> Result<u8> {
    let mut relay = Relay { terminal, reads_stdin: true, _raw: RawMode(None) };
    if relay.terminal.is_some() {
        relay._raw = RawMode::enter();
        relay.resize();
    }
    let mut set = Set::default();
    loop {
        set.clear();
        let signalled = set.add(signals.as_fd(), Interest::Read);
        let input = relay
            .terminal
            .as_ref()
            .filter(|_| relay.reads_stdin)
            .map(|_| set.add(rustix::stdio::stdin(), Interest::Read));
        let output = relay.terminal.as_ref().map(|terminal| set.add(terminal.as_fd(), Interest::Read));
        set.wait(None).trying(|| "wait for process")?;
        if output.is_some_and(|index| set.ready(index).any()) {
            relay.copy_output();
        }
        if input.is_some_and(|index| set.ready(index).any()) {
            relay.copy_input();
        }
        if !set.ready(signalled).any() {
            continue;
        }
        while let Some(number) = signal::read_descriptor(signals.as_fd()).trying(|| "read signals")? {
            match number {
                signal::CHILD => {
                    if let Some(status) = reap(pid)? {
                        relay.drain();
                        return Ok(status);
                    }
                }
                WINDOW_CHANGE => relay.resize(),
                PIPE | URGENT => {}
                _ => {
                    let _ = signal::send_by_pidfd(pidfd.as_fd(), number);
                }
            }
        }
    }
}

/// Reaps everything that has ended; the exit code if our process is among it.
fn reap(pid: i32) -> Result<Option<u8>> {
    let mut found = None;
    while let Some(ended) = process::reap().trying(|| "wait for process")? {
        if ended.pid == pid {
            found = Some(u8::try_from(ended.exit_code).unwrap_or(255));
        }
    }
    Ok(found)
}

struct Relay {
    terminal: Option<OwnedFd>,
    reads_stdin: bool,
    _raw: RawMode,
}

impl Relay {
    fn resize(&self) {
        if let (Some(terminal), Ok(size)) = (&self.terminal, rustix::termios::tcgetwinsize(rustix::stdio::stdin())) {
            let _ = set_terminal_size(terminal.as_fd(), (size.ws_row, size.ws_col));
        }
    }

    /// False at the end (EIO: the last process has closed the terminal).
    fn copy_output(&mut self) -> bool {
        let mut buffer = [0; 8192];
        let Some(terminal) = &self.terminal else { return false };
        match rustix::io::retry_on_intr(|| rustix::io::read(terminal, &mut buffer)) {
            Ok(length) if length > 0 && write_all(rustix::stdio::stdout(), &buffer[..length]).is_ok() => true,
            _ => {
                self.terminal = None;
                false
            }
        }
    }

    fn copy_input(&mut self) {
        const END_OF_TRANSMISSION: &[u8] = &[4];
        let mut buffer = [0; 4096];
        let Some(terminal) = &self.terminal else { return };
        match rustix::io::retry_on_intr(|| rustix::io::read(rustix::stdio::stdin(), &mut buffer)) {
            Ok(length) if length > 0 => drop(write_all(terminal.as_fd(), &buffer[..length])),
            _ => {
                self.reads_stdin = false;
                let _ = write_all(terminal.as_fd(), END_OF_TRANSMISSION);
            }
        }
    }

    /// What the terminal still holds.
    fn drain(&mut self) {
        let mut set = Set::default();
        while let Some(terminal) = &self.terminal {
            set.clear();
            let index = set.add(terminal.as_fd(), Interest::Read);
            if set.wait(Some(0)).is_err() || !set.ready(index).read || !self.copy_output() {
                return;
            }
        }
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(Fault::new("short write")),
            Ok(length) => bytes = &bytes[length..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).trying(|| "write"),
        }
    }
    Ok(())
}
