//! Writes the resource limits of an OCI spec to a group's files, for both versions. A limit that the running kernel or
//! version does not have is refused by name, never dropped in silence.

use std::io;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use rustix::io::Errno;

use super::files::Dir;

pub(super) mod v1;
pub(super) mod v2;

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
