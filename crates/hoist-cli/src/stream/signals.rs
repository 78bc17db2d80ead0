//! Signals as bytes on a pipe, so that the relay's loop can wait for them beside its sockets.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
};

use signal_hook::{
    consts::signal::{
        SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGPROF, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH,
    },
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};

/// What is passed on to a container. The others either cannot be caught, mean this process's own memory or children,
/// or belong to job control of our terminal.
const PROXIED: &[(i32, &str)] = &[
    (SIGHUP, "HUP"),
    (SIGINT, "INT"),
    (SIGQUIT, "QUIT"),
    (SIGTERM, "TERM"),
    (SIGUSR1, "USR1"),
    (SIGUSR2, "USR2"),
    (SIGALRM, "ALRM"),
    (SIGCONT, "CONT"),
    (SIGTSTP, "TSTP"),
    (SIGVTALRM, "VTALRM"),
    (SIGPROF, "PROF"),
];

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The terminal has another size.
    Resized,
    /// To be passed on, by name without `SIG`.
    Proxied(&'static str),
}

#[derive(Debug)]
pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
}

impl Signals {
    /// Catches what is asked for, from now on until dropped.
    pub(crate) fn catch(proxy: bool, resize: bool) -> io::Result<Option<Self>> {
        let mut caught: Vec<i32> = Vec::new();
        if proxy {
            caught.extend(PROXIED.iter().map(|(number, _)| number));
        }
        if resize {
            caught.push(SIGWINCH);
        }
        if caught.is_empty() {
            return Ok(None);
        }
        let (read, write) = UnixStream::pair()?;
        read.set_nonblocking(true)?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, caught)?;
        Ok(Some(Self { delivery }))
    }

    /// Those that came since the last call.
    pub(crate) fn pending(&mut self) -> Vec<Signal> {
        // the pipe's bytes only wake us: which signals came is kept beside them
        let mut drain = [0; 64];
        while rustix::io::read(self.delivery.get_read(), &mut drain).is_ok_and(|count| count > 0) {}
        let name = |number: i32| PROXIED.iter().find(|(known, _)| *known == number).map(|(_, name)| *name);
        let signal = |number| match number {
            SIGWINCH => Some(Signal::Resized),
            number => name(number).map(Signal::Proxied),
        };
        self.delivery.pending().filter_map(signal).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }
}
