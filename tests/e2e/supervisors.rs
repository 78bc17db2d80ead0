//! `kill -9` of a container's supervisor in every state: the container ends with it, the engine says so, nothing of it
//! stays, and it can be started again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hoist_tests::{Bed, engine, eventually, skip};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A container on a published port whose program does not care for SIGTERM.
struct Victim<'a> {
    t: &'a Bed,
    id: String,
    port: u16,
    /// Of the container's first process; 0 when it never ran.
    pid: i64,
}

impl<'a> Victim<'a> {
    fn create(t: &'a Bed) -> Victim<'a> {
        let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
        let publish = format!("{port}:80");
        let script = "trap : TERM; while :; do sleep 0.1; done";
        let made = t.args(&["create", "--name", "victim", "-p", &publish, "busybox", "sh", "-c", script]).ok();
        Victim { t, id: made.text().to_owned(), port, pid: 0 }
    }

    fn running(t: &'a Bed) -> Victim<'a> {
        let mut victim = Self::create(t);
        t.cli("start victim").ok();
        victim.pid = victim.state()["Pid"].as_i64().unwrap();
        assert!(victim.pid > 0 && !victim.groups().is_empty());
        victim
    }

    fn state(&self) -> Value {
        self.t.inspect("victim")["State"].clone()
    }

    fn pid_file(&self) -> PathBuf {
        self.t.engine.directory().join("r/containers").join(&self.id).join("supervisor.pid")
    }

    fn supervisor(&self) -> Option<Pid> {
        Pid::from_raw(std::fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?)
    }

    fn kill_supervisor(&self) {
        kill_process(self.supervisor().expect("a supervisor"), Signal::KILL).unwrap();
    }

    /// Its control groups in all hierarchies.
    fn groups(&self) -> Vec<PathBuf> {
        let below = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
        let all = below("/sys/fs/cgroup".into()).chain(below("/sys/fs/cgroup".into()).flat_map(below));
        all.map(|group| group.join(&self.id)).filter(|group| group.is_dir()).collect()
    }

    /// Nothing of the run is left, and the next one is as if nothing had been.
    fn is_gone_and_starts_again(&self) {
        let process = Path::new("/proc").join(self.pid.to_string());
        eventually("its first process is gone", || self.pid == 0 || !process.exists());
        eventually("its control groups are gone", || self.groups().is_empty());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.id), "a mount is left:\n{mounts}");
        let publish = format!("{}:80", self.port);
        self.t.args(&["run", "--rm", "-p", &publish, "busybox", "true"]).ok();
        self.t.cli("start victim").ok();
        let state = self.state();
        assert_eq!((&state["Status"], &state["Error"]), (&json!("running"), &json!("")), "{state}");
        self.t.cli("exec victim echo here").ok().prints("here");
        self.t.cli("rm -f victim").ok();
    }

    /// What is told of a container that ran when its supervisor was killed.
    fn was_killed(&self) {
        eventually("the engine notices", || self.state()["Status"] == "exited");
        let state = self.state();
        assert_eq!((&state["ExitCode"], &state["Running"], &state["Pid"]), (&json!(137), &json!(false), &json!(0)));
        let error = state["Error"].as_str().unwrap();
        assert!(error.contains("supervisor ended unexpectedly"), "{state}");
        self.is_gone_and_starts_again();
    }
}

fn with_own_engine(test: impl FnOnce(&Bed)) {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "kills supervisors");
        }
        test(t);
    });
}

#[test]
fn a_supervisor_killed_while_its_container_runs() {
    with_own_engine(|t| {
        let victim = Victim::running(t);
        let waiting = t.spawn("wait victim");
        let attached = t.spawn("attach --no-stdin victim");
        // One that waits may come late, one that attaches may not.
        let attachments = "events --since 1h --until 0s --filter container=victim --filter event=attach";
        eventually("a client is attached", || t.cli(attachments).ok().text().contains("attach"));
        victim.kill_supervisor();
        waiting.finish().ok().prints("137");
        attached.finish().fails_with(137);
        victim.was_killed();
    });
}

#[test]
fn a_supervisor_killed_while_its_container_is_paused() {
    with_own_engine(|t| {
        let victim = Victim::running(t);
        t.cli("pause victim").ok();
        victim.kill_supervisor();
        victim.was_killed();
    });
}

