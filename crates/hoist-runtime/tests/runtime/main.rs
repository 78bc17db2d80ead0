//! Containers of busybox by way of a real spawner: life, streams, errors, exec, hostile root filesystems. Needs root and
//! a static busybox (Debian: busybox-static). `cargo test -p hoist-runtime --test runtime [part of a name]`.

mod bench;
mod container;
mod exec;
mod external;
mod hostile;
mod life;
mod streams;

use std::panic::AssertUnwindSafe;
use std::path::Path;

use hoist_runtime::spawner::{Spawner, spawner_main_if_requested};

/// A named test.
type Test = (&'static str, fn(&Spawner));

fn main() {
    spawner_main_if_requested();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if let Some(reason) = cannot_run() {
        println!("skipped: {reason}");
        assert!(std::env::var_os("HOIST_TEST_REQUIRE").is_none(), "required tests were skipped: {reason}");
        return;
    }
    let spawner = Spawner::start().expect("start spawner");
    if arguments.iter().any(|argument| argument == "--bench") {
        return bench::run(&spawner);
    }
    let mut failed = 0;
    for (name, test) in [life::TESTS, streams::TESTS, exec::TESTS, hostile::TESTS, external::TESTS].concat() {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| test(&spawner)));
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed += usize::from(outcome.is_err());
    }
    drop(spawner);
    assert_eq!(failed, 0, "{failed} tests failed");
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
