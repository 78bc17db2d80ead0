//! Which containers `ps` shows: order, limit, filters (moby's rules).

use std::ops::RangeInclusive;
use std::sync::Arc;

use hoist_api::filters::Filters;
use hoist_api::time::{now_ns, parse_duration, parse_rfc3339, parse_unix};
use regex::Regex;

use crate::container::inspect;
use crate::container::record::{Record, Status};
use crate::containers::{Containers, ListOptions};
use crate::error::{Error, Result};

/// Filter keys of `GET /containers/json`.
pub const FILTER_KEYS: [&str; 15] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// Chooses the records that the options ask for, newest first.
pub(crate) fn choose(containers: &Containers, options: &ListOptions) -> Result<Vec<Arc<Record>>> {
    let filters = &options.filters;
    let checks = Checks::new(containers, filters)?;
    let explicit = filters.has("status") || filters.has("exited") || options.limit > 0;
    let all = options.all || explicit || filters.has("before") || filters.has("since");
    let mut chosen = Vec::new();
    for record in containers.records() {
        if !all && !record.state.status.alive() && record.state.status != Status::Restarting {
            continue;
        }
        if checks.pass(&record) {
            chosen.push(record);
        }
    }
    if let Ok(limit @ 1..) = usize::try_from(options.limit) {
        chosen.truncate(limit);
    }
    Ok(chosen)
}

/// Filters made ready: expressions compiled, references resolved, values checked.
struct Checks<'a> {
    filters: &'a Filters,
    names: Option<Vec<Regex>>,
    ids: Option<Vec<String>>,
    published: Option<Ports>,
    exposed: Option<Ports>,
    exited: Vec<i32>,
    ancestors: Option<Vec<String>>,
    before_ns: Option<i64>,
    since_ns: Option<i64>,
}

impl<'a> Checks<'a> {
    fn new(containers: &Containers, filters: &'a Filters) -> Result<Checks<'a>> {
        for status in filters.values("status") {
            let known = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
            if !known.contains(&status.as_str()) {
                return Err(Error::invalid(format!(
                    "invalid filter 'status={status}': invalid value for state ({status}): must be one of created, running, paused, restarting, removing, exited, dead"
                )));
            }
        }
        for health in filters.values("health") {
            if !["none", "starting", "healthy", "unhealthy"].contains(&health.as_str()) {
                return Err(Error::invalid(format!(
                    "invalid filter 'health={health}': invalid value for health ({health}): must be one of none, starting, healthy, unhealthy"
                )));
            }
        }
        filters.boolean("is-task")?;
        let exited = filters
            .values("exited")
            .iter()
            .map(|v| {
                let why = || format!("invalid filter 'exited={v}': strconv.Atoi: parsing {v:?}: invalid syntax");
                v.parse().map_err(|_| Error::invalid(why()))
            })
            .collect::<Result<_>>()?;
        let created = |key: &str| -> Result<Option<i64>> {
            filters.values(key).first().map(|name| containers.record(name).map(|r| r.fixed.created_ns)).transpose()
        };
        let ancestors = filters.has("ancestor").then(|| {
            let images = &containers.context().images;
            filters
                .values("ancestor")
                .iter()
                .filter_map(|name| images.get(name).ok().map(|image| image.id.clone()))
                .collect()
        });
        Ok(Checks {
            filters,
            names: names(filters),
            ids: ids(containers, filters),
            published: Ports::of(filters, "publish")?,
            exposed: Ports::of(filters, "expose")?,
            exited,
            ancestors,
            before_ns: created("before")?,
            since_ns: created("since")?,
        })
    }

    fn pass(&self, record: &Record) -> bool {
        let (filters, fixed, state) = (self.filters, &record.fixed, &record.state);
        let slashed = format!("/{}", record.name);
        let named = |name: &Regex| name.is_match(&record.name) || name.is_match(&slashed);
        self.names.as_ref().is_none_or(|names| names.iter().any(named))
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&fixed.id))
            && filters.any("status", |v| v == state.status.word())
            && filters.any("health", |v| v == "none")
            && filters.any("is-task", |v| matches!(v, "false" | "0"))
            && (self.exited.is_empty() || (state.status == Status::Exited && self.exited.contains(&state.exit_code)))
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(&fixed.image_id))
            && self.before_ns.is_none_or(|t| fixed.created_ns < t)
            && self.since_ns.is_none_or(|t| fixed.created_ns > t)
            && filters.labels_match(&fixed.config.labels)
            && filters.any("network", |v| {
                inspect::networks(record).iter().any(|(name, network)| name == v || network.network_id.starts_with(v))
            })
            && filters.any("volume", |v| {
                fixed.mounts.iter().any(|m| m.point.name == v || m.point.destination == v || m.point.source == v)
            })
            && self.published.as_ref().is_none_or(|ports| published(record).any(|port| ports.have(port)))
            && self.exposed.as_ref().is_none_or(|ports| exposed(record).any(|port| ports.have(port)))
    }
}

