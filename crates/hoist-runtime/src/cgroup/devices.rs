//! What an ordered list of device rules amounts to: allow or deny by default, and exceptions. Both versions apply that
//! result, so that they agree. Does no I/O.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

/// Access bits, as the kernel numbers them for BPF programs (`BPF_DEVCG_ACC_*` in linux/bpf.h).
pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
pub(super) const ALL: u8 = MKNOD | READ | WRITE;

/// One exception from the default. `None` numbers match all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exception {
    pub(super) block: bool,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) access: u8,
}

/// The outcome of a list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) allow_by_default: bool,
    pub(super) exceptions: Vec<Exception>,
}

/// What a runtime allows on top of the rules of a spec, as runc does: making any node (not opening it), the devices of
/// every container, ptys, and /dev/net/tun.
const ALWAYS_ALLOWED: [(bool, Option<u32>, Option<u32>, u8); 12] = [
    (false, None, None, MKNOD),
    (true, None, None, MKNOD),
    (false, Some(1), Some(3), ALL),    // null
    (false, Some(1), Some(8), ALL),    // random
    (false, Some(1), Some(7), ALL),    // full
    (false, Some(5), Some(0), ALL),    // tty
    (false, Some(1), Some(5), ALL),    // zero
    (false, Some(1), Some(9), ALL),    // urandom
    (false, Some(5), Some(1), ALL),    // console
    (false, Some(136), None, ALL),     // pts
    (false, Some(5), Some(2), ALL),    // ptmx
    (false, Some(10), Some(200), ALL), // net/tun
];

impl Policy {
    /// The policy of a container with these rules; an empty list is taken as the runtime's own defaults alone.
    pub(super) fn of_container(rules: &[LinuxDeviceCgroup]) -> Result<Policy, String> {
        let mut policy = Policy::default();
        for rule in rules {
            policy.apply(rule)?;
        }
        if !policy.allow_by_default {
            for (block, major, minor, access) in ALWAYS_ALLOWED {
                policy.add(Exception { block, major, minor, access });
            }
        }
        Ok(policy)
    }

    pub(super) fn allows_everything(&self) -> bool {
        self.allow_by_default && self.exceptions.is_empty()
    }

    fn apply(&mut self, rule: &LinuxDeviceCgroup) -> Result<(), String> {
        let block = match rule.typ().unwrap_or_default() {
            // A rule for all types starts anew, whatever its numbers (kernel: devcgroup_update_access).
            LinuxDeviceType::A => {
                *self = Policy { allow_by_default: rule.allow(), exceptions: Vec::new() };
                return Ok(());
            }
            LinuxDeviceType::B => true,
            LinuxDeviceType::C | LinuxDeviceType::U => false,
            LinuxDeviceType::P => return Err(format!("invalid device rule {}: pipes cannot be ruled", text(rule))),
        };
        let number = |value: Option<i64>| match value {
            None | Some(-1) => Ok(None),
            Some(value) => u32::try_from(value).map(Some).map_err(|_| format!("invalid device rule {}", text(rule))),
        };
        let (major, minor) = (number(rule.major())?, number(rule.minor())?);
        let exception = Exception { block, major, minor, access: access(rule)? };
        if rule.allow() == self.allow_by_default {
            self.subtract(exception).map_err(|wider| {
                let (rule, wider) = (text(rule), v1_rule(&wider));
                format!("device rule {rule} cannot make a hole in the wider rule [{wider}]")
            })
        } else {
            self.add(exception);
            Ok(())
        }
    }

    fn add(&mut self, new: Exception) {
        match self.exceptions.iter_mut().find(|old| same_device(old, &new)) {
            Some(old) => old.access |= new.access,
            None => self.exceptions.push(new),
        }
    }

    /// The kernel takes away only from an exception for exactly the same numbers and silently ignores others; a user
    /// would believe the device denied, so that is an error here, as in runc.
    fn subtract(&mut self, gone: Exception) -> Result<(), Exception> {
        let wider = self.exceptions.iter().find(|old| {
            old.block == gone.block
                && !same_device(old, &gone)
                && old.access & gone.access != 0
                && old.major.is_none_or(|major| gone.major == Some(major))
                && old.minor.is_none_or(|minor| gone.minor == Some(minor))
        });
        if let Some(wider) = wider {
            return Err(*wider);
        }
        for old in &mut self.exceptions {
            if same_device(old, &gone) {
                old.access &= !gone.access;
            }
        }
        self.exceptions.retain(|old| old.access != 0);
        Ok(())
    }

    /// What of `exception` this policy does not have.
    pub(super) fn missing_from(&self, exception: &Exception) -> Option<Exception> {
        let have = self.exceptions.iter().find(|old| same_device(old, exception)).map_or(0, |old| old.access);
        let access = exception.access & !have;
        (access != 0).then_some(Exception { access, ..*exception })
    }

    /// The policy that a version 1 `devices.list` shows. Exceptions from an allowing default are not listed there.
    pub(super) fn of_v1_list(list: &str) -> Policy {
        let mut policy = Policy::default();
        for line in list.lines() {
            let mut words = line.split([' ', ':']);
            let (Some(kind), Some(major), Some(minor), Some(access)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            if kind == "a" {
                return Policy { allow_by_default: true, exceptions: Vec::new() };
            }
            let bits = access_bits(access).unwrap_or(0);
            let (major, minor) = (major.parse().ok(), minor.parse().ok());
            policy.add(Exception { block: kind == "b", major, minor, access: bits });
        }
        policy
    }
}

fn same_device(a: &Exception, b: &Exception) -> bool {
    (a.block, a.major, a.minor) == (b.block, b.major, b.minor)
}

/// No access given means all of it, as in the kernel's file.
fn access(rule: &LinuxDeviceCgroup) -> Result<u8, String> {
    match rule.access().as_deref() {
        None | Some("") => Ok(ALL),
        Some(letters) => access_bits(letters).ok_or_else(|| format!("invalid device rule {}: access", text(rule))),
    }
}

fn access_bits(letters: &str) -> Option<u8> {
    letters.chars().try_fold(0, |bits, letter| {
        Some(
            bits | if letter == 'r' {
                READ
            } else if letter == 'w' {
                WRITE
            } else if letter == 'm' {
                MKNOD
            } else {
                return None;
            },
        )
    })
}

/// An exception as `devices.allow` and `devices.deny` take it.
pub(super) fn v1_rule(exception: &Exception) -> String {
    let number = |value: Option<u32>| value.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let letters: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| exception.access & bit != 0)
        .map(|p| p.1)
        .collect();
    let kind = if exception.block { 'b' } else { 'c' };
    format!("{kind} {}:{} {letters}", number(exception.major), number(exception.minor))
}

fn text(rule: &LinuxDeviceCgroup) -> String {
    let number = |value: Option<i64>| value.filter(|&n| n != -1).map_or_else(|| "*".to_owned(), |n| n.to_string());
    let kind = rule.typ().unwrap_or_default();
    let access = rule.access().clone().unwrap_or_default();
    format!("[{} {}:{} {access}]", kind.as_str(), number(rule.major()), number(rule.minor()))
}
