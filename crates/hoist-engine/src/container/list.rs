//! One line of `docker ps`: the summary, its human status, and the filters that need only a record.

use std::collections::HashMap;
use std::sync::Arc;

use hoist_api::container::{Summary, SummaryHostConfig, SummaryNetworkSettings};
use hoist_api::network::Port;
use hoist_api::time::{human_duration, now_ns};

use crate::container::inspect;
use crate::container::record::{Record, Status};

/// How the images of the containers of one list are called. Each reference is looked up once.
#[derive(Default)]
pub(crate) struct ImageNames {
    ids: HashMap<String, Option<String>>,
}

impl ImageNames {
    /// What the container was made from, while that still stands for its image; else the image's id. `id_of` looks up what a
    /// reference stands for.
    pub(crate) fn of(&mut self, record: &Record, id_of: impl FnOnce(&str) -> Option<String>) -> String {
        let (name, id) = (&record.fixed.config.image, &record.fixed.image_id);
        if name.is_empty() || name == id {
            return id.clone();
        }
        if !self.ids.contains_key(name) {
            self.ids.insert(name.clone(), id_of(name));
        }
        if self.ids.get(name).is_some_and(|known| known.as_ref() == Some(id)) { name.clone() } else { id.clone() }
    }
}

/// The list item of a record, with its image's name.
pub(crate) fn summary(record: &Arc<Record>, image: String) -> Summary {
    let fixed = &record.fixed;
    Summary {
        id: fixed.id.clone(),
        names: vec![format!("/{}", record.name)],
        image,
        image_id: fixed.image_id.clone(),
        command: command(&fixed.path, &fixed.args),
        created: fixed.created_ns / 1_000_000_000,
        ports: ports(record),
        size_rw: None,
        size_root_fs: None,
        labels: fixed.config.labels.clone(),
        state: record.state.status.word().to_owned(),
        status: status(record),
        host_config: SummaryHostConfig {
            network_mode: fixed.host_config.network_mode.clone(),
            annotations: fixed.host_config.annotations.clone(),
        },
        network_settings: SummaryNetworkSettings { networks: inspect::networks(record) },
        mounts: fixed.mounts.iter().map(|m| m.point.clone()).collect(),
    }
}

/// Docker's words: `Up 2 minutes (Paused)`, `Exited (137) 3 seconds ago`, `Created`.
pub(crate) fn status(record: &Record) -> String {
    let state = &record.state;
    let now = now_ns();
    let up = || human_duration(now - state.started_ns);
    let ago = || human_duration(now - state.finished_ns);
    match state.status {
        Status::Running => format!("Up {}", up()),
        Status::Paused => format!("Up {} (Paused)", up()),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, ago()),
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Created => "Created".to_owned(),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, ago()),
    }
}

/// The command line, arguments with blanks quoted as moby does.
fn command(path: &str, args: &[String]) -> String {
    let mut text = path.to_owned();
    for arg in args {
        text.push(' ');
        if arg.contains(' ') {
            text.push('\'');
            text.push_str(arg);
            text.push('\'');
        } else {
            text.push_str(arg);
        }
    }
    text
}

fn ports(record: &Record) -> Vec<Port> {
    let Some(endpoint) = &record.state.endpoint else { return Vec::new() };
    let mut ports: Vec<Port> = endpoint
        .ports
        .iter()
        .map(|p| Port {
            ip: p.host_ip.to_string(),
            private_port: p.container_port,
            public_port: p.host_port,
            r#type: crate::networks::protocol_word(p.protocol).to_owned(),
        })
        .collect();
    for exposed in record.fixed.config.exposed_ports.iter().flatten().map(|(port, _)| port) {
        let (number, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        let Ok(private_port) = number.parse() else { continue };
        if !ports.iter().any(|p| p.private_port == private_port && p.r#type == protocol) {
            ports.push(Port { private_port, r#type: protocol.to_owned(), ..Port::default() });
        }
    }
    ports
}
