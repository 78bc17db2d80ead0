//! Writes that do not depend on the order of others: all of a controller's on version 1.

use std::io;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork};
use rustix::io::Errno;

use super::{invalid, kernel, refuse, set, throttles};
use crate::cgroup::files::Dir;

pub(in crate::cgroup) fn memory(dir: Dir<'_>, memory: &LinuxMemory) -> io::Result<()> {
    memory_and_swap(dir, memory)?;
    if let Some(reservation) = set(memory.reservation()) {
        dir.write("memory.soft_limit_in_bytes", reservation)?;
    }
    for (limit, file) in
        [(kernel(memory), "memory.kmem.limit_in_bytes"), (memory.kernel_tcp(), "memory.kmem.tcp.limit_in_bytes")]
    {
        if let Some(limit) = set(limit).filter(|&limit| limit != -1) {
            dir.write(file, limit).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::Unsupported => {
                    refuse(format!("this kernel has no kernel memory limit: {error}"))
                }
                _ => error,
            })?;
        }
    }
    if let Some(swappiness) = memory.swappiness() {
        // -1 as unsigned: left alone.
        if swappiness <= 100 {
            dir.write("memory.swappiness", swappiness)?;
        } else if swappiness != u64::MAX {
            return Err(invalid(format!("invalid memory swappiness value: {swappiness} (valid range is 0-100)")));
        }
    }
    if memory.disable_oom_killer() == Some(true) {
        dir.write("memory.oom_control", 1)?;
    }
    Ok(())
}

/// The kernel keeps limit <= memory+swap at every moment, so which is written first depends on where they go.
fn memory_and_swap(dir: Dir<'_>, memory: &LinuxMemory) -> io::Result<()> {
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    let limit = set(memory.limit());
    let mut swap = set(memory.swap());
    if limit == Some(-1) && swap.is_none() && dir.has(SWAP) {
        swap = Some(-1);
    }
    let swap_first = match (limit, swap) {
        (Some(_), Some(swap)) => swap == -1 || dir.read_u64("memory.limit_in_bytes")? < swap.cast_unsigned(),
        _ => false,
    };
    if let (true, Some(swap)) = (swap_first, swap) {
        dir.write(SWAP, swap)?;
    }
    if let Some(limit) = limit {
        limit_memory(dir, limit)?;
    }
    if let (false, Some(swap)) = (swap_first, swap) {
        dir.write(SWAP, swap)?;
    }
    Ok(())
}

fn limit_memory(dir: Dir<'_>, limit: i64) -> io::Result<()> {
    match dir.try_write("memory.limit_in_bytes", limit) {
        Ok(()) => Ok(()),
        Err((Errno::BUSY, _)) => {
            let usage = dir.read_u64("memory.usage_in_bytes")?;
            let peak = dir.read_u64("memory.max_usage_in_bytes")?;
            Err(invalid(format!("unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")))
        }
        Err((_, error)) => Err(error),
    }
}

pub(in crate::cgroup) fn cpu(dir: Dir<'_>, cpu: &LinuxCpu) -> io::Result<()> {
    if let Some(shares) = set(cpu.shares()) {
        dir.write("cpu.shares", shares)?;
        // The kernel clamps without a word.
        let now = dir.read_u64("cpu.shares")?;
        if shares > now {
            return Err(invalid(format!("the maximum allowed cpu-shares is {now}")));
        } else if shares < now {
            return Err(invalid(format!("the minimum allowed cpu-shares is {now}")));
        }
    }
    let (period, quota) = (set(cpu.period()), set(cpu.quota()));
    // A shorter period alone may exceed the parent's share; with the quota written too it fits.
    pair(dir, ("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", quota))?;
    if let Some(burst) = cpu.burst() {
        dir.write("cpu.cfs_burst_us", burst)?;
    }
    if let Some(idle) = cpu.idle() {
        dir.write("cpu.idle", idle)?;
    }
    pair(dir, ("cpu.rt_period_us", set(cpu.realtime_period())), ("cpu.rt_runtime_us", set(cpu.realtime_runtime())))
}

/// Writes two values that the kernel checks against each other: the first again after the second if it was refused.
fn pair(dir: Dir<'_>, first: (&str, Option<u64>), second: (&str, Option<i64>)) -> io::Result<()> {
    let mut again = None;
    if let (file, Some(value)) = first {
        match dir.try_write(file, value) {
            Ok(()) => {}
            Err((Errno::INVAL, _)) if second.1.is_some() => again = Some((file, value)),
            Err((_, error)) => return Err(error),
        }
    }
    if let (file, Some(value)) = second {
        dir.write(file, value)?;
    }
    again.map_or(Ok(()), |(file, value)| dir.write(file, value))
}

pub(in crate::cgroup) fn block_io(dir: Dir<'_>, io: &LinuxBlockIo) -> io::Result<()> {
    let devices = io.weight_device().as_deref().unwrap_or_default();
    if set(io.weight()).is_some() || !devices.is_empty() {
        let prefix = if dir.has("blkio.weight") { "blkio" } else { "blkio.bfq" };
        if let Some(weight) = set(io.weight()) {
            dir.write(&format!("{prefix}.weight"), weight)?;
        }
        for device in devices {
            let number = format!("{}:{}", device.major(), device.minor());
            if let Some(weight) = set(device.weight()) {
                dir.write(&format!("{prefix}.weight_device"), format!("{number} {weight}"))?;
            }
            if let Some(weight) = set(device.leaf_weight()) {
                dir.write("blkio.leaf_weight_device", format!("{number} {weight}"))?;
            }
        }
    }
    if let Some(weight) = set(io.leaf_weight()) {
        dir.write("blkio.leaf_weight", weight)?;
    }
    for (devices, name) in throttles(io) {
        for device in devices {
            let file = format!("blkio.throttle.{name}_device");
            dir.write(&file, format!("{}:{} {}", device.major(), device.minor(), device.rate()))?;
        }
    }
    Ok(())
}

pub(in crate::cgroup) fn network(
    class: Option<Dir<'_>>,
    priorities: Option<Dir<'_>>,
    network: &LinuxNetwork,
) -> io::Result<()> {
    if let Some(id) = set(network.class_id()) {
        class.ok_or_else(|| refuse("the net_cls controller is not mounted"))?.write("net_cls.classid", id)?;
    }
    for priority in network.priorities().iter().flatten() {
        let dir = priorities.ok_or_else(|| refuse("the net_prio controller is not mounted"))?;
        dir.write("net_prio.ifpriomap", format!("{} {}", priority.name(), priority.priority()))?;
    }
    Ok(())
}
