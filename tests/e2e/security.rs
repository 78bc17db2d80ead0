//! The known failures of engines like ours: for each, what would have shown it.

use std::time::{Duration, Instant};

use hoist_tests::{Bed, Entry, Image, Layer, both, engine, skip};
use serde_json::{Value, json};

/// Loads a hostile image. Whether the engine took it: refusing is as safe as unpacking it right.
fn try_load(t: &Bed, name: &str, layers: &[&[Entry]], config: Value) -> bool {
    let mut image = Image::busybox();
    image.layers.extend(layers.iter().map(|entries| Layer::new(entries)));
    image.config = json!({ "Cmd": ["sh"] });
    for (key, value) in config.as_object().into_iter().flatten() {
        image.config[key] = value.clone();
    }
    let headers = [("Content-Type", "application/x-tar")];
    let reply = t.api().request("POST", "/images/load?quiet=1", &headers, &image.docker_archive(&[name]));
    reply.status == 200 && !reply.text().contains("errorDetail")
}

fn needs_own(t: &Bed) -> bool {
    t.engine.is_own()
}

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

#[test]
fn cve_2022_24769_no_capability_is_inheritable() {
    both(|t| {
        let name = t.name("caps");
        t.cli(&format!("run -d --name {name} --cap-add SYS_ADMIN busybox sleep 1000")).ok();
        for line in ["grep CapInh /proc/1/status", "grep CapInh /proc/self/status"] {
            t.cli(&format!("exec {name} {line}")).ok().prints("CapInh:\t0000000000000000");
        }
        t.cli(&format!("exec --privileged {name} grep CapInh /proc/self/status"))
            .ok()
            .prints("CapInh:\t0000000000000000");
    });
}

#[test]
fn cve_2022_36109_supplementary_groups_are_the_users_and_their_own() {
    both(|t| {
        let groups = |options: &str| t.cli(&format!("run --rm {options} busybox id -G")).ok().text().to_string();
        assert_eq!(groups("-u worker"), "1001 50 1002");
        // The group named by number replaces the primary one and is part of the supplementary list.
        assert_eq!(groups("-u worker:workers").split(' ').next(), Some("1001"));
        assert_eq!(groups("-u 1234:1234"), "1234");
        assert_eq!(groups("-u 1234"), "0");
        let name = t.name("groups");
        t.cli(&format!("run -d --name {name} --group-add 77 -u worker busybox sleep 1000")).ok();
        let list = t.cli(&format!("exec {name} grep Groups /proc/1/status")).ok();
        for group in ["50", "77", "1001", "1002"] {
            assert!(list.stdout.split_whitespace().any(|word| word == group), "{group}: {list}");
        }
    });
}

#[test]
fn cve_2025_23266_the_environment_of_the_image_reaches_no_program_of_the_host() {
    both(|t| {
        let image = format!("{}:v1", t.name("preload"));
        let config = json!({ "Env": ["LD_PRELOAD=/no/such.so", "LD_LIBRARY_PATH=/", "GCONV_PATH=/", "PATH=/bin", "GODEBUG=x=1"] });
        assert!(try_load(t, &image, &[], config));
        t.cli(&format!("run --rm {image} true")).ok();
        t.cli(&format!("run --rm --init {image} true")).ok();
        t.cli(&format!("rmi -f {image}")).ok();
    });
}

#[test]
fn cve_2026_47262_a_huge_passwd_or_group_is_a_bounded_error() {
    engine(|t| {
        if !needs_own(t) {
            skip!("own-engine", "looks at the memory of the engine");
        }
        let big = "x:x:1:1::/:/bin/sh\n".repeat(4_000_000);
        for file in ["etc/passwd", "etc/group"] {
            let image = format!("{}:v1", t.name("huge"));
            if !try_load(t, &image, &[&[Entry::file(file, big.clone())]], json!({})) {
                continue;
            }
            let before = peak(t);
            let ran = t.cli(&format!("run --rm -u somebody:some {image} true"));
            assert_ne!(ran.code, 0, "{ran}");
            assert!(peak(t) < before + 64_000, "{before} kB before, {} kB after", peak(t));
            t.cli(&format!("rmi -f {image}")).ok();
        }
    });
}

