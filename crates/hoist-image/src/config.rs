//! Reading an image's config document (OCI image-spec config.md, Docker image spec v1.2): bounded, checked, tolerant of
//! the nulls that Go writes. What it says is data for a container, never a setting of the engine. Pure.

use hoist_api::image::ContainerConfig;
use serde::Deserialize;
use serde_json::Value;

use crate::{Error, digest};

/// More than any overlay is asked to stack.
const LAYERS_MAX: usize = 2048;
pub(crate) const DOCUMENT_MAX_BYTES: u64 = 8 << 20;

/// A config document, read.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) value: Value,
    pub(crate) config: ContainerConfig,
    pub(crate) diff_ids: Vec<String>,
    pub(crate) history: Vec<HistoryRecord>,
    pub(crate) created: i64,
    pub(crate) architecture: String,
    pub(crate) os: String,
    pub(crate) variant: String,
}

/// One step by which the image was made.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct HistoryRecord {
    #[serde(default)]
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) created_by: Option<String>,
    #[serde(default)]
    pub(crate) comment: Option<String>,
    #[serde(default)]
    pub(crate) empty_layer: Option<bool>,
}

/// The parts that must make sense; a key given twice is an error here.
#[derive(Deserialize)]
struct Checked {
    #[serde(default)]
    architecture: Option<String>,
    #[serde(default)]
    os: Option<String>,
    #[serde(default)]
    variant: Option<String>,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    config: Option<Value>,
    rootfs: Option<RootFs>,
    #[serde(default)]
    history: Option<Vec<HistoryRecord>>,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Document, Error> {
    let invalid = |text: String| Error::Invalid(format!("invalid image config: {text}"));
    if bytes.len() as u64 > DOCUMENT_MAX_BYTES {
        return Err(invalid(format!("{} bytes is too large", bytes.len())));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    let checked: Checked = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
    let rootfs = checked.rootfs.ok_or_else(|| invalid("no rootfs".to_owned()))?;
    if rootfs.kind != "layers" {
        return Err(invalid(format!("unknown rootfs type {:?}", rootfs.kind)));
    }
    let diff_ids = rootfs.diff_ids.unwrap_or_default();
    if diff_ids.len() > LAYERS_MAX {
        return Err(invalid(format!("{} layers, at most {LAYERS_MAX} are supported", diff_ids.len())));
    }
    for diff_id in &diff_ids {
        digest::hex_of(diff_id)?;
    }
    let history = checked.history.unwrap_or_default();
    let with_layer = history.iter().filter(|h| !h.empty_layer.unwrap_or(false)).count();
    if !history.is_empty() && with_layer > diff_ids.len() {
        return Err(invalid("too many non-empty layers in History section".to_owned()));
    }
    let config = container_config(checked.config.unwrap_or_default()).map_err(|e| invalid(e.to_string()))?;
    Ok(Document {
        value,
        config,
        diff_ids,
        history,
        created: checked.created.as_deref().and_then(unix_seconds).unwrap_or(0),
        architecture: checked.architecture.unwrap_or_default(),
        os: checked.os.filter(|os| !os.is_empty()).unwrap_or_else(|| "linux".to_owned()),
        variant: checked.variant.unwrap_or_default(),
    })
}

/// A `config` object; null counts as absent everywhere, as it does for Go.
pub(crate) fn container_config(mut value: Value) -> serde_json::Result<ContainerConfig> {
    if value.is_null() {
        return Ok(ContainerConfig::default());
    }
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, field| !field.is_null());
        for (key, field) in object.iter_mut() {
            let Some(map) = field.as_object_mut() else { continue };
            match key.as_str() {
                // Sets, spelt as maps to nothing: what a set's value holds does not matter.
                "ExposedPorts" | "Volumes" => map.values_mut().for_each(|v| *v = Value::Object(serde_json::Map::new())),
                _ => map.retain(|_, v| !v.is_null()),
            }
        }
    }
    serde_json::from_value(value)
}

/// Seconds since the epoch of an RFC 3339 time; Go's zero time counts as none.
pub(crate) fn unix_seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second).filter(|&s| s > -62_135_596_800)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_count_as_absent() {
        let text = br#"{"os":null,"created":null,"history":null,"rootfs":{"type":"layers","diff_ids":null},
            "config":{"User":null,"Cmd":null,"Volumes":{"/v":null},"ExposedPorts":null,"Hostname":"x",
            "Healthcheck":{"Test":["NONE"],"Interval":null}}}"#;
        let document = parse(text).unwrap();
        assert_eq!((document.os.as_str(), document.config.user.as_str()), ("linux", ""));
        assert!(document.config.volumes.unwrap().contains_key("/v"));
        assert_eq!(document.config.healthcheck.unwrap().test.unwrap(), ["NONE"]);
    }

    #[test]
    fn doubtful_documents_are_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"rootfs":{"type":"layers"}} x"#,
            r#"{"rootfs":{"type":"layers"},"rootfs":{"type":"layers"}}"#,
            r#"{"rootfs":{"type":"other"}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../.."]}}"#,
            r#"{"rootfs":{"type":"layers"},"history":[{}]}"#,
            r#"{"rootfs":{"type":"layers"},"config":{"Env":"x"}}"#,
        ] {
            assert!(matches!(parse(text.as_bytes()), Err(Error::Invalid(_))), "{text}");
        }
        let deep = format!(r#"{{"rootfs":{{"type":"layers"}},"x":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert!(parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(unix_seconds("1970-01-01T00:00:10.5Z"), Some(10));
        assert_eq!(unix_seconds("0001-01-01T00:00:00Z"), None);
        assert_eq!(unix_seconds("yesterday"), None);
    }
}
