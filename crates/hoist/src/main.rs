//! The one binary: by its name and first argument it is the CLI, the engine, a registry, an OCI runtime, or (forked and
//! exec'd by the engine itself) the spawner.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: a spawner must stay small.
    hoist_runtime::spawner::spawner_main_if_requested();
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().map(Path::new).and_then(Path::file_name).unwrap_or_default().to_owned();
    if name == "dockerd" {
        return hoist_daemon::main(args);
    }
    match args.get(1).and_then(|a| a.to_str()) {
        Some("engine") => {
            args.remove(0);
            hoist_daemon::main(args)
        }
        Some("registry") => {
            args.remove(0);
            hoist_registry::main(args)
        }
        Some("runtime") => {
            args.remove(0);
            hoist_runtime::oci::main(args)
        }
        _ => ExitCode::from(u8::try_from(hoist_cli::main(args)).unwrap_or(1)),
    }
}