/// The `name` filters; what is no expression is nobody's name.
fn names(filters: &Filters) -> Option<Vec<Regex>> {
    let values = filters.values("name");
    (!values.is_empty()).then(|| values.iter().filter_map(|value| Regex::new(value).ok()).collect())
}

/// The containers of the `id` filters: whole ids, or beginnings that only one has.
fn ids(containers: &Containers, filters: &Filters) -> Option<Vec<String>> {
    let values = filters.values("id");
    // Not [`Containers::record`]: the name of one may be the beginning of another's id.
    (!values.is_empty()).then(|| {
        let all: Vec<String> = containers.records().iter().map(|record| record.id().to_owned()).collect();
        values.iter().filter_map(|value| only_id(&all, value)).cloned().collect()
    })
}

fn only_id<'a>(all: &'a [String], value: &str) -> Option<&'a String> {
    let mut matching = all.iter().filter(|id| !value.is_empty() && id.starts_with(value));
    match (matching.next(), matching.next()) {
        (only, None) => only,
        _ => None,
    }
}

/// `80`, `80/tcp`, `8000-8010/udp`: the ports of `publish` or `expose` filters.
struct Ports(Vec<(RangeInclusive<u16>, String)>);

impl Ports {
    fn of(filters: &Filters, key: &str) -> Result<Option<Ports>> {
        let values = filters.values(key);
        let wrong = |value: &str, why| Error::invalid(format!("error while looking up for {key} {value}: {why}"));
        let parsed = |value: &String| parse_ports(value).map_err(|why| wrong(value, why));
        let ports: Vec<_> = values.iter().map(parsed).collect::<Result<_>>()?;
        Ok((!ports.is_empty()).then_some(Ports(ports)))
    }

    fn have(&self, (port, protocol): (u16, &str)) -> bool {
        self.0.iter().any(|(range, wanted)| range.contains(&port) && wanted == protocol)
    }
}

fn parse_ports(text: &str) -> std::result::Result<(RangeInclusive<u16>, String), String> {
    let mut parts = text.split('/');
    let range = parts.next().unwrap_or_default();
    let protocol = parts.next().filter(|protocol| !protocol.is_empty()).unwrap_or("tcp");
    if range.is_empty() {
        return Err("Empty string specified for ports.".to_owned());
    }
    let mut ends = range.split('-').map(port_number);
    let first = ends.next().unwrap_or(Ok(0))?;
    let last = ends.next().unwrap_or(Ok(first))?;
    if last < first {
        return Err(format!("Invalid range specified for the Port: {range}"));
    }
    Ok((first..=last, protocol.to_owned()))
}

/// Go's strconv.ParseUint.
fn port_number(text: &str) -> std::result::Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let why = if digits { "value out of range" } else { "invalid syntax" };
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| format!("strconv.ParseUint: parsing {text:?}: {why}"))
}

/// The ports of the host that lead into a container.
fn published(record: &Record) -> impl Iterator<Item = (u16, &'static str)> {
    let ports = record.state.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    ports.map(|port| (port.host_port, crate::networks::protocol_word(port.protocol)))
}

