//! The guest as a process: QEMU with Debian's kernel, its console line by line, its end. Knows nothing of what runs in it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// A running guest. Dropped, it loses its power.
pub(super) struct Machine {
    child: Child,
    lines: Receiver<String>,
}

/// What the console gave next.
pub(super) enum Next {
    Line(String),
    /// The guest is off.
    Ended,
    /// Nothing until then.
    Late,
}

impl Machine {
    /// Boots with the root and the payload of `guest` and these drives besides (`vdc`, `vdd`…).
    pub(super) fn boot(guest: &Path, drives: &[String], kernel_options: &str) -> Result<Machine> {
        let mut qemu = Command::new("qemu-system-x86_64");
        // Not KVM by itself where there is /dev/kvm: nested, it can look usable and fail in the middle of the boot.
        let accelerator = std::env::var("HOIST_GUEST_ACCEL").unwrap_or_else(|_| "tcg,thread=multi".into());
        qemu.args(["-accel", &accelerator, "-cpu", "max", "-smp", "2", "-m", "3G"]);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]);
        qemu.arg("-kernel").arg(guest.join("vmlinuz")).arg("-initrd").arg(guest.join("initrd"));
        let fixed = "console=ttyS0 quiet panic=-1 reboot=t mitigations=off nokaslr root=/dev/vda rw init=/guest-init";
        qemu.args(["-append", &format!("{fixed} {kernel_options}")]);
        let image = |name: &str| format!("format=raw,file={}", guest.join(name).display());
        let own = [
            format!("snapshot=on,cache=unsafe,{}", image("root.img")),
            format!("readonly=on,{}", image("payload.img")),
        ];
        for drive in own.iter().chain(drives) {
            qemu.arg("-drive").arg(format!("if=virtio,{drive}"));
        }
        qemu.env("TMPDIR", guest).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = qemu.spawn().context("qemu-system-x86_64")?;
        let mut console = BufReader::new(child.stdout.take().context("no console")?);
        let (sender, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = Vec::new();
            // A line that was cut off says something else than the whole one would.
            while console.read_until(b'\n', &mut line).is_ok() && line.ends_with(b"\n") {
                let whole = String::from_utf8_lossy(&std::mem::take(&mut line)).trim_end().to_string();
                if sender.send(whole).is_err() {
                    break;
                }
            }
        });
        Ok(Machine { child, lines })
    }

    /// The next line of the console.
    pub(super) fn next(&self, deadline: Instant) -> Next {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Next::Line(line),
            Err(RecvTimeoutError::Disconnected) => Next::Ended,
            Err(RecvTimeoutError::Timeout) => Next::Late,
        }
    }

    /// Shows the console until the command has ended, and returns its exit code.
    pub(super) fn exit_code(&self, deadline: Instant) -> Result<i32> {
        loop {
            // A guest that prints all the time must not go on for ever.
            if Instant::now() > deadline {
                bail!("the guest takes too long");
            }
            match self.next(deadline) {
                Next::Late => bail!("the guest takes too long"),
                Next::Ended => bail!("the guest ended before its command did"),
                Next::Line(line) => match exit_code(&line) {
                    Some(code) => return Ok(code),
                    None => println!("| {line}"),
                },
            }
        }
    }

    /// Ends it at once and returns what it had still printed.
    pub(super) fn cut(mut self) -> Vec<String> {
        self.stop();
        self.lines.iter().collect()
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the guest's first process says about the end of the command.
pub(super) fn exit_code(line: &str) -> Option<i32> {
    line.strip_prefix("guest: exit ")?.trim().parse().ok()
}