/// The highest resident memory that the engine had, in kB.
fn peak(t: &Bed) -> u64 {
    let pid = t.engine.pid().unwrap().as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn cve_2024_9676_a_passwd_that_is_a_link_or_a_pipe_neither_hangs_nor_reads_the_host() {
    both(|t| {
        let dir = t.host_dir();
        dir.write("passwd", "intruder:x:0:0::/:/bin/sh\n");
        let host_file = format!("{}/passwd", dir.path);
        for (number, entry) in [
            Entry::symlink("etc/passwd", &host_file),
            Entry::symlink("etc/passwd", &format!("{}{}", "../".repeat(10), &host_file[1..])),
            Entry::fifo("etc/passwd"),
            Entry::symlink("etc/passwd", "/dev/zero"),
            Entry::directory("etc/passwd/"),
        ]
        .into_iter()
        .enumerate()
        {
            // runc waits for a writer of the pipe, and reads /dev/zero while there is memory.
            if (2..=3).contains(&number) && !t.engine.is_own() {
                continue;
            }
            let image = format!("{}:v{number}", t.name("passwd"));
            if !try_load(t, &image, &[&[Entry::file("etc/.wh.passwd", "")], &[entry]], json!({})) {
                continue;
            }
            t.cli(&format!("run --rm -u intruder {image} id")).fails();
            t.cli(&format!("rmi -f {image}")).ok();
        }
    });
}

#[test]
fn cve_2026_46680_a_user_number_that_does_not_fit_is_refused() {
    both(|t| {
        for user in ["4294967296", "-1", "99999999999999999999", "0:4294967296", "2147483648"] {
            let ran = t.cli(&format!("run --rm --user={user} busybox id -u"));
            assert!(ran.code != 0, "{user}: {ran}");
        }
        t.cli("run --rm -u 0000001000 busybox id -u").ok().prints("1000");
    });
}

#[test]
fn cve_2022_23648_a_volume_path_with_dots_stays_inside_the_image() {
    both(|t| {
        let dir = t.host_dir();
        dir.write("secret", "of the host");
        for path in
            [format!("/../../../../../../..{}", dir.path), "/up/../../etc".to_string(), format!("/link{}", dir.path)]
        {
            let image = format!("{}:v1", t.name("volume"));
            let entries = [Entry::symlink("link", "/")];
            if !try_load(t, &image, &[&entries], json!({ "Volumes": { &path: {} } })) {
                continue;
            }
            let ran = t.cli(&format!("run --rm {image} sh -c 'cat {}/secret /link{}/secret'", dir.path, dir.path));
            assert!(!ran.stdout.contains("of the host"), "{ran}");
            t.cli(&format!("rmi -f {image}")).ok();
        }
    });
}

#[test]
fn cve_2021_21334_environments_do_not_mix() {
    both(|t| {
        let runs: Vec<_> =
            (0..24).map(|number| t.spawn(&format!("run --rm -e N={number} -e N{number}=1 busybox env"))).collect();
        for (number, run) in runs.into_iter().enumerate() {
            let ran = run.finish().ok();
            let mut own: Vec<&str> = ran.stdout.lines().filter(|line| line.starts_with('N')).collect();
            own.sort_unstable();
            assert_eq!(own, [format!("N{number}=1"), format!("N={number}")]);
        }
    });
}

#[test]
fn cve_2025_64329_streams_that_are_left_behind_do_not_pile_up() {
    engine(|t| {
        if !needs_own(t) {
            skip!("own-engine", "looks at the descriptors of the engine");
        }
        let api = t.api();
        let name = t.name("pile");
        api.post_json(
            &format!("/containers/create?name={name}"),
            &json!({ "Image": "busybox", "Cmd": ["sleep", "1000"] }),
        )
        .status(201);
        api.post(&format!("/containers/{name}/start")).status(204);
        let pid = t.engine.pid().unwrap().as_raw_nonzero();
        let list = || {
            let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
            entries.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect::<Vec<_>>()
        };
        let descriptors = || list().len();
        let round = || {
            // The child in the background keeps the pipes of the exec open.
            let exec = json!({ "Cmd": ["sh", "-c", "sleep 0.5 & echo x"], "AttachStdout": true, "AttachStderr": true });
            let exec = api.post_json(&format!("/containers/{name}/exec"), &exec).status(201).json()["Id"].clone();
            drop(api.hijack(&format!("/exec/{}/start", exec.as_str().unwrap()), &json!({})));
            drop(api.hijack(&format!("/containers/{name}/attach?stream=1&stdout=1"), &Value::Null));
        };
        (0..20).for_each(|_| round());
        std::thread::sleep(Duration::from_secs(2));
        let before = descriptors();
        (0..300).for_each(|_| round());
        // An engine keeps what it knows of an ended exec for a while, but no stream of it.
        let start = Instant::now();
        while descriptors() > before + 20 {
            assert!(start.elapsed() < Duration::from_secs(30), "{before} descriptors before, now {:?}", list());
            std::thread::sleep(Duration::from_millis(100));
        }
        api.delete(&format!("/containers/{name}?force=1")).status(204);
    });
}

#[test]
fn cve_2022_0811_a_sysctl_has_one_name_and_one_value() {
    both(|t| {
        let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
        for sysctl in [
            "net.ipv4.ip_forward=1+kernel.core_pattern=x",
            "net/../kernel/core_pattern=x",
            "net.ipv4/../../kernel/core_pattern=x",
            "kernel.shm_rmid_forced=1\nkernel.core_pattern=x",
            "kernel.core_pattern=x",
            "=x",
        ] {
            let ran = t.args(&["run", "--rm", "--sysctl", sysctl, "busybox", "true"]);
            // runc leaves it to the kernel what a second line means to it.
            assert!(ran.code != 0 || sysctl.contains('\n') && !t.engine.is_own(), "{sysctl}: {ran}");
            assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before, "{sysctl}");
        }
    });
}

