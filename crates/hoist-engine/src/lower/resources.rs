//! Limits, devices and device rules.

use std::path::Path;

use hoist_api::host_config::{Resources, ThrottleDevice};
use hoist_runtime::cgroup::Version;
use hoist_runtime::defaults;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxPids, LinuxResources,
    LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder, PosixRlimitType, Spec,
};

use crate::container::record::Record;
use crate::error::{Error, Result};
use crate::lower::linux;

/// Fills `linux.resources` and `linux.devices`.
pub(super) fn fill(spec: &mut Spec, record: &Record, version: Version) -> Result<()> {
    let host = &record.fixed.host_config;
    let linux = linux(spec)?;
    let mut resources = limits(&host.resources, version)?;
    let mut rules = linux.resources().as_ref().and_then(|r| r.devices().clone()).unwrap_or_default();
    let mut devices = linux.devices().clone().unwrap_or_default();
    if !host.privileged {
        for mapping in &host.resources.devices {
            let target =
                if mapping.path_in_container.is_empty() { &mapping.path_on_host } else { &mapping.path_in_container };
            let permissions = if mapping.cgroup_permissions.is_empty() { "rwm" } else { &mapping.cgroup_permissions };
            let (found, allowed) =
                defaults::host_devices(Path::new(&mapping.path_on_host), Path::new(target), permissions)
                    .map_err(Error::internal)?;
            devices.extend(found);
            rules.extend(allowed);
        }
        for rule in host.resources.device_cgroup_rules.iter().flatten() {
            rules.push(device_rule(rule)?);
        }
    }
    resources.set_devices(Some(rules));
    linux.set_resources(Some(resources));
    linux.set_devices(Some(devices));
    Ok(())
}

/// Limits alone, also for `docker update`.
pub(crate) fn limits(from: &Resources, version: Version) -> Result<LinuxResources> {
    let mut resources = LinuxResources::default();
    resources.set_memory(memory(from, version)).set_cpu(cpu(from)).set_block_io(block_io(from)?);
    if let Some(limit) = from.pids_limit {
        let mut pids = LinuxPids::default();
        pids.set_limit(if limit > 0 { limit } else { -1 });
        resources.set_pids(Some(pids));
    }
    Ok(resources)
}

fn positive(value: i64) -> Option<i64> {
    (value != 0).then_some(value)
}

fn memory(from: &Resources, version: Version) -> Option<LinuxMemory> {
    let disable_oom = from.oom_kill_disable == Some(true) && version == Version::V1;
    if from.memory == 0
        && from.memory_reservation == 0
        && from.memory_swap == 0
        && from.memory_swappiness.is_none()
        && !disable_oom
    {
        return None;
    }
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(positive(from.memory))
        .set_reservation(positive(from.memory_reservation))
        .set_swap(positive(from.memory_swap))
        .set_swappiness(from.memory_swappiness.and_then(|v| u64::try_from(v).ok()))
        .set_disable_oom_killer(disable_oom.then_some(true));
    Some(memory)
}

