//! The `process` object: command, environment, user, capabilities, limits.

use std::path::{Path, PathBuf};

use hoist_api::exec::ExecCreate;
use hoist_api::host_config::Ulimit;
use hoist_runtime::defaults;
use hoist_runtime::user::User as Account;
use oci_spec::runtime::{Box as ConsoleSize, BoxBuilder, PosixRlimit, PosixRlimitBuilder, Process, Spec, User};

use crate::container::record::Record;
use crate::error::{Error, Result};
use crate::lower::resources::rlimit_name;
use crate::merged;

/// Fills process, root, hostname and domain name.
pub(super) fn fill(spec: &mut Spec, record: &Record, directory: &Path, links: &[String]) -> Result<()> {
    let (config, host) = (&record.fixed.config, &record.fixed.host_config);
    let mut args = vec![record.fixed.path.clone()];
    args.extend(record.fixed.args.iter().cloned());
    let account = account(record, directory, &config.user, host.group_add.as_deref().unwrap_or_default())?;
    let hostname = config.hostname.clone();
    let mut process = spec.process().clone().unwrap_or_default();
    process
        .set_args(Some(args))
        .set_env(Some(environment(record, links, config.tty, &account.home)))
        .set_cwd(working_directory(&config.working_dir))
        .set_user(user(&account))
        .set_terminal(Some(config.tty))
        .set_no_new_privileges(Some(
            super::security::flag(&record.fixed.host_config, "no-new-privileges").unwrap_or_default(),
        ))
        .set_oom_score_adj(Some(i32::try_from(host.oom_score_adj).unwrap_or(0)))
        .set_rlimits(Some(rlimits(&host.resources.ulimits)?));
    if config.tty {
        process.set_console_size(console_size(host.console_size));
    }
    let kept = defaults::tweak_capabilities(
        host.cap_add.as_deref().unwrap_or_default(),
        host.cap_drop.as_deref().unwrap_or_default(),
        host.privileged,
    )
    .map_err(Error::invalid)?;
    process.set_capabilities(Some(capabilities(&kept, account.uid)));
    spec.set_process(Some(process));
    let mut root = spec.root().clone().unwrap_or_default();
    root.set_readonly(Some(host.readonly_rootfs));
    spec.set_root(Some(root));
    if host.uts_mode != "host" {
        spec.set_hostname(Some(hostname));
        if !config.domainname.is_empty() {
            spec.set_domainname(Some(config.domainname.clone()));
        }
    }
    Ok(())
}

/// Sets for a user: a non-root user keeps the bounding set only (as dockerd's defaults since 20.10).
fn capabilities(kept: &[String], uid: u32) -> oci_spec::runtime::LinuxCapabilities {
    let mut sets = defaults::capability_sets(kept);
    if uid != 0 {
        sets.set_effective(Some(Default::default())).set_permitted(Some(Default::default()));
    }
    sets
}

fn account(record: &Record, directory: &Path, user: &str, group_add: &[String]) -> Result<Account> {
    merged::user(&record.fixed.layers, &directory.join("upper"), user, group_add)
}

fn user(account: &Account) -> User {
    let mut user = User::default();
    user.set_uid(account.uid).set_gid(account.gid).set_additional_gids(Some(account.additional_gids.clone()));
    user
}

/// Docker's base environment under the container's own.
fn environment(record: &Record, links: &[String], tty: bool, home: &str) -> Vec<String> {
    let mut env = vec![format!("PATH={}", defaults::DEFAULT_PATH)];
    env.push(format!("HOSTNAME={}", record.fixed.config.hostname));
    if tty {
        env.push("TERM=xterm".to_owned());
    }
    env.extend_from_slice(links);
    override_environment(&mut env, record.fixed.config.env.as_deref().unwrap_or_default());
    if !env.iter().any(|v| v.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
    env
}

/// Later entries replace earlier ones of the same key; an entry without `=` removes the key.
fn override_environment(env: &mut Vec<String>, own: &[String]) {
    for entry in own {
        let key = entry.split('=').next().unwrap_or_default();
        let position = env.iter().position(|v| v.split('=').next() == Some(key));
        match (position, entry.contains('=')) {
            (Some(at), true) => env[at].clone_from(entry),
            (Some(at), false) => _ = env.remove(at),
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
}

fn working_directory(path: &str) -> PathBuf {
    if path.is_empty() { PathBuf::from("/") } else { PathBuf::from(path) }
}

fn console_size((rows, columns): (u64, u64)) -> Option<ConsoleSize> {
    if rows == 0 && columns == 0 {
        return None;
    }
    BoxBuilder::default().height(rows).width(columns).build().ok()
}

fn rlimits(ulimits: &[Ulimit]) -> Result<Vec<PosixRlimit>> {
    ulimits
        .iter()
        .map(|ulimit| {
            let kind = rlimit_name(&ulimit.name)
                .ok_or_else(|| Error::invalid(format!("invalid ulimit type: {}", ulimit.name)))?;
            // -1 is RLIM_INFINITY, whose bit pattern it has.
            PosixRlimitBuilder::default()
                .typ(kind)
                .soft(ulimit.soft.cast_unsigned())
                .hard(ulimit.hard.cast_unsigned())
                .build()
                .map_err(|e| Error::internal(e.to_string()))
        })
        .collect()
}

/// The process of an exec: the container's, with the request's wishes on top.
pub(crate) fn exec_process(record: &Record, directory: &Path, request: &ExecCreate) -> Result<Process> {
    let (config, host) = (&record.fixed.config, &record.fixed.host_config);
    let wanted = if request.user.is_empty() { &config.user } else { &request.user };
    let group_add = if request.user.is_empty() { host.group_add.as_deref().unwrap_or_default() } else { &[] };
    let account = account(record, directory, wanted, group_add)?;
    let mut env = environment(record, &[], request.tty, "");
    env.retain(|v| v != "HOME=");
    override_environment(&mut env, &request.env);
    if !env.iter().any(|v| v.starts_with("HOME=")) {
        env.push(format!("HOME={}", account.home));
    }
    let cwd = if request.working_dir.is_empty() { &config.working_dir } else { &request.working_dir };
    let kept = defaults::tweak_capabilities(
        host.cap_add.as_deref().unwrap_or_default(),
        host.cap_drop.as_deref().unwrap_or_default(),
        host.privileged || request.privileged,
    )
    .map_err(Error::invalid)?;
    let mut process = Process::default();
    process
        .set_args(request.cmd.clone())
        .set_env(Some(env))
        .set_cwd(working_directory(cwd))
        .set_user(user(&account))
        .set_terminal(Some(request.tty))
        .set_no_new_privileges(Some(
            super::security::flag(&record.fixed.host_config, "no-new-privileges").unwrap_or_default(),
        ))
        .set_rlimits(Some(rlimits(&host.resources.ulimits)?))
        .set_capabilities(Some(capabilities(&kept, account.uid)));
    Ok(process)
}

/// Gives an exec's terminal its first size, (rows, columns).
pub(crate) fn set_console_size(process: &mut Process, size: (u64, u64)) {
    process.set_console_size(console_size(size));
}
