//! Containers of busybox by way of a real spawner: life, streams, errors, exec, hostile root filesystems. Needs root and
//! a static busybox (Debian: busybox-static). `cargo test -p hoist-runtime --test runtime [part of a name]`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "clippy knows tests only by #[test]")]

mod bench;
mod container;
mod exec;
mod external;
#[path = "../harness/mod.rs"]
mod harness;
mod host;
mod hostile;
mod life;
mod streams;

use std::ffi::OsString;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;

use harness::Wanted;
use hoist_runtime::spawner::{Spawner, spawner_main_if_requested};
use hoist_sys::namespace::{self, Namespaces};
use rustix::mount::MountPropagationFlags;

const PARKED: usize = 2;

/// A named test.
type Test = (&'static str, fn(&Spawner));

/// First argument of this program when it is to be another runtime.
const AS_RUNTIME: &str = "as-runtime";

fn main() -> ExitCode {
    spawner_main_if_requested();
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|first| first == AS_RUNTIME) {
        return hoist_runtime::oci::main(words);
    }
    run_tests();
    ExitCode::SUCCESS
}

fn run_tests() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = Wanted::of(&arguments);
    let all = [life::TESTS, streams::TESTS, exec::TESTS, hostile::TESTS, external::TESTS, host::TESTS].concat();
    let cold: Vec<String> = all.iter().map(|(name, _)| format!("without_parked_supervisors::{name}")).collect();
    if wanted.list(all.iter().map(|(name, _)| *name).chain(cold.iter().map(String::as_str))) {
        return;
    }
    if let Some(reason) = cannot_run() {
        println!("skipped: {reason}");
        assert!(std::env::var_os("HOIST_TEST_REQUIRE").is_none(), "required tests were skipped: {reason}");
        return;
    }
    // The host that the tests see is one of their own: devices and mounts of theirs end with them.
    namespace::unshare(Namespaces::NETWORK | Namespaces::MOUNT).expect("unshare");
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .expect("private mounts");
    if arguments.iter().any(|argument| argument == "--bench") {
        return bench::run(&Spawner::start().expect("start spawner"));
    }
    // Once with supervisors that wait, once with supervisors made when they are asked for: it must not matter.
    let warm = all.iter().map(|(name, test)| (*name, *test, PARKED));
    let cold = cold.iter().zip(&all).map(|(name, (_, test))| (name.as_str(), *test, 0));
    let mut failed = 0;
    for (name, test, parked) in warm.chain(cold).filter(|(name, ..)| wanted.includes(name)) {
        let spawner = Spawner::start_with(parked).expect("start spawner");
        container::wait_for(|| parked_supervisors(&spawner) >= parked);
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| test(&spawner)));
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed += usize::from(outcome.is_err());
    }
    assert_eq!(failed, 0, "{failed} tests failed");
}

/// Children of the spawner that wait for a launch.
fn parked_supervisors(spawner: &Spawner) -> usize {
    let pid = spawner.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let name = |child: &str| std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
    children.split_whitespace().filter(|child| name(child).trim() == "hoist-parked").count()
}

fn cannot_run() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("not root");
    }
    if !Path::new(container::BUSYBOX).exists() {
        return Some("no /bin/busybox (Debian: busybox-static)");
    }
    None
}
