//! Docker's published shapes of answers, by route: every whole answer that a test gets over the raw API is decoded into
//! the type that is generated from Docker's own description of its API.

use bollard_stubs::models;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::settings;

/// Decodes an answer, encodes it again, and tells what does not fit.
type Check = fn(Value, bool) -> Result<(), String>;

/// Method, path below the version with `*` for a name, and the shape of a successful answer.
const SHAPES: &[(&str, &str, Check)] = &[
    ("GET", "/version", fits::<models::SystemVersion>),
    ("GET", "/info", fits::<models::SystemInfo>),
    ("GET", "/containers/json", fits::<Vec<models::ContainerSummary>>),
    ("POST", "/containers/create", fits::<models::ContainerCreateResponse>),
    ("POST", "/containers/prune", fits::<models::ContainerPruneResponse>),
    ("GET", "/containers/*/json", fits::<models::ContainerInspectResponse>),
    ("POST", "/containers/*/wait", fits::<models::ContainerWaitResponse>),
    ("GET", "/containers/*/top", fits::<models::ContainerTopResponse>),
    ("GET", "/containers/*/changes", fits::<Option<Vec<models::FilesystemChange>>>),
    ("POST", "/containers/*/update", fits::<models::ContainerUpdateResponse>),
    // Written otherwise than it is read, so that what it drops cannot be told.
    ("POST", "/containers/*/exec", |answer, _| fits::<models::IdResponse>(answer, false)),
    ("GET", "/exec/*/json", fits::<models::ExecInspectResponse>),
    ("GET", "/images/json", fits::<Vec<models::ImageSummary>>),
    ("POST", "/images/prune", fits::<models::ImagePruneResponse>),
    ("GET", "/images/*/json", fits::<models::ImageInspect>),
    ("GET", "/images/*/history", fits::<Vec<models::ImageHistoryResponseItem>>),
    ("DELETE", "/images/*", fits::<Vec<models::ImageDeleteResponseItem>>),
    ("GET", "/networks", fits::<Vec<models::NetworkSummary>>),
    ("GET", "/networks/*", fits::<models::NetworkInspect>),
    ("GET", "/volumes", fits::<models::VolumeListResponse>),
    ("POST", "/volumes/create", fits::<models::Volume>),
    ("GET", "/volumes/*", fits::<models::Volume>),
];

/// Fails the test if a successful answer has not the shape that Docker publishes for its route.
pub(crate) fn check(method: &str, target: &str, status: u16, body: &[u8]) {
    if !(200..300).contains(&status) || body.is_empty() {
        return;
    }
    let path = target.split('?').next().unwrap_or_default();
    let (is_newest, bare) = split_version(path);
    let Some((_, shape, check)) = SHAPES.iter().find(|(wanted, shape, _)| *wanted == method && matches(shape, bare))
    else {
        return;
    };
    let told = String::from_utf8_lossy(body);
    let answer: Value =
        serde_json::from_str(&told).unwrap_or_else(|e| panic!("{method} {target}: no JSON ({e}): {told}"));
    // Older versions, and a peer of another release, have fields that the newest has not.
    let is_strict = is_newest && settings::peer_socket().is_none();
    if let Err(why) = check(answer, is_strict) {
        panic!("{method} {target}: not Docker's shape for {shape}: {why}\n{told}");
    }
}

fn fits<T: DeserializeOwned + Serialize>(answer: Value, is_strict: bool) -> Result<(), String> {
    let typed: T = serde_json::from_value(answer.clone()).map_err(|e| e.to_string())?;
    let again = serde_json::to_value(typed).map_err(|e| e.to_string())?;
    match unknown(&answer, &again, String::new()) {
        Some(path) if is_strict => Err(format!("it has no {path}")),
        _ => Ok(()),
    }
}

/// What our engine tells beside Docker's fields is under this one, which no type of Docker's has.
const OWN: &str = "Hoist";

/// The first field of an answer that its type dropped.
fn unknown(answer: &Value, typed: &Value, path: String) -> Option<String> {
    match (answer, typed) {
        (Value::Object(answer), Value::Object(typed)) => answer
            .iter()
            .filter(|(key, value)| !value.is_null() && *key != OWN)
            .find_map(|(key, value)| match typed.get(key) {
                Some(found) => unknown(value, found, format!("{path}.{key}")),
                None => Some(format!("{path}.{key}")),
            }),
        (Value::Array(answer), Value::Array(typed)) => {
            answer.iter().zip(typed).find_map(|(answer, typed)| unknown(answer, typed, format!("{path}[]")))
        }
        _ => None,
    }
}

/// Whether a path means the newest version (or none), and what is behind the version.
fn split_version(path: &str) -> (bool, &str) {
    match path.strip_prefix("/v1.").and_then(|rest| rest.find('/').map(|end| rest.split_at(end))) {
        Some((minor, bare)) => (minor == "53", bare),
        None => (true, path),
    }
}

/// Names of images have slashes, so `*` is whatever is between.
fn matches(shape: &str, path: &str) -> bool {
    match shape.split_once('*') {
        None => shape == path.trim_end_matches('/'),
        Some((before, after)) => {
            let name = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            name.is_some_and(|name| !name.is_empty())
        }
    }
}