fn cpu(from: &Resources) -> Option<LinuxCpu> {
    let unsigned = |value: i64| u64::try_from(value).ok().filter(|&v| v != 0);
    let text = |value: &String| (!value.is_empty()).then(|| value.clone());
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(unsigned(from.cpu_shares))
        .set_realtime_runtime(positive(from.cpu_realtime_runtime))
        .set_realtime_period(unsigned(from.cpu_realtime_period))
        .set_cpus(text(&from.cpuset_cpus))
        .set_mems(text(&from.cpuset_mems));
    if from.nano_cpus > 0 {
        // --cpus=1.5 is a quota of 1.5 periods of 100 ms.
        cpu.set_period(Some(100_000)).set_quota(Some(from.nano_cpus / 10_000));
    } else {
        cpu.set_period(unsigned(from.cpu_period)).set_quota(positive(from.cpu_quota));
    }
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn block_io(from: &Resources) -> Result<Option<LinuxBlockIo>> {
    let mut io = LinuxBlockIo::default();
    if from.blkio_weight != 0 {
        io.set_weight(Some(from.blkio_weight));
    }
    let weights = from
        .blkio_weight_device
        .iter()
        .map(|device| {
            let (major, minor) = device_number(&device.path)?;
            LinuxWeightDeviceBuilder::default()
                .major(major)
                .minor(minor)
                .weight(device.weight)
                .build()
                .map_err(|e| Error::internal(e.to_string()))
        })
        .collect::<Result<Vec<_>>>()?;
    if !weights.is_empty() {
        io.set_weight_device(Some(weights));
    }
    io.set_throttle_read_bps_device(throttles(&from.blkio_device_read_bps)?)
        .set_throttle_write_bps_device(throttles(&from.blkio_device_write_bps)?)
        .set_throttle_read_iops_device(throttles(&from.blkio_device_read_iops)?)
        .set_throttle_write_iops_device(throttles(&from.blkio_device_write_iops)?);
    Ok((io != LinuxBlockIo::default()).then_some(io))
}

fn throttles(devices: &[ThrottleDevice]) -> Result<Option<Vec<LinuxThrottleDevice>>> {
    let list = devices
        .iter()
        .map(|device| {
            let (major, minor) = device_number(&device.path)?;
            LinuxThrottleDeviceBuilder::default()
                .major(major)
                .minor(minor)
                .rate(device.rate)
                .build()
                .map_err(|e| Error::internal(e.to_string()))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok((!list.is_empty()).then_some(list))
}

fn device_number(path: &str) -> Result<(i64, i64)> {
    let stat = rustix::fs::stat(path).map_err(|e| Error::internal(format!("stat {path}: {}", errno_text(e))))?;
    Ok((i64::from(rustix::fs::major(stat.st_rdev)), i64::from(rustix::fs::minor(stat.st_rdev))))
}

/// strerror(3)'s text in lower case, as Go prints it and clients match it.
fn errno_text(errno: rustix::io::Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// `c 42:* rmw`
fn device_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let bad = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let mut words = text.split_whitespace();
    let (Some(kind), Some(numbers), Some(access), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(bad());
    };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(bad()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |n: &str| if n == "*" { Ok(None) } else { n.parse::<i64>().map(Some).map_err(|_| bad()) };
    if access.is_empty() || !access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm')) {
        return Err(bad());
    }
    Ok(defaults::device_rule(true, Some(kind), number(major)?, number(minor)?, access))
}

/// Docker's ulimit names.
pub(crate) fn rlimit_name(name: &str) -> Option<PosixRlimitType> {
    use PosixRlimitType as R;
    Some(match name {
        "core" => R::RlimitCore,
        "cpu" => R::RlimitCpu,
        "data" => R::RlimitData,
        "fsize" => R::RlimitFsize,
        "locks" => R::RlimitLocks,
        "memlock" => R::RlimitMemlock,
        "msgqueue" => R::RlimitMsgqueue,
        "nice" => R::RlimitNice,
        "nofile" => R::RlimitNofile,
        "nproc" => R::RlimitNproc,
        "rss" => R::RlimitRss,
        "rtprio" => R::RlimitRtprio,
        "rttime" => R::RlimitRttime,
        "sigpending" => R::RlimitSigpending,
        "stack" => R::RlimitStack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_a_quota() {
        let lowered = limits(&Resources { nano_cpus: 1_500_000_000, ..Default::default() }, Version::V2).unwrap();
        let cpu = lowered.cpu().as_ref().unwrap();
        assert_eq!((cpu.period(), cpu.quota()), (Some(100_000), Some(150_000)));
        assert!(limits(&Resources::default(), Version::V1).unwrap().memory().is_none());
    }

    #[test]
    fn device_rules_are_parsed() {
        assert!(device_rule("c 1:* rwm").is_ok());
        for bad in ["", "x 1:1 r", "c 1 r", "c 1:1 q", "c 1:1 r x"] {
            assert!(device_rule(bad).is_err(), "{bad}");
        }
    }
}
