//! What `docker inspect` shows of a container.

use std::collections::BTreeMap;
use std::path::Path;

use hoist_api::container::Config;
use hoist_api::inspect::{Container, GraphDriver, State};
use hoist_api::network::{EndpointSettings, NetworkSettings, PortBinding};
use hoist_api::time::rfc3339_nano;
use serde_json::json;

use crate::container::record::{Record, Status};
use crate::merged::display;

/// The answer of inspect; `directory` is the container's directory, `run_dir` that of its run, `execs` its known execs.
pub(crate) fn inspect(record: &Record, directory: &Path, run_dir: &Path, execs: Vec<String>) -> Container {
    let fixed = &record.fixed;
    let file = |name: &str| display(&run_dir.join(name));
    let tmpfs = |path: &str| fixed.host_config.tmpfs.as_ref().is_some_and(|t| t.contains_key(path));
    Container {
        id: fixed.id.clone(),
        created: rfc3339_nano(fixed.created_ns),
        path: fixed.path.clone(),
        args: fixed.args.clone(),
        state: state(record),
        image: fixed.image_id.clone(),
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path: log_path(record, directory),
        name: format!("/{}", record.name),
        restart_count: record.state.restart_count,
        driver: "overlay2".to_owned(),
        platform: "linux".to_owned(),
        exec_ids: (!execs.is_empty()).then_some(execs),
        host_config: fixed.host_config.clone(),
        graph_driver: graph_driver(record, directory),
        mounts: fixed.mounts.iter().filter(|m| !tmpfs(&m.point.destination)).map(|m| m.point.clone()).collect(),
        config: config(record),
        network_settings: network_settings(record),
        ..Container::default()
    }
}

/// The configuration, with the address of the card that was wished for: today's clients send it with the network.
fn config(record: &Record) -> Config {
    let mut config = record.fixed.config.clone();
    if let Some(wish) = record.fixed.endpoints.get(&record.fixed.host_config.network_mode)
        && config.mac_address.is_empty()
    {
        config.mac_address.clone_from(&wish.mac_address);
    }
    config
}

fn log_path(record: &Record, directory: &Path) -> String {
    if record.fixed.host_config.log_config.r#type != "json-file" {
        return String::new();
    }
    crate::logs::path(record, directory).map(|p| display(&p)).unwrap_or_default()
}

fn state(record: &Record) -> State {
    let state = &record.state;
    State {
        status: state.status.word().to_owned(),
        running: matches!(state.status, Status::Running | Status::Paused | Status::Restarting),
        paused: state.status == Status::Paused,
        restarting: state.status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: state.pid,
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: rfc3339_nano(state.started_ns),
        finished_at: rfc3339_nano(state.finished_ns),
    }
}

fn graph_driver(record: &Record, directory: &Path) -> GraphDriver {
    let lower: Vec<String> = record.fixed.layers.iter().map(|l| display(l)).collect();
    GraphDriver {
        name: "overlay2".to_owned(),
        data: json!({
            "ID": record.fixed.id,
            "LowerDir": lower.join(":"),
            "MergedDir": display(&directory.join("merged")),
            "UpperDir": display(&directory.join("upper")),
            "WorkDir": display(&directory.join("work")),
        }),
    }
}

/// The `NetworkSettings` object, with the legacy copies of the default bridge's endpoint.
pub(crate) fn network_settings(record: &Record) -> NetworkSettings {
    let networks = networks(record);
    let mut settings = NetworkSettings { ports: ports(record), ..NetworkSettings::default() };
    if record.state.status.alive() {
        settings.sandbox_id.clone_from(&record.fixed.id);
        settings.sandbox_key = format!("/proc/{}/ns/net", record.state.pid);
    }
    if let Some(bridge) = networks.get("bridge") {
        settings.endpoint_id.clone_from(&bridge.endpoint_id);
        settings.gateway.clone_from(&bridge.gateway);
        settings.ip_address.clone_from(&bridge.ip_address);
        settings.ip_prefix_len = bridge.ip_prefix_len;
        settings.mac_address.clone_from(&bridge.mac_address);
    }
    settings.networks = networks;
    settings
}

/// Endpoints by network name: as asked for, completed with the facts while it runs.
pub(crate) fn networks(record: &Record) -> BTreeMap<String, EndpointSettings> {
    let mode = record.fixed.host_config.network_mode.as_str();
    if mode.starts_with("container:") {
        return BTreeMap::new();
    }
    let mut networks = record.fixed.endpoints.clone();
    let own = networks.entry(mode.to_owned()).or_default();
    if let Some(endpoint) = &record.state.endpoint {
        own.network_id.clone_from(&endpoint.network_id);
        own.endpoint_id.clone_from(&endpoint.id);
        own.gateway = endpoint.gateway.to_string();
        own.ip_address = endpoint.ip.to_string();
        own.ip_prefix_len = endpoint.prefix;
        own.mac_address.clone_from(&endpoint.mac);
    } else if !record.state.network_id.is_empty() {
        own.network_id.clone_from(&record.state.network_id);
        own.mac_address.clear();
    }
    networks
}

/// Exposed ports with their bindings; null where exposed only, empty when it does not run.
fn ports(record: &Record) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    let Some(endpoint) = &record.state.endpoint else { return BTreeMap::new() };
    let mut ports: BTreeMap<String, Option<Vec<PortBinding>>> =
        record.fixed.config.exposed_ports.iter().flatten().map(|(port, _)| (with_protocol(port), None)).collect();
    for published in &endpoint.ports {
        let key = format!("{}/{}", published.container_port, crate::networks::protocol_word(published.protocol));
        ports
            .entry(key)
            .or_default()
            .get_or_insert_default()
            .push(PortBinding { host_ip: published.host_ip.to_string(), host_port: published.host_port.to_string() });
    }
    ports
}

fn with_protocol(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}
