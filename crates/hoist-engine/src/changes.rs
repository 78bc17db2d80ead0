//! `--change` of commit and import: the lines of a small Dockerfile, applied to an image's configuration. Words are quoted,
//! escaped and expanded by the variables of that configuration, as in a Dockerfile.

mod lines;
mod words;

use hoist_api::image::{ContainerConfig, Empty, Healthcheck};
use hoist_api::time::parse_duration;

use crate::container::stop;
use crate::error::{Error, Result};
use lines::Instructions;
use words::Words;

/// What `--change` can say.
const INSTRUCTIONS: [&str; 11] = [
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Applies the changes, which together are one text, in their order.
pub fn apply_changes(config: &mut ContainerConfig, changes: &[String]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let Instructions { escape, lines } = Instructions::parse(&changes.join("\n"))?;
    let split = |line: &'_ String| line.find(char::is_whitespace).unwrap_or(line.len());
    for line in &lines {
        let word = &line[..split(line)];
        if !INSTRUCTIONS.contains(&word.to_ascii_uppercase().as_str()) {
            return Err(Error::invalid(format!("{word} is not a valid change command")));
        }
    }
    let mut has_cmd = false;
    for line in &lines {
        let (word, rest) = line.split_at(split(line));
        let word = word.to_ascii_uppercase();
        if word == "ENTRYPOINT" && !has_cmd {
            // the arguments were another program's
            config.cmd = None;
        }
        has_cmd |= word == "CMD";
        let words = Words { env: config.env.clone().unwrap_or_default(), escape };
        apply(config, &word, rest.trim(), &words)?;
    }
    Ok(())
}

fn apply(config: &mut ContainerConfig, word: &str, rest: &str, words: &Words) -> Result<()> {
    let one = |text: &str| match text {
        "" => Err(Error::invalid(format!("{word} requires exactly one argument"))),
        text => Ok(text.to_owned()),
    };
    match word {
        "CMD" => config.cmd = command(config, rest),
        "ENTRYPOINT" => config.entrypoint = command(config, rest),
        "ENV" => {
            for (key, value) in pairs(word, rest, words)? {
                let env = config.env.get_or_insert_default();
                let entry = format!("{key}={value}");
                match env.iter_mut().find(|known| known.split('=').next() == Some(&key)) {
                    Some(known) => *known = entry,
                    None => env.push(entry),
                }
            }
        }
        "LABEL" => config.labels.get_or_insert_default().extend(pairs(word, rest, words)?),
        "EXPOSE" => {
            for port in list(word, rest, words)? {
                config.exposed_ports.get_or_insert_default().extend(ports(&port)?);
            }
        }
        "VOLUME" => {
            let names = list(word, rest, words)?.into_iter().map(|path| (path, Empty {}));
            config.volumes.get_or_insert_default().extend(names);
        }
        "USER" => config.user = words.expand(&one(rest)?)?,
        "WORKDIR" => {
            let path = words.expand(&one(rest)?)?;
            let base = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
            config.working_dir = clean(base, &path);
        }
        "STOPSIGNAL" => {
            let signal = words.expand(&one(rest)?)?;
            stop::parse_signal(&signal).map_err(|_| Error::invalid(format!("invalid signal: {signal}")))?;
            config.stop_signal = signal;
        }
        "ONBUILD" => {
            let trigger = one(rest)?;
            let first = trigger.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            match first.as_str() {
                "ONBUILD" => return Err(Error::invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
                "FROM" | "MAINTAINER" => {
                    return Err(Error::invalid(format!("{first} isn't allowed as an ONBUILD trigger")));
                }
                _ => config.on_build.get_or_insert_default().push(trigger),
            }
        }
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        other => return Err(Error::invalid(format!("{other} is not a valid change command"))),
    }
    Ok(())
}

/// A JSON list of words, or a line for the shell; an empty list is none.
fn command(config: &ContainerConfig, rest: &str) -> Option<Vec<String>> {
    if let Ok(words) = serde_json::from_str::<Vec<String>>(rest) {
        return (!words.is_empty()).then_some(words);
    }
    let mut words = config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
    words.extend((!rest.is_empty()).then(|| rest.to_owned()));
    Some(words)
}

fn list(word: &str, rest: &str, words: &Words) -> Result<Vec<String>> {
    let given = serde_json::from_str(rest)
        .unwrap_or_else(|_| rest.split_whitespace().map(str::to_owned).collect::<Vec<String>>());
    if given.is_empty() {
        return Err(Error::invalid(format!("{word} requires at least one argument")));
    }
    given.iter().map(|text| words.expand(text)).collect()
}

/// `a=b "c d"=e`, or the old form `a rest of the line`.
fn pairs(word: &str, rest: &str, words: &Words) -> Result<Vec<(String, String)>> {
    if rest.is_empty() {
        return Err(Error::invalid(format!("{word} requires at least one argument")));
    }
    let given = words.split(rest);
    let is_old_form = given.first().is_some_and(|first| !first.contains('='));
    let raw: Vec<(&str, &str)> = if is_old_form {
        let (key, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{word} must have two arguments")))?;
        vec![(key, value.trim_start())]
    } else {
        let split = |pair: &'_ String| pair.find('=');
        if let Some(bad) = given.iter().find(|pair| split(pair).is_none()) {
            let text = format!("Syntax error - can't find = in \"{bad}\". Must be of the form: name=value");
            return Err(Error::invalid(text));
        }
        given.iter().filter_map(|pair| pair.split_once('=')).collect()
    };
    raw.into_iter()
        .map(|(key, value)| {
            let key = words.expand(key)?;
            if key.is_empty() {
                return Err(Error::invalid(format!("{word} names can not be blank")));
            }
            Ok((key, words.expand(value)?))
        })
        .collect()
}

/// `80`, `80/udp`, `90-92`
fn ports(text: &str) -> Result<Vec<(String, Empty)>> {
    let bad = || Error::invalid(format!("Invalid containerPort: {text}"));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(Error::invalid(format!("Invalid proto: {protocol}")));
    }
    // Of a whole mapping, `ip:host:container`, an image has the container's side.
    let range = range.rsplit_once(':').map_or(range, |(_, container)| container);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?);
    if first > last {
        return Err(bad());
    }
    Ok((first..=last).map(|port| (format!("{port}/{protocol}"), Empty {})).collect())
}

/// Joins and resolves `.` and `..` by text.
fn clean(base: &str, path: &str) -> String {
    let whole = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The shortest time of a health check that makes sense.
const SHORTEST_NS: i64 = 1_000_000;

/// `NONE`, or `[--interval=… …] CMD …`.
fn healthcheck(rest: &str) -> Result<Healthcheck> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, behind) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let duration = || match parse_duration(value) {
            Some(ns) if ns < SHORTEST_NS => Err(Error::invalid(format!("Interval \"{name}\" cannot be less than 1ms"))),
            Some(ns) => Ok(ns),
            None => Err(Error::invalid(format!("--{name}: invalid duration \"{value}\""))),
        };
        match name {
            "interval" => check.interval = duration()?,
            "timeout" => check.timeout = duration()?,
            "start-period" => check.start_period = duration()?,
            "start-interval" => check.start_interval = duration()?,
            "retries" => {
                let bad = |_| Error::invalid(format!("--retries: invalid number \"{value}\""));
                check.retries = value.parse().map_err(bad)?;
            }
            _ => return Err(Error::invalid(format!("unknown flag: --{name}"))),
        }
        rest = behind.trim_start();
    }
    let (kind, command) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = Some(match kind.to_ascii_uppercase().as_str() {
        "NONE" if command.is_empty() => vec!["NONE".to_owned()],
        "NONE" => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
        "CMD" if command.trim().is_empty() => return Err(Error::invalid("Missing command after HEALTHCHECK CMD")),
        "CMD" => match serde_json::from_str::<Vec<String>>(command.trim()) {
            Ok(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            Err(_) => vec!["CMD-SHELL".to_owned(), command.trim().to_owned()],
        },
        "" => return Err(Error::invalid("HEALTHCHECK requires at least one argument")),
        other => return Err(Error::invalid(format!("Unknown type \"{other}\" in HEALTHCHECK (try CMD)"))),
    });
    Ok(check)
}

#[cfg(test)]
mod tests;
