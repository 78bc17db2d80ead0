//! Checks of a create (or update) request that need no state: Docker's limits and Docker's texts.

use std::net::{Ipv4Addr, Ipv6Addr};

use hoist_api::container::Config;
use hoist_api::host_config::{HostConfig, Resources, RestartPolicy};
use hoist_api::image::Healthcheck;
use hoist_api::network::EndpointSettings;
use hoist_runtime::defaults;

use crate::error::{Error, Result};
use crate::settings::Settings;

const MIN_MEMORY_BYTES: i64 = 6 * 1024 * 1024;
/// Above any processor's number, and small enough to count to.
const MAX_CPUSET: u32 = 1 << 16;

/// Checks what the client sent, after defaults were filled in.
pub(crate) fn request(config: &Config, host: &HostConfig, settings: &Settings) -> Result<()> {
    own_config(config)?;
    resources(&host.resources, false)?;
    restart_policy(&host.restart_policy, host.auto_remove)?;
    modes(config, host)?;
    crate::logs::check_config(&host.log_config)?;
    refused(host)?;
    security_options(host)?;
    defaults::check_capabilities(
        host.cap_add.as_deref().unwrap_or_default(),
        host.cap_drop.as_deref().unwrap_or_default(),
    )
    .map_err(Error::invalid)?;
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    if host.annotations.iter().flatten().any(|(key, _)| key.is_empty()) {
        return Err(Error::invalid("invalid Annotations: the empty string is not permitted as an annotation key"));
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    settings.live.now().runtime(&host.runtime).map(drop).ok_or_else(|| crate::lower::unknown_runtime(&host.runtime))
}

fn own_config(config: &Config) -> Result<()> {
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') {
            return Err(Error::invalid(format!("invalid environment variable: {variable}")));
        }
        if variable.contains('\0') {
            return Err(Error::invalid("invalid environment variable: it contains a null byte"));
        }
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        )));
    }
    if !config.stop_signal.is_empty() {
        crate::container::stop::parse_signal(&config.stop_signal)?;
    }
    if config.hostname.len() > 64 || config.hostname.contains(['/', '\0', '\n']) {
        return Err(Error::invalid(format!("invalid hostname: {:?}", config.hostname)));
    }
    config.healthcheck.as_ref().map_or(Ok(()), health_check)
}

fn health_check(check: &Healthcheck) -> Result<()> {
    const SHORTEST_NS: i64 = 1_000_000;
    let durations = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    for (name, value) in durations {
        if value != 0 && value < SHORTEST_NS {
            return Err(Error::invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
        }
    }
    if check.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

/// Checks limits; `update`: only what was sent counts.
pub(crate) fn resources(limits: &Resources, update: bool) -> Result<()> {
    let bad = |text: &str| Err(Error::invalid(text));
    memory(limits, update)?;
    if limits.nano_cpus > 0 && (limits.cpu_period > 0 || limits.cpu_quota > 0) {
        let other = if limits.cpu_period > 0 { "Period" } else { "Quota" };
        return Err(Error::invalid(format!("Conflicting options: Nano CPUs and CPU {other} cannot both be set")));
    }
    let cpus = crate::info::cpus();
    let limit_nano = i64::try_from(cpus).unwrap_or(1).saturating_mul(1_000_000_000);
    if limits.nano_cpus < 0 || limits.nano_cpus > limit_nano || (1..10_000_000).contains(&limits.nano_cpus) {
        return Err(Error::invalid(format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )));
    }
    if limits.cpu_period != 0 && !(1000..=1_000_000).contains(&limits.cpu_period) {
        return bad("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)");
    }
    if limits.cpu_quota > 0 && limits.cpu_quota < 1000 {
        return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if limits.cpu_shares < 0 {
        return Err(Error::invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            limits.cpu_shares
        )));
    }
    if limits.cpu_realtime_period != 0 && limits.cpu_realtime_runtime > limits.cpu_realtime_period {
        return bad("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    if limits.blkio_weight != 0 && !(10..=1000).contains(&limits.blkio_weight) {
        return bad("Range of blkio weight is from 10 to 1000");
    }
    for (list, what) in [(&limits.cpuset_cpus, "cpus"), (&limits.cpuset_mems, "mems")] {
        cpuset(list, what)?;
    }
    for ulimit in &limits.ulimits {
        if crate::lower::resources::rlimit_name(&ulimit.name).is_none() {
            return Err(Error::invalid(format!("invalid ulimit type: {}", ulimit.name)));
        }
        if ulimit.soft > ulimit.hard && ulimit.hard != -1 {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                ulimit.soft, ulimit.hard
            )));
        }
    }
    Ok(())
}