#[test]
fn cve_2020_15257_there_is_no_abstract_socket() {
    engine(|t| {
        if !needs_own(t) {
            skip!("own-engine", "looks at the sockets of the engine");
        }
        let before = std::fs::read_to_string("/proc/net/unix").unwrap();
        t.cli("run -d --network host --name watcher busybox sleep 1000").ok();
        let seen = t.cli("exec watcher cat /proc/net/unix").ok();
        let abstracts = |text: &str| {
            text.lines().filter_map(|line| line.split(' ').next_back()).filter(|name| name.starts_with('@')).count()
        };
        assert!(abstracts(&seen.stdout) <= abstracts(&before) + 1, "{seen}");
        assert!(!seen.stdout.contains("@hoist") && !seen.stdout.contains("@/"), "{seen}");
        t.cli("rm -f watcher").ok();
    });
}

#[test]
fn cve_2021_41091_the_state_of_the_engine_cannot_be_walked_by_others() {
    engine(|t| {
        if !needs_own(t) {
            skip!("own-engine", "looks at the directories of the engine");
        }
        t.cli("run -d --name held busybox sleep 1000").ok();
        for directory in ["d", "r"] {
            let path = t.engine.directory().join(directory);
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
            assert_eq!(mode & 0o007, 0, "{} is open to others: {mode:o}", path.display());
        }
        t.cli("rm -f held").ok();
    });
}

#[test]
fn evil_archives_write_nothing_outside_and_no_half_image_stays() {
    engine(|t| {
        let dir = t.host_dir();
        dir.write("sentinel", "untouched");
        let (outside, up) = (format!("{}/written", dir.path), "../".repeat(12));
        let relative = format!("{up}{}", &outside[1..]);
        let corpus: Vec<(&str, Vec<Entry>)> = vec![
            ("dots", vec![Entry::file(&relative, "x")]),
            ("absolute", vec![Entry::file(&outside, "x")]),
            ("through a link", vec![Entry::symlink("l", &dir.path), Entry::file("l/written", "x")]),
            (
                "through a relative link",
                vec![Entry::symlink("l", &format!("{up}{}", &dir.path[1..])), Entry::file("l/written", "x")],
            ),
            (
                "hard link outside",
                vec![Entry::hard_link("h", &format!("{}/sentinel", dir.path)), Entry::file("h", "broken")],
            ),
            (
                "hard link by dots",
                vec![Entry::hard_link("h", &format!("{up}{}/sentinel", &dir.path[1..])), Entry::file("h", "x")],
            ),
            (
                "link replaced by file",
                vec![Entry::symlink("s", &format!("{}/sentinel", dir.path)), Entry::file("s", "x")],
            ),
            (
                "hard link to a link",
                vec![Entry::symlink("s", &dir.path), Entry::hard_link("h", "s"), Entry::file("h/written", "x")],
            ),
            ("whiteout by dots", vec![Entry::file(&format!("{up}{}/.wh.sentinel", &dir.path[1..]), "")]),
            ("whiteout through a link", vec![Entry::symlink("l", &dir.path), Entry::file("l/.wh.sentinel", "")]),
            ("opaque through a link", vec![Entry::symlink("l", &dir.path), Entry::file("l/.wh..wh..opq", "")]),
            ("whiteout of dots", vec![Entry::file("a/.wh...", "")]),
            ("whiteout of the root", vec![Entry::file(".wh..", ""), Entry::file(".wh.", "")]),
            ("root is a file", vec![Entry::file("./", "x"), Entry::symlink(".", &dir.path)]),
            ("directory over a link", vec![Entry::symlink("d", &dir.path), Entry::directory("d/").mode(0o777)]),
        ];
        for (what, entries) in corpus {
            let name = format!("{}:v1", t.name("evil"));
            let taken = try_load(t, &name, &[&entries], json!({}));
            println!("{what}: {}", if taken { "taken" } else { "refused" });
            assert_eq!(dir.read("sentinel"), "untouched", "{what}");
            let names: Vec<_> =
                std::fs::read_dir(dir.ours()).unwrap().flatten().map(|entry| entry.file_name()).collect();
            assert_eq!(names, ["sentinel"], "{what}");
            let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dir.ours()).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o755, "{what}");
            let status = t.api().get(&format!("/images/{name}/json")).status;
            assert_eq!(status, if taken { 200 } else { 404 }, "{what}");
            if taken {
                t.api().delete(&format!("/images/{name}?force=1")).status(200);
            }
        }
        t.api().get("/_ping").status(200);
    });
}

