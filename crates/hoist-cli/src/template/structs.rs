//! Structs of Docker's answers by their Go types: their fields in order, and what is there in Go when the JSON leaves a
//! field out. Names are as in `schema`, of fields as Go has them.

use super::value::{Nil, Val};

/// What a field is that was left out.
#[derive(Clone, Copy)]
pub(super) enum Empty {
    Pointer,
    Map,
    List,
    Text,
    False,
    Zero,
}

use Empty::{False, List, Map, Pointer, Text, Zero};

impl From<Empty> for Val {
    fn from(empty: Empty) -> Self {
        match empty {
            Pointer => Self::Nil(Nil::Pointer),
            Map => Self::Nil(Nil::Map),
            List => Self::Nil(Nil::List),
            Text => Self::text(""),
            False => Self::Bool(false),
            Zero => Self::Int(0),
        }
    }
}

/// Names of fields; `{` and `}` stand around those of an embedded struct.
pub(super) type Fields = &'static [(&'static str, Empty)];

/// A struct that is known whole, so that it can be printed.
pub(super) fn whole(name: &str) -> Option<Fields> {
    Some(match name {
        "State" => STATE,
        "Config" => CONFIG,
        "Image.Config" => IMAGE_CONFIG,
        "Healthcheck" => HEALTHCHECK,
        "HostConfig" => HOST_CONFIG,
        "Mounts*" => MOUNT_POINT,
        "HostConfig.Mounts*" => MOUNT,
        "BindOptions" => BIND_OPTIONS,
        "VolumeOptions" => VOLUME_OPTIONS,
        "TmpfsOptions" => TMPFS_OPTIONS,
        "Networks*" => ENDPOINT,
        "IPAM.Config*" => SUBNET,
        "*events.Message" => EVENT,
        _ => return None,
    })
}

/// Fields that may be left out of a struct that is not known whole.
fn optional(name: &str) -> Option<Fields> {
    Some(match name {
        "*container.InspectResponse" => CONTAINER,
        "*image.InspectResponse" => IMAGE,
        "RootFS" => ROOT_FS,
        "NetworkSettings" => ADDRESSES,
        "network.Inspect" => NETWORK,
        "volume.Volume" => VOLUME,
        _ => return None,
    })
}

/// What a template finds in place of a field that was left out; `None` if there is no such field.
pub(super) fn absent(parent: &str, field: &str) -> Option<Empty> {
    let Some(fields) = whole(parent).or_else(|| optional(parent)) else { return anywhere(field) };
    fields.iter().find(|(name, _)| *name == field).map(|(_, empty)| *empty)
}

/// The same for structs of which no more is known.
fn anywhere(field: &str) -> Option<Empty> {
    Some(match field {
        "Descriptor" => Pointer,
        "Warnings.map" => Map,
        "Warnings" | "Components" => List,
        "Name" | "Comment" | "Author" | "DockerVersion" | "Container" | "Variant" | "OsVersion" | "VolumeDriver"
        | "BuildTime" | "Source" | "Driver" => Text,
        "Experimental" => False,
        _ => return None,
    })
}

/// Addresses that older engines told beside the networks: those of the default one.
pub(super) fn is_of_default_network(field: &str) -> bool {
    matches!(
        field,
        "EndpointID"
            | "Gateway"
            | "GlobalIPv6Address"
            | "GlobalIPv6PrefixLen"
            | "IPAddress"
            | "IPPrefixLen"
            | "IPv6Gateway"
            | "MacAddress"
    )
}

const STATE: Fields = &[
    ("Status", Text),
    ("Running", False),
    ("Paused", False),
    ("Restarting", False),
    ("OOMKilled", False),
    ("Dead", False),
    ("Pid", Zero),
    ("ExitCode", Zero),
    ("Error", Text),
    ("StartedAt", Text),
    ("FinishedAt", Text),
    ("Health", Pointer),
];

