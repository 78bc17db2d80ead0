//! Events: a numbered journal in memory (the last 256 for replay) and a broadcast to listeners.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use hoist_api::event::{Actor, Event};
use hoist_api::filters::Filters;
use hoist_api::reference::Reference;
use hoist_api::time::now_ns;
use tokio::sync::broadcast;

use crate::error::Result;

/// How many events are kept for `since`.
const KEPT: usize = 256;
/// How far a listener may lag behind before it loses events (it is told how many).
const LAG: usize = 4096;

/// The bus. Clones share it.
#[derive(Clone, Debug)]
pub struct Events {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    kept: Mutex<VecDeque<Arc<Event>>>,
    live: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Events {
        let (live, _) = broadcast::channel(LAG);
        Events { shared: Arc::new(Shared { kept: Mutex::new(VecDeque::with_capacity(KEPT)), live }) }
    }
}

impl Events {
    /// Records an event and tells everybody who listens.
    pub fn emit(&self, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
        let now = now_ns();
        let legacy = matches!(kind, "container" | "image");
        let event = Arc::new(Event {
            status: if legacy { action.to_owned() } else { String::new() },
            id: if legacy { id.to_owned() } else { String::new() },
            from: if kind == "container" {
                attributes.get("image").cloned().unwrap_or_default()
            } else {
                String::new()
            },
            r#type: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes },
            scope: "local".to_owned(),
            time: now / 1_000_000_000,
            time_nano: now,
        });
        let mut kept = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Sent under the lock, so that a subscriber sees each event exactly once: in the replay or live.
        let _nobody_listens = self.shared.live.send(event);
    }

    /// The kept events and a receiver of everything after them.
    pub fn subscribe(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let kept = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.shared.live.subscribe())
    }

    /// How many listen right now.
    pub fn listeners(&self) -> usize {
        self.shared.live.receiver_count()
    }

    /// Parses the `filters` parameter of `GET /events`. Keys that there are not leave nothing out and are no error, as with Docker.
    pub fn parse_filters(text: &str) -> Result<Filters> {
        Filters::parse_any(text)
    }
}

/// Whether an event passes the filters (moby's rules: labels all, other keys one of their values).
pub fn passes(event: &Event, filters: &Filters) -> bool {
    let attributes = &event.actor.attributes;
    let names = |kind: &str, wanted: &str| {
        event.r#type == kind
            && (event.actor.id == wanted
                || event.actor.id.starts_with(wanted)
                || attributes.get("name").is_some_and(|n| n == wanted || n.trim_start_matches('/') == wanted))
    };
    let prefix_actions = ["health_status", "exec_create", "exec_start"];
    filters.any("type", |v| v == event.r#type)
        && filters.any("scope", |v| v == event.scope)
        && filters.any("event", |v| {
            v == event.action || prefix_actions.iter().any(|p| v == *p && event.action.starts_with(p))
        })
        && filters.any("container", |v| {
            names("container", v) || attributes.get("container").is_some_and(|c| c.starts_with(v))
        })
        && filters.any("image", |v| {
            let name = attributes.get(if event.r#type == "image" { "name" } else { "image" });
            std::iter::once(&event.actor.id)
                .chain(name)
                .any(|name| name == v || without_tag(name).is_some_and(|n| n == v))
        })
        && ["network", "volume", "daemon", "plugin", "service", "node", "secret", "config"]
            .iter()
            .all(|kind| filters.any(kind, |v| names(kind, v)))
        && (!filters.has("label") || filters.labels_match(attributes))
}

/// The repository of a reference.
fn without_tag(reference: &str) -> Option<String> {
    Reference::parse(reference).ok().map(|reference| reference.familiar_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        let events = Events::default();
        let owned = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        events.emit(kind, "tag", id, owned.collect());
        Event::clone(&events.subscribe().0[0])
    }

    #[test]
    fn images_are_chosen_by_id_reference_or_repository() {
        let id = format!("sha256:{}", "4f".repeat(32));
        let tagged = event("image", &id, &[("name", "127.0.0.1:5801/sk/multi:3"), ("a", "b")]);
        let created = event("container", &"5e".repeat(32), &[("image", "127.0.0.1:5801/sk/multi:3"), ("name", "c")]);
        let is_chosen = |event: &Event, key: &str, value: &str| {
            let filters = Events::parse_filters(&serde_json::json!({ key: [value] }).to_string()).unwrap();
            passes(event, &filters)
        };
        for (value, by_image, by_container) in [
            ("127.0.0.1:5801/sk/multi", true, true),
            ("127.0.0.1:5801/sk/multi:3", true, true),
            (&id, true, false),
            ("127.0.0.1", false, false),
            ("127.0.0.1:5801/sk", false, false),
            ("127.0.0.1:5801/sk/multi:4", false, false),
            (&id[..19], false, false),
        ] {
            assert_eq!(is_chosen(&tagged, "image", value), by_image, "{value}");
            assert_eq!(is_chosen(&created, "image", value), by_container, "{value}");
        }
        let pulled = event("image", "busybox:1", &[("name", "busybox")]);
        assert!(is_chosen(&pulled, "image", "busybox") && is_chosen(&pulled, "image", "busybox:1"));
        let by_digest = event("image", &format!("me/x@{id}"), &[("name", "me/x")]);
        assert!(is_chosen(&by_digest, "image", "me/x") && is_chosen(&by_digest, "image", &format!("me/x@{id}")));
        assert!(is_chosen(&tagged, "nonsense", "x"));
        assert!(is_chosen(&tagged, "label", "a=b") && !is_chosen(&tagged, "label", "a=c"));
    }
}
