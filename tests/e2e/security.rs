//! The known failures of engines like ours: for each, what would have shown it.

use std::time::{Duration, Instant};

use hoist_tests::{both, engine, skip};
use serde_json::{Value, json};

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
        if !t.engine.is_own() {
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
        if !t.engine.is_own() {
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
        if !t.engine.is_own() {
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
fn a_container_sees_its_own_control_groups_only() {
    both(|t| {
        // One directory in each hierarchy of version 1, one altogether in version 2: nobody else's, and none above.
        let groups = "cd /sys/fs/cgroup; [ -d pids ] && cd pids; find . -type d | wc -l";
        for flags in ["--cgroupns private", "--cgroupns private --privileged"] {
            let ran =
                t.cli(&format!("run --rm {flags} busybox sh -c '{groups}; cut -d: -f3 /proc/self/cgroup | sort -u'"));
            ran.ok().prints("1\n/");
        }
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

#[test]
fn labels_of_a_security_module_that_the_kernel_lacks_mean_nothing() {
    both(|t| {
        if std::path::Path::new("/sys/module/apparmor").exists() || std::path::Path::new("/sys/fs/selinux").exists() {
            skip!("no-lsm", "this kernel has AppArmor or SELinux");
        }
        for option in [
            "label=disable",
            "label:disable",
            "label=type:foo",
            "label=nonsense",
            "apparmor=unconfined",
            "apparmor=docker-default",
            "apparmor=no-such-profile",
        ] {
            t.cli(&format!("run --rm --security-opt {option} busybox true")).ok();
        }
        t.cli("run --rm --security-opt apparmor= busybox true").fails_with(125);
    });
}
