//! The API as data: every route, in one table. The door matches requests against it, tests hold it against the docs.
//!
//! A path is a list of segments; `{x}` takes one segment, `{x*}` takes one or more (names with slashes).

/// What a route does. The door has one handler for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Ping,
    Version,
    Info,
    Events,
    ContainerList,
    ContainerCreate,
    ContainerInspect,
    ContainerStart,
    ContainerStop,
    ContainerRestart,
    ContainerKill,
    ContainerWait,
    ContainerRemove,
    ContainerAttach,
    ContainerResize,
    ContainerLogs,
    ContainerTop,
    ContainerChanges,
    ContainerPause,
    ContainerUnpause,
    ContainerRename,
    ContainerUpdate,
    ContainerPrune,
    ContainerExport,
    ExecCreate,
    ExecStart,
    ExecInspect,
    ExecResize,
    Commit,
    ImageList,
    ImageInspect,
    ImageHistory,
    ImageCreate,
    ImagePush,
    ImageTag,
    ImageRemove,
    ImageLoad,
    ImageSave,
    Distribution,
    RegistryLogin,
    ImagePrune,
    ImageSearch,
    NetworkList,
    NetworkInspect,
    VolumeList,
    VolumeInspect,
    VolumeCreate,
    VolumeRemove,
    VolumePrune,
    NetworkPrune,
    BuildPrune,
    DiskUsage,
    /// What Docker does not have.
    Own(Own),
    /// Swarm: this engine is not a manager.
    Swarm,
    /// Known to Docker, not here yet: answered 501 with this name.
    Later(&'static str),
}

/// What only Hoist does, below `/hoist/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Create, attach, start and wait in one request.
    Run,
    /// Create, start and wait in one exchange.
    ExecRun,
    /// What the store has, held against what it should be.
    ImageVerify,
    /// Keeps an image from being pruned.
    ImagePin,
    ImageUnpin,
    /// A pull that only a signature which the policy demands may let through.
    ImageCreateTrusted,
    /// What one image has that another, or its own lower layers, have not.
    ImageChanges,
    /// The manifests behind a reference at its registry.
    ManifestGet,
    /// Puts a manifest there.
    ManifestPut,
    /// Every byte below the root and whose it is.
    DiskBreakdown,
}

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub operation: Operation,
}

const fn route(method: &'static str, path: &'static str, operation: Operation) -> Route {
    Route { method, path, operation }
}

use Operation as O;

