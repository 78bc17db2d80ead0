//! The image's defaults under the client's wishes (moby's rules), and the spellings of "default" made explicit.

use std::collections::BTreeMap;
use std::path::Path;

use hoist_api::container::Config;
use hoist_api::host_config::{HostConfig, Resources};
use hoist_api::image::ContainerConfig;
use hoist_runtime::cgroup::Version;
use hoist_runtime::defaults;

use crate::settings::Settings;

/// Fills `config` from the image's config.
pub(crate) fn with_image(config: &mut Config, image: &ContainerConfig) {
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    union(&mut config.exposed_ports, image.exposed_ports.as_ref());
    union(&mut config.volumes, image.volumes.as_ref());
    config.volumes.take_if(|volumes| volumes.is_empty());
    match config.env.as_mut().filter(|own| !own.is_empty()) {
        // What neither says is null, as with Docker.
        None => config.env.clone_from(&image.env),
        Some(own) => {
            for variable in image.env.iter().flatten() {
                if !own.iter().any(|known| key_of(known) == key_of(variable)) {
                    own.push(variable.clone());
                }
            }
        }
    }
    for (key, value) in image.labels.iter().flatten() {
        config.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if config.cmd.as_ref().is_none_or(Vec::is_empty) {
            config.cmd.clone_from(&image.cmd);
        }
        if config.entrypoint.is_none() {
            config.entrypoint.clone_from(&image.entrypoint);
        }
    } else if config.entrypoint.as_ref().is_some_and(|e| matches!(e.as_slice(), [one] if one.is_empty())) {
        config.entrypoint = None;
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    if config.stop_signal.is_empty() {
        config.stop_signal.clone_from(&image.stop_signal);
    }
    if config.healthcheck.is_none() {
        config.healthcheck.clone_from(&image.healthcheck);
    }
    if config.shell.is_none() {
        config.shell.clone_from(&image.shell);
    }
    config.on_build.clone_from(&image.on_build);
}

fn key_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(key, _)| key)
}

