//! Every environment variable the command line reads. No other file asks the environment, except that `--env NAME`
//! and environment files pass on variables their user names.

/// Address of the engine, before `DOCKER_HOST` counts: `unix:///path` or `tcp://host:port`.
const HOIST_HOST: &str = "HOIST_HOST";
/// Address of the engine, as Docker's client reads it.
const DOCKER_HOST: &str = "DOCKER_HOST";
/// Exactly this API version is spoken, as in Docker's client.
const DOCKER_API_VERSION: &str = "DOCKER_API_VERSION";
/// Directory of `config.json`, in place of `~/.docker`.
const DOCKER_CONFIG: &str = "DOCKER_CONFIG";
/// Named endpoint; only `default` is known.
const DOCKER_CONTEXT: &str = "DOCKER_CONTEXT";
/// Non-empty asks for TLS, which the client does not speak yet: it refuses.
const DOCKER_TLS: &str = "DOCKER_TLS";
const DOCKER_TLS_VERIFY: &str = "DOCKER_TLS_VERIFY";
/// Platform for `run`, `create` and `pull` when the flag is absent.
const DOCKER_DEFAULT_PLATFORM: &str = "DOCKER_DEFAULT_PLATFORM";
/// Extra request headers, comma-separated `name=value`, as in Docker's client.
const DOCKER_CUSTOM_HEADERS: &str = "DOCKER_CUSTOM_HEADERS";
/// Credentials of registries as JSON, in the form of `auths` in `config.json`; they go before the file's.
const DOCKER_AUTH_CONFIG: &str = "DOCKER_AUTH_CONFIG";
/// What is pulled must be signed, as in Docker's client: anything but a false value.
const DOCKER_CONTENT_TRUST: &str = "DOCKER_CONTENT_TRUST";
/// Any value keeps progress bars and colours away (<https://no-color.org>).
const NO_COLOR: &str = "NO_COLOR";
/// `0` sends Docker's ordinary sequence of requests for `run` in place of our single one.
const HOIST_FAST_RUN: &str = "HOIST_FAST_RUN";
const HOME: &str = "HOME";
const TERM: &str = "TERM";

fn get(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The engine named by the environment.
pub(crate) fn host() -> Option<String> {
    get(HOIST_HOST).or_else(|| get(DOCKER_HOST))
}

pub(crate) fn api_version() -> Option<String> {
    get(DOCKER_API_VERSION)
}

pub(crate) fn config_dir() -> Option<String> {
    get(DOCKER_CONFIG).or_else(|| get(HOME).map(|home| format!("{home}/.docker")))
}

pub(crate) fn context() -> Option<String> {
    get(DOCKER_CONTEXT)
}

pub(crate) fn wants_tls() -> bool {
    get(DOCKER_TLS).is_some() || get(DOCKER_TLS_VERIFY).is_some()
}

pub(crate) fn default_platform() -> Option<String> {
    get(DOCKER_DEFAULT_PLATFORM)
}

pub(crate) fn custom_headers() -> Option<String> {
    get(DOCKER_CUSTOM_HEADERS)
}

pub(crate) fn auth_config() -> Option<String> {
    get(DOCKER_AUTH_CONFIG)
}

/// What cannot be read as yes or no is a yes, as with Docker's client.
pub(crate) fn content_trust() -> bool {
    get(DOCKER_CONTENT_TRUST).is_some_and(|text| crate::flags::check::parse_bool(&text) != Some(false))
}

pub(crate) fn wants_plain() -> bool {
    get(NO_COLOR).is_some() || get(TERM).is_some_and(|term| term == "dumb")
}

pub(crate) fn fast_run() -> bool {
    get(HOIST_FAST_RUN).is_none_or(|value| value != "0")
}

/// A variable that a user named by `--env NAME` or in an environment file.
pub(crate) fn passed_on(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}
