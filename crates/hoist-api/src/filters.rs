//! The `filters` query parameter: `{"key":{"value":true}}` (Go) or `{"key":["value"]}` (everybody else).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::Error;

/// Parsed filters, values in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    fields: BTreeMap<String, Vec<String>>,
}

impl Filters {
    /// Parses the parameter; empty text is no filter. Keys outside `allowed` are refused with Docker's text.
    pub fn parse(text: &str, allowed: &[&str]) -> Result<Filters, Error> {
        let filters = Filters::parse_any(text)?;
        match filters.fields.keys().find(|key| !allowed.contains(&key.as_str())) {
            Some(key) => Err(Error::invalid(format!("invalid filter '{key}'"))),
            None => Ok(filters),
        }
    }

    /// The same, whatever the keys are.
    pub fn parse_any(text: &str) -> Result<Filters, Error> {
        if text.is_empty() {
            return Ok(Filters::default());
        }
        let bad = || Error::invalid("invalid filter");
        let Ok(Value::Object(map)) = serde_json::from_str(text) else { return Err(bad()) };
        let mut fields = BTreeMap::new();
        for (key, values) in map {
            if key.is_empty() {
                return Err(bad());
            }
            let values: Vec<String> = match values {
                Value::Object(set) => {
                    set.into_iter().filter(|(_, on)| on.as_bool() == Some(true)).map(|(value, _)| value).collect()
                }
                Value::Array(list) => list
                    .into_iter()
                    .map(|v| match v {
                        Value::String(text) => Ok(text),
                        Value::Bool(b) => Ok(b.to_string()),
                        Value::Number(n) => Ok(n.to_string()),
                        _ => Err(bad()),
                    })
                    .collect::<Result<_, _>>()?,
                _ => return Err(bad()),
            };
            fields.insert(key, values);
        }
        Ok(Filters { fields })
    }

    /// One more value for a key.
    pub fn add(&mut self, key: &str, value: &str) {
        self.fields.entry(key.to_owned()).or_default().push(value.to_owned());
    }

    /// Values of a key; empty when the key was not given.
    pub fn values(&self, key: &str) -> &[String] {
        self.fields.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether the key was given.
    pub fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// True when the key was not given or one of its values passes.
    pub fn any(&self, key: &str, mut passes: impl FnMut(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|v| passes(v))
    }

    /// `label=k` and `label=k=v`: all must match; `label!=…`: none may.
    pub fn labels_match(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(holds)
            && (self.values("label!").is_empty() || !self.values("label!").iter().all(holds))
    }

    /// The one boolean value of a key.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.values(key) {
            [] => Ok(None),
            [value] => match value.to_ascii_lowercase().as_str() {
                "1" | "true" | "t" => Ok(Some(true)),
                "0" | "false" | "f" => Ok(Some(false)),
                _ => Err(Error::invalid(format!("invalid filter '{key}=[{value}]'"))),
            },
            values => Err(Error::invalid(format!("invalid filter '{key}=[{}]'", values.join(" ")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Filters;

    #[test]
    fn both_encodings_are_read() {
        let go =
            Filters::parse(r#"{"label":{"a=b":true},"status":{"running":true,"paused":false}}"#, &["label", "status"]);
        let legacy = Filters::parse(r#"{"label":["a=b"],"status":["running"]}"#, &["label", "status"]);
        assert_eq!(go.unwrap(), legacy.unwrap());
    }

    #[test]
    fn unknown_keys_and_bad_json_are_refused() {
        let text = |f| Filters::parse(f, &["id"]).unwrap_err().message;
        assert_eq!(text(r#"{"foo":["1"]}"#), "invalid filter 'foo'");
        assert_eq!(text("foo"), "invalid filter");
        assert_eq!(text(r#"{"":["x"]}"#), "invalid filter");
    }
}
