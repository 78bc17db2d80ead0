//! Containers that reach for the host: for each known way out, what would have shown it.

use std::time::{Duration, Instant};

use hoist_tests::{Entry, both};
use serde_json::json;

use crate::hostile_images::try_load;

#[test]
fn cve_2024_21626_a_working_directory_below_proc_self_fd_reaches_nothing_of_the_host() {
    both(|t| {
        for number in [3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 24, 32, 64] {
            let script = "ls .. ../../.. 2>/dev/null; cat ../../../../../../../etc/hostname 2>/dev/null; true";
            let directory = format!("/proc/self/fd/{number}");
            let ran = t.args(&["run", "--rm", "-h", "inside", "-w", &directory, "busybox", "sh", "-c", script]);
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
            assert!(ran.code != 0 || !ran.stdout.contains(host.trim()) || host.trim() == "inside", "{ran}");
            assert!(ran.code != 0 || !ran.stdout.contains("boot\n"), "the root of the host is listed: {ran}");
        }
        let name = t.name("exec");
        t.cli(&format!("run -d --name {name} busybox sleep 1000")).ok();
        for number in 3..=16 {
            let ran = t.cli(&format!("exec -w /proc/self/fd/{number} {name} ls .."));
            assert!(ran.code != 0 || !ran.stdout.contains("boot"), "{ran}");
        }
    });
}

#[test]
fn cve_2024_21626_the_process_has_no_descriptor_but_its_three() {
    both(|t| {
        crate::load_inside(t);
        let numbers = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.split(' ').next().unwrap().to_string()).collect()
        };
        assert_eq!(numbers(&t.cli("run --rm inside inside fds").ok().stdout), ["0", "1", "2"]);
        assert_eq!(numbers(&t.cli("run --rm -i inside inside fds").ok().stdout), ["0", "1", "2"]);
        let name = t.name("fds");
        t.cli(&format!("run -d --name {name} inside sleep 1000")).ok();
        assert_eq!(numbers(&t.cli(&format!("exec {name} inside fds")).ok().stdout), ["0", "1", "2"]);
        let first = t.cli(&format!("exec {name} ls /proc/1/fd")).ok();
        assert_eq!(first.text(), "0\n1\n2");
    });
}

#[test]
fn cve_2019_5736_the_engines_executable_cannot_be_written_from_inside() {
    both(|t| {
        crate::load_inside(t);
        let image = format!("{}:v1", t.name("self"));
        let program = crate::inside_program();
        let entries = [
            Entry::file("bin/inside", program).mode(0o755),
            Entry::script("run-self", "#!/proc/self/exe\n"),
            Entry::symlink("link-self", "/proc/self/exe"),
        ];
        assert!(try_load(t, &image, &[&entries], json!({})));
        let name = t.name("clobber");
        let line = format!("run --name {name} {image} inside clobber /stop /bin/busybox /bin/inside");
        let mut clobber = t.spawn(&line);
        clobber.wait_for("ready");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(4) {
            t.cli(&format!("exec {name} true")).ok();
            // What is executed here is whatever prepares the exec, if it can still be reached under that name.
            t.cli(&format!("exec {name} /link-self --help"));
            t.cli(&format!("exec {name} /run-self --help"));
        }
        // Were it the product itself, this would stay long enough to be seen.
        let lingering = t.spawn(&format!("exec {name} /link-self -H tcp://192.0.2.1:9 events"));
        std::thread::sleep(Duration::from_secs(1));
        t.cli(&format!("exec {name} killall -9 link-self"));
        drop(lingering);
        t.cli(&format!("exec {name} touch /stop")).ok();
        let seen = clobber.finish().ok();
        println!("{}", seen.stdout);
        seen.says_not("writable:");
        t.cli(&format!("rm -f {name}")).ok();
        t.cli(&format!("run --rm --entrypoint /run-self {image}")).fails();
        t.cli(&format!("rmi -f {image}")).ok();
    });
}

