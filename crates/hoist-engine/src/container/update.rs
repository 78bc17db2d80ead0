//! `docker update`: limits and restart policy of an existing container.

use hoist_api::host_config::{Resources, UpdateBody};

use crate::container::record::{Fixed, Record};
use crate::create::validate;
use crate::error::{Error, Result};

/// The fixed part after the update; only what was sent changes.
pub(crate) fn apply(record: &Record, body: &UpdateBody) -> Result<Fixed> {
    let refuse = |e: Error| Error::invalid(e.message);
    validate::resources(&body.resources, true).map_err(refuse)?;
    let mut fixed = (*record.fixed).clone();
    let host = &mut fixed.host_config;
    if !body.restart_policy.name.is_empty() {
        if host.auto_remove {
            return Err(Error::invalid(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            ));
        }
        validate::restart_policy(&body.restart_policy, false)?;
        host.restart_policy = body.restart_policy.clone();
    }
    merge(&mut host.resources, &body.resources)?;
    Ok(fixed)
}

fn merge(own: &mut Resources, new: &Resources) -> Result<()> {
    let unset = Resources::default();
    macro_rules! take {
        ($($field:ident),*) => { $( if new.$field != unset.$field { own.$field.clone_from(&new.$field); } )* };
    }
    if new.memory > 0 && new.memory_swap == 0 && new.memory > own.memory_swap {
        return Err(Error::invalid(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ));
    }
    if new.nano_cpus > 0 && (own.cpu_period > 0 || own.cpu_quota > 0) {
        return Err(Error::invalid(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period/Quota has already been set",
        ));
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
        own.pids_limit = (limit > 0).then_some(limit);
    }
    Ok(())
}
