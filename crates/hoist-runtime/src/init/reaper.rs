//! `--init`: pid 1 of the container is a small loop of our own that forwards signals, reaps, and ends as its child ended.
//! No other program is executed for it.

use hoist_sys::process::{self, Forked};
use hoist_sys::signal;

use crate::failure::{OrFail, Result};

/// SIGTTIN, SIGTTOU (signal(7)): not forwarded, and SIGCHLD is not either.
const TERMINAL: [i32; 2] = [21, 22];

/// Forks; returns only in the child, which goes on to exec the user's program in its own process group.
pub(super) fn become_init(tty: bool) -> Result<()> {
    signal::block_all().or_fail(|| "block signals")?;
    match process::fork().or_fail(|| "fork below init")? {
        Forked::Child => {
            rustix::process::setpgid(None, None).or_fail(|| "setpgid")?;
            if tty {
                // Blocked SIGTTOU lets a background process do this (tcsetpgrp(3)).
                rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpgrp())
                    .or_fail(|| "tcsetpgrp")?;
            }
            signal::unblock_all().or_fail(|| "unblock signals")
        }
        Forked::Parent { pid } => {
            let _ = process::set_parent_death_signal(signal::KILL);
            let name = c"docker-init";
            let _ = rustix::thread::set_name(name);
            // Whatever is left open of the supervisor's; also the streams: only the program itself may hold them.
            let _ = hoist_sys::fd::close_all_except(0, &mut []);
            forward_and_reap(pid)
        }
    }
}

fn forward_and_reap(child: i32) -> ! {
    loop {
        match signal::wait() {
            Ok(signal::CHILD) => {
                while let Ok(Some(ended)) = process::reap() {
                    if ended.pid == child {
                        process::exit_now(ended.exit_code);
                    }
                }
            }
            Ok(number) if TERMINAL.contains(&number) => {}
            Ok(number) => {
                let _ = signal::send(child, number);
            }
            Err(_) => process::exit_now(1),
        }
    }
}
