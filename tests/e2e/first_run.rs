//! The README's first command: no engine, no configuration, no registry.

use std::process::Command;

use hoist_tests::{engine, skip};

#[test]
fn the_first_command_on_a_fresh_machine_starts_the_engine_and_says_hello() {
    engine(|t| {
        if !t.engine.is_own() {
            skip!("own-engine", "dockerd does not start by itself");
        }
        // Files, network and processes of their own stand for the fresh machine; its end takes the engine with it.
        let script = "set -e\n\
            for place in /run /var/lib /var/log; do mount -t tmpfs tmpfs $place; done\n\
            ip link set lo up\n\
            ! \"$HOIST\" --no-autostart ps 2> /run/refused\n\
            grep -q 'hoist engine' /run/refused\n\
            \"$HOIST\" run hello-world\n\
            \"$HOIST\" ps -a --format '{{.Image}} {{.Status}}'\n\
            \"$HOIST\" run --rm hello-world > /dev/null\n\
            test -S /run/hoist/hoist.sock\n\
            \"$HOIST\" rm $(\"$HOIST\" ps -aq) > /dev/null\n\
            test -d /var/lib/hoist\n";
        let mut fresh = Command::new("unshare");
        fresh.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]);
        fresh.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", t.home());
        fresh.env("HOIST", t.engine.binary());
        let ran = t.run(fresh).ok().matches(r"(?i)hello from \w+!");
        ran.matches(r"^hello-world Exited \(0\)");
        // Control groups have no namespace here. The engine's own, empty now, goes unless another engine uses it.
        let root = std::path::Path::new("/sys/fs/cgroup");
        let hierarchies = std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([root.to_path_buf()]) {
            let _ = std::fs::remove_dir(hierarchy.join("hoist"));
        }
    });
}
