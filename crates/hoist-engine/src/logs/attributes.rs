//! The `attrs` of each entry of a log: labels and variables that its options name, and its tag.

use hoist_api::query::escape_form;
use regex::Regex;
use serde_json::{Map, Value};

use crate::container::record::Record;

/// How many digits of an id a tag shows. Of an image's id the algorithm counts, as with Docker.
const SHORT: usize = 12;

/// As a JSON object; empty if there are none. The error is for the user, in Docker's words.
pub(super) fn render(record: &Record) -> Result<String, String> {
    let options = &record.fixed.host_config.log_config.config;
    let option = |key: &str| options.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let config = &record.fixed.config;
    let labels = || config.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let variables = || config.env.iter().flatten().filter_map(|variable| variable.split_once('='));
    let mut found = Map::new();
    add_named(&mut found, option("labels"), labels());
    add_matching(&mut found, option("labels-regex"), labels())?;
    add_named(&mut found, option("env"), variables());
    add_matching(&mut found, option("env-regex"), variables())?;
    if let Some(template) = option("tag") {
        let tag = Tag { record }.render(template)?;
        if !tag.is_empty() {
            found.insert("tag".to_owned(), tag.into());
        }
    }
    Ok(if found.is_empty() { String::new() } else { Value::Object(found).to_string() })
}

fn add_named<'a>(found: &mut Map<String, Value>, names: Option<&str>, all: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(names) = names else { return };
    for (key, value) in all.filter(|(key, _)| names.split(',').any(|name| name == *key)) {
        found.insert(key.to_owned(), value.into());
    }
}

fn add_matching<'a>(
    found: &mut Map<String, Value>,
    expression: Option<&str>,
    all: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), String> {
    let Some(expression) = expression else { return Ok(()) };
    let regex = Regex::new(expression).map_err(|_| format!("error parsing regexp: `{expression}`"))?;
    for (key, value) in all.filter(|(key, _)| regex.is_match(key)) {
        found.insert(key.to_owned(), value.into());
    }
    Ok(())
}

/// As `logs --details` shows them: `k=v,k2=v2`, sorted, escaped like a query.
pub(super) fn shown(attrs: Option<&Map<String, Value>>) -> String {
    let pair = |(key, value): (&String, &Value)| {
        format!("{}={}", escape_form(key), escape_form(value.as_str().unwrap_or_default()))
    };
    let mut pairs: Vec<String> = attrs.into_iter().flatten().map(pair).collect();
    pairs.sort();
    pairs.join(",")
}

/// A tag's template: text and fields in double braces.
struct Tag<'a> {
    record: &'a Record,
}

impl Tag<'_> {
    fn render(&self, template: &str) -> Result<String, String> {
        let mut text = String::new();
        let mut rest = template;
        while let Some(start) = rest.find("{{") {
            text.push_str(&rest[..start]);
            let action = &rest[start + 2..];
            let end = action.find("}}").ok_or("template: log-tag:1: unclosed action")?;
            let at = template.len() - action.len();
            text.push_str(&self.field(action[..end].trim(), at)?);
            rest = &action[end + 2..];
        }
        text.push_str(rest);
        Ok(text)
    }

    fn field(&self, action: &str, at: usize) -> Result<String, String> {
        let fixed = &self.record.fixed;
        let short = |id: &str| id.get(..SHORT).unwrap_or(id).to_owned();
        let command = || std::iter::once(&fixed.path).chain(&fixed.args).cloned().collect::<Vec<_>>().join(" ");
        Ok(match action {
            ".ID" => short(&fixed.id),
            ".FullID" | ".ContainerID" => fixed.id.clone(),
            ".Name" => self.record.name.clone(),
            ".ContainerName" => format!("/{}", self.record.name),
            ".ImageID" => short(&fixed.image_id),
            ".ImageFullID" | ".ContainerImageID" => fixed.image_id.clone(),
            ".ImageName" | ".ContainerImageName" => fixed.config.image.clone(),
            ".Command" => command(),
            ".ContainerEntrypoint" => fixed.path.clone(),
            ".DaemonName" => "docker".to_owned(),
            ".Hostname" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            _ => {
                let name = action.strip_prefix('.').filter(|name| name.chars().all(char::is_alphanumeric));
                return Err(match name {
                    Some(name) => format!(
                        "template: log-tag:1:{at}: executing \"log-tag\" at <{action}>: can't evaluate field {name} in type *logger.Info"
                    ),
                    None => {
                        format!("log opt tag: {{{{{action}}}}} is not supported: only fields such as {{{{.ID}}}} are")
                    }
                });
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_shown_escaped_and_sorted() {
        let attrs = serde_json::json!({"b/c": "ü &", "a": "1=2"});
        assert_eq!(shown(attrs.as_object()), "a=1%3D2,b%2Fc=%C3%BC+%26");
        assert_eq!(shown(None), "");
    }
}
