//! Flags of run and create that are about one thing only: links, devices that nobody has, limits out of range.

use hoist_tests::both;

#[test]
fn a_link_gives_names_addresses_and_variables() {
    both(|t| {
        let (db, web) = (t.name("db"), t.name("web"));
        t.cli(&format!("run -d --name {db} -h dbhost -e X=y --expose 80-82 busybox sleep 1000")).ok();
        t.cli(&format!("run -d --name {web} --link {db}:my-db busybox sleep 1000")).ok();
        let address = |name: &str| {
            t.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].as_str().unwrap().to_owned()
        };
        let hosts = || t.cli(&format!("exec {web} cat /etc/hosts")).ok();
        hosts().says(&format!("{}\tmy-db dbhost {db}", address(&db)));
        assert_eq!(t.inspect(&web)["HostConfig"]["Links"][0], format!("/{db}:/{web}/my-db"));
        let env = t.cli(&format!("run --rm --name {web}2 --link {db}:my-db busybox env")).ok();
        let ip = address(&db);
        env.says(&format!("MY_DB_PORT=tcp://{ip}:80")).says("MY_DB_PORT_80_TCP_PORT_END=82");
        let env = t.cli(&format!("run --rm --name {web}3 --link {db} busybox env")).ok();
        env.says("_ENV_X=y").says(&format!("_NAME=/{web}3/{db}"));
        // Whoever is linked learns a new address.
        t.cli(&format!("stop -t 0 {db}")).ok();
        let other = t.name("other");
        t.cli(&format!("run -d --name {other} busybox sleep 1000")).ok();
        t.cli(&format!("start {db}")).ok();
        hosts().says(&format!("{}\tmy-db dbhost {db}", address(&db)));
        t.cli(&format!("stop -t 0 {db} {web}")).ok();
        t.cli(&format!("start {web}")).fails_with(1).complains("Cannot link to a non running container");
        t.cli(&format!("rm {db}")).ok();
        t.cli(&format!("start {web}")).fails_with(1).complains("Cannot link to a non running container");
    });
}

#[test]
fn links_that_cannot_be_are_refused() {
    both(|t| {
        let text = "could not get container for no-such: No such container: no-such";
        t.cli("run --rm --link no-such:x busybox true").fails_with(125).complains(text);
        t.cli("run --rm --link a:b:c busybox true").fails_with(125).complains("bad format for links: a:b:c");
        let db = t.name("db");
        t.cli(&format!("run -d --name {db} busybox sleep 1000")).ok();
        let refused = t.cli(&format!("run --rm --link {db}:x --network host busybox true")).fails_with(125);
        refused.complains("host type networking can't be used with links");
    });
}

