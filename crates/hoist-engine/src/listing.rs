//! Which containers `ps` shows: order, limit, filters (moby's rules).

use std::sync::Arc;

use hoist_api::filters::Filters;
use hoist_api::time::{now_ns, parse_duration, parse_rfc3339, parse_unix};
use regex::Regex;

use crate::container::record::{Record, Status};
use crate::containers::{Containers, ListOptions};
use crate::error::{Error, Result};

/// Filter keys of `GET /containers/json`.
pub const FILTER_KEYS: [&str; 16] = [
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
    "label!",
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
    names: Vec<Regex>,
    ids: Vec<Regex>,
    exited: Vec<i32>,
    ancestors: Option<Vec<String>>,
    before_ns: Option<i64>,
    since_ns: Option<i64>,
}

impl<'a> Checks<'a> {
    fn new(containers: &Containers, filters: &'a Filters) -> Result<Checks<'a>> {
        let invalid = |key: &str, value: &str| Error::invalid(format!("invalid filter '{key}={value}'"));
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
        let compile = |key: &str| -> Result<Vec<Regex>> {
            filters.values(key).iter().map(|v| Regex::new(v).map_err(|_| invalid(key, v))).collect()
        };
        filters.boolean("is-task")?;
        check_ports(filters)?;
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
            names: compile("name")?,
            ids: compile("id")?,
            exited,
            ancestors,
            before_ns: created("before")?,
            since_ns: created("since")?,
        })
    }

    fn pass(&self, record: &Record) -> bool {
        let (filters, fixed, state) = (self.filters, &record.fixed, &record.state);
        let slashed = format!("/{}", record.name);
        let any = |list: &[Regex], texts: &[&str]| {
            list.is_empty() || list.iter().any(|r| texts.iter().any(|t| r.is_match(t)))
        };
        any(&self.names, &[&record.name, &slashed])
            && any(&self.ids, &[&fixed.id])
            && filters.any("status", |v| v == state.status.word())
            && filters.any("health", |v| v == "none")
            && filters.any("isolation", |v| v == "default")
            && filters.any("is-task", |v| matches!(v, "false" | "0"))
            && (self.exited.is_empty() || (state.status == Status::Exited && self.exited.contains(&state.exit_code)))
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(&fixed.image_id))
            && self.before_ns.is_none_or(|t| fixed.created_ns < t)
            && self.since_ns.is_none_or(|t| fixed.created_ns > t)
            && filters.labels_match(&fixed.config.labels)
            && filters.any("network", |v| {
                fixed.host_config.network_mode == v
                    || state.endpoint.as_ref().is_some_and(|e| e.network_id.starts_with(v))
            })
            && filters.any("volume", |v| {
                fixed.mounts.iter().any(|m| m.point.name == v || m.point.destination == v || m.point.source == v)
            })
            && filters.any("publish", |v| published(record, v, true))
            && filters.any("expose", |v| published(record, v, false))
    }
}

/// Refuses `publish` and `expose` filters that are no ports.
fn check_ports(filters: &Filters) -> Result<()> {
    for (key, what) in [("publish", "publish"), ("expose", "exposed")] {
        for value in filters.values(key) {
            let range = value.split('/').next().unwrap_or_default();
            if let Some(bad) = range.split('-').find(|number| number.parse::<u16>().is_err()) {
                return Err(Error::invalid(format!(
                    "error while looking up for {what} {value}: strconv.ParseUint: parsing {bad:?}: invalid syntax"
                )));
            }
        }
    }
    Ok(())
}

/// `80`, `80/tcp`, `8000-8010/udp` against published or exposed container ports.
fn published(record: &Record, wanted: &str, published_only: bool) -> bool {
    let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (from, to) = range.split_once('-').unwrap_or((range, range));
    let (Ok(from), Ok(to)) = (from.parse::<u16>(), to.parse::<u16>()) else { return false };
    let fits = |port: u16, proto: &str| (from..=to).contains(&port) && proto == protocol;
    let is_published = record.state.endpoint.iter().flat_map(|e| &e.ports).any(|p| {
        fits(p.container_port, crate::networks::protocol_word(p.protocol))
            || (published_only && fits(p.host_port, crate::networks::protocol_word(p.protocol)))
    });
    is_published
        || (!published_only
            && record.fixed.config.exposed_ports.iter().flatten().any(|(key, _)| {
                let (port, proto) = key.split_once('/').unwrap_or((key, "tcp"));
                port.parse().is_ok_and(|port| fits(port, proto))
            }))
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