const CONFIG: Fields = &[
    ("Hostname", Text),
    ("Domainname", Text),
    ("User", Text),
    ("AttachStdin", False),
    ("AttachStdout", False),
    ("AttachStderr", False),
    ("ExposedPorts", Map),
    ("Tty", False),
    ("OpenStdin", False),
    ("StdinOnce", False),
    ("Env", List),
    ("Cmd", List),
    ("Healthcheck", Pointer),
    ("ArgsEscaped", False),
    ("Image", Text),
    ("Volumes", Map),
    ("WorkingDir", Text),
    ("Entrypoint", List),
    ("NetworkDisabled", False),
    ("MacAddress", Text),
    ("OnBuild", List),
    ("Labels", Map),
    ("StopSignal", Text),
    ("StopTimeout", Pointer),
    ("Shell", List),
];

const IMAGE_CONFIG: Fields = &[
    ("{", Text),
    ("User", Text),
    ("ExposedPorts", Map),
    ("Env", List),
    ("Entrypoint", List),
    ("Cmd", List),
    ("Volumes", Map),
    ("WorkingDir", Text),
    ("Labels", Map),
    ("StopSignal", Text),
    ("ArgsEscaped", False),
    ("}", Text),
    ("{", Text),
    ("Healthcheck", Pointer),
    ("OnBuild", List),
    ("Shell", List),
    ("}", Text),
];

const HEALTHCHECK: Fields = &[
    ("Test", List),
    ("Interval", Zero),
    ("Timeout", Zero),
    ("StartPeriod", Zero),
    ("StartInterval", Zero),
    ("Retries", Zero),
];

const HOST_CONFIG: Fields = &[
    ("Binds", List),
    ("ContainerIDFile", Text),
    ("LogConfig", Pointer),
    ("NetworkMode", Text),
    ("PortBindings", Map),
    ("RestartPolicy", Pointer),
    ("AutoRemove", False),
    ("VolumeDriver", Text),
    ("VolumesFrom", List),
    ("ConsoleSize", List),
    ("Annotations", Map),
    ("CapAdd", List),
    ("CapDrop", List),
    ("CgroupnsMode", Text),
    ("DNS", List),
    ("DNSOptions", List),
    ("DNSSearch", List),
    ("ExtraHosts", List),
    ("GroupAdd", List),
    ("IpcMode", Text),
    ("Cgroup", Text),
    ("Links", List),
    ("OomScoreAdj", Zero),
    ("PidMode", Text),
    ("Privileged", False),
    ("PublishAllPorts", False),
    ("ReadonlyRootfs", False),
    ("SecurityOpt", List),
    ("StorageOpt", Map),
    ("Tmpfs", Map),
    ("UTSMode", Text),
    ("UsernsMode", Text),
    ("ShmSize", Zero),
    ("Sysctls", Map),
    ("Runtime", Text),
    ("Isolation", Text),
    ("{", Text),
    ("CPUShares", Zero),
    ("Memory", Zero),
    ("NanoCPUs", Zero),
    ("CgroupParent", Text),
    ("BlkioWeight", Zero),
    ("BlkioWeightDevice", List),
    ("BlkioDeviceReadBps", List),
    ("BlkioDeviceWriteBps", List),
    ("BlkioDeviceReadIOps", List),
    ("BlkioDeviceWriteIOps", List),
    ("CPUPeriod", Zero),
    ("CPUQuota", Zero),
    ("CPURealtimePeriod", Zero),
    ("CPURealtimeRuntime", Zero),
    ("CpusetCpus", Text),
    ("CpusetMems", Text),
    ("Devices", List),
    ("DeviceCgroupRules", List),
    ("DeviceRequests", List),
    ("KernelMemory", Zero),
    ("KernelMemoryTCP", Zero),
    ("MemoryReservation", Zero),
    ("MemorySwap", Zero),
    ("MemorySwappiness", Pointer),
    ("OomKillDisable", Pointer),
    ("PidsLimit", Pointer),
    ("Ulimits", List),
    ("CPUCount", Zero),
    ("CPUPercent", Zero),
    ("IOMaximumIOps", Zero),
    ("IOMaximumBandwidth", Zero),
    ("}", Text),
    ("Mounts", List),
    ("MaskedPaths", List),
    ("ReadonlyPaths", List),
    ("Init", Pointer),
];

