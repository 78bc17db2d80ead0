//! The little that templates must know of the Go types behind Docker's answers: which objects are maps (their keys
//! are data, a missing one is no error), what a `null` is, and which optional fields may be absent.
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
        | "Containerd"
        | "FirewallBackend" => Nil::Pointer,
        _ => Nil::List,
    }
}

/// Fields that Go leaves out of the JSON when they are empty: what a template finds in their place.
pub(super) fn absent(field: &str) -> Option<Absent> {
    Some(match field {
        "Health"
        | "Healthcheck"
        | "StopTimeout"
        | "SizeRw"
        | "SizeRootFs"
        | "ImageManifestDescriptor"
        | "Init"
        | "Descriptor"
        | "BindOptions"
        | "VolumeOptions"
        | "TmpfsOptions" => Absent::Pointer,
        "Annotations" | "StorageOpt" | "Sysctls" | "Tmpfs" | "ExposedPorts" | "Warnings.map" => Absent::Map,
        "Mounts" | "Shell" | "OnBuild" | "MaskedPaths" | "ReadonlyPaths" | "Warnings" | "Components" | "Aliases" => {
            Absent::List
        }
        "StopSignal" | "MacAddress" | "Name" | "Comment" | "Author" | "DockerVersion" | "Container" | "Variant"
        | "OsVersion" | "VolumeDriver" | "BuildTime" | "Source" | "Driver" => Absent::Text,
        "NetworkDisabled" | "ArgsEscaped" | "Experimental" => Absent::False,
        _ => return None,
    })
}

#[derive(Clone, Copy)]
pub(super) enum Absent {
    Pointer,
    Map,
    List,
    Text,
    False,
}

/// Fields whose Go name is not their JSON name: (Go, JSON). A template on typed answers knows the Go name only; the
/// JSON name is found when the template is tried again on the JSON itself.
const RENAMED: &[(&str, &str)] = &[
    ("APIVersion", "ApiVersion"),
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

/// The JSON name behind a Go name; `None` for what is a JSON name only.
pub(super) fn json_name(name: &str, is_root: bool) -> Option<&str> {
    match (name, is_root) {
        ("ID", true) => return Some("Id"),
        ("Id", true) => return None,
        _ => {}
    }
    if RENAMED.iter().any(|(_, json)| *json == name) {
        return None;
    }
    Some(RENAMED.iter().find(|(go, _)| *go == name).map_or(name, |(_, json)| *json))
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
        _ => field.to_owned(),
    }
}

/// The name by which elements of a list or map are known.
pub(super) fn element_name(field: &str) -> &str {
    match field {
        "Networks" => "Networks*",
        "Mounts" => "Mounts*",
        "Ports" | "PortBindings" => "Ports*",
        "Ports*" => "Ports**",
        _ => "*",
    }
}

/// Structs with fields that may be left out of the JSON, in the order of their Go type.
pub(super) fn struct_fields(field: &str) -> Option<&'static [&'static str]> {
    Some(match field {
        "State" => &[
            "Status",
            "Running",
            "Paused",
            "Restarting",
            "OOMKilled",
            "Dead",
            "Pid",
            "ExitCode",
            "Error",
            "StartedAt",
            "FinishedAt",
            "Health",
        ],
        "Mounts*" => &["Type", "Name", "Source", "Destination", "Driver", "Mode", "RW", "Propagation"],
        _ => return None,
    })
}
