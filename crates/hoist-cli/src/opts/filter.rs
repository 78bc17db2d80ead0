//! `--filter name=value`.

use hoist_client::Request;
use serde_json::{Map, Value};

pub(crate) fn check(text: &str) -> Result<(), String> {
    if text.is_empty() || text.contains('=') {
        return Ok(());
    }
    Err("bad format of filter (expected name=value)".to_owned())
}

/// The filters as the API takes them: `{"label":{"a=b":true}}`.
pub(crate) fn json<S: AsRef<str>>(filters: &[S]) -> Option<String> {
    let mut map = Map::new();
    for filter in filters {
        let Some((name, value)) = filter.as_ref().split_once('=') else { continue };
        let values = map.entry(name.trim().to_lowercase()).or_insert_with(|| Value::Object(Map::new()));
        values[value.trim()] = Value::Bool(true);
    }
    (!map.is_empty()).then(|| Value::Object(map).to_string())
}

/// Adds the filters to a request.
pub(crate) fn add<'a, S: AsRef<str>>(request: Request<'a>, filters: &[S]) -> Request<'a> {
    match json(filters) {
        Some(json) => request.query("filters", json),
        None => request,
    }
}

/// The filters of a prune: those of the flags, then those of `config.json`. Of a label that is asked for in one place and
/// refused in the other the flag counts.
pub(crate) fn of_prune(flags: &[&str], configured: &[String]) -> Vec<String> {
    let mut filters: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    for filter in configured {
        let Some((name, value)) = filter.split_once('=') else { continue };
        let opposite = match name {
            "label" => "label!",
            "label!" => "label",
            _ => "",
        };
        let is_opposite = |(name, other): (&str, &str)| {
            name.trim().eq_ignore_ascii_case(opposite) && !opposite.is_empty() && other.trim() == value
        };
        if !filters.iter().filter_map(|filter| filter.split_once('=')).any(is_opposite) {
            filters.push(filter.clone());
        }
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_collected_by_name() {
        assert_eq!(
            json(&["label=a=b", "Status= running ", "label=c"]).unwrap(),
            r#"{"label":{"a=b":true,"c":true},"status":{"running":true}}"#
        );
        assert_eq!(json::<&str>(&[]), None);
        assert!(check("x").is_err() && check("a=").is_ok());
    }

    #[test]
    fn prunes_keep_what_the_file_keeps_unless_a_flag_says_otherwise() {
        let file = ["label!=keep", "label=mine", "until=10h", "no filter"].map(str::to_owned);
        assert_eq!(of_prune(&[], &file), ["label!=keep", "label=mine", "until=10h"]);
        assert_eq!(of_prune(&["label=keep"], &file), ["label=keep", "label=mine", "until=10h"]);
        assert_eq!(
            of_prune(&["label!=mine", "label=x"], &file),
            ["label!=mine", "label=x", "label!=keep", "until=10h"]
        );
        assert_eq!(of_prune(&["a=b"], &[]), ["a=b"]);
    }
}
