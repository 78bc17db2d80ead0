//! From an OCI profile to a verdict for every call number of each architecture, with the meaning that runc and libseccomp
//! give to it:
//! - the first rule without comparisons decides a call; without one, the first rule whose comparisons hold, else the default;
//! - rules that say the same as the default, and names that nobody knows, count for nothing;
//! - several comparisons of one rule must all hold, unless two look at the same argument: then one is enough;
//! - on i386, calls are ruled under their own number and under that of socketcall(2) or ipc(2);
//! - calls newer than all that a denying profile names get ENOSYS, so that C libraries fall back.

use std::collections::BTreeMap;

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator};

use super::syscalls::{self, Abi, X32_BIT};

pub(super) const RETURN_KILL_THREAD: u32 = 0;
pub(super) const RETURN_ENOSYS: u32 = 0x0005_0026;
const RETURN_DATA: u32 = 0xffff;

/// Arguments that a filter can see.
const MAX_ARGUMENTS: usize = 6;

/// A comparison of one argument with a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) argument: usize,
    pub(super) operator: LinuxSeccompOperator,
    /// The mask for `MaskedEq`, else what is compared with.
    pub(super) value: u64,
    /// What the masked argument must be.
    pub(super) masked: u64,
    /// Compare the low half only.
    pub(super) low_half: bool,
}

/// Comparisons that must all hold, and what a filter then returns (`SECCOMP_RET_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conditional {
    pub(super) comparisons: Vec<Comparison>,
    pub(super) verdict: u32,
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Return(u32),
    /// The first that holds, else the number.
    Test(Vec<Conditional>, u32),
}

/// All numbers of one `seccomp_data.arch`: each outcome holds from its number to the next.
#[derive(Clone, Debug)]
pub(super) struct Architecture {
    pub(super) audit_arch: u32,
    pub(super) ranges: Vec<(u32, Outcome)>,
}

/// The whole filter; other architectures get `otherwise`.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) architectures: Vec<Architecture>,
    pub(super) otherwise: u32,
}

type Calls = BTreeMap<u32, Outcome>;

pub(super) fn resolve(profile: &LinuxSeccomp) -> Result<Machine, String> {
    let default = verdict(profile.default_action(), profile.default_errno_ret())?;
    let abis = abis(profile);
    let architectures = abis
        .iter()
        .filter(|&&abi| abi != Abi::X32)
        .map(|&abi| {
            let own = AbiRules::of(profile, abi, default)?;
            let ranges = match abi {
                Abi::X86_64 => {
                    let x32 = abis.contains(&Abi::X32).then(|| AbiRules::of(profile, Abi::X32, default)).transpose()?;
                    x86_64_ranges(own, x32)
                }
                _ => own.ranges(0, u32::MAX),
            };
            Ok(Architecture { audit_arch: abi.audit_arch(), ranges: merge(ranges) })
        })
        .collect::<Result<_, String>>()?;
    Ok(Machine { architectures, otherwise: RETURN_KILL_THREAD })
}

