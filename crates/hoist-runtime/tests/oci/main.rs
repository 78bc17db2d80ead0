//! The OCI runtime by its command line, with bundles of busybox. Needs root and a static busybox (Debian:
//! busybox-static). `cargo test -p hoist-runtime --test oci [part of a name]`.

#![allow(clippy::unwrap_used, reason = "a program of tests without the usual harness")]

mod bundle;
#[path = "../harness/mod.rs"]
mod harness;
mod hooks;
mod life;
mod namespaces;
mod refusals;
mod shared_mounts;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use harness::Wanted;

/// A named test.
type Test = (&'static str, fn());

/// First argument of this program when it is to be the runtime.
const AS_RUNTIME: &str = "as-runtime";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == AS_RUNTIME) {
        return hoist_runtime::oci::main(arguments);
    }
    let words: Vec<String> = arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let wanted = Wanted::of(&words);
    let all = [life::TESTS, hooks::TESTS, namespaces::TESTS, refusals::TESTS, shared_mounts::TESTS].concat();
    if wanted.list(all.iter().map(|(name, _)| *name)) {
        return ExitCode::SUCCESS;
    }
    if let Some(reason) = cannot_run() {
        println!("skipped: {reason}");
        assert!(std::env::var_os("HOIST_TEST_REQUIRE").is_none(), "required tests were skipped: {reason}");
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in all.into_iter().filter(|(name, _)| wanted.includes(name)) {
        let outcome = std::panic::catch_unwind(test);
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed += u8::from(outcome.is_err());
    }
    let _ = hoist_runtime::cgroup::at(Path::new(&bundle::groups())).remove();
    ExitCode::from(failed)
}

fn cannot_run() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root");
    }
    if !Path::new(bundle::BUSYBOX).exists() {
        return Some("no /bin/busybox (Debian: busybox-static)");
    }
    None
}
