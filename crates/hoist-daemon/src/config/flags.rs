//! The command line of `hoist engine` and of dockerd.

use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, ArgAction, Command};

/// Which names the flags have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Hoist,
    /// Started under the name `dockerd`.
    Dockerd,
}

impl Dialect {
    pub(crate) fn of(args: &[OsString]) -> Dialect {
        let name = args.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
        if name == "dockerd" { Dialect::Dockerd } else { Dialect::Hoist }
    }
}

/// Takes one value.
fn value(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::Set).num_args(1)
}

/// May be given many times.
fn list(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::Append).num_args(1)
}

/// On, off, or `--x=false`.
fn switch(name: &'static str, default: bool, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .help(help)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value(if default { "true" } else { "false" })
        .value_parser(clap::builder::BoolishValueParser::new())
}

/// A flag of dockerd that this engine refuses, unless it says what this engine does anyway.
pub(super) struct Refused {
    pub(super) flag: &'static str,
    kind: Kind,
    /// Values that say nothing else than this engine's own ways.
    pub(super) harmless: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Switch,
    Value,
    List,
}

impl Refused {
    pub(super) fn is_switch(&self) -> bool {
        self.kind == Kind::Switch
    }
}

const fn refused(flag: &'static str, kind: Kind, harmless: &'static [&'static str]) -> Refused {
    Refused { flag, kind, harmless }
}

pub(super) const REFUSED: &[Refused] = &[
    refused("allow-direct-routing", Kind::Switch, &[]),
    refused("authorization-plugin", Kind::List, &[]),
    refused("bip6", Kind::Value, &[]),
    refused("cdi-spec-dir", Kind::List, &[]),
    refused("containerd", Kind::Value, &[]),
    refused("containerd-namespace", Kind::Value, &["moby"]),
    refused("containerd-plugins-namespace", Kind::Value, &["plugins.moby"]),
    refused("cpu-rt-period", Kind::Value, &["0"]),
    refused("cpu-rt-runtime", Kind::Value, &["0"]),
    refused("cri-containerd", Kind::Switch, &[]),
    refused("default-cgroupns-mode", Kind::Value, &[]),
    refused("default-gateway", Kind::Value, &[]),
    refused("default-gateway-v6", Kind::Value, &[]),
    refused("default-ipc-mode", Kind::Value, &["private"]),
    refused("default-network-opt", Kind::List, &[]),
    refused("exec-opt", Kind::List, &["native.cgroupdriver=cgroupfs"]),
    refused("experimental", Kind::Switch, &[]),
    refused("feature", Kind::List, &[]),
    refused("fixed-cidr-v6", Kind::Value, &[]),
    refused("http-proxy", Kind::Value, &[]),
    refused("https-proxy", Kind::Value, &[]),
    refused("init-path", Kind::Value, &[]),
    // This engine never changes the policy of the FORWARD chain.
    refused("ip-forward-no-drop", Kind::Switch, &["true"]),
    refused("ipv6", Kind::Switch, &[]),
    refused("log-format", Kind::Value, &["text"]),
    refused("metrics-addr", Kind::Value, &[]),
    refused("network-control-plane-mtu", Kind::Value, &[]),
    refused("no-new-privileges", Kind::Switch, &[]),
    refused("no-proxy", Kind::Value, &[]),
    refused("node-generic-resource", Kind::List, &[]),
    refused("rootless", Kind::Switch, &[]),
    refused("seccomp-profile", Kind::Value, &["builtin"]),
    refused("selinux-enabled", Kind::Switch, &[]),
    refused("storage-opt", Kind::List, &[]),
    refused("swarm-default-advertise-addr", Kind::Value, &[]),
    refused("tls", Kind::Switch, &[]),
    refused("tlscacert", Kind::Value, &[]),
    refused("tlscert", Kind::Value, &[]),
    refused("tlskey", Kind::Value, &[]),
    refused("tlsverify", Kind::Switch, &[]),
    refused("userland-proxy-path", Kind::Value, &[]),
    refused("userns-remap", Kind::Value, &[]),
];

/// The command line, in the dialect's spelling.
pub(crate) fn command(dialect: Dialect) -> Command {
    let dockerd = dialect == Dialect::Dockerd;
    let (root, run_dir) = if dockerd { ("data-root", "exec-root") } else { ("root", "run-dir") };
    let name = if dockerd { "dockerd" } else { "hoist engine" };
    Command::new(name)
        .bin_name(name)
        .about("Run the engine in the foreground")
        .version(env!("CARGO_PKG_VERSION"))
        .arg(value(root, "Directory for images, containers and volumes").id("root").visible_alias(if dockerd {
            "graph"
        } else {
            "data-root"
        }))
        .arg(value(run_dir, "Directory for run-time state").id("run-dir").visible_alias(if dockerd {
            "run-dir"
        } else {
            "exec-root"
        }))
        .arg(list("host", "Address to listen on: unix:///path, tcp://ip:port").short('H'))
        .arg(switch("docker-socket", false, "Serve /var/run/docker.sock too"))
        .arg(value("pidfile", "File for the engine's process id").short('p'))
        .arg(value("config-file", "JSON configuration file (daemon.json)"))
        .arg(value("log-level", "Logging level: debug, info, warn, error, fatal").short('l'))
        .arg(switch("debug", false, "Same as --log-level debug").short('D'))
        .arg(value("group", "Group that owns the unix socket").short('G'))
        .arg(value("bridge", "Name of the default bridge device").short('b'))
        .arg(value("bip", "Address and prefix of the default bridge, e.g. 10.9.0.1/24"))
        .arg(value("fixed-cidr", "Range of the bridge's subnet to hand out addresses from"))
        .arg(list("default-address-pool", "Pool for networks: base=CIDR,size=PREFIX"))
        .arg(value("mtu", "MTU of the default bridge's containers"))
        .arg(list("dns", "DNS server for containers"))
        .arg(list("dns-search", "DNS search domain for containers"))
        .arg(list("dns-opt", "DNS option for containers"))
        .arg(list("registry-mirror", "Mirror of Docker Hub to ask first"))
        .arg(value(
            "signature-policy",
            "Policy that images must meet to come and to be used (default /etc/hoist/policy.json if there)",
        ))
        .arg(value("registry-config-dir", "Where hosts.toml files and certificates of registries are"))
        .arg(list("insecure-registry", "Registry to speak to without verified TLS"))
        .arg(value("search-index", "Registry that answers searches which name none (default Docker Hub)"))
        .arg(list("default-ulimit", "Default ulimit for containers: name=soft[:hard]"))
        .arg(value("default-runtime", "OCI runtime for containers that name none"))
        .arg(list("add-runtime", "Register an OCI runtime: name=/path"))
        .arg(list("label", "Label of this engine: key=value"))
        .arg(value("log-driver", "Default log driver for containers"))
        .arg(list("log-opt", "Default log option for containers: key=value"))
        .arg(switch("icc", true, "Let containers on the default bridge reach each other"))
        .arg(value("ip", "Default host address for published ports"))
        .arg(switch("live-restore", !dockerd, "Leave containers running when the engine ends"))
        .arg(switch("userland-proxy", true, "Serve published ports on loopback by a proxy"))
        .arg(switch("init", false, "Run an init in every container"))
        .arg(value("cgroup-parent", "Control group below which containers are put"))
        .arg(value("default-shm-size", "Default size of /dev/shm"))
        .arg(value("host-gateway-ip", "Address that host-gateway stands for"))
        .arg(value("max-concurrent-downloads", "Layers downloaded at a time (default 3)"))
        .arg(value("max-disk", "What images may take of the disk, e.g. 20G or 30%: beyond, the longest unused go"))
        .arg(value("max-download-attempts", "Attempts at a layer that does not come (default 5)"))
        .arg(value("max-concurrent-uploads", "Layers uploaded at a time (default 5)"))
        .arg(value("shutdown-timeout", "Seconds that stopping containers may take when the engine ends (default 15)"))
        .arg(switch("raw-logs", false, "Messages without colours"))
        .arg(switch("validate", false, "Check the configuration and exit"))
        .arg(switch("autostarted", false, "Started by a client").hide(true))
        // Docker's flags whose default is what this engine does; any other value is refused by name.
        .arg(switch("iptables", true, "Manage packet filter rules").hide(!dockerd))
        .arg(switch("ip6tables", true, "Manage IPv6 packet filter rules").hide(!dockerd))
        .arg(switch("ip-forward", true, "Enable IP forwarding").hide(!dockerd))
        .arg(switch("ip-masq", true, "Masquerade the bridge's traffic").hide(!dockerd))
        .arg(value("storage-driver", "Storage driver: overlay2").short('s').hide(!dockerd))
        // What Docker's engine has and this one does not: known, so that it can be refused by name.
        .args(REFUSED.iter().map(|refused| match refused.kind {
            Kind::Switch => switch(refused.flag, false, "Not supported").hide(true),
            Kind::Value => value(refused.flag, "Not supported").hide(true),
            Kind::List => list(refused.flag, "Not supported").hide(true),
        }))
}
