//! A client on a pseudo terminal, as a person sits before it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::command::wait_for_end;
use crate::patience;

/// A program whose controlling terminal we hold. Killed when dropped.
pub struct Terminal {
    child: Child,
    shown: String,
    master: File,
    seen: Arc<Mutex<Vec<u8>>>,
    read_until: usize,
}

impl Terminal {
    #[track_caller]
    pub(crate) fn start(command: &Command, rows: u16, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("openpt");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let path = ptsname(&master, Vec::new()).expect("ptsname");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = File::from(rustix::fs::open(path, flags, Mode::empty()).expect("the pty's other side"));
        resize(&master, rows, columns);

        // setsid(1) makes the terminal the controlling one, which takes a call between fork and exec.
        let mut wrapped = Command::new("setsid");
        wrapped.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        wrapped.env_clear();
        for (name, value) in command.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            wrapped.env(name, value);
        }
        wrapped.env("TERM", "xterm");
        let duplicate = || Stdio::from(slave.try_clone().unwrap());
        wrapped.stdin(duplicate()).stdout(duplicate()).stderr(duplicate());
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let child = wrapped.spawn().expect("setsid");
        drop(slave);

        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = seen.clone();
        // Ends with EIO when the last holder of the other side is gone.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, shown, master, seen, read_until: 0 }
    }

    /// All that came on the screen.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Types.
    pub fn send(&mut self, keys: &str) -> &mut Self {
        self.master.write_all(keys.as_bytes()).expect("typing");
        self
    }

    /// Types a line.
    pub fn line(&mut self, line: &str) -> &mut Self {
        self.send(&format!("{line}\r"))
    }

    /// Waits until this appears after what was expected before; the time limit fails the test.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> &mut Self {
        let start = Instant::now();
        loop {
            let found = {
                let seen = self.seen.lock().unwrap();
                let position = seen[self.read_until..].windows(text.len()).position(|window| window == text.as_bytes());
                position.map(|position| self.read_until + position + text.len())
            };
            if let Some(end) = found {
                self.read_until = end;
                return self;
            }
            assert!(
                start.elapsed() < patience() / 2,
                "no {text:?} on the terminal of `{}`:\n{}",
                self.shown,
                self.screen()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn resize(&mut self, rows: u16, columns: u16) -> &mut Self {
        resize(&self.master, rows, columns);
        self
    }

    /// Waits for the program's end; its exit code and all that came on the screen.
    #[track_caller]
    pub fn finish(mut self) -> (i32, String) {
        assert!(wait_for_end(&mut self.child, patience()), "`{}` hangs:\n{}", self.shown, self.screen());
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        // The reader may be some bytes behind.
        std::thread::sleep(Duration::from_millis(50));
        (code, self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn resize(terminal: impl AsFd, rows: u16, columns: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).expect("TIOCSWINSZ");
}
