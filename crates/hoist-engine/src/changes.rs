//! `--change` of commit and import: single Dockerfile lines, applied to an image's configuration. Words are quoted,
//! escaped and expanded by the variables of that configuration, as in a Dockerfile.

use std::iter::Peekable;
use std::str::Chars;

use hoist_api::image::{ContainerConfig, Empty, Healthcheck};
use hoist_api::time::parse_duration;

use crate::container::stop;
use crate::error::{Error, Result};

/// Applies the lines in their order.
pub fn apply_changes(config: &mut ContainerConfig, changes: &[String]) -> Result<()> {
    let mut has_cmd = false;
    for line in changes {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Err(Error::invalid("file with no instructions"));
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let word = word.to_ascii_uppercase();
        if word == "ENTRYPOINT" && !has_cmd {
            // the arguments were another program's
            config.cmd = None;
        }
        has_cmd |= word == "CMD";
        apply(config, &word, rest.trim())?;
    }
    Ok(())
}

fn apply(config: &mut ContainerConfig, word: &str, rest: &str) -> Result<()> {
    let one = |text: &str| match text {
        "" => Err(Error::invalid(format!("{word} requires exactly one argument"))),
        text => Ok(text.to_owned()),
    };
    let env = config.env.clone().unwrap_or_default();
    match word {
        "CMD" => config.cmd = command(config, rest),
        "ENTRYPOINT" => config.entrypoint = command(config, rest),
        "ENV" => {
            for (key, value) in pairs(word, rest, &env)? {
                let env = config.env.get_or_insert_default();
                let entry = format!("{key}={value}");
                match env.iter_mut().find(|known| known.split('=').next() == Some(&key)) {
                    Some(known) => *known = entry,
                    None => env.push(entry),
                }
            }
        }
        "LABEL" => config.labels.get_or_insert_default().extend(pairs(word, rest, &env)?),
        "EXPOSE" => {
            for port in list(word, rest, &env)? {
                config.exposed_ports.get_or_insert_default().extend(ports(&port)?);
            }
        }
        "VOLUME" => {
            let names = list(word, rest, &env)?.into_iter().map(|path| (path, Empty {}));
            config.volumes.get_or_insert_default().extend(names);
        }
        "USER" => config.user = expand(&one(rest)?, &env)?,
        "WORKDIR" => {
            let path = expand(&one(rest)?, &env)?;
            let base = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
            config.working_dir = clean(base, &path);
        }
        "STOPSIGNAL" => {
            let signal = expand(&one(rest)?, &env)?;
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

fn list(word: &str, rest: &str, env: &[String]) -> Result<Vec<String>> {
    let words = serde_json::from_str(rest)
        .unwrap_or_else(|_| rest.split_whitespace().map(str::to_owned).collect::<Vec<String>>());
    if words.is_empty() {
        return Err(Error::invalid(format!("{word} requires at least one argument")));
    }
    words.iter().map(|text| expand(text, env)).collect()
}

/// `a=b "c d"=e`, or the old form `a rest of the line`.
fn pairs(word: &str, rest: &str, env: &[String]) -> Result<Vec<(String, String)>> {
    if rest.is_empty() {
        return Err(Error::invalid(format!("{word} requires at least one argument")));
    }
    let words = split_words(rest);
    let is_old_form = words.first().is_some_and(|first| !first.contains('='));
    let raw: Vec<(&str, &str)> = if is_old_form {
        let (key, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| Error::invalid(format!("{word} must have two arguments")))?;
        vec![(key, value.trim_start())]
    } else {
        let split = |pair: &'_ String| pair.find('=');
        if let Some(bad) = words.iter().find(|pair| split(pair).is_none()) {
            let text = format!("Syntax error - can't find = in \"{bad}\". Must be of the form: name=value");
            return Err(Error::invalid(text));
        }
        words.iter().filter_map(|pair| pair.split_once('=')).collect()
    };
    raw.into_iter()
        .map(|(key, value)| {
            let key = expand(key, env)?;
            if key.is_empty() {
                return Err(Error::invalid(format!("{word} names can not be blank")));
            }
            Ok((key, expand(value, env)?))
        })
        .collect()
}

/// Words between blank space that is neither quoted nor escaped; quotes stay for [`expand`].
fn split_words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.push(c);
                word.extend(chars.next());
                continue;
            }
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Takes quotes and escapes away and puts variables in.
fn expand(text: &str, env: &[String]) -> Result<String> {
    let (mut out, mut quote) = (String::new(), None);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None) => out.extend(chars.next()),
            ('\\', Some('"')) => match chars.peek() {
                Some('"' | '$' | '\\') => out.extend(chars.next()),
                _ => out.push('\\'),
            },
            ('$', None | Some('"')) => out.push_str(&variable(&mut chars, env)?),
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (c, _) => out.push(c),
        }
    }
    match quote {
        None => Ok(out),
        Some('"') => Err(Error::invalid("unexpected end of statement while looking for matching double-quote")),
        Some(_) => Err(Error::invalid("unexpected end of statement while looking for matching single-quote")),
    }
}

