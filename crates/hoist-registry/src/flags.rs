//! The command line of `hoist registry`, resolved to [`Settings`].

use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};

/// What one server is to do.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) address: SocketAddr,
    pub(crate) root: PathBuf,
    /// Certificate chain and key, PEM; none is plain HTTP.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    pub(crate) htpasswd: Option<PathBuf>,
    pub(crate) policy: Policy,
    /// How long a blob that no manifest names is kept: the time in which a push must have got to its manifest.
    pub(crate) keep_unreferenced: Duration,
    pub(crate) log_level: String,
}

/// What clients may do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Policy {
    pub(crate) read_only: bool,
    pub(crate) no_delete: bool,
}

/// Why there are no settings.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Help or a usage error, shown already.
    Shown(ExitCode),
    Bad(String),
}

fn value(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::Set).num_args(1)
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).action(ArgAction::SetTrue)
}

fn command() -> Command {
    let serve = Command::new("serve")
        .about("Serve a registry that docker, podman, skopeo and hoist can push to and pull from")
        .arg(value("addr", "Address and port to listen on").default_value("127.0.0.1:5000"))
        .arg(value("root", "Directory for everything that is pushed").default_value("/var/lib/hoist-registry"))
        .arg(value("tls-cert", "Certificate chain (PEM), read again when it changes").requires("tls-key"))
        .arg(value("tls-key", "Key of the certificate (PEM)").requires("tls-cert"))
        .arg(value("htpasswd", "Users who may push and pull (bcrypt: htpasswd -B), read again when it changes"))
        .arg(switch("read-only", "Refuse every push and delete"))
        .arg(switch("no-delete", "Refuse to delete tags, manifests and blobs"))
        .arg(
            value("keep-unreferenced", "How long blobs are kept that no manifest names (30s, 10m, 24h)")
                .default_value("24h"),
        )
        .arg(value("log-level", "Logging level: debug, info, warn, error").default_value("info").short('l'));
    Command::new("hoist registry")
        .bin_name("hoist registry")
        .about("A registry of one's own")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve)
}

/// Reads the command line.
pub(crate) fn read(args: Vec<OsString>) -> Result<Settings, Stop> {
    let matches = command().try_get_matches_from(args).map_err(|e| {
        // Nobody is left to tell if the terminal is gone.
        _ = e.print();
        Stop::Shown(ExitCode::from(if e.use_stderr() { 125 } else { 0 }))
    })?;
    match matches.subcommand() {
        Some(("serve", matches)) => resolve(matches).map_err(Stop::Bad),
        _ => Err(Stop::Bad("no command given: hoist registry serve".to_owned())),
    }
}

fn resolve(matches: &ArgMatches) -> Result<Settings, String> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let path = |name: &str| text(name).map(PathBuf::from);
    let address = text("addr").unwrap_or_default();
    let keep = text("keep-unreferenced").unwrap_or_default();
    let log_level = text("log-level").unwrap_or_default();
    if !["debug", "info", "warn", "error"].contains(&log_level) {
        return Err(format!("--log-level {log_level}: debug, info, warn or error is expected"));
    }
    Ok(Settings {
        address: socket_address(address)?,
        root: path("root").unwrap_or_default(),
        tls: path("tls-cert").zip(path("tls-key")),
        htpasswd: path("htpasswd"),
        policy: Policy { read_only: matches.get_flag("read-only"), no_delete: matches.get_flag("no-delete") },
        keep_unreferenced: hoist_api::time::parse_duration(keep)
            .and_then(|ns| u64::try_from(ns).ok())
            .map(Duration::from_nanos)
            .ok_or_else(|| format!("--keep-unreferenced {keep}: a duration such as 30s, 10m or 24h is expected"))?,
        log_level: log_level.to_owned(),
    })
}

/// `:5000` is every address of the machine, as for Docker's registry.
fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    let bad = |why: String| format!("--addr {text}: {why}: an address and port such as 127.0.0.1:5000 is expected");
    let mut found = full.to_socket_addrs().map_err(|e| bad(e.to_string()))?;
    found.next().ok_or_else(|| bad("no such address".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Settings, String> {
        read(line.split(' ').map(OsString::from).collect()).map_err(|stop| match stop {
            Stop::Bad(text) => text,
            Stop::Shown(_) => "usage".to_owned(),
        })
    }

    #[test]
    fn defaults_are_for_one_machine() {
        let settings = read_line("registry serve").unwrap();
        assert_eq!(settings.address.to_string(), "127.0.0.1:5000");
        assert_eq!(settings.root, PathBuf::from("/var/lib/hoist-registry"));
        assert_eq!(settings.keep_unreferenced, Duration::from_secs(24 * 3600));
        assert!(settings.tls.is_none() && settings.htpasswd.is_none());
        assert!(!settings.policy.read_only && !settings.policy.no_delete);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        assert_eq!(read_line("registry serve --addr :80").unwrap().address.to_string(), "0.0.0.0:80");
        for (line, named) in [
            ("registry serve --addr nowhere", "--addr nowhere"),
            ("registry serve --keep-unreferenced soon", "--keep-unreferenced soon"),
            ("registry serve --log-level loud", "--log-level loud"),
            ("registry serve --tls-cert x", "usage"),
            ("registry serve --max", "usage"),
        ] {
            let refusal = read_line(line).unwrap_err();
            assert!(refusal.contains(named), "{line}: {refusal}");
        }
    }
}
