//! Starting: files, network, lowering, hand-over to the spawner. Everything done before a failure is undone.

use std::time::Instant;

use hoist_network::{EndpointRequest, Setup};
use hoist_runtime::protocol::ToSupervisor;
use tokio::io::unix::AsyncFd;

use crate::container::driver::{Driver, SupervisorLink};
use crate::container::files;
use crate::container::handle::{Event, Phases};
use crate::create::mounts::subpath;
use crate::error::{Error, Result, io};
use crate::lower::{self, Surroundings};

/// How long each phase took.
struct Clock {
    last: Instant,
    phases: Phases,
}

impl Clock {
    fn start() -> Clock {
        Clock { last: Instant::now(), phases: Phases::new() }
    }

    fn phase(&mut self, name: &str) {
        let now = Instant::now();
        self.phases.push((name.to_owned(), u64::try_from((now - self.last).as_nanos()).unwrap_or(u64::MAX)));
        self.last = now;
    }
}

impl Driver {
    /// Launches the container; the supervisor's answer arrives later on the link.
    pub(super) fn launch(&mut self) -> Result<AsyncFd<SupervisorLink>> {
        let context = self.context.clone();
        let mut clock = Clock::start();
        let directory = context.directory(self.record.id());
        let run_dir = context.run_directory(self.record.id());
        std::fs::create_dir_all(&run_dir).map_err(io("create", &run_dir))?;
        // A leftover of the last run must not be taken for this one's.
        let exit_directory = context.exit_directory(&self.record);
        for place in [&exit_directory, &run_dir] {
            _ = std::fs::remove_file(place.join("exit.json"));
        }
        if self.record.fixed.host_config.ipc_mode == "shareable" {
            crate::ipc::mount(&directory, self.record.fixed.host_config.shm_size)?;
        }
        self.take_volumes()?;
        subpath::check(&self.record)?;
        clock.phase("engine: directories");
        let network = self.connect_network()?;
        clock.phase("engine: network");
        let prepared = files::write(&self.record, &context, &run_dir).and_then(|()| {
            lower::launch(
                &self.record,
                Surroundings {
                    settings: &context.settings,
                    directory: &directory,
                    run_dir: &run_dir,
                    exit_directory: &exit_directory,
                    network,
                    seccomp: &context.seccomp,
                    peer: &|name| context.peer(name),
                },
            )
        });
        let launch = prepared?;
        clock.phase("engine: lower");
        let link = context
            .spawner
            .launch(&launch)
            .map_err(|e| Error::internal(format!("cannot start the container's supervisor: {e}")))?;
        let link = crate::stream::watch(SupervisorLink(link))
            .map_err(|e| Error::internal(format!("cannot watch the container's supervisor: {e}")))?;
        self.link = Some(link);
        for attach in std::mem::take(&mut self.waiting) {
            self.hand_over(&attach)?;
        }
        self.record_start()?;
        clock.phase("engine: hand over");
        self.phases = clock.phases;
        self.link.take().ok_or_else(|| Error::internal("the supervisor's link was lost while starting"))
    }

    /// Recorded before anything runs: an engine after this one finds the container, its address and its ports in the books.
    /// The writing goes on beside the supervisor's preparations, the word to go is given when it is done.
    fn record_start(&mut self) -> Result<()> {
        let events = self.events.clone();
        let first = self.unrecorded.is_some();
        let done = move |result| {
            if let Some(events) = events.upgrade() {
                _ = events.send(Event::Recorded { first, result });
            }
        };
        match self.unrecorded.take() {
            Some(lease) => self.context.records.insert_later(&self.record, lease, self.record.durable(), done),
            None => self.context.records.save_state_later(&self.record, done),
        }
    }

    pub(super) fn on_recorded(&mut self, first: bool, result: Result<()>) {
        self.never_recorded |= first && result.is_err();
        if self.link.is_none() {
            // The start has failed meanwhile.
            return;
        }
        let word = match result {
            Ok(()) => ToSupervisor::Start,
            Err(error) => {
                self.not_recorded = Some(error);
                ToSupervisor::Abort
            }
        };
        if let Err(e) = self.send(&word, &[]) {
            // The link's end is about to be read, and ends the start.
            tracing::warn!(container = self.record.id(), "cannot tell the supervisor to go on: {e}");
        }
    }

    /// Takes an endpoint in the container's network, if it has one of its own.
    fn connect_network(&mut self) -> Result<Option<Setup>> {
        let fixed = self.record.fixed.clone();
        let mode = fixed.host_config.network_mode.as_str();
        if mode == "host" || mode.starts_with("container:") {
            return Ok(None);
        }
        if mode == "none" || fixed.config.network_disabled {
            return Ok(Some(hoist_network::loopback_only()));
        }
        let wanted = fixed.endpoints.get(mode).cloned().unwrap_or_default();
        let ip = wanted.ipam_config.as_ref().map(|c| c.ipv4_address.as_str()).filter(|ip| !ip.is_empty());
        let ip = ip
            .map(|text| text.parse().map_err(|_| Error::invalid(format!("invalid IPv4 address: {text}"))))
            .transpose()?;
        let mac = [&wanted.mac_address, &fixed.config.mac_address].into_iter().find(|m| !m.is_empty()).cloned();
        let request = EndpointRequest {
            container_id: self.record.id().to_owned(),
            network: mode.to_owned(),
            ip,
            mac,
            ports: crate::networks::port_requests(&fixed.config, &fixed.host_config)?,
        };
        let (endpoint, setup) = self.context.networks.allocate(&request).map_err(|e| match e {
            hoist_network::Error::NotFound(name) => {
                Error::not_found(format!("failed to set up container networking: network {name} not found"))
            }
            hoist_network::Error::Other(text) => {
                Error::internal(format!("failed to set up container networking: {text}"))
            }
            other => Error::internal(format!(
                "failed to set up container networking: driver failed programming external connectivity on endpoint {} ({}): {other}",
                self.record.name,
                self.record.id()
            )),
        })?;
        let attributes = [
            ("container".to_owned(), self.record.id().to_owned()),
            ("name".to_owned(), endpoint.network_name.clone()),
            ("type".to_owned(), "bridge".to_owned()),
        ];
        self.context.events.emit("network", "connect", &endpoint.network_id, attributes.into());
        self.record.state.network_id.clone_from(&endpoint.network_id);
        self.record.state.endpoint = Some(endpoint);
        Ok(Some(setup))
    }
}