/// The native architecture first, then others that this machine can run. Foreign ones cannot occur.
fn abis(profile: &LinuxSeccomp) -> Vec<Abi> {
    let mut abis = vec![Abi::NATIVE];
    for arch in profile.architectures().iter().flatten() {
        let abi = match (Abi::NATIVE, arch) {
            (Abi::X86_64, Arch::ScmpArchX86) => Abi::I386,
            (Abi::X86_64, Arch::ScmpArchX32) => Abi::X32,
            (Abi::Aarch64, Arch::ScmpArchArm) => Abi::Arm,
            _ => continue,
        };
        if !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    abis
}

/// What a profile makes of the calls of one ABI.
struct AbiRules {
    calls: Calls,
    default: u32,
    /// Numbers above it are calls that the profile's author did not know; `None`: treated like all others.
    newest: Option<u32>,
}

impl AbiRules {
    fn of(profile: &LinuxSeccomp, abi: Abi, default: u32) -> Result<AbiRules, String> {
        use LinuxSeccompAction::{ScmpActAllow, ScmpActLog, ScmpActTrace};
        let mut newest = None;
        let mut calls = Calls::new();
        for syscall in profile.syscalls().iter().flatten() {
            let verdict = verdict(syscall.action(), syscall.errno_ret())?;
            let arguments = syscall.args().as_deref().unwrap_or_default();
            for name in syscall.names() {
                let number = syscalls::number(name, abi);
                newest = newest.max(number);
                if verdict == default {
                    continue;
                }
                let comparisons = comparisons(name, arguments, abi)?;
                if let Some(number) = number {
                    add(&mut calls, number, comparisons.clone(), verdict, default);
                }
                if let Some((number, value)) = syscalls::carried(name).filter(|_| abi == Abi::I386) {
                    add(&mut calls, number, carry(comparisons, number, value), verdict, default);
                }
            }
        }
        let permits = matches!(profile.default_action(), ScmpActAllow | ScmpActLog | ScmpActTrace);
        let newest = newest.filter(|_| !permits && default != RETURN_ENOSYS);
        Ok(AbiRules { calls, default, newest })
    }

    /// Outcomes for the numbers from `start` to `end`, which included.
    fn ranges(self, start: u32, end: u32) -> Vec<(u32, Outcome)> {
        let mut ranges = vec![(start, Outcome::Return(self.default))];
        for (number, outcome) in self.calls {
            ranges.push((number, outcome));
            if let Some(next) = number.checked_add(1).filter(|&next| next <= end) {
                ranges.push((next, Outcome::Return(self.default)));
            }
        }
        if let Some(newest) = self.newest.filter(|&newest| newest < end) {
            ranges.retain(|&(number, _)| number <= newest);
            ranges.push((newest + 1, Outcome::Return(RETURN_ENOSYS)));
        }
        // A call right after another replaces the default that was put between them.
        ranges.reverse();
        ranges.dedup_by_key(|range| range.0);
        ranges.reverse();
        ranges
    }
}

/// x86_64 and x32 share an architecture number and part the call numbers by bit 30.
fn x86_64_ranges(own: AbiRules, x32: Option<AbiRules>) -> Vec<(u32, Outcome)> {
    let newest = own.newest;
    let mut ranges = own.ranges(0, X32_BIT - 1);
    match x32 {
        Some(x32) => {
            let default = x32.default;
            let x32_newest = x32.newest;
            ranges.extend(x32.ranges(X32_BIT, u32::MAX));
            // Without bit 30 but with bit 31: what runc's check for new calls makes of it.
            if newest.is_some() && x32_newest.is_none() {
                ranges.push((2 * X32_BIT, Outcome::Return(RETURN_ENOSYS)));
                ranges.push((3 * X32_BIT, Outcome::Return(default)));
            }
        }
        None => {
            let killed = Outcome::Return(RETURN_KILL_THREAD);
            ranges.push((X32_BIT, killed.clone()));
            if newest.is_some() {
                ranges.push((2 * X32_BIT, Outcome::Return(RETURN_ENOSYS)));
                ranges.push((3 * X32_BIT, killed));
            }
        }
    }
    ranges
}

fn merge(ranges: Vec<(u32, Outcome)>) -> Vec<(u32, Outcome)> {
    let mut merged: Vec<(u32, Outcome)> = Vec::with_capacity(ranges.len());
    for range in ranges {
        if merged.last().is_none_or(|last| last.1 != range.1) {
            merged.push(range);
        }
    }
    merged
}

/// Adds alternatives to a call (none: unconditional).
fn add(calls: &mut Calls, number: u32, alternatives: Vec<Vec<Comparison>>, verdict: u32, default: u32) {
    let outcome = calls.entry(number).or_insert_with(|| Outcome::Test(Vec::new(), default));
    let Outcome::Test(tests, _) = outcome else { return };
    if alternatives.is_empty() {
        *outcome = Outcome::Return(verdict);
    } else {
        tests.extend(alternatives.into_iter().map(|comparisons| Conditional { comparisons, verdict }));
    }
}

/// The same comparisons for a call that another one carries: that one's first argument tells which call it is. Other
/// arguments are behind a pointer there, so what was said of the first is lost, as in libseccomp.
fn carry(alternatives: Vec<Vec<Comparison>>, carrier: u32, value: u64) -> Vec<Vec<Comparison>> {
    debug_assert!(carrier == syscalls::SOCKETCALL || carrier == syscalls::IPC);
    let which = Comparison { argument: 0, operator: LinuxSeccompOperator::ScmpCmpEq, value, masked: 0, low_half: true };
    if alternatives.is_empty() {
        return vec![vec![which]];
    }
    alternatives
        .into_iter()
        .map(|comparisons| std::iter::once(which).chain(comparisons.into_iter().filter(|c| c.argument != 0)).collect())
        .collect()
}

fn comparisons(name: &str, arguments: &[LinuxSeccompArg], abi: Abi) -> Result<Vec<Vec<Comparison>>, String> {
    let mut all = Vec::with_capacity(arguments.len());
    for argument in arguments {
        if argument.index() >= MAX_ARGUMENTS {
            return Err(format!("seccomp rule for {name}: argument index {} is above 5", argument.index()));
        }
        let is_masked = argument.op() == LinuxSeccompOperator::ScmpCmpMaskedEq;
        all.push(Comparison {
            argument: argument.index(),
            operator: argument.op(),
            value: argument.value(),
            masked: if is_masked { argument.value_two().unwrap_or(0) & argument.value() } else { 0 },
            low_half: abi.is_32_bit(),
        });
    }
    let same_argument = all.iter().enumerate().any(|(at, one)| all[..at].iter().any(|o| o.argument == one.argument));
    Ok(if all.is_empty() {
        Vec::new()
    } else if same_argument {
        all.into_iter().map(|one| vec![one]).collect()
    } else {
        vec![all]
    })
}

fn verdict(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, String> {
    match action {
        LinuxSeccompAction::ScmpActNotify => {
            Err("seccomp action SCMP_ACT_NOTIFY is not supported: no agent is told of calls".to_owned())
        }
        LinuxSeccompAction::ScmpActErrno | LinuxSeccompAction::ScmpActTrace
            if errno.is_some_and(|errno| errno > RETURN_DATA) =>
        {
            Err(format!("seccomp errno {} does not fit in 16 bits", errno.unwrap_or_default()))
        }
        _ => Ok(action.as_u32(errno)),
    }
}

#[cfg(test)]
pub(super) mod plain {
    //! The same meaning, written as plainly as possible, for tests.

    use super::*;

    /// What a filter should return for a call.
    pub(crate) fn evaluate(profile: &LinuxSeccomp, abi: Abi, number: u32, arguments: [u64; 6]) -> u32 {
        let default = profile.default_action().as_u32(profile.default_errno_ret());
        let mut conditional = None;
        let mut newest = 0;
        for syscall in profile.syscalls().iter().flatten() {
            let verdict = syscall.action().as_u32(syscall.errno_ret());
            for name in syscall.names() {
                let own = syscalls::number(name, abi);
                newest = newest.max(own.unwrap_or(0));
                let carried = syscalls::carried(name).filter(|c| abi == Abi::I386 && c.0 == number);
                if (own != Some(number) && carried.is_none()) || verdict == default {
                    continue;
                }
                let list = syscall.args().as_deref().unwrap_or_default();
                if own == Some(number) && list.is_empty() {
                    return if number > newest_of(profile, abi) { RETURN_ENOSYS } else { verdict };
                }
                let mut holds = list.iter().map(|a| (a.index(), hold(a, arguments[a.index()], abi)));
                let ors = (0..6).any(|i| list.iter().filter(|a| a.index() == i).count() > 1);
                let held = match carried {
                    Some((_, value)) if arguments[0] as u32 != value as u32 => false,
                    Some(_) if ors => holds.any(|(i, h)| i == 0 || h),
                    Some(_) => holds.all(|(i, h)| i == 0 || h),
                    None if ors => holds.any(|(_, h)| h),
                    None => holds.all(|(_, h)| h),
                };
                if held && conditional.is_none() {
                    conditional = Some(verdict);
                }
            }
        }
        if number > newest { RETURN_ENOSYS } else { conditional.unwrap_or(default) }
    }

    fn newest_of(profile: &LinuxSeccomp, abi: Abi) -> u32 {
        let names = profile.syscalls().iter().flatten().flat_map(|s| s.names());
        names.filter_map(|name| syscalls::number(name, abi)).max().unwrap_or(0)
    }

    fn hold(argument: &LinuxSeccompArg, mut actual: u64, abi: Abi) -> bool {
        let (mut value, mut second) = (argument.value(), argument.value_two().unwrap_or(0));
        if abi.is_32_bit() {
            (actual, value, second) = (actual & 0xffff_ffff, value & 0xffff_ffff, second & 0xffff_ffff);
        }
        match argument.op() {
            LinuxSeccompOperator::ScmpCmpNe => actual != value,
            LinuxSeccompOperator::ScmpCmpLt => actual < value,
            LinuxSeccompOperator::ScmpCmpLe => actual <= value,
            LinuxSeccompOperator::ScmpCmpEq => actual == value,
            LinuxSeccompOperator::ScmpCmpGe => actual >= value,
            LinuxSeccompOperator::ScmpCmpGt => actual > value,
            LinuxSeccompOperator::ScmpCmpMaskedEq => actual & value == second & value,
        }
    }
}
