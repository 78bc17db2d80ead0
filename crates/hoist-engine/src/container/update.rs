//! `docker update`: limits and restart policy of an existing container.

use hoist_api::host_config::{Resources, UpdateBody};
use hoist_runtime::cgroup::Version;

use crate::container::record::{Fixed, Record};
use crate::create::{merge, validate};
use crate::error::{Error, Result};

/// Checks what was sent, which Docker does before it looks for the container.
pub(crate) fn check(body: &UpdateBody) -> Result<()> {
    validate::resources(&body.resources, true)?;
    validate::restart_policy(&body.restart_policy, false)
}

/// The fixed part after an update that was [checked](check), and warnings; only what was sent changes.
pub(crate) fn apply(record: &Record, body: &UpdateBody, version: Version) -> Result<(Fixed, Vec<String>)> {
    let mut new = body.resources.clone();
    let warnings = merge::discard_block_io(&mut new, version);
    let conflict = |why: &str| Error::conflict(format!("Cannot update container {}: {why}", record.id()));
    let mut fixed = (*record.fixed).clone();
    let host = &mut fixed.host_config;
    if !body.restart_policy.name.is_empty() {
        if host.auto_remove && body.restart_policy.name != "no" {
            return Err(conflict("Restart policy cannot be updated because AutoRemove is enabled for the container"));
        }
        host.restart_policy = body.restart_policy.clone();
    }
    if let Some(why) = contradiction(&host.resources, &new) {
        return Err(conflict(&why));
    }
    merge(&mut host.resources, &new);
    Ok((fixed, warnings))
}

/// Why a container that has `own` limits cannot have `new` ones.
fn contradiction(own: &Resources, new: &Resources) -> Option<String> {
    let cpus = [
        (new.nano_cpus, "Nano CPUs", own.cpu_period, "CPU Period"),
        (new.nano_cpus, "Nano CPUs", own.cpu_quota, "CPU Quota"),
        (new.cpu_period, "CPU Period", own.nano_cpus, "NanoCPUs"),
        (new.cpu_quota, "CPU Quota", own.nano_cpus, "NanoCPUs"),
    ];
    if let Some((_, what, _, because)) = cpus.iter().find(|(wanted, _, there, _)| *wanted > 0 && *there > 0) {
        return Some(format!("Conflicting options: {what} cannot be updated as {because} has already been set"));
    }
    let above_swap = new.memory > 0 && new.memory_swap == 0 && new.memory > own.memory_swap;
    above_swap.then(|| {
        "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
            .to_owned()
    })
}

fn merge(own: &mut Resources, new: &Resources) {
    let unset = Resources::default();
    macro_rules! take {
        ($($field:ident),*) => { $( if new.$field != unset.$field { own.$field.clone_from(&new.$field); } )* };
    }
    take!(
        cpu_shares,
        memory,
        nano_cpus,
        blkio_weight,
        cpu_period,
        cpu_quota,
        cpu_realtime_period,
        cpu_realtime_runtime,
        cpuset_cpus,
        cpuset_mems,
        memory_reservation,
        memory_swap
    );
    if let Some(limit) = new.pids_limit {
        // Zero is no limit: unlike at create, inspect shows it.
        own.pids_limit = Some(limit.max(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_limited_one_way_is_not_limited_another() {
        let limits =
            |nano_cpus, cpu_period, cpu_quota| Resources { nano_cpus, cpu_period, cpu_quota, ..Default::default() };
        let text = |own, new| contradiction(&own, &new).unwrap_or_default();
        let cpus = |what: &str, because: &str| {
            format!("Conflicting options: {what} cannot be updated as {because} has already been set")
        };
        assert_eq!(text(limits(1, 0, 0), limits(0, 5000, 5000)), cpus("CPU Period", "NanoCPUs"));
        assert_eq!(text(limits(1, 0, 0), limits(0, 0, 5000)), cpus("CPU Quota", "NanoCPUs"));
        assert_eq!(text(limits(0, 5000, 5000), limits(1, 0, 0)), cpus("Nano CPUs", "CPU Period"));
        assert_eq!(text(limits(0, 0, 5000), limits(1, 0, 0)), cpus("Nano CPUs", "CPU Quota"));
        assert_eq!(text(limits(1, 0, 0), limits(2, 0, 0)), "");
        let memory = |memory, memory_swap| Resources { memory, memory_swap, ..Default::default() };
        assert!(text(memory(5, 10), memory(11, 0)).starts_with("Memory limit should be smaller than"));
        assert_eq!(text(memory(5, 10), memory(11, 20)), "");
    }

    #[test]
    fn no_limit_of_processes_is_kept_as_zero() {
        let mut own = Resources { pids_limit: Some(5), ..Default::default() };
        merge(&mut own, &Resources::default());
        assert_eq!(own.pids_limit, Some(5));
        merge(&mut own, &Resources { pids_limit: Some(-1), ..Default::default() });
        assert_eq!(own.pids_limit, Some(0));
    }
}
