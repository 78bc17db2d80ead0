//! The engine's sockets: unix (mode 0660, root and the group), tcp, and those handed over by systemd (`fd://`).

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::net::{TcpListener, UnixListener};

/// A bound socket.
pub(crate) enum Door {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Binds every host; all or none.
pub(crate) fn bind(hosts: &[String], group: Option<&str>) -> Result<Vec<Door>, String> {
    let mut doors = Vec::with_capacity(hosts.len());
    for host in hosts {
        doors.push(bind_one(host, group).inspect_err(|_| remove(&hosts[..doors.len()]))?);
    }
    Ok(doors)
}

fn bind_one(host: &str, group: Option<&str>) -> Result<Door, String> {
    if let Some(path) = host.strip_prefix("unix://") {
        return unix(Path::new(path), group);
    }
    if let Some(address) = host.strip_prefix("tcp://") {
        return tcp(address);
    }
    Err(format!("invalid bind address ({host}): unix:///path or tcp://ip:port is expected"))
}

fn unix(path: &Path, group: Option<&str>) -> Result<Door, String> {
    if !path.is_absolute() {
        return Err(format!("invalid bind address (unix://{}): the path must be absolute", path.display()));
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|e| format!("create {}: {e}", parent.display()))?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(format!(
            "another process listens on {}: stop it, or choose another address with -H",
            path.display()
        ));
    }
    // Nobody answers: it is what a dead engine left.
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(format!("remove {}: {e}", path.display())),
    }
    let group = group.map(group_id).transpose()?.flatten();
    // Bound without any permission, opened up once owner and group are right.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o777));
    let bound = UnixListener::bind(path);
    rustix::process::umask(mask);
    let listener = bound.map_err(|e| format!("listen on {}: {e}", path.display()))?;
    if let Some(gid) = group {
        rustix::fs::chown(path, None, Some(rustix::fs::Gid::from_raw(gid)))
            .map_err(|e| format!("chown {}: {e}", path.display()))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
        .map_err(|e| format!("chmod {}: {e}", path.display()))?;
    Ok(Door::Unix(listener))
}

/// A group by number or name; the default group `docker` may be absent, any other must exist.
fn group_id(group: &str) -> Result<Option<u32>, String> {
    if let Ok(gid) = group.parse() {
        return Ok(Some(gid));
    }
    let text = std::fs::read_to_string("/etc/group").map_err(|e| format!("read /etc/group: {e}"))?;
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok())?
    });
    match found {
        Some(gid) => Ok(Some(gid)),
        None if group == "docker" => Ok(None),
        None => Err(format!("group {group} not found")),
    }
}

fn tcp(address: &str) -> Result<Door, String> {
    let address = address.trim_end_matches('/');
    let resolved: SocketAddr = if let Some(port) = address.strip_prefix(':') {
        format!("127.0.0.1:{port}").parse()
    } else {
        address.replace("localhost", "127.0.0.1").parse()
    }
    .map_err(|_| format!("invalid bind address (tcp://{address}): tcp://ip:port is expected"))?;
    if !resolved.ip().is_loopback() {
        tracing::warn!(
            "[DEPRECATION NOTICE]: API is accessible on http://{resolved} without encryption: anybody who reaches it is root on this machine"
        );
    }
    let listener = std::net::TcpListener::bind(resolved).map_err(|e| format!("listen on tcp://{resolved}: {e}"))?;
    listener.set_nonblocking(true).map_err(|e| format!("listen on tcp://{resolved}: {e}"))?;
    TcpListener::from_std(listener).map(Door::Tcp).map_err(|e| format!("listen on tcp://{resolved}: {e}"))
}

/// Removes the unix sockets among `hosts`.
pub(crate) fn remove(hosts: &[String]) {
    for path in hosts.iter().filter_map(|h| h.strip_prefix("unix://")) {
        _ = std::fs::remove_file(path);
    }
}
