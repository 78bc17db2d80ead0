//! `update` and `events`: limits and figures of a running container.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::arguments::Arguments;
use super::bundle;
use super::control::print;
use super::fault::{Fault, Result, Trying};
use super::record::{Record, Status};
use crate::cgroup::Stats;

/// Longest list of limits that is read from standard input.
const MAX_RESOURCES_BYTES: u64 = 1024 * 1024;
/// How often a watched container is looked at for its end.
const POLL: Duration = Duration::from_millis(200);

pub(super) fn update(mut record: Record, arguments: &Arguments) -> Result<()> {
    let new = match arguments.get("resources") {
        Some("-") => {
            let json = bundle::read_up_to(std::io::stdin(), MAX_RESOURCES_BYTES)
                .trying(|| "read resources from standard input")?;
            serde_json::from_slice(&json).map_err(|error| Fault::new(format!("parse resources: {error}")))?
        }
        Some(path) => bundle::read_json(Path::new(path), "resources file")?,
        None => from_flags(arguments)?,
    };
    if record.status()? == Status::Stopped {
        return Err(Fault::new("container not running"));
    }
    record.cgroup().update(&new).trying(|| "update")?;
    merge(&mut record, new);
    record.save()
}

fn from_flags(arguments: &Arguments) -> Result<LinuxResources> {
    for name in ["l3-cache-schema", "mem-bw-schema"] {
        if arguments.has(name) {
            return Err(Fault::new(format!("--{name} is not supported")));
        }
    }
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(bytes(arguments, "memory")?)
        .set_reservation(bytes(arguments, "memory-reservation")?)
        .set_swap(bytes(arguments, "memory-swap")?);
    let mut cpu = LinuxCpu::default();
    cpu.set_period(arguments.number("cpu-period")?)
        .set_quota(arguments.number("cpu-quota")?)
        .set_burst(arguments.number("cpu-burst")?)
        .set_shares(arguments.number("cpu-share")?)
        .set_realtime_period(arguments.number("cpu-rt-period")?)
        .set_realtime_runtime(arguments.number("cpu-rt-runtime")?)
        .set_idle(arguments.number("cpu-idle")?)
        .set_cpus(arguments.get("cpuset-cpus").map(str::to_owned))
        .set_mems(arguments.get("cpuset-mems").map(str::to_owned));
    let mut resources = LinuxResources::default();
    resources.set_memory(Some(memory)).set_cpu(Some(cpu));
    if let Some(limit) = arguments.number("pids-limit")? {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    if let Some(weight) = arguments.number("blkio-weight")? {
        let mut io = LinuxBlockIo::default();
        io.set_weight(Some(weight));
        resources.set_block_io(Some(io));
    }
    Ok(resources)
}

/// Bytes with an optional unit, as runc takes them (powers of 1024); -1 lifts the limit.
fn bytes(arguments: &Arguments, name: &str) -> Result<Option<i64>> {
    let Some(text) = arguments.get(name) else { return Ok(None) };
    let invalid = || Fault::new(format!("invalid value for {name}: {text:?}"));
    if text == "-1" {
        return Ok(Some(-1));
    }
    let lower = text.to_ascii_lowercase();
    let lower = lower.trim_end_matches('b').trim_end_matches('i');
    let (digits, shift) = match lower.char_indices().next_back() {
        Some((at, 'k')) => (&lower[..at], 10),
        Some((at, 'm')) => (&lower[..at], 20),
        Some((at, 'g')) => (&lower[..at], 30),
        Some((at, 't')) => (&lower[..at], 40),
        _ => (lower, 0),
    };
    let number: i64 = digits.trim().parse().map_err(|_| invalid())?;
    number.checked_mul(1 << shift).filter(|&number| number >= 0).map(Some).ok_or_else(invalid)
}

/// The record says what is in force, for the next who asks.
fn merge(record: &mut Record, new: LinuxResources) {
    let Some(linux) = record.config.linux_mut() else { return };
    let mut all = linux.resources().clone().unwrap_or_default();
    if let (Ok(mut old), Ok(new)) = (serde_json::to_value(&all), serde_json::to_value(&new)) {
        merge_json(&mut old, new);
        if let Ok(merged) = serde_json::from_value(old) {
            all = merged;
        }
    }
    linux.set_resources(Some(all));
}

fn merge_json(old: &mut serde_json::Value, new: serde_json::Value) {
    match (old, new) {
        (serde_json::Value::Object(old), serde_json::Value::Object(new)) => {
            for (key, value) in new {
                merge_json(old.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (old, new) if !new.is_null() => *old = new,
        _ => {}
    }
}

/// `events`: figures once (`--stats`) or at an interval, and what the OOM killer did between, until the container ends.
pub(super) fn events(record: &Record, arguments: &Arguments) -> Result<()> {
    let interval = interval(arguments.get("interval").unwrap_or("5s"))?;
    if record.status()? == Status::Stopped {
        return Err(Fault::new(format!("container with id {} is not running", record.id)));
    }
    let cgroup = record.cgroup();
    let tell_stats = || -> Result<()> {
        let data = figures(&cgroup.stats().trying(|| "read statistics")?);
        print(&serde_json::json!({"type": "stats", "id": record.id, "data": data}).to_string())
    };
    if arguments.has("stats") {
        return tell_stats();
    }
    let mut kills = cgroup.oom_kills().trying(|| "read OOM kills")?;
    let mut next = Instant::now() + interval;
    loop {
        sleep(POLL.min(interval));
        if record.status()? == Status::Stopped {
            return Ok(());
        }
        let now = cgroup.oom_kills().unwrap_or(kills);
        if now > kills {
            kills = now;
            print(&serde_json::json!({"type": "oom", "id": record.id}).to_string())?;
        }
        if Instant::now() >= next {
            next = Instant::now() + interval;
            tell_stats()?;
        }
    }
}

/// Go's durations of one unit.
fn interval(text: &str) -> Result<Duration> {
    let invalid = || Fault::new(format!("invalid duration {text:?}"));
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
    let number: f64 = text[..unit].parse().map_err(|_| invalid())?;
    let seconds = match &text[unit..] {
        "ms" => number / 1000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(invalid()),
    };
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| invalid())?;
    if duration.is_zero() { Err(Fault::new("duration interval must be greater than 0")) } else { Ok(duration) }
}

/// Under runc's names.
fn figures(stats: &Stats) -> serde_json::Value {
    let io: Vec<_> = stats
        .io_bytes
        .iter()
        .map(|(major, minor, op, value)| serde_json::json!({"major": major, "minor": minor, "op": op, "value": value}))
        .collect();
    serde_json::json!({
        "cpu": {
            "usage": {
                "total": stats.cpu_total_ns,
                "percpu": stats.percpu_ns,
                "kernel": stats.cpu_system_ns,
                "user": stats.cpu_user_ns,
            },
            "throttling": {
                "periods": stats.periods,
                "throttledPeriods": stats.throttled_periods,
                "throttledTime": stats.throttled_ns,
            },
        },
        "memory": {
            "usage": {
                "limit": stats.memory_limit_bytes,
                "usage": stats.memory_usage_bytes,
                "max": stats.memory_max_usage_bytes,
                "failcnt": stats.memory_failures,
            },
            "raw": stats.memory_stat,
        },
        "pids": {"current": stats.pids_current, "limit": stats.pids_limit},
        "blkio": {"ioServiceBytesRecursive": io},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::arguments::value;

    #[test]
    fn sizes_have_units() {
        let parse = |text: &str| {
            let words = vec!["--memory".to_owned(), text.to_owned()];
            bytes(&Arguments::parse(words, &[value(&["memory"])]).unwrap(), "memory")
        };
        for (text, number) in [("1024", 1024), ("64m", 64 << 20), ("1GiB", 1 << 30), ("2kb", 2048), ("-1", -1)] {
            assert_eq!(parse(text).unwrap(), Some(number), "{text}");
        }
        assert!(parse("x").is_err() && parse("-5").is_err() && parse("9999999999t").is_err());
    }

    #[test]
    fn intervals_are_gos_durations() {
        assert_eq!(interval("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(interval("1.5s").unwrap(), Duration::from_millis(1500));
        assert!(interval("5").is_err() && interval("0s").is_err() && interval("s").is_err());
    }
}
