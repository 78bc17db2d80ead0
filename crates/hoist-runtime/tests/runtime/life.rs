//! From launch to exit code.

use hoist_runtime::protocol::{FailureKind, FromSupervisor, ToSupervisor};
use hoist_runtime::spawner::{Link, Spawner};

use super::Test;
use super::container::{Container, demultiplex, wait_for};

pub(crate) const TESTS: &[Test] = &[("a_container_runs_and_its_output_and_exit_code_come_back", runs)];

fn runs(spawner: &Spawner) {
    let container = Container::new(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let mut running = container.run(spawner);
    let phases = running.wait_for(|message| match message {
        FromSupervisor::Started { phases, .. } => Some(phases),
        FromSupervisor::StartFailed(failure) => panic!("{failure}"),
        _ => None,
    });
    println!("{phases:?}");
    let output = running.read_to_end();
    assert_eq!(demultiplex(&output, 1), b"out\n");
    assert_eq!(demultiplex(&output, 2), b"err\n");
    let exit = running.end().unwrap();
    assert_eq!(exit.exit_code, 7);
    assert!(exit.finished_at_ns >= exit.started_at_ns && exit.started_at_ns > 0);
    let file = std::fs::read_to_string(container.directory.join("state/exit.json")).unwrap();
    assert!(file.contains("\"exit_code\":7"), "{file}");
    container.assert_nothing_left();
}
