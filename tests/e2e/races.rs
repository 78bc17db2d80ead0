//! Races that engines like ours have lost: a container swaps names for links at full speed where another one is being
//! set up. A few seconds each; `HOIST_TEST_RACE_SECONDS` makes them as long as one likes.

use std::path::Path;
use std::time::Instant;

use hoist_tests::{Background, Bed, HostDir, Ran, engine, race_duration};

/// A directory of the host that two containers share; one of them swaps a name in it for a link.
struct Race<'a> {
    t: &'a Bed,
    shared: HostDir,
    racer: Background,
    until: Instant,
}

impl<'a> Race<'a> {
    /// `name` is a directory or (with content) a file, in turn with a link to `target`.
    fn start(t: &'a Bed, name: &str, content: Option<&str>, target: &str) -> Race<'a> {
        crate::load_inside(t);
        let shared = t.host_dir();
        match content {
            Some(content) => shared.write(name, content),
            None => std::fs::create_dir(shared.ours().join(name)).unwrap(),
        }
        std::os::unix::fs::symlink(target, shared.ours().join("link")).unwrap();
        // It goes on a little longer than the race.
        let seconds = race_duration().as_secs() + 5;
        let line =
            format!("run --rm -v {}:/shared inside inside swap /shared/{name} /shared/link {seconds}", shared.path);
        let mut racer = t.spawn(&line);
        racer.wait_for("ready");
        Race { t, shared, racer, until: Instant::now() + race_duration() }
    }

    /// Sets containers up until the time is over. They may fail; what counts is what each may say and do.
    fn run(self, line: &str, look: impl Fn(&Ran)) {
        let line = line.replace("SHARED", &self.shared.path);
        let (mut started, mut failed) = (0, 0);
        while Instant::now() < self.until {
            let ran = self.t.cli(&line);
            look(&ran);
            *if ran.code == 0 { &mut started } else { &mut failed } += 1;
        }
        println!("{started} of the containers started, {failed} did not");
        let swapped = self.racer.finish();
        // The other side may take the name away; that ends the race, not the test.
        println!("{swapped}");
        assert!(started + failed > 0);
    }
}

fn nothing_was_made_in(directory: &str, name: &str) {
    let path = Path::new(directory).join(name);
    assert!(std::fs::symlink_metadata(&path).is_err(), "{} was made on the host", path.display());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let point = path.to_str();
    assert!(!mounts.lines().any(|line| line.split(' ').nth(4) == point), "{mounts}");
}

#[test]
fn cve_2021_30465_a_mount_below_a_volume_that_is_being_swapped_stays_inside() {
    engine(|t| {
        let race = Race::start(t, "real", None, "/");
        race.run("run --rm -v SHARED:/shared --tmpfs /shared/real/race-sub inside ls /shared/real/race-sub", |_| {});
        nothing_was_made_in("/", "race-sub");
    });
}

#[test]
fn cve_2024_45310_directories_made_for_a_mount_are_made_inside() {
    engine(|t| {
        let victim = t.host_dir();
        let race = Race::start(t, "real", None, &victim.path);
        let line =
            format!("run --rm -v SHARED:/shared -v {}:/shared/real/one/two/three inside true", t.host_dir().path);
        race.run(&line, |_| {});
        nothing_was_made_in(victim.ours().to_str().unwrap(), "one");
    });
}

#[test]
fn cve_2025_31133_paths_stay_masked_while_dev_null_is_being_swapped() {
    engine(|t| {
        let pattern = "/proc/sys/kernel/core_pattern";
        let before = std::fs::read_to_string(pattern).unwrap();
        let race = Race::start(t, "null", Some(""), pattern);
        // What masks files must be the host's null device, whatever the container's name for it leads to.
        let script =
            format!("head -c 1 /proc/kcore | wc -c; head -c 1 /proc/keys | wc -c; echo raced > {pattern}; true");
        race.run(&format!("run --rm -v SHARED:/dev inside sh -c '{script}'"), |ran| {
            assert!(ran.code != 0 || ran.stdout == "0\n0\n", "{ran}");
        });
        assert_eq!(std::fs::read_to_string(pattern).unwrap(), before);
    });
}

#[test]
fn cve_2025_52565_the_console_is_put_nowhere_else_while_it_is_being_swapped() {
    engine(|t| {
        let race = Race::start(t, "console", Some(""), "/proc/sys/kernel/core_pattern");
        let script = "grep -c \" /proc/sys/kernel\" /proc/self/mountinfo; echo end";
        race.run(&format!("run --rm -t -v SHARED:/dev inside sh -c '{script}'"), |ran| {
            assert!(ran.code != 0 || ran.stdout.starts_with("0\r\n"), "a terminal over a file of /proc: {ran}");
        });
    });
}

#[test]
fn cve_2025_52881_settings_go_to_the_real_proc_while_links_to_it_are_being_swapped() {
    engine(|t| {
        let host = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let race = Race::start(t, "real", None, "/proc");
        let script = "cat /proc/sys/net/core/somaxconn; grep -c \" /proc/sys/net\" /proc/self/mountinfo; true";
        let line =
            "run --rm --sysctl net.core.somaxconn=77 -v SHARED:/shared --tmpfs /shared/real/sys/net inside sh -c";
        race.run(&format!("{line} '{script}'"), |ran| {
            assert!(ran.code != 0 || ran.stdout == "77\n0\n", "{ran}");
        });
        assert_eq!(std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap(), host);
    });
}