const MOUNT_POINT: Fields = &[
    ("Type", Text),
    ("Name", Text),
    ("Source", Text),
    ("Destination", Text),
    ("Driver", Text),
    ("Mode", Text),
    ("RW", False),
    ("Propagation", Text),
];

const MOUNT: Fields = &[
    ("Type", Text),
    ("Source", Text),
    ("Target", Text),
    ("ReadOnly", False),
    ("Consistency", Text),
    ("BindOptions", Pointer),
    ("VolumeOptions", Pointer),
    ("ImageOptions", Pointer),
    ("TmpfsOptions", Pointer),
    ("ClusterOptions", Pointer),
];

const BIND_OPTIONS: Fields = &[
    ("Propagation", Text),
    ("NonRecursive", False),
    ("CreateMountpoint", False),
    ("ReadOnlyNonRecursive", False),
    ("ReadOnlyForceRecursive", False),
];

const VOLUME_OPTIONS: Fields = &[("NoCopy", False), ("Labels", Map), ("Subpath", Text), ("DriverConfig", Pointer)];

const TMPFS_OPTIONS: Fields = &[("SizeBytes", Zero), ("Mode", Zero), ("Options", List)];

const ENDPOINT: Fields = &[
    ("IPAMConfig", Pointer),
    ("Links", List),
    ("Aliases", List),
    ("MacAddress", Text),
    ("DriverOpts", Map),
    ("GwPriority", Zero),
    ("NetworkID", Text),
    ("EndpointID", Text),
    ("Gateway", Text),
    ("IPAddress", Text),
    ("IPPrefixLen", Zero),
    ("IPv6Gateway", Text),
    ("GlobalIPv6Address", Text),
    ("GlobalIPv6PrefixLen", Zero),
    ("DNSNames", List),
];

const SUBNET: Fields = &[("Subnet", Text), ("IPRange", Text), ("Gateway", Text), ("AuxAddress", Map)];

const EVENT: Fields = &[
    ("Status", Text),
    ("ID", Text),
    ("From", Text),
    ("Type", Text),
    ("Action", Text),
    ("Actor", Pointer),
    ("Scope", Text),
    ("Time", Zero),
    ("TimeNano", Zero),
];

const CONTAINER: Fields = &[
    ("ExecIDs", List),
    ("SizeRw", Pointer),
    ("SizeRootFs", Pointer),
    ("Mounts", List),
    ("ImageManifestDescriptor", Pointer),
];

const IMAGE: Fields = &[
    ("RepoTags", List),
    ("RepoDigests", List),
    ("Parent", Text),
    ("Comment", Text),
    ("Created", Text),
    ("Container", Text),
    ("ContainerConfig", Pointer),
    ("DockerVersion", Text),
    ("Author", Text),
    ("Variant", Text),
    ("OsVersion", Text),
    ("VirtualSize", Zero),
    ("Descriptor", Pointer),
    ("Manifests", List),
];

const ROOT_FS: Fields = &[("Type", Text), ("Layers", List)];

const ADDRESSES: Fields = &[
    ("Bridge", Text),
    ("SandboxID", Text),
    ("SandboxKey", Text),
    ("Ports", Map),
    ("HairpinMode", False),
    ("LinkLocalIPv6Address", Text),
    ("LinkLocalIPv6PrefixLen", Zero),
    ("SecondaryIPAddresses", List),
    ("SecondaryIPv6Addresses", List),
    ("EndpointID", Text),
    ("Gateway", Text),
    ("GlobalIPv6Address", Text),
    ("GlobalIPv6PrefixLen", Zero),
    ("IPAddress", Text),
    ("IPPrefixLen", Zero),
    ("IPv6Gateway", Text),
    ("MacAddress", Text),
];

const NETWORK: Fields = &[("Peers", List), ("Services", Map)];

const VOLUME: Fields = &[("ClusterVolume", Pointer), ("CreatedAt", Text), ("Status", Map), ("UsageData", Pointer)];