fn memory(limits: &Resources, update: bool) -> Result<()> {
    let bad = |text: &str| Err(Error::invalid(text));
    if limits.memory != 0 && limits.memory < MIN_MEMORY_BYTES {
        return bad("Minimum memory limit allowed is 6MB");
    }
    if limits.memory > 0 && limits.memory_swap > 0 && limits.memory_swap < limits.memory {
        return bad("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if limits.memory == 0 && limits.memory_swap > 0 && !update {
        return bad("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if let Some(value) = limits.memory_swappiness
        && !(-1..=100).contains(&value)
    {
        return Err(Error::invalid(format!("invalid value: {value}, valid memory swappiness range is 0-100")));
    }
    if limits.memory_reservation != 0 && limits.memory_reservation < MIN_MEMORY_BYTES {
        return bad("Minimum memory reservation allowed is 6MB");
    }
    if limits.memory > 0 && limits.memory_reservation > limits.memory {
        return bad("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    Ok(())
}

/// A list such as `0-3,7`, within what the machine has.
fn cpuset(list: &str, what: &str) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let parsed = parse_cpuset(list)
        .ok_or_else(|| Error::invalid(format!("Invalid value {list} for cpuset {what}: invalid format: {list}")))?;
    let file = if what == "cpus" { "/sys/devices/system/cpu/online" } else { "/sys/devices/system/node/online" };
    let online = std::fs::read_to_string(file).unwrap_or_else(|_| "0".to_owned());
    let available = parse_cpuset(online.trim()).unwrap_or_default();
    let covered = |&(from, to): &(u32, u32)| {
        (from..=to).all(|n| available.iter().any(|&(first, last)| (first..=last).contains(&n)))
    };
    if parsed.iter().all(covered) {
        return Ok(());
    }
    let kind = if what == "cpus" { "CPUs" } else { "memory nodes" };
    Err(Error::invalid(format!("Requested {kind} are not available - requested {list}, available: {}", online.trim())))
}

fn parse_cpuset(list: &str) -> Option<Vec<(u32, u32)>> {
    let ranges = hoist_runtime::cpu_list::parse(list)?;
    ranges.iter().map(|range| (*range.end() < MAX_CPUSET).then_some((*range.start(), *range.end()))).collect()
}

/// Checks a restart policy.
pub(crate) fn restart_policy(policy: &RestartPolicy, auto_remove: bool) -> Result<()> {
    let bad = |text: String| Err(Error::invalid(format!("invalid restart policy: {text}")));
    match policy.name.as_str() {
        // Clients of old send a count without a policy.
        "" => return Ok(()),
        "no" | "always" | "unless-stopped" if policy.maximum_retry_count != 0 => {
            return bad("maximum retry count can only be used with 'on-failure'".to_owned());
        }
        "on-failure" if policy.maximum_retry_count < 0 => {
            return bad("maximum retry count cannot be negative".to_owned());
        }
        "no" => return Ok(()),
        "always" | "unless-stopped" | "on-failure" => {}
        other => {
            return bad(format!(
                "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    }
    if auto_remove {
        return Err(Error::invalid("can't create 'AutoRemove' container with restart policy"));
    }
    Ok(())
}

fn modes(config: &Config, host: &HostConfig) -> Result<()> {
    let bad = |text: &str| Err(Error::invalid(text));
    let shares_network = host.network_mode.starts_with("container:");
    if host.network_mode == "container:" {
        return bad("invalid network mode: invalid container format container:<name|id>");
    }
    if shares_network && !config.hostname.is_empty() {
        return bad("conflicting options: hostname and the network mode");
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return bad("conflicting options: hostname and the UTS mode");
    }
    if shares_network && (host.publish_all_ports || !host.port_bindings.is_empty()) {
        return bad("conflicting options: port publishing and the container type network mode");
    }
    if shares_network && !host.dns.is_empty() {
        return bad("conflicting options: dns and the network mode");
    }
    if shares_network && host.extra_hosts.as_ref().is_some_and(|h| !h.is_empty()) {
        return bad("conflicting options: custom host-to-IP mapping and the network mode");
    }
    match host.ipc_mode.as_str() {
        "" | "private" | "shareable" | "host" | "none" => {}
        // Of nobody, even: as with Docker, its start fails.
        mode if mode.starts_with("container:") => {}
        mode => return Err(Error::invalid(format!("invalid IPC mode: {mode}"))),
    }
    match host.pid_mode.as_str() {
        "" | "host" => {}
        mode if mode.strip_prefix("container:").is_some_and(|c| !c.is_empty()) => {}
        mode => return Err(Error::invalid(format!("invalid PID mode: {mode}"))),
    }
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return Err(Error::invalid(format!("invalid UTS mode: {}", host.uts_mode)));
    }
    if !matches!(host.cgroupns_mode.as_str(), "host" | "private") {
        return Err(Error::invalid(format!("invalid CgroupnsMode: {}", host.cgroupns_mode)));
    }
    Ok(())
}

/// What a request may wish of its address: on the default bridge nothing.
pub(crate) fn endpoint(network: &str, wish: &EndpointSettings) -> Result<()> {
    let Some(ipam) = &wish.ipam_config else { return Ok(()) };
    let given = |text: &String| !text.is_empty();
    if network == "bridge" && (given(&ipam.ipv4_address) || given(&ipam.ipv6_address)) {
        let mut lines = vec!["user specified IP address is supported on user defined networks only".to_owned()];
        if given(&ipam.ipv4_address) && ipam.ipv4_address.parse::<Ipv4Addr>().is_err() {
            lines.push(format!("invalid IPv4 address: {}", ipam.ipv4_address));
        }
        if given(&ipam.ipv6_address) && ipam.ipv6_address.parse::<Ipv6Addr>().is_err() {
            lines.push(format!("invalid IPv6 address: {}", ipam.ipv6_address));
        }
        lines.push(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
                .to_owned(),
        );
        let lines: String = lines.iter().map(|line| format!("\n* {line}")).collect();
        return Err(Error::invalid(format!("invalid config for network {network}: invalid endpoint settings:{lines}")));
    }
    match ipam.link_local_ips.first() {
        Some(ip) if ip.parse::<std::net::IpAddr>().is_err() => Err(Error::invalid(format!(
            "invalid config for network {network}: invalid endpoint settings:\ninvalid link-local IP address: {ip}"
        ))),
        Some(ip) => Err(Error::not_implemented(format!("--link-local-ip={ip} is not supported by this engine"))),
        None => Ok(()),
    }
}

/// Whether there are such options; whether a profile or a label can be had is seen when the container is started.
fn security_options(host: &HostConfig) -> Result<()> {
    for option in host.security_opt.iter().flatten() {
        let wrong = |part: u8| Err(Error::invalid(format!("invalid --security-opt {part}: {option:?}")));
        if matches!(option.as_str(), "no-new-privileges" | "writable-cgroups" | "disable") {
            continue;
        }
        let Some((key, value)) = option.split_once('=').or_else(|| option.split_once(':')) else { return wrong(1) };
        let good = match key {
            "label" | "apparmor" | "seccomp" => true,
            "no-new-privileges" | "writable-cgroups" => crate::logs::parse_bool(value).is_some(),
            // Docker's client takes it for what it does to the masked paths, and does not send it on.
            "systempaths" => value == "unconfined",
            _ => false,
        };
        if !good {
            return wrong(2);
        }
    }
    Ok(())
}

/// Fields of Docker's that this engine does not do: refused by name, never ignored.
fn refused(host: &HostConfig) -> Result<()> {
    let not_yet = |what: &str| Err(Error::not_implemented(format!("{what} is not supported by this engine")));
    if let Some((key, _)) = host.storage_opt.iter().flatten().next() {
        // Quotas of a directory: xfs has them, and only where it was mounted with them.
        return Err(if key.eq_ignore_ascii_case("size") {
            Error::invalid("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
        } else {
            Error::invalid(format!("Unknown option {key}"))
        });
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Error::invalid(format!("invalid isolation ({}): linux only supports 'default'", host.isolation)));
    }
    if !matches!(host.userns_mode.as_str(), "" | "host") {
        return Err(Error::invalid(format!("invalid USER mode: {}", host.userns_mode)));
    }
    if !host.cgroup.is_empty() {
        return not_yet("a shared cgroup (Cgroup)");
    }
    if host.resources.cpu_count != 0
        || host.resources.cpu_percent != 0
        || host.resources.io_maximum_iops != 0
        || host.resources.io_maximum_bandwidth != 0
    {
        return Err(Error::invalid("CpuCount, CpuPercent, IOMaximumIOps and IOMaximumBandwidth exist on Windows only"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_checked_in_dockers_words() {
        let text = |r: Resources| resources(&r, false).unwrap_err().message;
        assert_eq!(text(Resources { memory: 1, ..Default::default() }), "Minimum memory limit allowed is 6MB");
        assert_eq!(
            text(Resources { memory_swap: 1 << 30, ..Default::default() }),
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        );
        assert_eq!(
            text(Resources { cpuset_cpus: "a".into(), ..Default::default() }),
            "Invalid value a for cpuset cpus: invalid format: a"
        );
        assert!(text(Resources { cpuset_cpus: "4000".into(), ..Default::default() }).contains("not available"));
    }

    #[test]
    fn security_options_that_there_are_not_are_refused() {
        let check = |option: &str| {
            security_options(&HostConfig { security_opt: Some(vec![option.into()]), ..Default::default() })
        };
        for bad in ["foo=bar", "foo:bar", "systempaths=foo", "no-new-privileges=x", "="] {
            assert_eq!(check(bad).unwrap_err().message, format!("invalid --security-opt 2: {bad:?}"));
        }
        for bad in ["foo", "", "label", "apparmor", "seccomp", "systempaths"] {
            assert_eq!(check(bad).unwrap_err().message, format!("invalid --security-opt 1: {bad:?}"));
        }
        for good in ["no-new-privileges", "no-new-privileges:false", "seccomp={", "seccomp:unconfined", "label=disable"]
        {
            check(good).unwrap();
        }
    }

    #[test]
    fn restart_policies_are_checked_in_dockers_words() {
        let policy = |name: &str, count| RestartPolicy { name: name.into(), maximum_retry_count: count };
        assert!(restart_policy(&policy("on-failure", 3), false).is_ok());
        let text = |p, rm| restart_policy(&p, rm).unwrap_err().message;
        assert_eq!(text(policy("always", 0), true), "can't create 'AutoRemove' container with restart policy");
        assert!(text(policy("x", 0), false).starts_with("invalid restart policy: unknown policy 'x'"));
        assert!(text(policy("always", 1), false).ends_with("can only be used with 'on-failure'"));
    }
}
