//! Commands on existing containers: state, list, kill, delete, pause, resume, ps.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use hoist_sys::signal;

use super::Globals;
use super::arguments::Arguments;
use super::fault::{Fault, Result, Trying};
use super::record::{self, Record, Status};
use super::{hooks, shared_mounts};

/// How long `delete --force` waits for the kernel to take a killed process away.
const KILL_WAIT: Duration = Duration::from_secs(10);

pub(super) fn state(record: &Record) -> Result<()> {
    print_json(&record.state(record.status()?.name()))
}

pub(super) fn print_json(value: &serde_json::Value) -> Result<()> {
    let json = serde_json::to_string_pretty(value).map_err(|error| Fault::new(error.to_string()))?;
    print(&json)
}

pub(super) fn print(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").trying(|| "write to standard output")
}

/// All records that can be read; one that cannot is told about and left alone.
pub(super) fn list(globals: &Globals, arguments: &Arguments) -> Result<()> {
    let mut records = Vec::new();
    let entries = match std::fs::read_dir(&globals.root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        entries => entries.trying(|| format!("read {}", globals.root.display()))?.flatten().collect(),
    };
    for entry in entries {
        let id = entry.file_name().to_string_lossy().into_owned();
        match Record::load(&globals.root, &id).and_then(|record| Ok((record.status()?, record))) {
            Ok(found) => records.push(found),
            Err(fault) => globals.log.warning(&format!("skipping {id}: {}", fault.message)),
        }
    }
    records.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
    if arguments.has("quiet") {
        return records.iter().try_for_each(|(_, record)| print(&record.id));
    }
    match arguments.get("format").unwrap_or("table") {
        "json" => {
            let states: Vec<_> = records.iter().map(|(status, record)| record.state(status.name())).collect();
            let text = serde_json::to_string(&states).map_err(|error| Fault::new(error.to_string()))?;
            print(&text)
        }
        "table" => print(table(&records).trim_end()),
        other => Err(Fault::new(format!("invalid format option {other:?}"))),
    }
}

fn table(records: &[(Status, Record)]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for (status, record) in records {
        let pid = if *status == Status::Stopped { 0 } else { record.pid };
        let bundle = record.bundle.display().to_string();
        rows.push(
            [&record.id, &pid.to_string(), status.name(), &bundle, &record.created, "root"].map(|c: &str| c.to_owned()),
        );
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0).max(8) + 3;
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

pub(super) fn kill(record: &Record, arguments: &Arguments) -> Result<()> {
    let number = match arguments.rest.first() {
        None => 15,
        Some(text) => signal_number(text).ok_or_else(|| Fault::new(format!("unknown signal {text:?}")))?,
    };
    let status = record.status()?;
    if arguments.has("all") {
        if number == signal::KILL {
            return record.cgroup().kill().trying(|| "kill processes");
        }
        let pids = record.cgroup().pids().trying(|| "list processes")?;
        for pid in pids {
            // Those that have ended meanwhile do not matter.
            let _ = hoist_sys::signal::send(pid, number);
        }
        return Ok(());
    }
    if status == Status::Stopped {
        return Err(Fault::new("container not running"));
    }
    hoist_sys::signal::send(record.pid, number).trying(|| "unable to signal init")?;
    if number == signal::KILL && status == Status::Paused {
        // The signal waits until the group thaws.
        record.cgroup().freeze(false).trying(|| "thaw")?;
    }
    Ok(())
}

/// A number or a name with or without `SIG`, as `kill` takes them.
fn signal_number(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    if let Ok(number) = text.parse::<i32>() {
        return (0..=hoist_sys::signal::MAX).contains(&number).then_some(number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(at + 1).ok();
    }
    // SIGRTMIN+n and SIGRTMAX-n count from glibc's 34 and 64.
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest[1..].parse::<i32>().ok() };
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) if rest.is_empty() || rest.starts_with('+') => 34 + offset(rest)?,
        (_, Some(rest)) if rest.is_empty() || rest.starts_with('-') => 64 - offset(rest)?,
        _ => return None,
    };
    (34..=64).contains(&number).then_some(number)
}

