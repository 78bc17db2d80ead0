//! Limits and what else the options change for the process: memory, CPU, pids, ulimits, sysctls, devices, namespaces.

use hoist_tests::{both, eventually, skip};

#[test]
fn a_process_over_its_memory_is_killed_and_marked() {
    both(|t| {
        let name = t.name("oom");
        let eat = "x=x; while :; do x=$x$x$x; done";
        let ran = t.args(&["run", "--name", &name, "-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", eat]);
        ran.fails_with(137);
        eventually("it is marked", || t.inspect(&name)["State"]["OOMKilled"] == true);
    });
}

#[test]
fn the_limits_are_in_the_control_groups() {
    both(|t| {
        let options = "-m 32m --memory-swap 64m --memory-reservation 16m --cpus 0.5 --cpu-shares 512 --pids-limit 50 --cpuset-cpus 0";
        let script = "if [ -e /sys/fs/cgroup/cgroup.controllers ]; then cd /sys/fs/cgroup; \
            cat memory.max cpu.max pids.max cpuset.cpus; \
            else cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes; \
            echo $(cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us); cat pids/pids.max cpuset/cpuset.cpus; fi";
        t.cli(&format!("run --rm {options} busybox sh -c '{script}'")).ok().prints("33554432\n50000 100000\n50\n0");
    });
}

#[test]
fn wrong_limits_are_refused() {
    both(|t| {
        for options in [
            "-m 1k",
            "-m nonsense",
            "-m 99999999999g",
            "--memory-swap 4m -m 8m",
            "--cpus nonsense",
            "--cpus 10000",
            "--cpuset-cpus 4000",
            "--cpuset-cpus nonsense",
            "--memory-swappiness 200 ",
            "--ulimit nonsense",
            "--ulimit nofile=20:10",
            "--shm-size nonsense",
            "--shm-size 99999999999999999999",
            "--oom-score-adj 2000",
            "--pids-limit nonsense",
            "--sysctl nonsense",
            "--security-opt nonsense",
            "--cap-add NONSENSE",
            "--runtime nonsense",
        ] {
            t.cli(&format!("run --rm {options} busybox true")).fails_with(125);
        }
        t.cli("run --rm --device /no/such/device busybox true").fails().complains("/no/such/device");
    });
}

#[test]
fn the_number_of_processes_is_bounded() {
    both(|t| {
        let ran = t.cli("run --rm --pids-limit 10 busybox sh -c 'for i in $(seq 30); do sleep 1 & done; wait'");
        ran.complains("can't fork");
    });
}

#[test]
fn ulimits_sysctls_shm_and_oom_score_are_set() {
    both(|t| {
        t.cli("run --rm --ulimit nofile=100:200 busybox sh -c 'ulimit -Sn; ulimit -Hn'").ok().prints("100\n200");
        t.cli("run --rm --sysctl net.ipv4.ip_forward=0 busybox cat /proc/sys/net/ipv4/ip_forward").ok().prints("0");
        t.cli("run --rm --sysctl kernel.panic=1 busybox true").fails_with(125);
        t.cli("run --rm busybox df -k /dev/shm").ok().matches(r"shm +65536 ");
        t.cli("run --rm --shm-size 8m busybox df -k /dev/shm").ok().matches(r"shm +8192 ");
        t.cli("run --rm --oom-score-adj 300 busybox cat /proc/self/oom_score_adj").ok().prints("300");
    });
}

#[test]
fn anybody_may_use_the_usual_devices_listen_on_low_ports_and_ping() {
    both(|t| {
        let modes = "stat -c %a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty";
        t.cli(&format!("run --rm busybox {modes}")).ok().prints(&["666"; 6].join("\n"));
        t.cli(&format!("run --rm --network none --read-only busybox {modes}")).ok().prints(&["666"; 6].join("\n"));
        t.cli("run --rm -u worker busybox sh -c 'echo a > /dev/null'").ok();
        let ports = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
        let show = format!("busybox cat {ports} /proc/sys/net/ipv4/ping_group_range");
        t.cli(&format!("run --rm {show}")).ok().prints("0\n0\t2147483647");
        t.cli(&format!("run --rm --network none {show}")).ok().prints("0\n0\t2147483647");
        let own = "--sysctl net.ipv4.ip_unprivileged_port_start=500";
        t.cli(&format!("run --rm {own} {show}")).ok().prints("500\n0\t2147483647");
        let of_host = std::fs::read_to_string(ports).unwrap();
        t.cli(&format!("run --rm --network host busybox cat {ports}")).ok().prints(of_host.trim());
    });
}

