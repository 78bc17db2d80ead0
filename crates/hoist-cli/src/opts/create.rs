//! The create request that the flags of `create` and `run` make.

use hoist_api::platform::Platform;
use serde_json::{Map, Value, json};

use super::{device, key_value, mount, network, port, resource, security};
use crate::{flags::Parsed, format::time};

/// Which streams a container is created with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// A create request and what the command line must remember of it.
pub(crate) struct Create {
    pub(crate) body: Value,
    pub(crate) streams: Streams,
}

/// Flags that only engines on Windows know.
const WINDOWS: [&str; 4] = ["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"];

/// Why a flag cannot be used with an engine on Linux.
pub(crate) fn unsupported(args: &Parsed) -> Option<String> {
    let lines = WINDOWS.into_iter().filter(|flag| args.has(flag)).map(|flag| {
        format!("\"--{flag}\" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux")
    });
    let lines: Vec<String> = lines.collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// What a request takes from elsewhere than its command line.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// The engine's own socket on this machine.
    pub(crate) socket: String,
    /// Variables that containers get where no flag names them.
    pub(crate) variables: Vec<(String, String)>,
}

/// Refuses a `--platform` that is none.
pub(crate) fn check_platform(args: &Parsed) -> Result<(), String> {
    let Some(platform) = args.filled("platform") else { return Ok(()) };
    Platform::parse(platform).map(drop).map_err(|why| format!("error parsing specified platform: {why}"))
}

/// Builds the request; `args.args` are the image and the command.
pub(crate) fn build(args: &Parsed, surroundings: &Surroundings) -> Result<Create, String> {
    let (image, command) = args.args.split_first().ok_or("no image given")?;
    let streams = streams(args);
    let ports = port::parse(&args.all("publish"), &args.all("expose"))?;
    let (binds, anonymous) = mount::volumes(&args.all("volume"))?;
    let mut environment = key_value::environment(&args.all("env-file"), &args.all("env"))?;
    // as with Docker a file of variables is no flag: its values are overridden
    key_value::add_unnamed(&mut environment, &args.all("env"), &surroundings.variables);
    let mut config = json!({
        "Hostname": args.text("hostname"),
        "Domainname": args.text("domainname"),
        "User": args.text("user"),
        "AttachStdin": streams.stdin,
        "AttachStdout": streams.stdout,
        "AttachStderr": streams.stderr,
        "ExposedPorts": ports.exposed,
        "Tty": streams.tty,
        "OpenStdin": args.is("interactive"),
        "StdinOnce": args.is("interactive") && streams.stdin,
        "Env": environment,
        "Cmd": (!command.is_empty()).then_some(command),
        "Image": image,
        "Volumes": anonymous,
        "WorkingDir": args.text("workdir"),
        "Entrypoint": args.get("entrypoint").map(|path| vec![path]),
        "Labels": key_value::labels(&args.all("label-file"), &args.all("label"))?,
    });
    if let Some(check) = healthcheck(args)? {
        config["Healthcheck"] = check;
    }
    if let Some(signal) = args.get("stop-signal") {
        config["StopSignal"] = signal.into();
    }
    if let Some(timeout) = args.int("stop-timeout") {
        config["StopTimeout"] = timeout.into();
    }
    let (mode, endpoints) = network::settings(args)?;
    let mut host = host_config(args)?;
    host["Binds"] = if binds.is_empty() { Value::Null } else { json!(binds) };
    host["PortBindings"] = Value::Object(ports.bindings);
    host["NetworkMode"] = mode.into();
    if args.is("use-api-socket") {
        add_api_socket(&mut host, &surroundings.socket);
    }
    if args.is("rm") && !matches!(host["RestartPolicy"]["Name"].as_str(), None | Some("" | "no")) {
        return Err("conflicting options: cannot specify both --restart and --rm".to_owned());
    }
    config["HostConfig"] = host;
    config["NetworkingConfig"] = json!({"EndpointsConfig": endpoints});
    Ok(Create { body: config, streams })
}

fn streams(args: &Parsed) -> Streams {
    let attached: Vec<String> = args.all("attach").into_iter().map(str::to_lowercase).collect();
    let has = |name: &str| attached.iter().any(|stream| stream == name);
    Streams {
        stdin: has("stdin") || args.is("interactive"),
        stdout: has("stdout") || attached.is_empty(),
        stderr: has("stderr") || attached.is_empty(),
        tty: args.is("tty"),
    }
}

