//! `GET /events`: replay, then live, until the client leaves or `until` comes.

use std::time::Duration;

use bytes::Bytes;
use hoist_api::error::Error;
use hoist_api::event::Event;
use hoist_api::time::now_ns;
use hoist_engine::events::{Events, passes};
use tokio::sync::{broadcast, mpsc};

use super::Call;
use super::answer::{self, Answer};

pub(super) fn events(call: &Call) -> Result<Answer, Error> {
    let filters = Events::parse_filters(call.query.get("filters"))?;
    let (since_ns, until_ns) = (call.query.time_ns("since")?, call.query.time_ns("until")?);
    if let (Some(since), Some(until)) = (since_ns, until_ns)
        && since > until
    {
        return Err(Error::invalid(format!("`since` time ({since}) cannot be after `until` time ({until})")));
    }
    let (kept, mut live) = call.engine.events.subscribe();
    let legacy = call.version.legacy_events();
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        if since_ns.is_some() || until_ns.is_some_and(|until| until < now_ns()) {
            for event in kept {
                let inside =
                    since_ns.is_none_or(|t| event.time_nano >= t) && until_ns.is_none_or(|t| event.time_nano <= t);
                if inside && passes(&event, &filters) && sender.send(line(&event, legacy)).await.is_err() {
                    return;
                }
            }
        }
        loop {
            let left = until_ns.map(|until| Duration::from_nanos(u64::try_from(until - now_ns()).unwrap_or(0)));
            let next = tokio::select! {
                next = live.recv() => next,
                () = sender.closed() => return,
                () = sleep(left) => return,
            };
            match next {
                Ok(event) => {
                    if passes(&event, &filters) && sender.send(line(&event, legacy)).await.is_err() {
                        return;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    tracing::warn!(lost, "a client of /events reads too slowly and lost events");
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
    Ok(answer::stream("application/json", receiver))
}

async fn sleep(left: Option<Duration>) {
    match left {
        Some(left) => tokio::time::sleep(left).await,
        None => std::future::pending().await,
    }
}

fn line(event: &Event, legacy: bool) -> Bytes {
    let mut event = event.clone();
    if !legacy {
        event.status.clear();
        event.id.clear();
        event.from.clear();
    }
    let mut bytes = serde_json::to_vec(&event).unwrap_or_default();
    bytes.push(b'\n');
    Bytes::from(bytes)
}