#[test]
fn a_link_is_another_name_that_can_be_taken_away() {
    both(|t| {
        let (db, web) = (t.name("db"), t.name("web"));
        t.cli(&format!("run -d --name {db} busybox sleep 1000")).ok();
        t.cli(&format!("run -d --name {web} --link {db}:alias --link {db} busybox sleep 1000")).ok();
        let names = |flags: &str| {
            let shown = t.cli(&format!("ps {flags} --filter name={db} --format {{{{.Names}}}}")).ok();
            shown.text().trim().split(',').map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(names("--no-trunc"), [db.clone(), format!("{web}/alias"), format!("{web}/{db}")]);
        assert_eq!(names(""), [db.as_str()]);
        assert_eq!(t.inspect(&format!("{web}/alias"))["Name"], format!("/{db}"));
        t.cli(&format!("ps --filter name={web}/alias -q")).ok().prints("");
        let conflict = "Conflict, cannot remove the default link name of the container";
        t.cli(&format!("rm --link {web}")).fails_with(1).complains(conflict);
        t.cli(&format!("rm --link {web}/none")).fails_with(1).complains(&format!("No such container: {web}/none"));
        t.cli(&format!("rm -l {web}/alias")).ok().prints(&format!("{web}/alias"));
        t.cli(&format!("rm -l {web}/alias")).fails_with(1).complains("No such container");
        assert_eq!(names("--no-trunc"), [db.clone(), format!("{web}/{db}")]);
        assert_eq!(t.inspect(&web)["HostConfig"]["Links"], serde_json::json!([format!("/{db}:/{web}/{db}")]));
        t.cli(&format!("exec {web} cat /etc/hosts")).ok().says_not("alias");
    });
}

#[test]
fn wrong_values_are_refused_in_dockers_words() {
    both(|t| {
        let cases = [
            ("--gpus all", "could not select device driver \"\" with capabilities: [[gpu]]"),
            ("--isolation foo", "invalid isolation (foo): linux only supports 'default'"),
            ("--annotation =b", "the empty string is not permitted as an annotation key"),
            ("--health-interval 1ns", "Interval in Healthcheck cannot be less than 1ms"),
            ("--cpuset-cpus x", "Invalid value x for cpuset cpus: invalid format: x"),
            ("--ip 1.2.3.4", "user specified IP address is supported on user defined networks only"),
            ("--ip6 ::2", "user specified IP address is supported on user defined networks only"),
            ("--device-read-bps /dev/no-such:1mb", "stat /dev/no-such: no such file or directory"),
            ("--mount type=npipe,source=a,target=/x", "invalid mount config for type \"npipe\": mount type unknown"),
            ("--tmpfs /x:nonsense", "invalid tmpfs option \"nonsense\""),
            ("--storage-opt nonsense=1", "nonsense"),
            ("--cpu-shares -1", "invalid CPU shares (-1): value must be a positive integer"),
            ("--cpuset-cpus 0-8192", "Requested CPUs are not available - requested 0-8192"),
            ("--device vendor.com/class=x", "CDI device injection failed: unresolvable CDI devices vendor.com/class=x"),
            ("--ipc container:", "failed to join IPC namespace: invalid name or ID supplied: \"\""),
            ("--network container:", "invalid network mode: invalid container format container:<name|id>"),
            ("--pid container:no-such-container", "No such container: no-such-container"),
            ("--ipc container:no-such-container", "No such container: no-such-container"),
            ("-w /etc/passwd", "Cannot mkdir: /etc/passwd is not a directory"),
            ("--log-opt cache-disabled=x", "invalid value for option cache-disabled: x"),
            ("--security-opt foo=bar", "invalid --security-opt 2: \"foo=bar\""),
            (
                "--mount type=volume,dst=/x,volume-subpath=a",
                "invalid mount config for type \"volume\": must not set Subpath when using anonymous volumes",
            ),
            ("--link-local-ip x", "invalid link-local IP address: x"),
            ("--security-opt no-new-privileges=x", "invalid --security-opt 2: \"no-new-privileges=x\""),
            ("--mount type=bind,src=/tmp,dst=/", "invalid specification: destination can't be '/'"),
            ("--tmpfs /", "invalid specification: destination can't be '/'"),
            ("-v /tmp:/x:ro,rw", "invalid mode: ro,rw"),
            ("-v /tmp:/x:z,Z", "invalid mode: z,Z"),
            ("-v /tmp:/x:nocopy", "invalid mount config for type \"bind\": field VolumeOptions must not be specified"),
            ("-v vol:/x:rslave", "invalid mount config for type \"volume\": field BindOptions must not be specified"),
            ("--network container:no-such", "joining network namespace of container: No such container: no-such"),
            ("-v a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
            ("-v a:b:c", "invalid mode: c"),
            ("--network no-such", "failed to set up container networking: network no-such not found"),
            ("-v /tmp:/x:ro:rw", "invalid spec: /tmp:/x:ro:rw: too many colons"),
            (
                "--mount type=volume,src=vol,dst=/x,volume-subpath=../x",
                "invalid mount config for type \"volume\": subpath must be a relative path within the volume",
            ),
        ];
        for (flag, text) in cases {
            t.cli(&format!("run --rm {flag} busybox true")).fails().complains(text);
        }
        t.cli("run --rm --kernel-memory 100m busybox true").ok();
        t.cli("run --rm --isolation default busybox true").ok();
        t.cli("run --rm --log-opt cache-max-size=5m --log-opt cache-compress=true busybox true").ok();
        let mounted = |flags: &str| t.cli(&format!("run --rm {flags} busybox grep cgroup /proc/self/mounts")).ok();
        mounted("--security-opt writable-cgroups=true").matches(r"/sys/fs/cgroup\S* \S+ rw,").says_not(" ro,");
        mounted("").matches(r"/sys/fs/cgroup\S* \S+ ro,");
        t.cli("run --rm --runtime io.containerd.runc.v2 busybox true").ok();
        let discarded = "Published ports are discarded when using host network mode";
        t.cli("run --rm --network host -p 80:80 busybox true").ok().complains(discarded);
        let name = t.name("gpus");
        t.cli(&format!("create --name {name} --gpus all busybox")).ok();
        assert_eq!(t.inspect(&name)["HostConfig"]["DeviceRequests"][0]["Count"], -1);
    });
}