fn healthcheck(args: &Parsed) -> Result<Option<Value>, String> {
    const DURATIONS: [(&str, &str); 4] = [
        ("health-interval", "Interval"),
        ("health-timeout", "Timeout"),
        ("health-start-period", "StartPeriod"),
        ("health-start-interval", "StartInterval"),
    ];
    let mut check = Map::new();
    for (flag, key) in DURATIONS {
        let duration = args.get(flag).map(time::parse_go_duration).transpose()?.unwrap_or_default();
        if duration < 0 {
            return Err(format!("--{flag} cannot be negative"));
        }
        if duration != 0 {
            check.insert(key.to_owned(), duration.into());
        }
    }
    match args.int("health-retries").unwrap_or_default() {
        0 => {}
        ..0 => return Err("--health-retries cannot be negative".to_owned()),
        retries => drop(check.insert("Retries".to_owned(), retries.into())),
    }
    if !args.text("health-cmd").is_empty() {
        check.insert("Test".to_owned(), json!(["CMD-SHELL", args.text("health-cmd")]));
    }
    match (args.is("no-healthcheck"), check.is_empty()) {
        (true, false) => Err("--no-healthcheck conflicts with --health-* options".to_owned()),
        (true, true) => Ok(Some(json!({"Test": ["NONE"]}))),
        (false, true) => Ok(None),
        (false, false) => Ok(Some(Value::Object(check))),
    }
}

/// The resource limits that `update` also knows, under their API names.
pub(crate) fn limits(args: &Parsed) -> Result<Map<String, Value>, String> {
    const INTS: [(&str, &str); 6] = [
        ("blkio-weight", "BlkioWeight"),
        ("cpu-period", "CpuPeriod"),
        ("cpu-quota", "CpuQuota"),
        ("cpu-rt-period", "CpuRealtimePeriod"),
        ("cpu-rt-runtime", "CpuRealtimeRuntime"),
        ("cpu-shares", "CpuShares"),
    ];
    let mut limits = Map::new();
    for (flag, key) in INTS {
        limits.insert(key.to_owned(), args.int(flag).unwrap_or_default().into());
    }
    let bytes = |flag: &str| args.get(flag).map_or(Ok(0), hoist_api::size::parse);
    limits.insert("NanoCpus".to_owned(), args.get("cpus").map_or(Ok(0), resource::nano_cpus)?.into());
    limits.insert("CpusetCpus".to_owned(), args.text("cpuset-cpus").into());
    limits.insert("CpusetMems".to_owned(), args.text("cpuset-mems").into());
    limits.insert("Memory".to_owned(), bytes("memory")?.into());
    limits.insert("MemoryReservation".to_owned(), bytes("memory-reservation")?.into());
    limits.insert("MemorySwap".to_owned(), args.get("memory-swap").map_or(Ok(0), resource::swap)?.into());
    // Taken and not sent, as Docker's client does: the kernel has no such limit any more.
    bytes("kernel-memory")?;
    Ok(limits)
}

