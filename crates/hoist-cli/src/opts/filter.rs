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
pub(crate) fn json(filters: &[&str]) -> Option<String> {
    let mut map = Map::new();
    for filter in filters {
        let Some((name, value)) = filter.split_once('=') else { continue };
        let values = map.entry(name.trim().to_lowercase()).or_insert_with(|| Value::Object(Map::new()));
        values[value.trim()] = Value::Bool(true);
    }
    (!map.is_empty()).then(|| Value::Object(map).to_string())
}

/// Adds the filters to a request.
pub(crate) fn add<'a>(request: Request<'a>, filters: &[&str]) -> Request<'a> {
    match json(filters) {
        Some(json) => request.query("filters", json),
        None => request,
    }
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
        assert_eq!(json(&[]), None);
        assert!(check("x").is_err() && check("a=").is_ok());
    }
}
