//! Stop, kill, and signals by name.

use std::time::Duration;

use crate::container::driver::signals::{SIGKILL, SIGTERM};
use crate::container::handle::{Event, Handle};
use crate::container::record::Status;
use crate::error::{Error, Result};

/// Signal names of signal(7) on x86-64 and arm64; real-time signals by RTMIN/RTMAX arithmetic.
const SIGNALS: [(&str, i32); 34] = [
    ("ABRT", 6),
    ("ALRM", 14),
    ("BUS", 7),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("FPE", 8),
    ("HUP", 1),
    ("ILL", 4),
    ("INT", 2),
    ("IO", 29),
    ("IOT", 6),
    ("KILL", 9),
    ("PIPE", 13),
    ("POLL", 29),
    ("PROF", 27),
    ("PWR", 30),
    ("QUIT", 3),
    ("SEGV", 11),
    ("STKFLT", 16),
    ("STOP", 19),
    ("SYS", 31),
    ("TERM", 15),
    ("TRAP", 5),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("USR1", 10),
    ("USR2", 12),
    ("VTALRM", 26),
    ("WINCH", 28),
    ("XCPU", 24),
    ("XFSZ", 25),
];

/// Seconds between the stop signal and SIGKILL unless the container says otherwise.
const DEFAULT_STOP_TIMEOUT_S: i64 = 10;

/// Parses `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub(crate) fn parse_signal(text: &str) -> Result<i32> {
    let bad = || Error::invalid(format!("invalid signal: {text}"));
    if let Ok(number) = text.parse::<i32>() {
        return match number {
            1..=64 => Ok(number),
            0 => Err(bad()),
            _ => Err(Error::invalid(format!("the linux daemon does not support signal {number}"))),
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |rest: &str| rest.parse::<i32>().ok();
    let number = match name {
        "RTMIN" => Some(34),
        "RTMAX" => Some(64),
        _ => name
            .strip_prefix("RTMIN+")
            .and_then(offset)
            .map(|n| 34 + n)
            .or_else(|| name.strip_prefix("RTMAX-").and_then(offset).map(|n| 64 - n)),
    };
    number.filter(|n| (34..=64).contains(n)).ok_or_else(bad)
}

/// How long the end of what was killed is waited for.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends a signal. After SIGKILL, which nothing survives, returns when the container has ended, as Docker does: what is asked
/// next finds it so.
pub(crate) async fn kill(handle: &Handle, signal: i32) -> Result<()> {
    let ended = wait_for_end(handle, handle.record().state.exits);
    handle.ask(|reply| Event::Kill { signal, stopping: matches!(signal, SIGKILL | SIGTERM), reply }).await?;
    if signal == SIGKILL && tokio::time::timeout(KILL_TIMEOUT, ended).await.is_err() {
        return Err(did_not_end());
    }
    Ok(())
}

fn did_not_end() -> Error {
    Error::internal("tried to kill container, but did not receive an exit event")
}

/// The stop signal, and after `timeout_s` (negative: never) SIGKILL; returns when the container has ended.
pub(crate) async fn stop(handle: &Handle, timeout_s: Option<i64>, signal: Option<&str>) -> Result<()> {
    let record = handle.record();
    if !record.state.status.alive() && record.state.status != Status::Restarting {
        return Err(Error::not_modified(""));
    }
    let config = &record.fixed.config;
    let name = signal.filter(|s| !s.is_empty()).unwrap_or(&config.stop_signal);
    let signal = if name.is_empty() { SIGTERM } else { parse_signal(name)? };
    let timeout_s = timeout_s.or(config.stop_timeout).unwrap_or(DEFAULT_STOP_TIMEOUT_S);
    let ended = wait_for_end(handle, record.state.exits);
    tokio::pin!(ended);
    let sent = handle.ask(|reply| Event::Kill { signal, stopping: true, reply }).await;
    if let Err(error) = sent {
        // It may have ended by itself meanwhile: that is what was asked for.
        let now = handle.record();
        return if now.state.status.alive() { Err(error) } else { Ok(()) };
    }
    if timeout_s < 0 {
        ended.await;
        return Ok(());
    }
    let grace = Duration::from_secs(u64::try_from(timeout_s).unwrap_or(0));
    if tokio::time::timeout(grace, &mut ended).await.is_ok() {
        return Ok(());
    }
    _ = handle.ask(|reply| Event::Kill { signal: SIGKILL, stopping: true, reply }).await;
    if tokio::time::timeout(KILL_TIMEOUT, &mut ended).await.is_ok() {
        return Ok(());
    }
    let mut error = did_not_end();
    error.message = format!("cannot stop container: {}: {}", record.name, error.message);
    Err(error)
}

/// Until the container has ended once more than `exits` times, or is gone.
async fn wait_for_end(handle: &Handle, exits: u64) {
    let mut watch = handle.watch();
    _ = watch.wait_for(|r| r.state.exits > exits || r.state.removed).await;
}

#[cfg(test)]
mod tests {
    use super::parse_signal;

    #[test]
    fn signals_are_read_in_every_spelling() {
        for text in ["15", "TERM", "sigterm", "SIGTERM"] {
            assert_eq!(parse_signal(text).unwrap(), 15, "{text}");
        }
        assert_eq!(parse_signal("SIGRTMIN+3").unwrap(), 37);
        assert_eq!(parse_signal("RTMAX-1").unwrap(), 63);
        for bad in ["0", "FOO", "", "RTMIN+99"] {
            assert_eq!(parse_signal(bad).unwrap_err().message, format!("invalid signal: {bad}"));
        }
        for unknown in ["65", "-1"] {
            let text = format!("the linux daemon does not support signal {unknown}");
            assert_eq!(parse_signal(unknown).unwrap_err().message, text);
        }
    }
}
