//! `commit`: an image of a container's changes, made while the container rests, or is paused, or, if its user wants so, runs.

use std::io;

use hoist_api::container::Config;
use hoist_api::image::ContainerConfig;
use hoist_api::reference::Reference;
use hoist_api::time::now_ns;
use serde_json::Value;

use crate::archive;
use crate::changes::apply_changes;
use crate::container::handle::{Event, Handle};
use crate::container::record::{Record, Status};
use crate::containers::Containers;
use crate::create::merge;
use crate::error::{Error, Result, Translate};
use crate::image_events;
use crate::info;

/// What `POST /commit` asks for.
#[derive(Clone, Debug, Default)]
pub struct CommitRequest {
    /// The new image's name, if it is to have one.
    pub reference: Option<Reference>,
    pub author: String,
    pub comment: String,
    /// Pause a running container meanwhile.
    pub pause: bool,
    /// Dockerfile lines.
    pub changes: Vec<String>,
    /// In place of the container's own configuration, which fills what it leaves open.
    pub config: Option<Config>,
}

impl Containers {
    /// Makes an image of the container; returns its id.
    pub async fn commit(&self, name: &str, request: CommitRequest) -> Result<String> {
        if name.is_empty() {
            return Err(Error::invalid("invalid name or ID supplied: \"\""));
        }
        let handle = self.get(name)?;
        let record = handle.record();
        match record.state.status {
            Status::Removing | Status::Dead => {
                let word = if record.state.status == Status::Dead { "dead" } else { "being removed" };
                return Err(Error::conflict(format!("You cannot commit container {} which is {word}", record.id())));
            }
            _ => {}
        }
        self.context().check_room()?;
        let begun_ns = now_ns();
        let commit = describe(&record, &request)?;
        let pauses = request.pause && record.state.status == Status::Running;
        if pauses {
            handle.ask(|reply| Event::Pause { reply }).await?;
        }
        let paused = Paused { handle: pauses.then(|| handle.clone()) };
        let containers = self.clone();
        let (snapshot, reference) = (record.clone(), request.reference.clone());
        // A request that breaks off does not end this: the container goes on when its files are read.
        let work = move || (containers.make_image(&snapshot, &commit, reference.as_ref()), paused);
        let working = tokio::task::spawn_blocking(work);
        let (made, paused) = working.await.map_err(|e| Error::internal(format!("the commit failed: {e}")))?;
        if let Ok(id) = &made {
            self.tell_of_commit(&record, &request, id);
        }
        paused.go_on().await;
        if made.is_ok() {
            let containers = self.clone();
            tokio::task::spawn_blocking(move || containers.settle_images(begun_ns))
                .await
                .map_err(|e| Error::internal(format!("looking after the images failed: {e}")))?;
        }
        made
    }

