//! Usage figures of a group, both versions, as [`Stats`]. A file that the kernel does not have leaves its figures zero.

use std::io;
use std::path::PathBuf;

use super::Stats;
use super::files::{Dir, key_values, parse_u64};

/// Figures of a version 1 group; `directory` finds the directory of a controller.
pub(super) fn legacy(directory: impl Fn(&str) -> io::Result<Option<PathBuf>>) -> io::Result<Stats> {
    let mut stats = Stats::default();
    if let Some(path) = directory("cpuacct")? {
        let dir = Dir(&path);
        stats.cpu_total_ns = number(dir, "cpuacct.usage")?;
        stats.cpu_user_ns = number(dir, "cpuacct.usage_user")?;
        stats.cpu_system_ns = number(dir, "cpuacct.usage_sys")?;
        stats.percpu_ns = text(dir, "cpuacct.usage_percpu")?.split_whitespace().filter_map(parse_u64).collect();
    }
    if let Some(path) = directory("cpu")? {
        for (key, value) in key_values(&text(Dir(&path), "cpu.stat")?) {
            match key {
                "nr_periods" => stats.periods = value,
                "nr_throttled" => stats.throttled_periods = value,
                "throttled_time" => stats.throttled_ns = value,
                _ => {}
            }
        }
    }
    if let Some(path) = directory("memory")? {
        let dir = Dir(&path);
        stats.memory_usage_bytes = number(dir, "memory.usage_in_bytes")?;
        stats.memory_max_usage_bytes = number(dir, "memory.max_usage_in_bytes")?;
        stats.memory_failures = number(dir, "memory.failcnt")?;
        stats.memory_limit_bytes = unlimited(number(dir, "memory.limit_in_bytes")?);
        stats.memory_stat = key_values(&text(dir, "memory.stat")?).map(|(key, n)| (key.to_owned(), n)).collect();
    }
    if let Some(path) = directory("pids")? {
        pids(Dir(&path), &mut stats)?;
    }
    if let Some(path) = directory("blkio")? {
        let dir = Dir(&path);
        // As runc: the io scheduler's own count where it keeps one, else the block layer's.
        for file in [
            "blkio.bfq.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes",
        ] {
            stats.io_bytes = text(dir, file)?.lines().filter_map(legacy_io).collect();
            if !stats.io_bytes.is_empty() {
                break;
            }
        }
    }
    Ok(stats)
}

/// Figures of a version 2 group.
pub(super) fn unified(dir: Dir<'_>) -> io::Result<Stats> {
    let mut stats = Stats::default();
    for (key, value) in key_values(&text(dir, "cpu.stat")?) {
        match key {
            "usage_usec" => stats.cpu_total_ns = value.saturating_mul(1000),
            "user_usec" => stats.cpu_user_ns = value.saturating_mul(1000),
            "system_usec" => stats.cpu_system_ns = value.saturating_mul(1000),
            "nr_periods" => stats.periods = value,
            "nr_throttled" => stats.throttled_periods = value,
            "throttled_usec" => stats.throttled_ns = value.saturating_mul(1000),
            _ => {}
        }
    }
    stats.memory_usage_bytes = number(dir, "memory.current")?;
    stats.memory_max_usage_bytes = number(dir, "memory.peak")?;
    stats.memory_limit_bytes = number(dir, "memory.max")?;
    stats.memory_stat = key_values(&text(dir, "memory.stat")?).map(|(key, n)| (key.to_owned(), n)).collect();
    let events = text(dir, "memory.events")?;
    stats.memory_failures = key_values(&events).find(|(key, _)| *key == "max").map_or(0, |(_, count)| count);
    pids(dir, &mut stats)?;
    stats.io_bytes = text(dir, "io.stat")?.lines().flat_map(unified_io).collect();
    Ok(stats)
}

fn pids(dir: Dir<'_>, stats: &mut Stats) -> io::Result<()> {
    stats.pids_current = number(dir, "pids.current")?;
    stats.pids_limit = Some(number(dir, "pids.max")?).filter(|&limit| limit != u64::MAX).unwrap_or(0);
    Ok(())
}

/// Version 1 shows no limit as the largest number of whole pages.
fn unlimited(limit: u64) -> u64 {
    if limit >= i64::MAX.cast_unsigned() & !0xffff { u64::MAX } else { limit }
}

/// `8:0 Read 4096`; the line of totals has no device.
fn legacy_io(line: &str) -> Option<(u64, u64, String, u64)> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let operation = words.next()?.to_owned();
    Some((major.parse().ok()?, minor.parse().ok()?, operation, words.next()?.parse().ok()?))
}

/// `8:0 rbytes=4096 wbytes=0 …`, under version 1's names of operations as Docker shows them.
fn unified_io(line: &str) -> Vec<(u64, u64, String, u64)> {
    let mut words = line.split_whitespace();
    let number = |text: &str| text.parse::<u64>().ok();
    let Some((major, minor)) = words.next().and_then(|word| word.split_once(':')) else { return Vec::new() };
    let (Some(major), Some(minor)) = (number(major), number(minor)) else { return Vec::new() };
    words
        .filter_map(|word| {
            let (key, value) = word.split_once('=')?;
            let operation = match key {
                "rbytes" => "Read",
                "wbytes" => "Write",
                _ => return None,
            };
            Some((major, minor, operation.to_owned(), number(value)?))
        })
        .collect()
}

fn text(dir: Dir<'_>, file: &str) -> io::Result<String> {
    match dir.read(file) {
        Ok(text) => Ok(text),
        // Without the group itself there are no figures; without the file there is one less.
        Err(error) if error.kind() == io::ErrorKind::NotFound && dir.0.is_dir() => Ok(String::new()),
        // The kernel lists files of controllers that are compiled in but switched off.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn number(dir: Dir<'_>, file: &str) -> io::Result<u64> {
    Ok(parse_u64(&text(dir, file)?).unwrap_or(0))
}
