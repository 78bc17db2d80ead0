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
    let (since_ns, until_ns) = (call.query.moment_ns("since")?, call.query.moment_ns("until")?);
    if let (Some(since), Some(until)) = (since_ns, until_ns)
        && since > until
    {
        return Err(Error::invalid(format!("`since` time ({since}) cannot be after `until` time ({until})")));
    }
    let (kept, mut live) = call.engine.events.subscribe();
    let legacy = call.version.legacy_events();
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let past = until_ns.is_some_and(|until| until < now_ns());
        if since_ns.is_some() || past {
            for event in kept {
                if inside(event.time_nano, since_ns, until_ns)
                    && passes(&event, &filters)
                    && sender.send(line(&event, legacy)).await.is_err()
                {
                    return;
                }
            }
        }
        if past {
            return;
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

/// Whether an event of `time_ns` was asked for. Docker's zero for `until` is no limit to what is replayed, only to waiting.
fn inside(time_ns: i64, since_ns: Option<i64>, until_ns: Option<i64>) -> bool {
    since_ns.is_none_or(|since| time_ns >= since) && until_ns.is_none_or(|until| until <= 0 || time_ns <= until)
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

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn an_end_of_zero_leaves_nothing_out() {
        assert!(inside(5, None, None) && inside(5, Some(0), Some(0)) && inside(5, Some(5), Some(5)));
        assert!(!inside(5, Some(6), None) && !inside(5, None, Some(4)));
    }
}