#[test]
fn a_decompression_bomb_is_stopped_or_bounded() {
    engine(|t| {
        if !needs_own(t) {
            skip!("own-engine", "looks at the memory of the engine");
        }
        // 300 MB of zeros in 300 kB.
        let layer = Layer::new(&[Entry::file("zeros", vec![0; 300_000_000])]);
        assert!(layer.blob.len() < 4_000_000);
        let mut image = Image::busybox();
        image.layers.push(layer);
        let before = peak(t);
        let headers = [("Content-Type", "application/x-tar")];
        t.api().request("POST", "/images/load?quiet=1", &headers, &image.docker_archive(&["bomb:v1"]));
        assert!(peak(t) < before + 100_000, "{before} kB before, {} kB after", peak(t));
        t.api().get("/_ping").status(200);
    });
}

#[test]
fn what_is_masked_and_read_only_for_docker_is_so_here() {
    both(|t| {
        for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"] {
            let ran = t.cli(&format!(
                "run --rm busybox sh -c 'if [ -d {path} ]; then ls -A {path} | wc -l; \
                elif [ -e {path} ]; then head -c 1 {path} | wc -c; else echo 0; fi'"
            ));
            ran.ok().prints("0");
        }
        for path in ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/proc/irq/0/smp_affinity"] {
            t.cli(&format!("run --rm busybox sh -c 'echo x > {path}'")).fails();
        }
        let groups =
            "if [ -d /sys/fs/cgroup/memory ]; then mkdir /sys/fs/cgroup/memory/x; else mkdir /sys/fs/cgroup/x; fi";
        t.args(&["run", "--rm", "busybox", "sh", "-c", groups]).fails().complains("Read-only file system");
        t.cli("run --rm busybox mount -o remount,rw /proc/sys").fails();
        t.cli("run --rm --security-opt systempaths=unconfined busybox sh -c 'head -c 1 /proc/timer_list | wc -c'")
            .ok()
            .prints("1");
    });
}

#[test]
fn system_calls_are_filtered_unless_unconfined() {
    both(|t| {
        t.cli("run --rm busybox grep Seccomp: /proc/self/status").ok().prints("Seccomp:\t2");
        t.cli("run --rm busybox unshare -m true").fails().complains("ermitted");
        t.cli("run --rm --security-opt seccomp=unconfined busybox grep Seccomp: /proc/self/status")
            .ok()
            .prints("Seccomp:\t0");
        t.cli("run --rm --privileged busybox grep Seccomp: /proc/self/status").ok().prints("Seccomp:\t0");
        let profile = t.home().join("profile.json");
        let text = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99 }],
        });
        std::fs::write(&profile, text.to_string()).unwrap();
        t.cli("run --rm --security-opt seccomp=profile.json busybox mkdir /x").fails_with(1);
        t.cli("run --rm --security-opt seccomp=profile.json busybox touch /x").ok();
        std::fs::write(&profile, "{ nonsense").unwrap();
        t.cli("run --rm --security-opt seccomp=profile.json busybox true").fails_with(125);
        t.cli("run --rm --security-opt seccomp=no-such-file busybox true").fails_with(125);
    });
}

#[test]
fn no_new_privileges_holds_for_run_and_exec() {
    both(|t| {
        let name = t.name("nnp");
        t.cli(&format!("run -d --name {name} --security-opt no-new-privileges busybox sleep 1000")).ok();
        t.cli(&format!("exec {name} grep NoNewPrivs /proc/1/status")).ok().prints("NoNewPrivs:\t1");
        t.cli(&format!("exec {name} grep NoNewPrivs /proc/self/status")).ok().prints("NoNewPrivs:\t1");
        t.cli("run --rm busybox grep NoNewPrivs /proc/self/status").ok().prints("NoNewPrivs:\t0");
    });
}