#[test]
fn a_device_is_given_with_its_permissions() {
    both(|t| {
        // What every container may use anyway (zero, null and so on) would show nothing.
        let disk = std::fs::read_dir("/sys/block").unwrap().flatten().map(|entry| entry.file_name());
        let mut disk = disk.map(|name| format!("/dev/{}", name.to_string_lossy()));
        let Some(disk) = disk.find(|path| std::fs::File::open(path).is_ok()) else {
            skip!("disk", "no block device can be opened here");
        };
        t.cli(&format!("run --rm --device {disk}:/dev/mine:r busybox head -c 3 /dev/mine")).ok();
        t.cli(&format!("run --rm --device {disk}:/dev/mine:w busybox head -c 3 /dev/mine"))
            .fails()
            .complains("not permitted");
        t.cli(&format!("run --rm --device {disk} busybox test -b {disk}")).ok();
        t.cli("run --rm busybox sh -c 'mknod /dev/x b 254 0 && cat /dev/x'").fails().complains("ermitted");
    });
}

#[test]
fn privileged_has_the_hosts_devices_and_all_capabilities() {
    both(|t| {
        let ran = t.cli("run --rm --privileged busybox sh -c 'ls /dev | wc -l; grep CapEff /proc/self/status'").ok();
        assert!(ran.lines()[0].parse::<u32>().unwrap() > 15, "{ran}");
        t.cli("run --rm --privileged busybox mount -t tmpfs none /mnt").fails();
        t.cli("run --rm --privileged busybox mount -t tmpfs none /tmp").ok();
        t.cli("run --rm busybox mount -t tmpfs none /tmp").fails().complains("permission denied");
    });
}

#[test]
fn capabilities_are_the_fourteen_plus_and_minus_what_is_said() {
    both(|t| {
        let caps = |options: &str| {
            let ran = t.cli(&format!("run --rm {options} busybox grep Cap /proc/self/status")).ok();
            let of = |name: &str| ran.row(name).rsplit('\t').next().unwrap().to_string();
            (of("CapEff"), of("CapBnd"), of("CapInh"), of("CapAmb"))
        };
        let none = "0".repeat(16);
        let default = "00000000a80425fb".to_string();
        assert_eq!(caps(""), (default.clone(), default.clone(), none.clone(), none.clone()));
        assert_eq!(caps("--cap-drop ALL").0, none);
        assert_eq!(caps("--cap-drop ALL --cap-add CHOWN").0, "0000000000000001");
        assert_eq!(caps("--cap-add SYS_TIME").0, "00000000aa0425fb");
        assert_eq!(caps("--cap-drop CAP_CHOWN").0, "00000000a80425fa");
        assert_eq!(caps("-u worker"), (none.clone(), default, none.clone(), none));
    });
}

#[test]
fn namespaces_are_new_shared_or_the_hosts() {
    both(|t| {
        let name = t.name("shared");
        t.cli(&format!("run -d --ipc shareable --name {name} busybox sleep 1000")).ok();
        t.cli(&format!("run --rm --pid container:{name} busybox ps")).ok().matches(r"^ +1 root .*sleep 1000");
        t.cli(&format!("exec {name} touch /dev/shm/seen")).ok();
        t.cli(&format!("run --rm --ipc container:{name} busybox ls /dev/shm")).ok().prints("seen");
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        t.cli("run --rm --uts host busybox hostname").ok().prints(&host);
        t.cli("run --rm --uts host -h other busybox true").fails_with(125);
        let ours = std::fs::read_link("/proc/self/ns/ipc").unwrap();
        t.cli("run --rm --ipc host busybox readlink /proc/self/ns/ipc").ok().prints(&ours.to_string_lossy());
        let pid = std::process::id();
        t.cli(&format!("run --rm --pid host busybox test -d /proc/{pid}")).ok();
        t.cli("run --rm busybox ps -o pid,comm").ok().matches("^ +1 ps");
        t.cli("run --rm --pid container:no-such-container busybox true").fails_with(125);
    });
}

/// A container's own control group, as a script that prints its files: those of version 2, or their elders of version 1.
fn files(unified: &str, legacy: &str) -> String {
    let is_unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    format!("sh -c 'cd /sys/fs/cgroup; cat {}'", if is_unified { unified } else { legacy })
}

#[test]
fn reservations_and_memory_nodes_are_in_the_control_groups() {
    both(|t| {
        let read = files("memory.low cpuset.mems", "memory/memory.soft_limit_in_bytes cpuset/cpuset.mems");
        t.cli(&format!("run --rm -m 32m --memory-reservation 16m --cpuset-mems 0 busybox {read}"))
            .ok()
            .prints("16777216\n0");
        // What nobody asked for is 100 or 1024; how shares become weights has changed in runc.
        let read = files("cpu.weight", "cpu/cpu.shares");
        let weight: u32 = t.cli(&format!("run --rm --cpu-shares 512 busybox {read}")).ok().text().parse().unwrap();
        assert!((1..100).contains(&weight) || weight == 512, "{weight}");
    });
}