fn host_config(args: &Parsed) -> Result<Value, String> {
    let security = security::parse(&args.all("security-opt"))?;
    let swappiness = args.int("memory-swappiness").unwrap_or(-1);
    if !(-1..=100).contains(&swappiness) {
        return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
    }
    let log_driver = args.text("log-driver");
    if log_driver == "none" && args.has("log-opt") {
        return Err("invalid logging opts for driver none".to_owned());
    }
    let list = |flag: &str| {
        let values = args.all(flag);
        if values.is_empty() { Value::Null } else { json!(values) }
    };
    let or_null = |values: Vec<String>| if values.is_empty() { Value::Null } else { json!(values) };
    let (cap_add, cap_drop) = security::capabilities(&args.all("cap-add"), &args.all("cap-drop"));
    let hosts: Vec<String> = args.all("add-host").into_iter().map(network::extra_host).collect();
    let mut host = json!({
        "ContainerIDFile": args.text("cidfile"),
        "LogConfig": {"Type": log_driver, "Config": key_value::map(args.all("log-opt"))},
        "RestartPolicy": resource::restart_policy(args.get("restart").unwrap_or("no"))?,
        "AutoRemove": args.is("rm"),
        "VolumeDriver": args.text("volume-driver"),
        "VolumesFrom": list("volumes-from"),
        "ConsoleSize": [0, 0],
        "CapAdd": or_null(cap_add),
        "CapDrop": or_null(cap_drop),
        "CgroupnsMode": check_mode(args.text("cgroupns"), &["host", "private"], "--cgroupns: invalid CGROUP mode")?,
        "Dns": args.all("dns"),
        "DnsOptions": args.all("dns-option"),
        "DnsSearch": args.all("dns-search"),
        "ExtraHosts": or_null(hosts),
        "GroupAdd": list("group-add"),
        "IpcMode": args.text("ipc"),
        "Cgroup": "",
        "Links": list("link"),
        "OomScoreAdj": args.int("oom-score-adj").unwrap_or_default(),
        "PidMode": check_pid(args.text("pid"))?,
        "Privileged": args.is("privileged"),
        "PublishAllPorts": args.is("publish-all"),
        "ReadonlyRootfs": args.is("read-only"),
        "SecurityOpt": if security.options.is_empty() { Value::Null } else { json!(security.options) },
        "UTSMode": check_mode(args.text("uts"), &["host"], "--uts: invalid UTS mode")?,
        "UsernsMode": check_mode(args.text("userns"), &["host"], "--userns: invalid USER mode")?,
        "ShmSize": args.get("shm-size").map_or(Ok(0), hoist_api::size::parse)?,
        "Isolation": args.text("isolation"),
        "MemorySwappiness": swappiness,
        "OomKillDisable": args.is("oom-kill-disable"),
        "PidsLimit": args.int("pids-limit").unwrap_or_default(),
        "CgroupParent": args.text("cgroup-parent"),
        "Ulimits": resource::ulimits(&args.all("ulimit"))?,
        "DeviceCgroupRules": list("device-cgroup-rule"),
    });
    for (key, value) in limits(args)? {
        host[key] = value;
    }
    add_devices(args, &mut host)?;
    add_optional(args, &mut host, security.open_paths)?;
    Ok(host)
}

fn add_devices(args: &Parsed, host: &mut Value) -> Result<(), String> {
    let each = |flag: &str, parse: fn(&str) -> Result<Value, String>| -> Result<Value, String> {
        args.all(flag).into_iter().map(parse).collect()
    };
    host["BlkioWeightDevice"] = each("blkio-weight-device", device::weight)?;
    host["BlkioDeviceReadBps"] = each("device-read-bps", device::bytes_rate)?;
    host["BlkioDeviceWriteBps"] = each("device-write-bps", device::bytes_rate)?;
    host["BlkioDeviceReadIOps"] = each("device-read-iops", device::io_rate)?;
    host["BlkioDeviceWriteIOps"] = each("device-write-iops", device::io_rate)?;
    let (cdi, plain): (Vec<&str>, Vec<&str>) =
        args.all("device").into_iter().partition(|name| device::is_cdi_name(name));
    host["Devices"] = plain.into_iter().map(device::parse).collect::<Result<Value, _>>()?;
    let mut requests = args.all("gpus").into_iter().map(device::gpus).collect::<Result<Vec<_>, _>>()?;
    if !cdi.is_empty() {
        requests.push(json!({"Driver": "cdi", "Count": 0, "DeviceIDs": cdi, "Capabilities": null, "Options": null}));
    }
    host["DeviceRequests"] = if requests.is_empty() { Value::Null } else { requests.into() };
    Ok(())
}

/// Fields that are left out unless asked for.
fn add_optional(args: &Parsed, host: &mut Value, open_paths: bool) -> Result<(), String> {
    if args.has("init") {
        host["Init"] = args.is("init").into();
    }
    if let Some(runtime) = args.get("runtime") {
        host["Runtime"] = runtime.into();
    }
    if open_paths {
        host["MaskedPaths"] = json!([]);
        host["ReadonlyPaths"] = json!([]);
    }
    for (flag, key) in [("annotation", "Annotations"), ("sysctl", "Sysctls")] {
        if args.has(flag) {
            host[key] = json!(key_value::map(args.all(flag)));
        }
    }
    if args.has("tmpfs") {
        host["Tmpfs"] = Value::Object(mount::tmpfs(&args.all("tmpfs")));
    }
    if args.has("mount") {
        host["Mounts"] = args.all("mount").into_iter().map(mount::parse).collect::<Result<Value, _>>()?;
    }
    if args.has("storage-opt") {
        let pairs = args.all("storage-opt");
        if pairs.iter().any(|pair| !pair.contains('=')) {
            return Err("invalid storage option".to_owned());
        }
        host["StorageOpt"] = json!(key_value::map(pairs));
    }
    Ok(())
}