/// All routes. The first match wins.
pub const ROUTES: &[Route] = &[
    route("HEAD", "/_ping", O::Ping),
    route("GET", "/_ping", O::Ping),
    route("GET", "/version", O::Version),
    route("GET", "/info", O::Info),
    route("GET", "/events", O::Events),
    route("POST", "/hoist/run", O::Own(Own::Run)),
    route("POST", "/hoist/containers/{id*}/exec", O::Own(Own::ExecRun)),
    route("POST", "/hoist/images/verify", O::Own(Own::ImageVerify)),
    route("POST", "/hoist/images/{name*}/pin", O::Own(Own::ImagePin)),
    route("DELETE", "/hoist/images/{name*}/pin", O::Own(Own::ImageUnpin)),
    route("GET", "/hoist/system/disk", O::Own(Own::DiskBreakdown)),
    route("POST", "/hoist/images/create", O::Own(Own::ImageCreateTrusted)),
    route("GET", "/hoist/images/{name*}/changes", O::Own(Own::ImageChanges)),
    route("GET", "/hoist/manifests/{name*}", O::Own(Own::ManifestGet)),
    route("POST", "/hoist/manifests/{name*}", O::Own(Own::ManifestPut)),
    route("GET", "/containers/json", O::ContainerList),
    route("POST", "/containers/create", O::ContainerCreate),
    route("POST", "/containers/prune", O::ContainerPrune),
    route("GET", "/containers/{id*}/json", O::ContainerInspect),
    route("POST", "/containers/{id*}/start", O::ContainerStart),
    route("POST", "/containers/{id*}/stop", O::ContainerStop),
    route("POST", "/containers/{id*}/restart", O::ContainerRestart),
    route("POST", "/containers/{id*}/kill", O::ContainerKill),
    route("POST", "/containers/{id*}/wait", O::ContainerWait),
    route("POST", "/containers/{id*}/attach", O::ContainerAttach),
    route("POST", "/containers/{id*}/resize", O::ContainerResize),
    route("GET", "/containers/{id*}/logs", O::ContainerLogs),
    route("GET", "/containers/{id*}/top", O::ContainerTop),
    route("GET", "/containers/{id*}/changes", O::ContainerChanges),
    route("POST", "/containers/{id*}/pause", O::ContainerPause),
    route("POST", "/containers/{id*}/unpause", O::ContainerUnpause),
    route("POST", "/containers/{id*}/rename", O::ContainerRename),
    route("POST", "/containers/{id*}/update", O::ContainerUpdate),
    route("POST", "/containers/{id*}/exec", O::ExecCreate),
    route("GET", "/containers/{id*}/attach/ws", O::Later("attach over a websocket")),
    route("GET", "/containers/{id*}/stats", O::Later("container statistics")),
    route("HEAD", "/containers/{id*}/archive", O::Later("copying files")),
    route("GET", "/containers/{id*}/archive", O::Later("copying files")),
    route("PUT", "/containers/{id*}/archive", O::Later("copying files")),
    route("GET", "/containers/{id*}/export", O::ContainerExport),
    route("GET", "/containers/{id*}/checkpoints", O::Later("checkpoints")),
    route("POST", "/containers/{id*}/checkpoints", O::Later("checkpoints")),
    route("DELETE", "/containers/{id*}/checkpoints/{checkpoint}", O::Later("checkpoints")),
    route("DELETE", "/containers/{id*}", O::ContainerRemove),
    route("POST", "/exec/{id}/start", O::ExecStart),
    route("POST", "/exec/{id}/resize", O::ExecResize),
    route("GET", "/exec/{id}/json", O::ExecInspect),
    route("GET", "/images/json", O::ImageList),
    route("GET", "/images/search", O::ImageSearch),
    route("GET", "/images/get", O::ImageSave),
    route("POST", "/images/create", O::ImageCreate),
    route("POST", "/images/load", O::ImageLoad),
    route("POST", "/images/prune", O::ImagePrune),
    route("GET", "/images/{name*}/json", O::ImageInspect),
    route("GET", "/images/{name*}/history", O::ImageHistory),
    route("GET", "/images/{name*}/get", O::ImageSave),
    route("GET", "/images/{name*}/attestations", O::Later("image attestations")),
    route("POST", "/images/{name*}/push", O::ImagePush),
    route("POST", "/images/{name*}/tag", O::ImageTag),
    route("DELETE", "/images/{name*}", O::ImageRemove),
    route("GET", "/networks", O::NetworkList),
    route("GET", "/networks/", O::NetworkList),
    route("POST", "/networks/create", O::Later("user-defined networks")),
    route("POST", "/networks/prune", O::NetworkPrune),
    route("POST", "/networks/{id}/connect", O::Later("user-defined networks")),
    route("POST", "/networks/{id}/disconnect", O::Later("user-defined networks")),
    route("GET", "/networks/{id}", O::NetworkInspect),
    route("DELETE", "/networks/{id}", O::Later("user-defined networks")),
    route("GET", "/volumes", O::VolumeList),
    route("POST", "/volumes/create", O::VolumeCreate),
    route("POST", "/volumes/prune", O::VolumePrune),
    route("GET", "/volumes/{name}", O::VolumeInspect),
    route("DELETE", "/volumes/{name}", O::VolumeRemove),
    route("PUT", "/volumes/{name}", O::Swarm),
    route("POST", "/auth", O::RegistryLogin),
    route("POST", "/commit", O::Commit),
    route("POST", "/build", O::Later("build")),
    route("POST", "/build/prune", O::BuildPrune),
    route("POST", "/build/cancel", O::Later("build")),
    route("POST", "/session", O::Later("build")),
    route("POST", "/grpc", O::Later("build")),
    route("GET", "/system/df", O::DiskUsage),
    route("GET", "/distribution/{name*}/json", O::Distribution),
    route("GET", "/plugins", O::Later("plugins")),
    route("*", "/swarm", O::Swarm),
    route("*", "/swarm/{rest*}", O::Swarm),
    route("*", "/nodes", O::Swarm),
    route("*", "/nodes/{rest*}", O::Swarm),
    route("*", "/services", O::Swarm),
    route("*", "/services/{rest*}", O::Swarm),
    route("*", "/tasks", O::Swarm),
    route("*", "/tasks/{rest*}", O::Swarm),
    route("*", "/secrets", O::Swarm),
    route("*", "/secrets/{rest*}", O::Swarm),
    route("*", "/configs", O::Swarm),
    route("*", "/configs/{rest*}", O::Swarm),
];

