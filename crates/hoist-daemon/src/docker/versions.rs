//! The only place that knows old API versions: what is refused, and how today's answers look in older dialects.

use hoist_api::system::{API_VERSION, MIN_API_VERSION};
use hyper::StatusCode;
use serde_json::Value;

use super::answer::{self, Answer};

/// What an image's configuration has before 1.52 although it is empty.
const EMPTY_BEFORE_52: [&str; 8] = ["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir"];
/// The same before 1.50: what only a container has.
const EMPTY_BEFORE_50: [&str; 9] =
    ["Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image"];

/// A version that a client asked for, e.g. 1.44.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion(pub u16, pub u16);

impl ApiVersion {
    /// Unversioned paths mean this.
    pub(super) const NEWEST: ApiVersion = ApiVersion(1, 53);
    const OLDEST: ApiVersion = ApiVersion(1, 24);

    fn parse(text: &str) -> Option<ApiVersion> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Some(ApiVersion(major.parse().ok()?, minor.parse().ok()?))
    }

    /// The version, or dockerd's refusal of it.
    pub(super) fn check(text: &str) -> Result<ApiVersion, Box<Answer>> {
        let refuse = |text: String| Err(Box::new(answer::error(&hoist_api::error::Error::invalid(text))));
        match ApiVersion::parse(text) {
            Some(version) if version > ApiVersion::NEWEST => {
                refuse(format!("client version {text} is too new. Maximum supported API version is {API_VERSION}"))
            }
            Some(version) if version < ApiVersion::OLDEST => Err(Box::new(answer::text(
                StatusCode::BAD_REQUEST,
                "text/plain; charset=utf-8",
                format!(
                    "client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, please upgrade your client to a newer version"
                ),
            ))),
            Some(version) => Ok(version),
            None => refuse(format!("invalid API version: {text}")),
        }
    }

    fn before(self, minor: u16) -> bool {
        self < ApiVersion(1, minor)
    }

    /// A container's inspect.
    pub(super) fn container(self, answer: &mut Value) {
        if self.before(52) {
            return;
        }
        if let Some(Value::Object(settings)) = answer.get_mut("NetworkSettings") {
            for legacy in [
                "Bridge",
                "HairpinMode",
                "LinkLocalIPv6Address",
                "LinkLocalIPv6PrefixLen",
                "SecondaryIPAddresses",
                "SecondaryIPv6Addresses",
                "EndpointID",
                "Gateway",
                "GlobalIPv6Address",
                "GlobalIPv6PrefixLen",
                "IPAddress",
                "IPPrefixLen",
                "IPv6Gateway",
                "MacAddress",
            ] {
                settings.remove(legacy);
            }
        }
        if let Some(Value::Object(config)) = answer.get_mut("Config") {
            config.remove("MacAddress");
        }
    }

    /// One item of the image list.
    pub(super) fn image_summary(self, item: &mut Value) {
        if self.before(51) {
            item["Containers"] = Value::from(-1);
        }
        if self.before(44) {
            item["VirtualSize"] = item["Size"].clone();
        }
        if self.before(43) {
            let names = [("RepoTags", "<none>:<none>"), ("RepoDigests", "<none>@<none>")];
            let is_empty = |item: &Value, key: &str| item[key].as_array().is_none_or(Vec::is_empty);
            let is_nameless = names.iter().all(|(key, _)| is_empty(item, key));
            for (key, none) in names {
                if is_empty(item, key) {
                    item[key] = if is_nameless { serde_json::json!([none]) } else { Value::Null };
                }
            }
        }
    }

    /// An image's inspect.
    pub(super) fn image(self, answer: &mut Value) {
        if !self.before(52)
            && let Some(object) = answer.as_object_mut()
        {
            object.retain(|name, value| match name.as_str() {
                "Parent" | "DockerVersion" => false,
                "Comment" | "Author" => value.as_str() != Some(""),
                _ => true,
            });
        }
        if self.before(44) {
            answer["VirtualSize"] = answer["Size"].clone();
        }
        if self.before(52)
            && let Some(Value::Object(config)) = answer.get_mut("Config")
        {
            let fields = if self.before(50) { &EMPTY_BEFORE_50[..] } else { &[] };
            for field in EMPTY_BEFORE_52.iter().chain(fields) {
                let empty = match *field {
                    "User" | "WorkingDir" | "Hostname" | "Domainname" | "Image" => Value::from(""),
                    "AttachStdin" | "AttachStdout" | "AttachStderr" | "Tty" | "OpenStdin" | "StdinOnce" => false.into(),
                    _ => Value::Null,
                };
                config.entry(*field).or_insert(empty);
            }
        }
    }

    /// Whether an image's inspect tells of the container that it was made of.
    pub(super) fn tells_of_making(self) -> bool {
        self.before(45)
    }

    /// Whether the list of images takes the name of one, `filter`, besides the filters.
    pub(super) fn lists_by_name(self) -> bool {
        self.before(41)
    }

    /// Whether `system df` has counts and sizes for each kind.
    pub(super) fn tells_usage_by_kind(self) -> bool {
        !self.before(52)
    }

    /// Whether `volume prune` leaves volumes with a name alone.
    pub(super) fn keeps_named_volumes(self) -> bool {
        !self.before(42)
    }

    /// Whether lists of images have their manifests, if asked.
    pub(super) fn lists_manifests(self) -> bool {
        !self.before(47)
    }

    /// Whether an image's inspect has its manifests, if asked.
    pub(super) fn inspects_manifests(self) -> bool {
        !self.before(48)
    }

    /// Whether events carry the copies `status`, `id`, `from`.
    pub(super) fn legacy_events(self) -> bool {
        self.before(52)
    }

    /// Whether streams name their framing in the content type.
    pub(super) fn names_multiplexing(self) -> bool {
        !self.before(42)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_outside_the_window_are_refused() {
        assert!(ApiVersion::check("1.24").is_ok() && ApiVersion::check("1.53").is_ok());
        for bad in ["1.54", "2.0", "1.23", "x", "1"] {
            assert_eq!(ApiVersion::check(bad).unwrap_err().status(), StatusCode::BAD_REQUEST, "{bad}");
        }
    }

    #[test]
    fn legacy_addresses_go_with_1_52() {
        let sample = || serde_json::json!({"NetworkSettings": {"IPAddress": "1", "Networks": {}}, "Config": {}});
        let (mut old, mut new) = (sample(), sample());
        ApiVersion(1, 51).container(&mut old);
        ApiVersion(1, 52).container(&mut new);
        assert!(old["NetworkSettings"].get("IPAddress").is_some());
        assert!(new["NetworkSettings"].get("IPAddress").is_none());
    }

    #[test]
    fn old_lists_have_names_for_what_has_none() {
        let listed = |tags: Value, digests: Value| {
            let mut item = serde_json::json!({ "RepoTags": tags, "RepoDigests": digests, "Size": 1 });
            ApiVersion(1, 42).image_summary(&mut item);
            (item["RepoTags"].clone(), item["RepoDigests"].clone())
        };
        let (none, some) = (serde_json::json!([]), serde_json::json!(["x"]));
        let placeholders = (serde_json::json!(["<none>:<none>"]), serde_json::json!(["<none>@<none>"]));
        assert_eq!(listed(none.clone(), none.clone()), placeholders);
        assert_eq!(listed(some.clone(), none.clone()), (some.clone(), Value::Null));
        assert_eq!(listed(none, some.clone()), (Value::Null, some));
    }

    #[test]
    fn old_inspects_have_what_is_empty() {
        let fields = |minor| {
            let mut image = serde_json::json!({ "Config": { "Cmd": ["x"] }, "Size": 1 });
            ApiVersion(1, minor).image(&mut image);
            image["Config"].as_object().unwrap().len()
        };
        assert_eq!([49, 50, 51, 52].map(fields), [17, 8, 8, 1]);
    }
}
