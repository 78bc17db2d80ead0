//! Writes the resource limits of an OCI spec to a group's files, for both versions. A limit that the running kernel or
//! version does not have is refused by name, never dropped in silence. Conversions from version 1's units are pure.

use std::io;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxResources, LinuxThrottleDevice,
};
use rustix::io::Errno;

use super::files::Dir;

/// Period that the kernel uses when none was ever set.
const DEFAULT_PERIOD_US: u64 = 100_000;

fn refuse(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, message.into())
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.into())
}

/// Zero is "not set" in OCI and Docker alike.
fn set<T: PartialEq + Default>(value: Option<T>) -> Option<T> {
    value.filter(|value| *value != T::default())
}

/// Writes that do not depend on the order of others: all of a controller's on version 1.
pub(super) mod v1 {
    use super::*;

    pub(crate) fn memory(dir: Dir<'_>, memory: &LinuxMemory) -> io::Result<()> {
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
                Err(invalid(format!(
                    "unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})"
                )))
            }
            Err((_, error)) => Err(error),
        }
    }

    pub(crate) fn cpu(dir: Dir<'_>, cpu: &LinuxCpu) -> io::Result<()> {
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

    pub(crate) fn block_io(dir: Dir<'_>, io: &LinuxBlockIo) -> io::Result<()> {
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

    pub(crate) fn network(
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
}

/// Everything of a spec but device rules, to a version 2 directory.
pub(super) fn apply_unified(dir: Dir<'_>, resources: &LinuxResources) -> io::Result<()> {
    if let Some(memory) = resources.memory() {
        v2::memory(dir, memory)?;
    }
    if let Some(cpu) = resources.cpu() {
        v2::cpu(dir, cpu)?;
        cpuset(dir, cpu)?;
    }
    if let Some(limit) = resources.pids().map(|pids| pids.limit()) {
        pids(dir, limit)?;
    }
    if let Some(io) = resources.block_io() {
        v2::block_io(dir, io)?;
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

mod v2 {
    use super::*;

    pub(super) fn memory(dir: Dir<'_>, memory: &LinuxMemory) -> io::Result<()> {
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

    pub(super) fn cpu(dir: Dir<'_>, cpu: &LinuxCpu) -> io::Result<()> {
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

    pub(super) fn block_io(dir: Dir<'_>, io: &LinuxBlockIo) -> io::Result<()> {
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
}

/// Both versions name these files alike.
pub(super) fn cpuset(dir: Dir<'_>, cpu: &LinuxCpu) -> io::Result<()> {
    for (value, file) in [(cpu.cpus(), "cpuset.cpus"), (cpu.mems(), "cpuset.mems")] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            dir.write(file, value)?;
        }
    }
    Ok(())
}

pub(super) fn pids(dir: Dir<'_>, limit: i64) -> io::Result<()> {
    match limit {
        0 => Ok(()),
        ..0 => dir.write("pids.max", "max"),
        _ => dir.write("pids.max", limit),
    }
}

/// `suffix`: `limit_in_bytes` or `max`. Reserved pages have a limit of their own where the kernel has it.
pub(super) fn hugetlb(dir: Dir<'_>, limits: &[LinuxHugepageLimit], suffix: &str) -> io::Result<()> {
    for limit in limits {
        let size = limit.page_size();
        if size.contains('/') {
            return Err(invalid(format!("invalid huge page size {size:?}")));
        }
        dir.write(&format!("hugetlb.{size}.{suffix}"), limit.limit())?;
        match dir.try_write(&format!("hugetlb.{size}.rsvd.{suffix}"), limit.limit()) {
            Ok(()) | Err((Errno::NOENT, _)) => {}
            Err((_, error)) => return Err(error),
        }
    }
    Ok(())
}

pub(super) fn rdma(dir: Dir<'_>, resources: &LinuxResources) -> io::Result<()> {
    for (device, limit) in resources.rdma().iter().flatten() {
        let part = |name: &str, value: Option<u32>| value.map(|value| format!(" {name}={value}")).unwrap_or_default();
        let handles = part("hca_handle", limit.hca_handles());
        dir.write("rdma.max", format!("{device}{handles}{}", part("hca_object", limit.hca_objects())))?;
    }
    Ok(())
}

#[allow(deprecated)] // The specification deprecates the field; specs still carry it.
fn kernel(memory: &LinuxMemory) -> Option<i64> {
    memory.kernel()
}

fn throttles(io: &LinuxBlockIo) -> [(&[LinuxThrottleDevice], &'static str); 4] {
    [
        (io.throttle_read_bps_device().as_deref().unwrap_or_default(), "read_bps"),
        (io.throttle_write_bps_device().as_deref().unwrap_or_default(), "write_bps"),
        (io.throttle_read_iops_device().as_deref().unwrap_or_default(), "read_iops"),
        (io.throttle_write_iops_device().as_deref().unwrap_or_default(), "write_iops"),
    ]
}

fn bytes_or_max(value: i64) -> String {
    if value == -1 { "max".to_owned() } else { value.to_string() }
}

/// Version 2's swap limit from the sum of memory and swap that specs give; `None` leaves it alone.
pub(super) fn swap_alone(memory_and_swap: i64, memory: i64) -> Result<Option<String>, String> {
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
pub(super) fn weight_of_shares(shares: u64) -> u64 {
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
pub(super) fn weight_of_block_io(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}