#[test]
fn cve_2016_9962_a_process_that_joins_cannot_be_traced_or_read_by_the_container() {
    both(|t| {
        let name = t.name("trace");
        // Reads what descriptors and memory maps it can of every other process while execs come and go.
        let script = "while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] || \
                      ls -l $p/fd 2>/dev/null | grep -v -e /dev/null -e pipe: -e socket: -e 'total 0' -e /dev/pts -e /proc; \
                      done; done";
        t.args(&["run", "-d", "--name", &name, "busybox", "sh", "-c", script]).ok();
        for _ in 0..60 {
            t.cli(&format!("exec {name} true")).ok();
        }
        t.cli(&format!("stop -t 0 {name}")).ok();
        let seen = t.cli(&format!("logs {name}")).ok();
        let foreign: Vec<&str> = seen.stdout.lines().filter(|line| line.contains("->")).collect();
        assert!(foreign.is_empty(), "descriptors of others were seen: {foreign:?}");
    });
}

#[test]
fn cve_2025_31133_masked_paths_are_masked_though_the_images_dev_null_is_a_link() {
    both(|t| {
        let image = format!("{}:v1", t.name("null"));
        let entries = [Entry::directory("dev/"), Entry::symlink("dev/null", "/proc/sys/kernel/core_pattern")];
        if !try_load(t, &image, &[&entries], json!({})) {
            return;
        }
        let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        let script = "echo broken > /dev/null; stat -c %F /dev/null; cat /proc/kcore | head -c 1 | wc -c; \
                      echo x > /proc/sys/kernel/core_pattern";
        let ran = t.args(&["run", "--rm", &image, "sh", "-c", script]);
        assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
        assert!(ran.code != 0, "{ran}");
        assert!(ran.stdout.is_empty() || ran.stdout.contains("character special file\n0"), "{ran}");
        t.cli(&format!("rmi -f {image}")).ok();
    });
}

#[test]
fn cve_2025_52565_the_console_is_ours_though_the_image_has_one() {
    both(|t| {
        let image = format!("{}:v1", t.name("console"));
        let entries = [
            Entry::directory("dev/"),
            Entry::symlink("dev/console", "/proc/sysrq-trigger"),
            Entry::symlink("dev/pts", "/proc"),
            Entry::symlink("dev/ptmx", "/proc/kcore"),
        ];
        if !try_load(t, &image, &[&entries], json!({})) {
            return;
        }
        let ran =
            t.cli(&format!("run --rm -t {image} sh -c 'stat -c %F /dev/console; tty; readlink /dev/console; true'"));
        assert!(ran.code != 0 || ran.stdout.starts_with("character special file\r\n/dev/pts/0"), "{ran}");
        t.cli(&format!("rmi -f {image}")).ok();
    });
}

#[test]
fn cve_2026_41579_directories_of_the_root_that_are_links_reach_nothing_of_the_host() {
    both(|t| {
        let dir = t.host_dir();
        dir.write("sentinel", "untouched");
        let up = "../".repeat(12);
        for (number, target) in
            [format!("{}/made", dir.path), format!("{up}{}/made", &dir.path[1..])].iter().enumerate()
        {
            for victim in ["dev", "proc", "sys", "etc"] {
                let image = format!("{}:v{number}", t.name("links"));
                let entries = [Entry::symlink(victim, target)];
                // busybox' own /etc must go first.
                let gone = [Entry::file(&format!(".wh.{victim}"), "")];
                if !try_load(t, &image, &[&gone, &entries], json!({})) {
                    continue;
                }
                let ran = t.cli(&format!("run --rm -h box {image} sh -c 'echo ran'"));
                assert!(ran.code == 0 || !ran.stderr.is_empty(), "{ran}");
                t.cli(&format!("rmi -f {image}")).ok();
            }
        }
        let names: Vec<_> = std::fs::read_dir(dir.ours()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["sentinel"], "something was made in the directory of the host");
        assert_eq!(dir.read("sentinel"), "untouched");
    });
}

#[test]
fn cve_2023_28642_a_proc_that_is_a_link_is_refused() {
    both(|t| {
        let image = format!("{}:v1", t.name("proc"));
        if !try_load(t, &image, &[&[Entry::directory("fake/"), Entry::symlink("proc", "fake")]], json!({})) {
            return;
        }
        let script = "test -r /proc/self/attr/current; grep -c '^proc /[a-z]* proc' /proc/mounts";
        let ran = t.args(&["run", "--rm", &image, "sh", "-c", script]);
        assert!(ran.code != 0 || ran.text() == "1", "{ran}");
        t.cli(&format!("rmi -f {image}")).ok();
    });
}