#[test]
fn a_supervisor_killed_while_an_exec_runs() {
    with_own_engine(|t| {
        let victim = Victim::running(t);
        let mut exec = t.spawn("exec victim sh -c 'echo ready; exec sleep 1000'");
        exec.wait_for("ready");
        victim.kill_supervisor();
        exec.finish().fails_with(137);
        victim.was_killed();
    });
}

#[test]
fn a_supervisor_killed_while_its_container_is_being_stopped() {
    with_own_engine(|t| {
        let victim = Victim::running(t);
        let stopping = t.spawn("stop -t 50 victim");
        std::thread::sleep(Duration::from_millis(500));
        victim.kill_supervisor();
        // It is stopped, if not as it was meant.
        stopping.finish().ok();
        victim.was_killed();
    });
}

#[test]
fn a_supervisor_killed_while_its_container_is_being_removed() {
    with_own_engine(|t| {
        let victim = Victim::running(t);
        victim.kill_supervisor();
        t.cli("rm -f victim").ok();
        assert_eq!(t.api().get("/containers/victim/json").status, 404);
        eventually("its control groups are gone", || victim.groups().is_empty());
    });
}

#[test]
fn a_supervisor_killed_while_its_container_starts() {
    with_own_engine(|t| {
        let (mut failed, mut ran) = (0, 0);
        // Where in the start the blow falls is a matter of microseconds: it falls a little later every time.
        for round in 0..30_u64 {
            let mut victim = Victim::create(t);
            let api = t.api();
            let start = std::thread::spawn(move || api.post("/containers/victim/start"));
            // Without pauses: from here to the program it is a few milliseconds.
            let asked = Instant::now();
            while victim.supervisor().is_none() {
                assert!(asked.elapsed() < Duration::from_secs(20), "no supervisor came");
            }
            std::thread::sleep(Duration::from_micros((round / 10) * 500));
            victim.kill_supervisor();
            let reply = start.join().unwrap();
            if reply.status == 204 {
                ran += 1;
                victim.was_killed();
                continue;
            }
            failed += 1;
            assert!(reply.message().contains("supervisor ended unexpectedly"), "{}: {}", reply.status, reply.text());
            let state = victim.state();
            assert_eq!((&state["ExitCode"], &state["Running"]), (&json!(128), &json!(false)), "{state}");
            assert_eq!(state["Error"], reply.message());
            victim.pid = 0;
            victim.is_gone_and_starts_again();
        }
        println!("{failed} were killed before the program ran, {ran} afterwards");
        assert!(failed > 0, "no supervisor was killed in time");
    });
}

#[test]
fn a_policy_starts_a_container_again_whose_supervisor_was_killed() {
    with_own_engine(|t| {
        t.cli("run -d --name again --restart always busybox sleep 1000").ok();
        let id = t.inspect("again")["Id"].as_str().unwrap().to_owned();
        let file = t.engine.directory().join("r/containers").join(id).join("supervisor.pid");
        let first = t.inspect("again")["State"]["Pid"].as_i64().unwrap();
        let pid = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
        eventually("it runs again", || {
            let state = t.inspect("again")["State"].clone();
            state["Running"] == true && state["Pid"].as_i64() != Some(first)
        });
        eventually("its first process is gone", || !Path::new("/proc").join(first.to_string()).exists());
        t.cli("rm -f again").ok();
    });
}

#[test]
fn a_supervisor_killed_while_the_engine_is_away() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "kills supervisors and the engine");
        }
        let (id, pid) = {
            let victim = Victim::running(t);
            (victim.id.clone(), victim.pid)
        };
        let supervisor = Victim { t, id: id.clone(), port: 0, pid }.supervisor().expect("a supervisor");
        t.engine.kill();
        kill_process(supervisor, Signal::KILL).unwrap();
        t.engine.start_again();
        let victim = Victim { t, id, port: 0, pid };
        eventually("it is settled", || victim.state()["Status"] == "exited");
        let state = victim.state();
        // How it ended nobody saw, which is Docker's 255; or the engine was there first, and ended it.
        assert!(state["ExitCode"] == 255 || state["ExitCode"] == 137, "{state}");
        assert!(state["Error"].as_str().unwrap().contains("supervisor"), "{state}");
        eventually("its first process is gone", || !Path::new("/proc").join(pid.to_string()).exists());
        eventually("its control groups are gone", || victim.groups().is_empty());
        t.cli("start victim").ok();
        t.cli("rm -f victim").ok();
    });
}
