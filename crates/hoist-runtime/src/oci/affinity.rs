//! `process.execCPUAffinity`: the processors that an exec'd process runs on, before and after it enters the container's
//! control group.

use oci_spec::runtime::Process;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::cpu_list;
use crate::failure::{OrFail, Result};
use crate::protocol::Failure;

/// What a process asks for; empty texts ask for nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Affinity {
    initial: Option<CpuSet>,
    last: Option<CpuSet>,
}

impl Affinity {
    pub(super) fn of(process: &Process) -> Result<Affinity> {
        let Some(asked) = process.exec_cpu_affinity() else { return Ok(Affinity::default()) };
        let read = |name: &str, list: &Option<String>| {
            list.as_deref().filter(|list| !list.is_empty()).map(|list| parse(name, list)).transpose()
        };
        Ok(Affinity { initial: read("initial", asked.initial())?, last: read("final", asked.cpu_affinity_final())? })
    }

    /// Before the control group is entered.
    pub(super) fn apply_initial(&self) -> Result<()> {
        apply("initial", self.initial.as_ref())
    }

    /// In the control group.
    pub(super) fn apply_last(&self) -> Result<()> {
        apply("final", self.last.as_ref())
    }
}

fn apply(name: &str, set: Option<&CpuSet>) -> Result<()> {
    let Some(set) = set else { return Ok(()) };
    sched_setaffinity(None, set).or_fail(|| format!("set execCPUAffinity.{name}"))
}

fn parse(name: &str, list: &str) -> Result<CpuSet> {
    let invalid = || Failure::other(format!("invalid execCPUAffinity.{name} {list:?}"));
    let mut set = CpuSet::new();
    for range in cpu_list::parse(list).ok_or_else(invalid)? {
        if usize::try_from(*range.end()).map_or(true, |last| last >= CpuSet::MAX_CPU) {
            return Err(invalid());
        }
        range.for_each(|cpu| set.set(cpu as usize));
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_read() {
        let set = parse("initial", "0-2, 7").unwrap();
        assert!([0, 1, 2, 7].iter().all(|cpu| set.is_set(*cpu)) && set.count() == 4);
        for bad in ["", "a", "3-1", "0-99999", "1,,2", "-1"] {
            assert!(parse("final", bad).is_err(), "{bad:?}");
        }
    }
}
