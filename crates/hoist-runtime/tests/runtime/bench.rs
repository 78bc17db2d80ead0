//! Not a test: `cargo test -p hoist-runtime --profile quick --test runtime -- --bench` prints how long a start takes.

use std::time::{Duration, Instant};

use hoist_runtime::protocol::FromSupervisor;
use hoist_runtime::spawner::Spawner;

use super::container::Container;

const ROUNDS: usize = 60;

/// Times from request to exit, medians and tenth percentiles, with and without pauses, and the phases of the last one.
pub(crate) fn run(spawner: &Spawner) {
    for pause_ms in [0, 20, 150] {
        let mut started = Vec::new();
        let mut exited = Vec::new();
        let mut last = Vec::new();
        for _ in 0..ROUNDS {
            let mut container = Container::new(&["true"]);
            let capabilities = hoist_runtime::defaults::DEFAULT_CAPABILITIES.map(str::to_owned);
            let profile = hoist_runtime::seccomp::default_profile(&capabilities);
            container.launch.seccomp_program = Some(hoist_runtime::seccomp::compile(&profile).unwrap());
            container.launch.init = false;
            let container = container.with_log();
            std::thread::sleep(Duration::from_millis(pause_ms));
            let start = Instant::now();
            let running = container.run(spawner);
            let phases = running.wait_for(|message| match message {
                FromSupervisor::Started { phases, .. } => Some(phases),
                FromSupervisor::StartFailed(failure) => panic!("{failure}"),
                _ => None,
            });
            started.push(start.elapsed());
            running.end().unwrap();
            exited.push(start.elapsed());
            last = phases;
        }
        started.sort();
        exited.sort();
        println!(
            "pause {pause_ms} ms: started p10 {:?} median {:?}; exited p10 {:?} median {:?}",
            started[ROUNDS / 10],
            started[ROUNDS / 2],
            exited[ROUNDS / 10],
            exited[ROUNDS / 2]
        );
        println!(
            "  {}",
            last.iter().map(|(name, ns)| format!("{name} {} us", ns / 1000)).collect::<Vec<_>>().join(", ")
        );
    }
}
