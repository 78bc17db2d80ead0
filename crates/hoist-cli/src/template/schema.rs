//! The little that templates must know of the Go types behind Docker's answers: which objects are maps (their keys
//! are data, a missing one is no error), and what a `null` is. Which fields may be absent is `structs`'.
//! Names are of fields; elements of a map or list are known by the name of their container and a `*`.

use super::value::Nil;

/// Objects whose keys are data.
pub(super) fn is_map(field: &str) -> bool {
    matches!(
        field,
        "Labels"
            | "Annotations"
            | "Volumes"
            | "ExposedPorts"
            | "Ports"
            | "PortBindings"
            | "Networks"
            | "DriverOpts"
            | "Options"
            | "Sysctls"
            | "Tmpfs"
            | "StorageOpt"
            | "Data"
            | "LogConfig.Config"
            | "Runtimes"
            | "IndexConfigs"
            | "Details"
            | "Attributes"
            | "Metadata"
            | "Commits"
    )
}

/// Maps whose keys are not plain strings in Go, so that `index` by a string fails on them.
pub(super) fn has_port_keys(field: &str) -> bool {
    matches!(field, "Ports" | "PortBindings" | "ExposedPorts")
}

pub(super) fn nil_kind(field: &str) -> Nil {
    match field {
        field if is_map(field) => Nil::Map,
        "Health"
        | "Healthcheck"
        | "MemorySwappiness"
        | "OomKillDisable"
        | "PidsLimit"
        | "Init"
        | "IPAMConfig"
        | "StopTimeout"
        | "ImageManifestDescriptor"
        | "Descriptor"
        | "Networks*"
        | "SizeRw"
        | "SizeRootFs"
        | "BindOptions"
        | "VolumeOptions"
        | "TmpfsOptions"
        | "ImageOptions"
        | "ClusterOptions"
        | "DriverConfig"
        | "UsageData"
        | "ClusterVolume"
        | "Image.Config"
        | "Containerd"
        | "FirewallBackend" => Nil::Pointer,
        _ => Nil::List,
    }
}

/// Fields whose Go name is not their JSON name: (Go, JSON). A template on typed answers knows the Go name only; the
/// JSON name is found when the template is tried again on the JSON itself.
const RENAMED: &[(&str, &str)] = &[
    ("APIVersion", "ApiVersion"),
    ("AuxAddress", "AuxiliaryAddresses"),
    ("CPUCount", "CpuCount"),
    ("CPUPercent", "CpuPercent"),
    ("CPUPeriod", "CpuPeriod"),
    ("CPUQuota", "CpuQuota"),
    ("CPURealtimePeriod", "CpuRealtimePeriod"),
    ("CPURealtimeRuntime", "CpuRealtimeRuntime"),
    ("CPUShares", "CpuShares"),
    ("DNS", "Dns"),
    ("DNSOptions", "DnsOptions"),
    ("DNSSearch", "DnsSearch"),
    ("HostIP", "HostIp"),
    ("NanoCPUs", "NanoCpus"),
];

/// The same of events, where only some names begin with a small letter.
const RENAMED_IN_EVENTS: &[(&str, &str)] = &[
    ("Status", "status"),
    ("ID", "id"),
    ("From", "from"),
    ("Scope", "scope"),
    ("Time", "time"),
    ("TimeNano", "timeNano"),
];

/// The JSON name behind a Go name; `None` for what is a JSON name only. Objects that have an `Id` call it `ID` in Go.
pub(super) fn json_name<'a>(parent: &str, name: &'a str, has_id: bool) -> Option<&'a str> {
    match (name, has_id) {
        ("ID", true) => return Some("Id"),
        ("Id", true) => return None,
        _ => {}
    }
    let renamed = if parent == "*events.Message" { RENAMED_IN_EVENTS } else { RENAMED };
    if renamed.iter().any(|(_, json)| *json == name) {
        return None;
    }
    Some(renamed.iter().find(|(go, _)| *go == name).map_or(name, |(_, json)| *json))
}

/// Whether values of this map are texts, so that `index` gives an empty one for a missing key.
pub(super) fn holds_text(field: &str) -> bool {
    matches!(
        field,
        "Labels"
            | "Annotations"
            | "Options"
            | "DriverOpts"
            | "Sysctls"
            | "Tmpfs"
            | "StorageOpt"
            | "LogConfig.Config"
            | "Attributes"
    )
}

/// The name of a field of a struct, told apart from others of the same name where their types differ.
pub(super) fn field_name(parent: &str, field: &str) -> String {
    match (parent, field) {
        ("LogConfig", "Config") => "LogConfig.Config".to_owned(),
        ("*image.InspectResponse", "Config") => "Image.Config".to_owned(),
        ("IPAM", "Config") => "IPAM.Config".to_owned(),
        ("HostConfig", "Mounts") => "HostConfig.Mounts".to_owned(),
        _ => field.to_owned(),
    }
}

/// The name by which elements of a list or map are known.
pub(super) fn element_name(field: &str) -> &str {
    match field {
        "Networks" => "Networks*",
        "Mounts" => "Mounts*",
        "HostConfig.Mounts" => "HostConfig.Mounts*",
        "IPAM.Config" => "IPAM.Config*",
        "Ports" | "PortBindings" => "Ports*",
        "Ports*" => "Ports**",
        _ => "*",
    }
}
