//! How the kernel is to treat the process: scheduler, I/O priority, personality.

use oci_spec::runtime::{IOPriorityClass, LinuxPersonalityDomain, Process, Scheduler, Spec};

use crate::failure::{OrFail, Result};
use crate::protocol::Failure;

/// linux.personality: of the process and what it executes.
pub(crate) fn set_personality(spec: &Spec) -> Result<()> {
    let Some(personality) = spec.linux().as_ref().and_then(|linux| linux.personality().as_ref()) else { return Ok(()) };
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(Failure::other("linux.personality.flags is not supported"));
    }
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    };
    hoist_sys::schedule::set_personality(domain).or_fail(|| "set personality")
}

/// `process.scheduler` and `process.ioPriority`.
pub(super) fn set(process: &Process) -> Result<()> {
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        let level = u16::try_from(priority.priority())
            .ok()
            .filter(|level| *level < 8)
            .ok_or_else(|| Failure::other(format!("invalid ioPriority.priority {}", priority.priority())))?;
        hoist_sys::schedule::set_io_priority(class, level).or_fail(|| "set io priority")?;
    }
    if let Some(scheduler) = process.scheduler() {
        set_scheduler(scheduler)?;
    }
    Ok(())
}

fn set_scheduler(scheduler: &Scheduler) -> Result<()> {
    use oci_spec::runtime::{LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy};
    let policy = match scheduler.policy() {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    };
    let flags = scheduler.flags().iter().flatten().map(|flag| match flag {
        Flag::SchedResetOnFork => 0x01u64,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    });
    let mut attributes = hoist_sys::schedule::Attributes::default();
    attributes.policy = policy;
    attributes.flags = flags.fold(0, |all, flag| all | flag);
    attributes.nice = scheduler.nice().unwrap_or(0);
    attributes.priority = scheduler.priority().unwrap_or(0).try_into().unwrap_or(0);
    attributes.runtime_ns = scheduler.runtime().unwrap_or(0);
    attributes.deadline_ns = scheduler.deadline().unwrap_or(0);
    attributes.period_ns = scheduler.period().unwrap_or(0);
    hoist_sys::schedule::set_attributes(attributes).or_fail(|| "set scheduler")
}
