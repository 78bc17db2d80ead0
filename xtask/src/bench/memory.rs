//! Memory of the engine and of what it keeps for each container.

use std::fs;
use std::path::Path;
use std::process::Child;

use anyhow::{Context, Result};

/// The engine and its spawner with nothing to do.
pub(super) fn idle(engine: &Child) -> Result<()> {
    std::thread::sleep(std::time::Duration::from_secs(1));
    let pid = engine.id().to_string();
    println!("engine, idle              RSS {:.1} MB, PSS {:.1} MB", of(&pid, "Rss")?, of(&pid, "Pss")?);
    for child in children(&pid) {
        println!("spawner                   RSS {:.2} MB, PSS {:.2} MB", of(&child, "Rss")?, of(&child, "Pss")?);
    }
    Ok(())
}

/// The supervisors of the running containers: every process whose executable is the engine's, but the engine and its
/// spawner.
pub(super) fn with_containers(engine: &Child, directory: &Path) -> Result<()> {
    std::thread::sleep(std::time::Duration::from_millis(500));
    let pids = fs::read_dir(directory.join("r/containers")).into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| fs::read_to_string(entry.path().join("supervisor.pid")).ok());
    for pid in pids.map(|pid| pid.trim().to_string()) {
        println!("supervisor                RSS {:.2} MB, PSS {:.2} MB", of(&pid, "Rss")?, of(&pid, "Pss")?);
    }
    let pid = engine.id().to_string();
    println!("engine, after the work    RSS {:.1} MB, PSS {:.1} MB", of(&pid, "Rss")?, of(&pid, "Pss")?);
    Ok(())
}

/// Begins the peak of a process's memory anew (proc(5), clear_refs).
pub(super) fn forget_peak(engine: &Child) -> Result<()> {
    let path = format!("/proc/{}/clear_refs", engine.id());
    fs::write(&path, "5").with_context(|| path)
}

/// The most memory the engine had since then.
pub(super) fn peak(engine: &Child, what: &str) -> Result<()> {
    let path = format!("/proc/{}/status", engine.id());
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    println!("{what:<25} RSS {:.1} MB", kilobytes.with_context(|| format!("{path} has no VmHWM"))? / 1024.0);
    Ok(())
}

fn children(pid: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().map(str::to_string).collect::<Vec<_>>()).collect()
}

/// A figure of smaps_rollup in MB.
fn of(pid: &str, name: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    let kilobytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    Ok(kilobytes.with_context(|| format!("{path} has no {name}"))? / 1024.0)
}