    fn make_image(
        &self,
        record: &Record,
        commit: &hoist_image::Commit,
        reference: Option<&Reference>,
    ) -> Result<String> {
        let context = self.context();
        let base = match record.fixed.image_id.as_str() {
            "" => None,
            id => Some(context.images.get(id).api()?),
        };
        let upper = context.directory(record.id()).join("upper");
        let (mut reader, writer) = io::pipe().map_err(|e| Error::internal(format!("pipe: {e}")))?;
        std::thread::scope(|scope| {
            let writing =
                scope.spawn(move || archive::write_layer(&upper, io::BufWriter::with_capacity(1 << 16, writer)));
            let made = context.images.commit(base.as_deref(), &mut reader, commit, reference);
            // a writer that is still at it must not wait for a reader that gave up
            drop(reader);
            let written = writing.join().unwrap_or_else(|_| Err(io::Error::other("the writer of the layer panicked")));
            match (made, written) {
                (Ok(id), Ok(())) => Ok(id),
                (Err(made), Ok(())) => Err(made).api(),
                // a reader that gave up breaks the writer's pipe: its reason counts
                (Err(made), Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => Err(made).api(),
                (_, Err(e)) => Err(Error::internal(format!("cannot read the changes of {}: {e}", record.id()))),
            }
        })
    }

    fn tell_of_commit(&self, record: &Record, request: &CommitRequest, id: &str) {
        image_events::emit(self.context(), "create", id, id);
        let name = request.reference.as_ref().map(Reference::familiar).unwrap_or_default();
        if !name.is_empty() {
            image_events::emit(self.context(), "tag", id, &name);
        }
        let mut attributes = record.event_attributes();
        for (key, value) in [("comment", request.comment.as_str()), ("imageID", id), ("imageRef", &name)] {
            attributes.insert(key.to_owned(), value.to_owned());
        }
        self.context().events.emit("container", "commit", record.id(), attributes);
    }
}

/// A container that was paused for a commit: it goes on when this is dropped, whatever becomes of the commit.
struct Paused {
    handle: Option<Handle>,
}

impl Paused {
    /// Lets it go on, and waits for that.
    async fn go_on(mut self) {
        if let Some(handle) = self.handle.take()
            && let Err(e) = handle.ask(|reply| Event::Unpause { reply }).await
        {
            // ended or unpaused by somebody else meanwhile
            tracing::debug!("cannot unpause a container after its commit: {e}");
        }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let Some(handle) = &self.handle else { return };
        let (reply, _nobody) = tokio::sync::oneshot::channel();
        if let Err(e) = handle.tell(Event::Unpause { reply }) {
            tracing::debug!("a container went away during its commit: {e}");
        }
    }
}

/// What the new image says of itself: the container's configuration with the changes.
fn describe(record: &Record, request: &CommitRequest) -> Result<hoist_image::Commit> {
    let own = &record.fixed.config;
    let mut config = request.config.clone().unwrap_or_else(|| own.clone());
    let mut defaults = defaults_of(&config);
    apply_changes(&mut defaults, &request.changes)?;
    set_defaults(&mut config, defaults);
    if request.config.is_some() {
        merge::with_image(&mut config, &defaults_of(own));
    } else if config.entrypoint.is_none() {
        // An empty list is no change.
        config.cmd = config.cmd.or_else(|| own.cmd.clone());
        config.entrypoint.clone_from(&own.entrypoint);
    }
    let json = |config: &Config| -> Result<Value> {
        serde_json::to_value(config).map_err(|e| Error::internal(format!("cannot encode the configuration: {e}")))
    };
    Ok(hoist_image::Commit {
        config: json(&config)?,
        container: record.id().to_owned(),
        container_config: json(own)?,
        docker_version: info::server_version().to_owned(),
        author: request.author.clone(),
        comment: request.comment.clone(),
        created_by: own.cmd.as_deref().unwrap_or_default().join(" "),
    })
}

/// The part of a container's configuration that an image can have.
fn defaults_of(config: &Config) -> ContainerConfig {
    ContainerConfig {
        user: config.user.clone(),
        exposed_ports: config.exposed_ports.clone(),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.clone(),
        args_escaped: config.args_escaped,
        volumes: config.volumes.clone(),
        working_dir: config.working_dir.clone(),
        on_build: config.on_build.clone(),
        labels: Some(config.labels.clone()),
        stop_signal: config.stop_signal.clone(),
        shell: config.shell.clone(),
    }
}

fn set_defaults(config: &mut Config, defaults: ContainerConfig) {
    config.user = defaults.user;
    config.exposed_ports = defaults.exposed_ports;
    config.env = defaults.env;
    config.entrypoint = defaults.entrypoint;
    config.cmd = defaults.cmd;
    config.healthcheck = defaults.healthcheck;
    config.args_escaped = defaults.args_escaped;
    config.volumes = defaults.volumes;
    config.working_dir = defaults.working_dir;
    config.on_build = defaults.on_build;
    config.labels = defaults.labels.unwrap_or_default();
    config.stop_signal = defaults.stop_signal;
    config.shell = defaults.shell;
}