pub(super) fn delete(globals: &Globals, id: &str, force: bool) -> Result<()> {
    record::check_id(id)?;
    let record = match Record::load(&globals.root, id) {
        Ok(record) => record,
        Err(fault) => return if force { forget(&globals.root, id) } else { Err(fault) },
    };
    match record.status()? {
        Status::Stopped => {}
        // An init that waits for start has no user's program in it.
        Status::Created => stop(&record)?,
        _ if force => stop(&record)?,
        status => {
            let name = status.name();
            return Err(Fault::new(format!("cannot delete container {id} that is not stopped: {name}")));
        }
    }
    record.cgroup().remove().trying(|| "remove cgroup")?;
    if shared_mounts::are_wanted(&record.config) {
        shared_mounts::detach(&record.directory)?;
    }
    std::fs::remove_dir_all(&record.directory).trying(|| format!("remove {}", record.directory.display()))?;
    let poststop = record.config.hooks().as_ref().and_then(|all| all.poststop().as_ref());
    if let Err(fault) = hooks::run("poststop", poststop, &record.state("stopped")) {
        // By the specification only a warning: the container is gone already.
        globals.log.warning(&fault.message);
    }
    Ok(())
}

/// What a creation that was cut short left behind; nothing to do is fine.
fn forget(root: &Path, id: &str) -> Result<()> {
    shared_mounts::detach(&root.join(id))?;
    match std::fs::remove_dir_all(root.join(id)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).trying(|| format!("remove {id}")),
        _ => Ok(()),
    }
}

fn stop(record: &Record) -> Result<()> {
    let _ = signal::send(record.pid, signal::KILL);
    record.cgroup().kill().trying(|| "kill processes")?;
    let step = Duration::from_millis(2);
    let mut waited = Duration::ZERO;
    while record::is_alive(record.pid, record.pid_started) {
        if waited >= KILL_WAIT {
            return Err(Fault::new(format!("container {} does not end", record.id)));
        }
        sleep(step);
        waited += step;
    }
    Ok(())
}

pub(super) fn pause(record: &Record, frozen: bool) -> Result<()> {
    match (record.status()?, frozen) {
        (Status::Running | Status::Created, true) | (Status::Paused, false) => {}
        (status, true) => {
            let name = status.name();
            return Err(Fault::new(format!("cannot pause container {}: it is {name}", record.id)));
        }
        (_, false) => return Err(Fault::new(format!("container {} is not paused", record.id))),
    }
    record.cgroup().freeze(frozen).trying(|| if frozen { "freeze" } else { "thaw" })
}

/// The container's lines of ps(1), or its pids.
pub(super) fn ps(record: &Record, arguments: &Arguments) -> Result<()> {
    let pids = record.cgroup().pids().trying(|| "list processes")?;
    match arguments.get("format").unwrap_or("table") {
        "json" => return print(&serde_json::json!(pids).to_string()),
        "table" => {}
        other => return Err(Fault::new(format!("invalid format option {other:?}"))),
    }
    let options = if arguments.rest.is_empty() { vec!["-ef".to_owned()] } else { arguments.rest.clone() };
    let output = Command::new("ps").args(&options).output().trying(|| "run ps")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Fault::new(format!("ps {}: {words}", options.join(" "))));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines();
    let title = lines.next().unwrap_or_default();
    let column = title.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| Fault::new("couldn't find PID field in ps output"))?;
    print(title)?;
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            print(line)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_numbers_and_names() {
        for (text, number) in
            [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("sigusr1", 10), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)]
        {
            assert_eq!(signal_number(text), Some(number), "{text}");
        }
        for text in ["", "SIGNOPE", "65", "-1", "RTMIN+x", "RTMAX+1"] {
            assert_eq!(signal_number(text), None, "{text}");
        }
    }
}