#[test]
fn a_disks_bandwidth_is_limited() {
    both(|t| {
        let disks = ["vda", "sda", "xvda", "nvme0n1"].into_iter();
        let Some(disk) = disks.into_iter().find(|disk| std::path::Path::new("/sys/block").join(disk).exists()) else {
            skip!("disk", "no block device of a known name");
        };
        let device = std::fs::read_to_string(format!("/sys/block/{disk}/dev")).unwrap();
        let device = device.trim();
        let options = format!("--device-read-bps /dev/{disk}:1mb --device-write-iops /dev/{disk}:100");
        let legacy = "blkio/blkio.throttle.read_bps_device blkio/blkio.throttle.write_iops_device";
        let ran = t.cli(&format!("run --rm {options} busybox {}", files("io.max", legacy))).ok();
        let unified = format!("{device} rbps=1048576 wbps=max riops=max wiops=100");
        assert!([unified, format!("{device} 1048576\n{device} 100")].iter().any(|text| text == ran.text()), "{ran}");
    });
}

#[test]
fn an_update_changes_the_limits_of_what_runs() {
    both(|t| {
        let name = t.name("update");
        t.cli(&format!("run -d --name {name} -m 64m --memory-swap 64m --pids-limit 20 busybox sleep 1000")).ok();
        t.cli(&format!("update -m 32m --memory-swap 32m --pids-limit 30 --cpus 0.25 --cpuset-cpus 0 {name}")).ok();
        let unified = "memory.max pids.max cpu.max cpuset.cpus";
        let legacy = "memory/memory.limit_in_bytes pids/pids.max cpu/cpu.cfs_quota_us cpuset/cpuset.cpus";
        let ran = t.cli(&format!("exec {name} {}", files(unified, legacy))).ok();
        assert_eq!(ran.text().replace(" 100000", ""), "33554432\n30\n25000\n0");
        t.cli(&format!("rm -f {name}")).ok();
    });
}

/// All of a container's processes, not only the first.
#[test]
fn a_paused_group_is_frozen_as_a_whole_and_thaws() {
    both(|t| {
        let name = t.name("frozen");
        t.cli(&format!("run -d --name {name} busybox sh -c 'sleep 1000 & sleep 1000'")).ok();
        let pid = t.inspect(&name)["State"]["Pid"].to_string();
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let group =
            |line: &str| groups.lines().find_map(|found| found.split_once(line)).map(|(_, path)| path.to_string());
        let is_frozen = match (group(":freezer:"), group("0::")) {
            (Some(path), _) => (format!("/sys/fs/cgroup/freezer{path}/freezer.state"), "FROZEN"),
            (None, path) => (format!("/sys/fs/cgroup{}/cgroup.events", path.unwrap_or_default()), "frozen 1"),
        };
        let (file, word) = is_frozen;
        let is_frozen = || std::fs::read_to_string(&file).unwrap().contains(word);
        assert!(!is_frozen());
        t.cli(&format!("pause {name}")).ok();
        eventually("all of it is frozen", is_frozen);
        t.cli(&format!("unpause {name}")).ok();
        eventually("all of it goes on", || !is_frozen());
        t.cli(&format!("rm -f {name}")).ok();
    });
}

#[test]
fn an_update_that_contradicts_what_is_set_is_refused() {
    both(|t| {
        let name = t.name("update");
        t.cli(&format!("create --rm --name {name} --cpus 1 busybox true")).ok();
        let id = t.inspect(&name)["Id"].as_str().unwrap().to_string();
        let refused = |flags: &str, why: &str| {
            let text = format!("Cannot update container {id}: {why}");
            t.cli(&format!("update {flags} {name}")).fails_with(1).complains(&text);
        };
        let set = "cannot be updated as NanoCPUs has already been set";
        refused("--cpu-quota 50000", &format!("Conflicting options: CPU Quota {set}"));
        refused("--cpu-period 50000", &format!("Conflicting options: CPU Period {set}"));
        let policy = "Restart policy cannot be updated because AutoRemove is enabled for the container";
        refused("--restart always", policy);
        t.cli(&format!("update --restart no {name}")).ok();
        t.cli(&format!("update --pids-limit=-1 {name}")).ok();
        assert_eq!(t.inspect(&name)["HostConfig"]["PidsLimit"], 0);
    });
}