/// A match: the operation and the text that the path's placeholder took (still percent-encoded).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched<'p> {
    pub operation: Operation,
    pub name: &'p str,
}

/// Finds the route of a request; `path` without version prefix and query.
pub fn find<'p>(method: &str, path: &'p str) -> Option<Matched<'p>> {
    ROUTES
        .iter()
        .filter(|r| r.method == method || r.method == "*")
        .find_map(|r| match_path(r.path, path).map(|name| Matched { operation: r.operation, name }))
}

fn match_path<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some(open) = pattern.find('{') else { return (pattern == path).then_some("") };
    let rest = path.strip_prefix(&pattern[..open])?;
    let close = pattern.find('}')?;
    let greedy = pattern[open..close].ends_with('*');
    let tail = &pattern[close + 1..];
    if greedy {
        let name = rest.strip_suffix(tail)?;
        return (!name.is_empty()).then_some(name);
    }
    let end = rest.find('/').unwrap_or(rest.len());
    let (name, after) = rest.split_at(end);
    let fits = if tail.contains('{') { match_path(tail, after).is_some() } else { tail == after };
    (fits && !name.is_empty()).then_some(name)
}

/// Splits `/v1.44/containers/json` into the version and the bare path.
pub fn split_version(path: &str) -> (Option<&str>, &str) {
    let Some(rest) = path.strip_prefix("/v") else { return (None, path) };
    let end = rest.find('/').unwrap_or(rest.len());
    let version = &rest[..end];
    if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        (Some(version), &rest[end..])
    } else {
        (None, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_slashes_reach_image_routes() {
        let found = find("GET", "/images/127.0.0.1:5000/a/b:1/json").unwrap();
        assert_eq!(found, Matched { operation: Operation::ImageInspect, name: "127.0.0.1:5000/a/b:1" });
        assert_eq!(find("DELETE", "/images/a/b").unwrap().name, "a/b");
        assert_eq!(find("GET", "/images/json").unwrap().operation, Operation::ImageList);
    }

    #[test]
    fn names_of_links_reach_container_routes() {
        let found = find("GET", "/containers/web/db/json").unwrap();
        assert_eq!(found, Matched { operation: Operation::ContainerInspect, name: "web/db" });
        assert_eq!(find("DELETE", "/containers/web/db").unwrap().name, "web/db");
        assert_eq!(find("GET", "/containers/json").unwrap().operation, Operation::ContainerList);
    }

    #[test]
    fn unknown_paths_and_methods_match_nothing() {
        assert_eq!(find("PATCH", "/containers/json"), None);
        assert_eq!(find("GET", "/exec/a/b/json"), None);
        assert_eq!(find("GET", "/"), None);
    }

    #[test]
    fn versions_are_split_off() {
        assert_eq!(split_version("/v1.44/info"), (Some("1.44"), "/info"));
        assert_eq!(split_version("/volumes/create"), (None, "/volumes/create"));
        assert_eq!(split_version("/version"), (None, "/version"));
    }
}