fn union<V: Clone>(own: &mut Option<BTreeMap<String, V>>, image: Option<&BTreeMap<String, V>>) {
    let Some(image) = image else { return };
    let own = own.get_or_insert_default();
    for (key, value) in image {
        own.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

/// Writes Docker's defaults into `host` where the client left them open, as inspect shows them.
pub(crate) fn host_defaults(host: &mut HostConfig, settings: &Settings, version: Version) {
    let default = |field: &mut String, value: &str| {
        if field.is_empty() {
            value.clone_into(field);
        }
    };
    if host.network_mode == "default" {
        host.network_mode.clear();
    }
    default(&mut host.network_mode, "bridge");
    default(&mut host.ipc_mode, "private");
    let cgroupns = if host.privileged || version == Version::V1 { "host" } else { "private" };
    default(&mut host.cgroupns_mode, cgroupns);
    default(&mut host.runtime, &settings.live.now().default_runtime);
    default(&mut host.restart_policy.name, "no");
    if host.shm_size == 0 {
        host.shm_size = settings.shm_size_bytes;
    }
    if host.log_config.r#type.is_empty() {
        host.log_config.r#type.clone_from(&settings.log.r#type);
    }
    if host.log_config.r#type == settings.log.r#type {
        for (key, value) in &settings.log.config {
            host.log_config.config.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if host.resources.pids_limit.is_some_and(|limit| limit <= 0) {
        host.resources.pids_limit = None;
    }
    if host.resources.memory_swappiness == Some(-1) {
        host.resources.memory_swappiness = None;
    }
    if host.resources.memory > 0 && host.resources.memory_swap == 0 {
        host.resources.memory_swap = host.resources.memory.saturating_mul(2);
    }
    if version == Version::V1 {
        host.resources.oom_kill_disable.get_or_insert(false);
    }
    for (name, ulimit) in &settings.default_ulimits {
        if !host.resources.ulimits.iter().any(|u| u.name == *name) {
            host.resources.ulimits.push(ulimit.clone());
        }
    }
    let open = host.privileged || host.security_opt.iter().flatten().any(|o| o == "systempaths=unconfined");
    if open {
        host.masked_paths.get_or_insert_default();
        host.readonly_paths.get_or_insert_default();
    }
    host.masked_paths.get_or_insert_with(defaults::masked_paths);
    host.readonly_paths.get_or_insert_with(|| defaults::READONLY_PATHS.map(str::to_owned).to_vec());
    unlabelled(host);
    if settings.init && host.init.is_none() {
        host.init = Some(true);
    }
}

/// What shares the host's processes or memory has no SELinux label of its own, unless it asks for one.
fn unlabelled(host: &mut HostConfig) {
    let open = host.privileged || host.pid_mode == "host" || host.ipc_mode == "host";
    let asks = host.security_opt.iter().flatten().any(|o| o.split('=').next() == Some("label"));
    if open && !asks {
        host.security_opt.get_or_insert_default().push("label=disable".to_owned());
    }
}

/// Takes out limits that this machine's control groups do not have; what was asked for in vain is told, as dockerd tells.
pub(crate) fn discard_unsupported(host: &mut HostConfig, version: Version) -> Vec<String> {
    let mut warnings = Vec::new();
    // Gone from the kernel, and from the API since 1.42: older clients may still send them.
    (host.resources.kernel_memory, host.resources.kernel_memory_tcp) = (0, 0);
    warnings.extend(discard_block_io(&mut host.resources, version));
    if host.resources.oom_kill_disable == Some(true) && host.resources.memory == 0 && version == Version::V1 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
    }
    if host.network_mode == "host" && !host.port_bindings.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    if version == Version::V1 {
        return warnings;
    }
    if host.resources.memory_swappiness.take().is_some() {
        warnings.push("Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.".to_owned());
    }
    if host.resources.oom_kill_disable.take() == Some(true) {
        warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
    }
    warnings
}

/// The same for the weights of block I/O, which an update may ask for as well.
pub(crate) fn discard_block_io(limits: &mut Resources, version: Version) -> Vec<String> {
    let mut warnings = Vec::new();
    let asked = limits.blkio_weight != 0 || !limits.blkio_weight_device.is_empty();
    if !asked || has_block_io_weight(version) {
        return warnings;
    }
    if std::mem::take(&mut limits.blkio_weight) != 0 {
        warnings.push(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.".to_owned(),
        );
    }
    if !std::mem::take(&mut limits.blkio_weight_device).is_empty() {
        warnings.push(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
                .to_owned(),
        );
    }
    warnings
}

/// Whether the machine's schedulers weigh block I/O. The root of a hierarchy has no weight, so a group below it is asked.
fn has_block_io_weight(version: Version) -> bool {
    let weighs = |path: &Path| ["blkio.weight", "blkio.bfq.weight"].iter().any(|file| path.join(file).exists());
    let blocks = hoist_runtime::cgroup::hierarchies().iter().filter(|h| h.controllers.iter().any(|c| c == "blkio"));
    let below = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().any(|e| weighs(&e.path()));
    version == Version::V2 || blocks.map(|hierarchy| hierarchy.mount_point.as_path()).any(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Option<Vec<String>> {
        Some(items.iter().map(|&s| s.to_owned()).collect())
    }

    #[test]
    fn an_own_entrypoint_drops_the_images_command() {
        let image = ContainerConfig { entrypoint: list(&["e"]), cmd: list(&["c"]), ..Default::default() };
        let mut own = Config { entrypoint: list(&["x"]), ..Default::default() };
        with_image(&mut own, &image);
        assert_eq!((own.entrypoint, own.cmd), (list(&["x"]), None));
        let mut own = Config { cmd: list(&["y"]), ..Default::default() };
        with_image(&mut own, &image);
        assert_eq!((own.entrypoint, own.cmd), (list(&["e"]), list(&["y"])));
        let mut own = Config { entrypoint: list(&[""]), cmd: list(&["y"]), ..Default::default() };
        with_image(&mut own, &image);
        assert_eq!((own.entrypoint, own.cmd), (None, list(&["y"])));
    }

    #[test]
    fn what_cgroup_v2_lacks_is_taken_out_and_told() {
        let mut host = HostConfig::default();
        host.resources.memory_swappiness = Some(10);
        host.resources.oom_kill_disable = Some(true);
        host.resources.memory = 1 << 30;
        assert!(discard_unsupported(&mut host.clone(), Version::V1).is_empty());
        assert_eq!(discard_unsupported(&mut host, Version::V2).len(), 2);
        assert_eq!((host.resources.memory_swappiness, host.resources.oom_kill_disable), (None, None));
    }

    #[test]
    fn what_is_open_to_the_host_has_no_label_unless_it_asks() {
        let options = |host: HostConfig| {
            let mut host = host;
            unlabelled(&mut host);
            host.security_opt
        };
        assert_eq!(options(HostConfig::default()), None);
        assert_eq!(options(HostConfig { privileged: true, ..Default::default() }), list(&["label=disable"]));
        let pid = |own: &[&str]| HostConfig { pid_mode: "host".into(), security_opt: list(own), ..Default::default() };
        assert_eq!(options(pid(&["no-new-privileges"])), list(&["no-new-privileges", "label=disable"]));
        assert_eq!(options(pid(&["label=type:x"])), list(&["label=type:x"]));
    }

    #[test]
    fn the_clients_environment_wins_by_key() {
        let image = ContainerConfig { env: list(&["A=1", "B=2"]), ..Default::default() };
        let mut own = Config { env: list(&["B=3"]), ..Default::default() };
        with_image(&mut own, &image);
        assert_eq!(own.env, list(&["B=3", "A=1"]));
        for (says, of_image) in [(None, None), (list(&[]), None), (None, list(&["A=1"]))] {
            let mut own = Config { env: says, ..Default::default() };
            with_image(&mut own, &ContainerConfig { env: of_image.clone(), ..Default::default() });
            assert_eq!(own.env, of_image);
        }
    }
}
