//! Starting on an existing root: find the supervisors that survived, settle what ended meanwhile, never delete what
//! cannot be read, restart what the policies say.

use std::path::Path;
use std::sync::Arc;

use hoist_api::time::now_ns;
use hoist_runtime::protocol::Exit;
use hoist_runtime::spawner::Link;

use crate::container::handle::Event;
use crate::container::record::{Fixed, Record, State, Status, Unreadable};
use crate::container::volumes;
use crate::containers::Containers;
use crate::error::{Result, Translate};

/// Docker's exit code for a container that ended while nobody could see how.
const UNKNOWN_EXIT_CODE: i32 = 255;

/// Reads the exit file of a run that began at `started_ns` (0: any run).
pub(crate) fn read_exit(directory: &Path, started_ns: i64) -> Option<Exit> {
    let text = std::fs::read_to_string(directory.join("exit.json")).ok()?;
    let exit: Exit = serde_json::from_str(&text).ok()?;
    (started_ns == 0 || exit.started_at_ns >= started_ns).then_some(exit)
}

/// Takes all records of the database into the books.
pub(crate) fn adopt_all(containers: &Containers) -> Result<()> {
    let context = containers.context();
    let (records, unreadable) = context.records.load()?;
    for bad in unreadable {
        tracing::error!(container = bad.id, "the record cannot be read and is kept as it is: {}", bad.reason);
        containers.insert(dead(bad));
    }
    let mut start = Vec::new();
    for record in records.iter().filter(|record| record.state.status.alive()) {
        for name in volumes::names(record) {
            context.volumes.adopt_use(name, record.id());
        }
    }
    for record in records {
        let id = record.id().to_owned();
        if adopt(containers, record)? {
            start.push(id);
        }
    }
    context.networks.sweep().api()?;
    context.volumes.sweep_mounts();
    collect(containers);
    for id in start {
        let Ok(handle) = containers.get(&id) else { continue };
        tokio::spawn(async move {
            if let Err(e) = handle.ask(|reply| Event::Start { reply }).await {
                tracing::warn!(container = id, "cannot start the container again: {e}");
            }
        });
    }
    Ok(())
}

/// One record; true if its policy wants it started.
fn adopt(containers: &Containers, mut record: Record) -> Result<bool> {
    let context = containers.context().clone();
    let run_dir = context.run_directory(record.id());
    if let Ok(link) = Link::connect(&run_dir) {
        if let Some(endpoint) = &record.state.endpoint
            && let Err(e) = context.networks.adopt(endpoint)
        {
            tracing::error!(container = record.id(), "cannot take the network endpoint back: {e}");
        }
        containers.insert_linked(record, link);
        return Ok(false);
    }
    let unsettled = record.state.status.alive() || record.state.endpoint.is_some();
    if unsettled {
        settle(containers, &mut record);
    }
    context.volumes.give_back(record.id());
    record.state.endpoint = None;
    if record.state.status == Status::Restarting {
        record.state.status = Status::Exited;
    }
    let policy = record.restart_policy().name.clone();
    let again = match policy.as_str() {
        "always" => record.state.started_ns != 0,
        "unless-stopped" => record.state.started_ns != 0 && !record.state.manually_stopped,
        "on-failure" => unsettled && record.state.exit_code != 0 && !record.state.manually_stopped,
        _ => false,
    };
    let auto_remove = record.fixed.host_config.auto_remove;
    // The directory is there before the record and goes after it. Without one, a power cut took the record's end back.
    let was_removed = !context.directory(record.id()).is_dir();
    if was_removed || auto_remove {
        // Or it ended while no engine was there to remove it, or was never started, and whoever was to do so is gone.
        context.records.delete(record.id(), false)?;
        context.forget(&record, auto_remove);
        return Ok(false);
    }
    context.records.save_state(&record)?;
    containers.insert(record);
    Ok(again)
}

/// Writes down how a container ended whose supervisor is gone.
fn settle(containers: &Containers, record: &mut Record) {
    let context = containers.context();
    let found = context.read_exit(record);
    if record.state.started_ns == 0 && found.is_none() {
        return;
    }
    if found.is_none() && record.state.status.alive() {
        "the container's supervisor ended while no engine was there, how the container ended is not known"
            .clone_into(&mut record.state.error);
    }
    let exit = found.unwrap_or(Exit {
        exit_code: UNKNOWN_EXIT_CODE,
        oom_killed: false,
        started_at_ns: record.state.started_ns,
        finished_at_ns: now_ns(),
        log_entries_dropped: 0,
    });
    // Processes whose supervisor was killed must not go on unseen.
    if let Err(e) = hoist_runtime::cgroup::at(&context.cgroup_path(record)).remove() {
        tracing::warn!(container = record.id(), "cannot remove the control group: {e}");
    }
    let state = &mut record.state;
    state.status = Status::Exited;
    state.pid = 0;
    state.exit_code = exit.exit_code;
    state.oom_killed = exit.oom_killed;
    state.started_ns = exit.started_at_ns;
    state.finished_ns = exit.finished_at_ns;
    state.exits += 1;
}

/// Directories that no record names: leftovers of a crash between disk and books.
fn collect(containers: &Containers) {
    let context = containers.context();
    for (parent, keep_known) in [("containers", true), ("removed", false)] {
        let parent = context.settings.root.join(parent);
        let Ok(entries) = std::fs::read_dir(&parent) else { continue };
        for entry in entries.flatten() {
            let id = entry.file_name().to_string_lossy().into_owned();
            if keep_known && containers.get(&id).is_ok() {
                continue;
            }
            crate::ipc::unmount(&entry.path());
            match std::fs::remove_dir_all(entry.path()) {
                // Of a container that was removed, or removed itself, a moment ago: somebody else is deleting it.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => tracing::warn!(path = %entry.path().display(), "cannot collect a leftover: {e}"),
                Ok(()) => {}
            }
        }
    }
    collect_run_directories(containers);
    let known: std::collections::HashSet<String> = containers.records().iter().map(|r| r.id().to_owned()).collect();
    for holder in context.images.lease_holders() {
        if !known.contains(&holder) {
            _ = context.images.release(&holder);
        }
    }
    if let Err(e) = context.volumes.finish_removals(|id| known.contains(id)) {
        tracing::error!("cannot end a removal that was cut short: {e}");
    }
}

/// Run directories of containers that no record names. A supervisor there was never told to go on, and gives up.
fn collect_run_directories(containers: &Containers) {
    let parent = containers.context().settings.run_dir.join("containers");
    for entry in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        if containers.get(&id).is_err() && Link::connect(&entry.path()).is_err() {
            _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A stand-in for a record that cannot be read: listed, inspectable, removable by hand.
fn dead(bad: Unreadable) -> Record {
    let fixed = Fixed {
        id: bad.id,
        created_ns: 0,
        image_id: String::new(),
        config: Default::default(),
        host_config: Default::default(),
        endpoints: Default::default(),
        path: String::new(),
        args: Vec::new(),
        mounts: Vec::new(),
        layers: Vec::new(),
        platform: "linux".to_owned(),
        image_size_bytes: 0,
    };
    let state = State {
        status: Status::Dead,
        error: format!("the record of this container cannot be read: {}", bad.reason),
        ..State::default()
    };
    Record { name: bad.name, fixed: Arc::new(fixed), state }
}
