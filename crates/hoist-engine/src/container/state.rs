//! Which requests a container's state admits: pure, exhaustive, in Docker's words.
//!
//! ```text
//!              start              exit                 start
//!   created ----------> running ---------> exited ------------> running
//!      |                 |  ^  \             ^
//!      |            pause|  |   \ exit, policy says again
//!      |                 v  |unpause  \      | policy gives up, stop
//!      |                paused         restarting ---- back-off over ----> running
//!      +---- remove, from any state not alive; forced from any ----> removing -> (gone)
//! ```

use crate::container::record::{Record, Status};
use crate::error::{Error, Result};

/// What somebody asks of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Start,
    Kill,
    Pause,
    Unpause,
    Exec,
    Attach,
    Resize,
    Remove { force: bool },
    Update,
}

/// Whether `record` admits `request` now.
pub(crate) fn admit(record: &Record, request: Request) -> Result<()> {
    let (status, id, name) = (record.state.status, record.id(), record.name.as_str());
    match (request, status) {
        (Request::Remove { .. }, Status::Removing) => {
            Err(Error::conflict(format!("removal of container {name} is already in progress")))
        }
        (_, Status::Removing) => {
            Err(Error::conflict("container is marked for removal and cannot be started".to_owned()))
        }
        (Request::Start, Status::Running | Status::Restarting) => Err(Error::not_modified("")),
        (Request::Start, Status::Paused) => {
            Err(Error::conflict("cannot start a paused container, try unpause instead"))
        }
        (Request::Start, Status::Dead) => Err(Error::conflict("container is marked for removal and cannot be started")),
        (Request::Start, Status::Created | Status::Exited) => Ok(()),

        (Request::Kill, Status::Running | Status::Paused | Status::Restarting) => Ok(()),
        (Request::Kill, _) => {
            Err(Error::conflict(format!("cannot kill container: {name}: container {id} is not running")))
        }

        (Request::Pause, Status::Running) => Ok(()),
        (Request::Pause, Status::Paused) => Err(Error::conflict(format!("Container {id} is already paused"))),
        (Request::Pause, Status::Restarting) => {
            Err(Error::conflict(format!("Container {id} is restarting, wait until the container is running")))
        }
        (Request::Pause, _) => Err(Error::not_running(id)),

        (Request::Unpause, Status::Paused) => Ok(()),
        (Request::Unpause, _) => Err(Error::internal(format!("Container {id} is not paused"))),

        (Request::Exec | Request::Resize, Status::Running) => Ok(()),
        (Request::Exec, Status::Paused) => {
            Err(Error::conflict(format!("Container {name} is paused, unpause the container before exec")))
        }
        (Request::Resize, Status::Paused) => Ok(()),
        (Request::Exec | Request::Resize, Status::Restarting) => {
            Err(Error::conflict(format!("Container {id} is restarting, wait until the container is running")))
        }
        (Request::Exec | Request::Resize, _) => Err(Error::not_running(id)),

        (Request::Attach, Status::Paused) => {
            Err(Error::conflict(format!("container {name} is paused, unpause the container before attach")))
        }
        (Request::Attach, Status::Restarting) => {
            Err(Error::conflict(format!("container {id} is restarting, wait until the container is running")))
        }
        (Request::Attach, _) => Ok(()),

        (Request::Remove { force: true }, _) => Ok(()),
        (Request::Remove { .. }, Status::Running) => Err(Error::conflict(format!(
            "cannot remove container \"{name}\": container is running: stop the container before removing or force remove"
        ))),
        (Request::Remove { .. }, Status::Paused) => Err(Error::conflict(format!(
            "cannot remove container \"{name}\": container is paused and must be unpaused first"
        ))),
        (Request::Remove { .. }, Status::Restarting) => Err(Error::conflict(format!(
            "cannot remove container \"{name}\": container is restarting: stop the container before removing or force remove"
        ))),
        (Request::Remove { .. }, _) => Ok(()),

        (Request::Update, Status::Dead) => {
            Err(Error::conflict(format!("Cannot update container {id}: container is marked for removal")))
        }
        (Request::Update, _) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::container::record::{Fixed, State};
    use crate::error::Kind;

    fn record(status: Status) -> Record {
        let fixed = Fixed {
            id: "a".repeat(64),
            created_ns: 0,
            image_id: String::new(),
            config: Default::default(),
            host_config: Default::default(),
            endpoints: Default::default(),
            path: String::new(),
            args: Vec::new(),
            mounts: Vec::new(),
            layers: Vec::new(),
            platform: String::new(),
            image_size_bytes: 0,
        };
        Record { name: "n".into(), fixed: Arc::new(fixed), state: State { status, ..State::default() } }
    }

    const ALL: [Status; 7] = [
        Status::Created,
        Status::Running,
        Status::Paused,
        Status::Restarting,
        Status::Removing,
        Status::Exited,
        Status::Dead,
    ];

    #[test]
    fn only_containers_at_rest_start() {
        for status in ALL {
            let admitted = admit(&record(status), Request::Start).is_ok();
            assert_eq!(admitted, matches!(status, Status::Created | Status::Exited), "{status:?}");
        }
        assert_eq!(admit(&record(Status::Running), Request::Start).unwrap_err().kind, Kind::NotModified);
    }

    #[test]
    fn exec_needs_a_running_process() {
        for status in ALL {
            assert_eq!(admit(&record(status), Request::Exec).is_ok(), status == Status::Running, "{status:?}");
        }
    }

    #[test]
    fn force_removes_everything_that_is_not_being_removed() {
        for status in ALL {
            let forced = admit(&record(status), Request::Remove { force: true }).is_ok();
            assert_eq!(forced, status != Status::Removing, "{status:?}");
        }
        let text = admit(&record(Status::Running), Request::Remove { force: false }).unwrap_err().message;
        assert_eq!(
            text,
            "cannot remove container \"n\": container is running: stop the container before removing or force remove"
        );
    }
}