/// A container's own ports that are published or exposed, while it runs.
fn exposed(record: &Record) -> impl Iterator<Item = (u16, &str)> {
    let ports = record.state.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    let published = ports.map(|port| (port.container_port, crate::networks::protocol_word(port.protocol)));
    let runs = record.state.endpoint.is_some();
    let exposed = record.fixed.config.exposed_ports.iter().flatten().filter(move |_| runs).filter_map(|(key, _)| {
        let (port, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
        Some((port.parse().ok()?, protocol))
    });
    published.chain(exposed)
}

/// The `unused-for` filter: what was last used before that long ago, in nanoseconds since the epoch.
pub(crate) fn unused_since(filters: &Filters) -> Result<Option<i64>> {
    match filters.values("unused-for") {
        [] => Ok(None),
        [text] => match parse_duration(text) {
            Some(back) if back >= 0 => Ok(Some(now_ns().saturating_sub(back))),
            _ => {
                Err(Error::invalid(format!("invalid filter 'unused-for={text}': a duration such as 720h is expected")))
            }
        },
        _ => Err(Error::invalid("more than one unused-for filter specified")),
    }
}

/// A date, or a date with some of its time, made whole: what is missing is zero, and the zone UTC.
fn whole_time(text: &str) -> Option<String> {
    const ZERO: &str = "0000-00-00T00:00:00";
    let bare = text.strip_suffix('Z').unwrap_or(text);
    let rest = ZERO.get(bare.len()..)?;
    (bare.len() >= "0000-00-00".len() && bare.is_ascii()).then(|| format!("{bare}{rest}Z"))
}

/// The `until` filter: a time or a duration back from now, in nanoseconds since the epoch.
pub(crate) fn until(filters: &Filters) -> Result<Option<i64>> {
    match filters.values("until") {
        [] => Ok(None),
        [text] => parse_rfc3339(text)
            .or_else(|| parse_rfc3339(&whole_time(text)?))
            .or_else(|| parse_unix(text))
            .or_else(|| parse_duration(text).map(|back| now_ns().saturating_sub(back)))
            .map(Some)
            .ok_or_else(|| Error::invalid(format!("failed to parse value as time or duration: {text:?}"))),
        _ => Err(Error::invalid("more than one until filter specified")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(text: &str) -> Filters {
        Filters::parse(text, &FILTER_KEYS).unwrap()
    }

    #[test]
    fn ports_are_read_as_dockers() {
        let ports =
            Ports::of(&filters(r#"{"publish":["80","8000-8010/udp","1-2-x","9/"]}"#), "publish").unwrap().unwrap();
        for there in [(80, "tcp"), (8000, "udp"), (8010, "udp"), (2, "tcp"), (9, "tcp")] {
            assert!(ports.have(there), "{there:?}");
        }
        assert!(!ports.have((80, "udp")) && !ports.have((8011, "udp")) && !ports.have((81, "tcp")));
        assert!(Ports::of(&Filters::default(), "publish").unwrap().is_none());
        let text = |value: &str| {
            let error = Ports::of(&filters(&format!(r#"{{"expose":["{value}"]}}"#)), "expose").err().unwrap();
            error.message.strip_prefix(&format!("error while looking up for expose {value}: ")).unwrap().to_owned()
        };
        assert_eq!(text(""), "Empty string specified for ports.");
        assert_eq!(text("/tcp"), "Empty string specified for ports.");
        assert_eq!(text("5-3/udp"), "Invalid range specified for the Port: 5-3");
        assert_eq!(text("foo"), "strconv.ParseUint: parsing \"foo\": invalid syntax");
        assert_eq!(text("+80"), "strconv.ParseUint: parsing \"+80\": invalid syntax");
        assert_eq!(text("1-99999"), "strconv.ParseUint: parsing \"99999\": value out of range");
    }

    #[test]
    fn an_expression_that_is_none_is_nobodys_name() {
        assert_eq!(names(&filters(r#"{"name":["["]}"#)).unwrap().len(), 0);
        assert!(names(&filters(r#"{"name":[""]}"#)).unwrap()[0].is_match("x"));
        assert!(names(&Filters::default()).is_none());
    }
}
