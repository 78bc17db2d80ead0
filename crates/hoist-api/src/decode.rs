//! JSON as Go reads it: `null` means "leave the default", unknown fields are ignored, errors say `invalid JSON`.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;

/// Maps whose null values stand for an empty value, not for absence.
const NULL_IS_EMPTY: [&str; 3] = ["EndpointsConfig", "ExposedPorts", "Volumes"];

/// Decodes a request body.
pub fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    let value = serde_json::from_slice(body).map_err(|e| Error::invalid(format!("invalid JSON: {e}")))?;
    from_value(value)
}

/// Decodes an already parsed body.
pub fn from_value<T: DeserializeOwned>(mut value: Value) -> Result<T, Error> {
    drop_nulls(&mut value);
    serde_json::from_value(value).map_err(|e| Error::invalid(format!("invalid JSON: {e}")))
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for key in NULL_IS_EMPTY {
                if let Some(Value::Object(inner)) = map.get_mut(key) {
                    for entry in inner.values_mut().filter(|v| v.is_null()) {
                        *entry = Value::Object(serde_json::Map::new());
                    }
                }
            }
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// `Cmd` and `Entrypoint` may be a string or a list of strings.
pub(crate) fn string_or_list<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    use serde::Deserialize;
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Either>::deserialize(from)?.map(|either| match either {
        Either::One(text) => vec![text],
        Either::Many(list) => list,
    }))
}

#[cfg(test)]
mod tests {
    use crate::container::CreateBody;

    #[test]
    fn nulls_are_defaults_and_strings_are_commands() {
        let body: CreateBody = super::from_slice(
            br#"{"Image":"b","Cmd":"true","Env":null,"ExposedPorts":{"80/tcp":null},"HostConfig":{"Memory":null,"Binds":null},
                 "NetworkingConfig":{"EndpointsConfig":{"bridge":null}},"Unknown":1}"#,
        )
        .unwrap();
        assert_eq!(body.config.cmd, Some(vec!["true".to_owned()]));
        assert!(body.config.exposed_ports.unwrap().contains_key("80/tcp"));
        assert!(body.networking_config.endpoints_config.contains_key("bridge"));
    }

    #[test]
    fn broken_json_is_named_as_such() {
        let error = super::from_slice::<CreateBody>(b"{").unwrap_err();
        assert!(error.message.starts_with("invalid JSON: "), "{error}");
    }
}