fn check_mode<'a>(mode: &'a str, known: &[&str], error: &str) -> Result<&'a str, String> {
    if mode.is_empty() || known.contains(&mode) { Ok(mode) } else { Err(error.to_owned()) }
}

fn check_pid(mode: &str) -> Result<&str, String> {
    match mode.strip_prefix("container:") {
        Some(name) if !name.is_empty() => Ok(mode),
        None if mode.is_empty() || mode == "host" => Ok(mode),
        _ => Err("--pid: invalid PID mode".to_owned()),
    }
}

fn add_api_socket(host: &mut Value, source: &str) {
    let socket = json!({"Type": "bind", "Source": source, "Target": "/var/run/docker.sock", "BindOptions": {}});
    match &mut host["Mounts"] {
        Value::Array(mounts) => mounts.push(socket),
        none => *none = json!([socket]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands::ROOT, flags};

    fn parsed(line: &str) -> Result<Parsed, String> {
        let crate::commands::Run::Group(commands) = ROOT.run else { unreachable!() };
        let run = commands.iter().find(|command| command.name == "run").unwrap();
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        flags::parse(run, &words)
    }

    fn body(line: &str) -> Result<Value, String> {
        let variables = [("HTTP_PROXY", "p"), ("http_proxy", "p")];
        let surroundings = Surroundings {
            socket: "/s".to_owned(),
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        };
        build(&parsed(line)?, &surroundings).map(|create| create.body)
    }

    #[test]
    fn proxies_are_added_where_no_flag_names_them() {
        let env = |line| body(line).unwrap()["Env"].clone();
        assert_eq!(env("x"), json!(["HTTP_PROXY=p", "http_proxy=p"]));
        assert_eq!(env("-e http_proxy=q -e A=b x"), json!(["http_proxy=q", "A=b", "HTTP_PROXY=p"]));
        // a name alone that is not set here takes the variable away
        assert_eq!(env("-e HTTP_PROXY= -e http_proxy x")[0], "HTTP_PROXY=");
        assert_eq!(env("-e HTTP_PROXY= -e http_proxy x").as_array().unwrap().len(), 2);
    }

    #[test]
    fn flags_stop_at_the_image() {
        let body = body("--rm -it --name x busybox sh -c --rm").unwrap();
        assert_eq!(body["Image"], "busybox");
        assert_eq!(body["Cmd"], json!(["sh", "-c", "--rm"]));
        assert_eq!((&body["Tty"], &body["OpenStdin"], &body["StdinOnce"]), (&json!(true), &json!(true), &json!(true)));
    }

    #[test]
    fn limits_reach_the_host_config() {
        let body =
            body("-m 512m --memory-swap -1 --cpus 1.5 --pids-limit 9 --ulimit nofile=1:2 --shm-size 1g x").unwrap();
        let host = &body["HostConfig"];
        assert_eq!(host["Memory"], 512 << 20);
        assert_eq!(host["MemorySwap"], -1);
        assert_eq!(host["NanoCpus"], 1_500_000_000);
        assert_eq!(host["PidsLimit"], 9);
        assert_eq!(host["Ulimits"], json!([{"Name": "nofile", "Hard": 2, "Soft": 1}]));
        assert_eq!(host["ShmSize"], 1 << 30);
    }

    #[test]
    fn conflicts_are_refused() {
        assert!(body("--rm --restart always x").unwrap_err().contains("--restart and --rm"));
        assert!(body("--no-healthcheck --health-cmd a x").unwrap_err().contains("conflicts"));
        assert!(body("--memory-swappiness 101 x").unwrap_err().contains("range is 0-100"));
        assert!(body("--pid foo x").unwrap_err().contains("invalid PID mode"));
        assert!(body("--log-driver none --log-opt a=b x").is_err());
        let why = check_platform(&parsed("--platform a/b/c/d x").unwrap()).unwrap_err();
        assert_eq!(
            why,
            "error parsing specified platform: \"a/b/c/d\": cannot parse platform specifier: invalid argument"
        );
    }
}