/// What stands behind `$`.
fn variable(chars: &mut Peekable<Chars<'_>>, env: &[String]) -> Result<String> {
    let lookup = |name: &str| env.iter().find_map(|entry| entry.split_once('=').filter(|(key, _)| *key == name));
    let value = |name: &str| lookup(name).map(|(_, value)| value.to_owned()).unwrap_or_default();
    if chars.next_if_eq(&'{').is_none() {
        let name = name_of(chars);
        return Ok(if name.is_empty() { "$".to_owned() } else { value(&name) });
    }
    let name = name_of(chars);
    let mut rest = String::new();
    loop {
        match chars.next() {
            Some('}') => break,
            Some(c) => rest.push(c),
            None => return Err(Error::invalid("syntax error: missing '}'")),
        }
    }
    if name.is_empty() {
        return Err(Error::invalid("syntax error: bad substitution"));
    }
    let (has_colon, operator) = rest.strip_prefix(':').map_or((false, rest.as_str()), |rest| (true, rest));
    let found = value(&name);
    let counts = if has_colon { !found.is_empty() } else { lookup(&name).is_some() };
    let word = operator.get(1..).unwrap_or_default();
    match operator.chars().next() {
        None if !has_colon => Ok(found),
        Some('-') => Ok(if counts { found } else { expand(word, env)? }),
        Some('+') => Ok(if counts { expand(word, env)? } else { String::new() }),
        Some('?') if counts => Ok(found),
        Some('?') => Err(Error::invalid(format!(
            "{name}: {}",
            if word.is_empty() { "is not allowed to be unset" } else { word }
        ))),
        _ => Err(Error::invalid(format!(
            "unsupported modifier ({}) in substitution",
            operator.chars().take(1).collect::<String>()
        ))),
    }
}

fn name_of(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut name = String::new();
    while let Some(c) = chars.next_if(|c| *c == '_' || c.is_ascii_alphabetic() || c.is_ascii_digit()) {
        let is_positional = name.is_empty() && c.is_ascii_digit();
        name.push(c);
        if is_positional {
            break;
        }
    }
    name
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
mod tests {
    use super::*;

    fn changed(lines: &[&str]) -> Result<ContainerConfig> {
        let mut config = ContainerConfig {
            env: Some(vec!["A=1".to_owned(), "PATH=/bin".to_owned()]),
            cmd: Some(vec!["orig".to_owned()]),
            working_dir: "/w".to_owned(),
            ..ContainerConfig::default()
        };
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        apply_changes(&mut config, &lines).map(|()| config)
    }

    #[test]
    fn variables_are_quoted_and_expanded_as_in_a_dockerfile() {
        let line = r#"ENV PATH=$PATH:/x B="c d" E=f\ g H='$A' I=${A} J=${N:-def} K=${A:+alt}"#;
        let env = changed(&[line]).unwrap().env.unwrap();
        assert_eq!(env, ["A=1", "PATH=/bin:/x", "B=c d", "E=f g", "H=$A", "I=1", "J=def", "K=alt"]);
        let old = changed(&["env old form  here"]).unwrap().env.unwrap();
        assert_eq!(old[2], "old=form  here");
        let labels = changed(&[r#"LABEL a="b c" "d e"=f g=$A"#, "LABEL old value"]).unwrap().labels.unwrap();
        let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}:{value}")).collect();
        assert_eq!(shown, ["a:b c", "d e:f", "g:1", "old:value"]);
    }

    #[test]
    fn commands_are_lists_or_lines_for_the_shell() {
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(changed(&["CMD echo hi"]).unwrap().cmd, words(&["/bin/sh", "-c", "echo hi"]));
        assert_eq!(changed(&["cmd [\"a\""]).unwrap().cmd, words(&["/bin/sh", "-c", "[\"a\""]));
        assert_eq!(changed(&["CMD []"]).unwrap().cmd, None);
        let config = changed(&["ENTRYPOINT [\"x\"]"]).unwrap();
        assert_eq!((config.entrypoint, config.cmd), (words(&["x"]), None));
        assert_eq!(changed(&["CMD [\"c\"]", "ENTRYPOINT [\"x\"]"]).unwrap().cmd, words(&["c"]));
    }

    #[test]
    fn ports_directories_and_checks_are_read() {
        let ports = changed(&["EXPOSE 80 81/udp 90-91"]).unwrap().exposed_ports.unwrap();
        assert_eq!(ports.into_keys().collect::<Vec<_>>(), ["80/tcp", "81/udp", "90/tcp", "91/tcp"]);
        assert_eq!(changed(&["WORKDIR rel"]).unwrap().working_dir, "/w/rel");
        assert_eq!(changed(&["WORKDIR ../$A/./b"]).unwrap().working_dir, "/1/b");
        assert_eq!(changed(&["VOLUME [\"a b\"]"]).unwrap().volumes.unwrap().into_keys().collect::<Vec<_>>(), ["a b"]);
        assert_eq!(changed(&["USER $A:b"]).unwrap().user, "1:b");
        let check = changed(&["HEALTHCHECK --interval=5s --retries=2 CMD true"]).unwrap().healthcheck.unwrap();
        assert_eq!((check.interval, check.retries), (5_000_000_000, 2));
        assert_eq!(check.test.unwrap(), ["CMD-SHELL", "true"]);
    }

    #[test]
    fn refusals_are_docker_s() {
        for (line, text) in [
            ("LABEL x", "LABEL must have two arguments"),
            ("EXPOSE x", "Invalid containerPort: x"),
            ("STOPSIGNAL FOO", "invalid signal: FOO"),
            ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
            ("SHELL [\"x\"]", "SHELL is not a valid change command"),
            ("FROM x", "FROM is not a valid change command"),
            ("", "file with no instructions"),
            ("# x", "file with no instructions"),
            ("ENV", "ENV requires at least one argument"),
            ("ENV =x", "ENV names can not be blank"),
            ("VOLUME", "VOLUME requires at least one argument"),
            ("USER", "USER requires exactly one argument"),
        ] {
            assert_eq!(changed(&[line]).unwrap_err().message, text, "{line}");
        }
        for line in ["ENV A='x", "ENV A=${x", "ENV A=${}", "ENV A=1 b", "ENV A=${A%x}"] {
            assert!(changed(&[line]).is_err(), "{line}");
        }
    }
}
