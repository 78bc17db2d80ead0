//! Limits of version 2, which has one directory for all controllers, and the conversions from version 1's units.

use std::io;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};
use rustix::io::Errno;

use super::{cpuset, hugetlb, invalid, kernel, pids, rdma, refuse, set, throttles};
use crate::cgroup::files::Dir;

/// Period that the kernel uses when none was ever set.
const DEFAULT_PERIOD_US: u64 = 100_000;

/// Everything of a spec but device rules, to a version 2 directory.
pub(in crate::cgroup) fn apply(dir: Dir<'_>, resources: &LinuxResources) -> io::Result<()> {
    if let Some(memory) = resources.memory() {
        self::memory(dir, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        self::cpu(dir, cpu)?;
        cpuset(dir, cpu)?;
    }
    if let Some(limit) = resources.pids().map(|pids| pids.limit()) {
        pids(dir, limit)?;
    }
    if let Some(io) = resources.block_io() {
        block_io(dir, io)?;
    }
    hugetlb(dir, resources.hugepage_limits().as_deref().unwrap_or_default(), "max")?;
    rdma(dir, resources)?;
    if let Some(network) = resources.network()
        && (set(network.class_id()).is_some() || network.priorities().as_ref().is_some_and(|p| !p.is_empty()))
    {
        return Err(refuse("network class and priorities cannot be set with cgroup version 2"));
    }
    for (file, value) in resources.unified().iter().flatten() {
        if file.contains('/') || !file.contains('.') || file.starts_with("cgroup.") {
            return Err(invalid(format!("invalid unified resource {file:?}")));
        }
        dir.write(file, value)?;
    }
    Ok(())
}

fn memory(dir: Dir<'_>, memory: &LinuxMemory) -> io::Result<()> {
    if set(kernel(memory)).or(set(memory.kernel_tcp())).is_some_and(|limit| limit != -1) {
        return Err(refuse("kernel memory cannot be limited with cgroup version 2"));
    }
    if memory.disable_oom_killer() == Some(true) {
        return Err(refuse("the OOM killer cannot be disabled with cgroup version 2"));
    }
    if memory.swappiness().is_some_and(|value| value != u64::MAX) {
        return Err(refuse("memory swappiness cannot be set with cgroup version 2"));
    }
    if let Some(swap) = swap_alone(memory.swap().unwrap_or(0), memory.limit().unwrap_or(0)).map_err(invalid)? {
        match dir.try_write("memory.swap.max", &swap) {
            Ok(()) => {}
            // A kernel without swap accounting is as good as one with nothing or everything allowed.
            Err((Errno::NOENT, _)) if swap == "max" || swap == "0" => {}
            Err((_, error)) => return Err(error),
        }
    }
    for (value, file) in [(memory.limit(), "memory.max"), (memory.reservation(), "memory.low")] {
        if let Some(value) = set(value) {
            dir.write(file, bytes_or_max(value))?;
        }
    }
    Ok(())
}

fn cpu(dir: Dir<'_>, cpu: &LinuxCpu) -> io::Result<()> {
    if set(cpu.realtime_period()).is_some() || set(cpu.realtime_runtime()).is_some() {
        return Err(refuse("realtime cpu limits cannot be set with cgroup version 2"));
    }
    if let Some(idle) = cpu.idle() {
        dir.write("cpu.idle", idle)?;
    }
    if let Some(shares) = set(cpu.shares()) {
        dir.write("cpu.weight", weight_of_shares(shares))?;
    }
    let mut burst = cpu.burst();
    let (quota, period) = (set(cpu.quota()), set(cpu.period()));
    if let Some(value) = burst {
        match dir.try_write("cpu.max.burst", value) {
            Ok(()) => burst = None,
            // More burst than the old quota: again after the new one.
            Err((Errno::INVAL, _)) if quota.is_some() => {}
            Err((_, error)) => return Err(error),
        }
    }
    if quota.is_some() || period.is_some() {
        let quota = quota.filter(|&quota| quota > 0).map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        dir.write("cpu.max", format!("{quota} {}", period.unwrap_or(DEFAULT_PERIOD_US)))?;
    }
    burst.map_or(Ok(()), |value| dir.write("cpu.max.burst", value))
}

fn block_io(dir: Dir<'_>, io: &LinuxBlockIo) -> io::Result<()> {
    let devices = io.weight_device().as_deref().unwrap_or_default();
    if set(io.leaf_weight()).is_some() || devices.iter().any(|d| set(d.leaf_weight()).is_some()) {
        return Err(refuse("block io leaf weight cannot be set with cgroup version 2"));
    }
    let bfq = "io.bfq.weight";
    let has_bfq = (set(io.weight()).is_some() || !devices.is_empty()) && dir.has(bfq);
    if let Some(weight) = set(io.weight()) {
        if has_bfq {
            dir.write(bfq, weight)?;
        } else {
            dir.write("io.weight", weight_of_block_io(weight))?;
        }
    }
    for device in devices {
        let Some(weight) = set(device.weight()) else { continue };
        let number = format!("{}:{}", device.major(), device.minor());
        if has_bfq {
            dir.write(bfq, format!("{number} {weight}"))?;
        } else {
            dir.write("io.weight", format!("{number} {}", weight_of_block_io(weight)))?;
        }
    }
    let keys = ["rbps", "wbps", "riops", "wiops"];
    for ((devices, _), key) in throttles(io).into_iter().zip(keys) {
        for device in devices {
            // A rate of zero lifts the limit.
            let rate = set(Some(device.rate())).map_or_else(|| "max".to_owned(), |rate| rate.to_string());
            dir.write("io.max", format!("{}:{} {key}={rate}", device.major(), device.minor()))?;
        }
    }
    Ok(())
}

fn bytes_or_max(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

/// Version 2's swap limit from the sum of memory and swap that specs give; `None` leaves it alone.
pub(in crate::cgroup) fn swap_alone(memory_and_swap: i64, memory: i64) -> Result<Option<String>, String> {
    Ok(match (memory_and_swap, memory) {
        // Unlimited memory with nothing said of swap means both, as on version 1.
        (-1, _) | (0, -1) => Some("max".to_owned()),
        (0, _) => None,
        (both, -1) => Some(both.to_string()),
        (_, 0) => return Err("unable to set swap limit without memory limit".to_owned()),
        (_, memory) if memory < 0 => return Err(format!("invalid memory value: {memory}")),
        (both, memory) if both < memory => return Err("memory+swap limit should be >= memory limit".to_owned()),
        (both, memory) => Some((both - memory).to_string()),
    })
}

/// Version 2's cpu weight (1 to 10000, 100 by default) from shares (2 to 262144, 1024 by default): a curve through the
/// ends and the defaults of both scales, the one that runc and crun use since 2025.
pub(in crate::cgroup) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1 | 2 => 1,
        262_144.. => 10_000,
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "below 2^18")]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10000")]
            let weight = 10_f64.powf(exponent).ceil() as u64;
            weight
        }
    }
}

/// Version 2's io weight (1 to 10000) from a block io weight (10 to 1000), linear.
pub(in crate::cgroup) fn weight_of_block_io(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}
