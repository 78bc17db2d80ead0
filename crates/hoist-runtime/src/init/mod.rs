//! The container's init: what happens in the cloned process until the user's program runs.
//!
//!  1. `isolate`: undumpable, default signals, own session and keyring, out of memory score, namespaces joined, control
//!     groups entered if they are there, root of the user namespace
//!  2. `rootfs::attach`: the root mount becomes part of the new mount namespace; without one it is in its place already
//!  3. `mounts`: in the order of the spec; a mount of control groups waits for them
//!  4. `devices`: nodes, links, the console of a terminal
//!  5. `masks`: masked and read-only paths
//!  6. `host_name`, `sysctls`, hooks, then security labels: by way of the host's /proc, which the container's files cannot
//!     redirect
//!  7. `rootfs::enter`: the old root goes away, or out of sight; read-only root, propagation
//!  8. `process`: limits, user, directory, command look-up, seccomp, capabilities
//!  9. wait for the network and for the word to go; exec
//!
//! Runs in a raw clone of the single-threaded supervisor. Whatever fails is told to the supervisor in words for the user.

mod cgroup_mounts;
pub(crate) mod channel;
mod copy_up;
mod devices;
mod host_proc;
mod masks;
pub(crate) mod mounts;
mod options;
pub(crate) mod process;
mod reaper;
mod rootfs;
pub(crate) mod scheduling;
mod security;
mod sysctls;
mod terminal;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use hoist_sys::namespace::{self, Namespaces};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::cgroup::Cgroup;
use crate::failure::{OrFail, Result};
use crate::kit::Kit;
use crate::launch::{Launch, Stdio};
use crate::protocol::Failure;
use crate::supervisor::namespaces::User;
use channel::ChildChannel;

pub(crate) use devices::make_usual as make_usual_devices;
pub(crate) use masks::{empty_directory, empty_tmpfs};
pub(crate) use process::Filter;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn check_mount_options(options: &[String]) -> std::result::Result<(), String> {
    options::Options::parse(options).map(drop)
}

pub(crate) use host_proc::HostProc;
pub(crate) use security::{ExecLabels, check_labels};
pub(crate) use sysctls::check as check_sysctls;
pub(crate) use terminal::{console_size, make_controlling, open_terminal, set_size as set_terminal_size};

/// All that init needs, made by the supervisor before the clone.
pub(crate) struct Context<'a> {
    pub(crate) launch: &'a Launch,
    /// `None`: it is made here.
    pub(crate) root: Option<&'a rootfs::Source>,
    /// Opened where no container has a say in what it is.
    pub(crate) proc: HostProc,
    /// Namespaces to join, in this order.
    pub(crate) join: Vec<(Namespaces, OwnedFd)>,
    /// The network namespace is new.
    pub(crate) own_network: bool,
    /// What need not be made.
    pub(crate) kit: Option<&'a Kit>,
    /// A new cgroup namespace is made here, after the groups are entered.
    pub(crate) new_cgroup_namespace: bool,
    /// Of another than the caller's own, this process becomes the root.
    pub(crate) user: User,
    pub(crate) cgroup: Option<&'a dyn Cgroup>,
    pub(crate) membership: Membership,
    /// Sources of bind mounts that had to be opened outside of the new mount namespace, by index of the mount.
    pub(crate) shared_sources: Vec<(usize, OwnedFd)>,
    /// stdin, stdout, stderr; none with a terminal.
    pub(crate) streams: Option<[OwnedFd; 3]>,
    pub(crate) filter: Option<Filter>,
    /// The network is being set up by the supervisor, which will tell.
    pub(crate) network_pending: bool,
    /// The word to go was given already.
    pub(crate) go: bool,
    pub(crate) channel: ChildChannel,
    /// What the OCI runtime wants done besides; it has no supervisor.
    pub(crate) oci: Option<crate::oci::Steps>,
}

pub(crate) use cgroup_mounts::directory_of_hierarchies;
pub(crate) use rootfs::{Source as RootSource, attach_on, change_root};

/// How this process stands to the container's control group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// It is in it.
    Member,
    /// It has to enter.
    Outside,
    /// The supervisor is making it beside us, and will tell when it can be entered.
    Awaited,
}

impl Context<'_> {
    fn spec(&self) -> &Spec {
        &self.launch.spec
    }

    fn stdio(&self) -> Stdio {
        self.launch.stdio
    }

    /// No mount namespace is the container's own: only below the root may anything be mounted.
    fn shares_mounts(&self) -> bool {
        matches!(self.root, Some(RootSource::Attached(_)))
    }
}

/// Runs all steps; does not return.
pub(crate) fn run(mut context: Context<'_>) -> ! {
    let Err(failure) = set_up_and_exec(&mut context);
    let message = format!("error during container init: {}", failure.message);
    let failure = Failure { message, ..failure };
    context.channel.failed(&failure);
    if let Some(oci) = &context.oci {
        oci.failed(&failure);
    }
    hoist_sys::process::exit_now(1)
}

fn set_up_and_exec(context: &mut Context<'_>) -> Result<std::convert::Infallible> {
    let start = Instant::now();
    let labels = isolate(context)?;
    let isolated = Instant::now();
    let root = rootfs::attach(context)?;
    if sysctls::need_network(context.spec()) {
        // Words come in the order of the supervisor's work.
        enter_cgroup(context)?;
        context.channel.wait_for_network(&mut context.network_pending)?;
    }
    let entered = Instant::now();
    mounts::mount_all(context, root.as_fd())?;
    enter_cgroup(context)?;
    devices::create(context, root.as_fd())?;
    let console = terminal::set_up(context, root.as_fd())?;
    masks::apply(context, root.as_fd())?;
    set_host_name(context)?;
    sysctls::write(context.spec(), &context.proc)?;
    let launch = context.launch;
    let process = launch.spec.process().as_ref().ok_or_else(|| Failure::other("process is not set"))?;
    process::make_working_directory(root.as_fd(), process.cwd());
    if let Some(oci) = &mut context.oci {
        oci.run_create_hooks(&launch.spec, &context.proc)?;
    }
    // Not before: hooks are the host's programs.
    labels.set()?;
    rootfs::enter(context, &root)?;
    let mounted = Instant::now();
    attach_streams(context, console)?;
    scheduling::set_personality(&launch.spec)?;
    let prepared = process::prepare(process, context.filter.take())?;
    if let Some(oci) = &context.oci {
        oci.keep_fds()?;
    }
    let phases = [isolated - start, entered - isolated, mounted - entered, mounted.elapsed()];
    let phases = phases.map(|phase| u64::try_from(phase.as_nanos()).unwrap_or(u64::MAX));
    context.channel.prepared(phases)?;
    drop(root);
    let prepared = prepared.confine()?;
    context.channel.wait_for_network(&mut context.network_pending)?;
    if let Some(oci) = &context.oci {
        oci.wait_for_start()?;
        oci.run_start_hooks(&launch.spec)?;
    } else if !context.go {
        context.channel.wait_for_go()?;
    }
    if context.launch.init {
        reaper::become_init(context.stdio().tty)?;
    }
    if context.oci.is_none() {
        // A container without its supervisor would run on unseen. Comes last: a change of credentials undoes it.
        hoist_sys::process::set_parent_death_signal(hoist_sys::signal::KILL).or_fail(|| "prctl PR_SET_PDEATHSIG")?;
    }
    prepared.exec()
}

/// Step 1.
fn isolate(context: &mut Context<'_>) -> Result<ExecLabels> {
    hoist_sys::process::set_undumpable().or_fail(|| "prctl PR_SET_DUMPABLE")?;
    if context.oci.is_some() {
        hoist_sys::signal::reset_dispositions();
    }
    hoist_sys::signal::unblock_all().or_fail(|| "unblock signals")?;
    rustix::process::setsid().or_fail(|| "setsid")?;
    // A kernel without keyrings has none to protect.
    if context.oci.as_ref().is_none_or(crate::oci::Steps::wants_keyring) {
        let _ = hoist_sys::process::new_session_keyring();
    }
    rustix::process::umask(rustix::fs::Mode::empty());
    // Files below the host's /proc are out of reach for the root of another user namespace; its score is set from outside.
    let labels = match context.spec().process() {
        Some(process) => {
            if context.user == User::Own {
                process::set_oom_score(process, &context.proc)?;
            }
            ExecLabels::open(process, &context.proc)?
        }
        None => ExecLabels::default(),
    };
    for (kind, fd) in &context.join {
        namespace::join(fd.as_fd(), *kind).or_fail(|| "join namespace")?;
    }
    // While it is made there is enough to do that does not need it.
    if context.membership != Membership::Awaited {
        enter_cgroup(context)?;
    }
    become_namespace_root(context)?;
    if context.own_network && context.launch.network.is_none() {
        bring_loopback_up()?;
    }
    Ok(labels)
}

/// Enters the control group and its namespace, once.
fn enter_cgroup(context: &mut Context<'_>) -> Result<()> {
    let membership = std::mem::replace(&mut context.membership, Membership::Member);
    if membership == Membership::Awaited {
        context.channel.wait_for_cgroup()?;
    }
    if membership != Membership::Member
        && let Some(cgroup) = context.cgroup
    {
        cgroup.enter().or_fail(|| "unable to apply cgroup configuration")?;
    }
    if std::mem::take(&mut context.new_cgroup_namespace) {
        namespace::unshare(Namespaces::CGROUP).or_fail(|| "unshare cgroup namespace")?;
    }
    Ok(())
}

/// What only the host's root may set (maps, limits, score) is set before by the process that made us.
fn become_namespace_root(context: &Context<'_>) -> Result<()> {
    match context.user {
        User::Own => Ok(()),
        User::New | User::Joined => {
            context.channel.wait_for_maps()?;
            process::become_root()
        }
    }
}

/// A new network namespace that nobody configures has at least a working loopback device, as with runc.
fn bring_loopback_up() -> Result<()> {
    // RTM_NEWLINK for index 1, IFF_UP set and changed: nlmsghdr and ifinfomsg (rtnetlink(7)).
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    const IFF_UP: u32 = 1;
    let mut message = [0u8; 32];
    message[0..4].copy_from_slice(&32u32.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST_AND_ACK.to_ne_bytes());
    message[20..24].copy_from_slice(&1i32.to_ne_bytes());
    message[24..28].copy_from_slice(&IFF_UP.to_ne_bytes());
    message[28..32].copy_from_slice(&IFF_UP.to_ne_bytes());
    hoist_sys::netlink::Socket::open(hoist_sys::netlink::Protocol::Route)
        .and_then(|socket| socket.send_batch(&message))
        .or_fail(|| "set up loopback device")
}

fn set_host_name(context: &Context<'_>) -> Result<()> {
    let spec = context.spec();
    let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let own = listed.into_iter().flatten().any(|namespace| namespace.typ() == LinuxNamespaceType::Uts);
    if !own && (spec.hostname().is_some() || spec.domainname().is_some()) {
        return Err(Failure::other("unable to set hostname without a private UTS namespace"));
    }
    if let Some(name) = spec.hostname().as_ref().filter(|name| !name.is_empty()) {
        rustix::system::sethostname(name.as_bytes()).or_fail(|| "sethostname")?;
    }
    if let Some(name) = spec.domainname().as_ref().filter(|name| !name.is_empty()) {
        rustix::system::setdomainname(name.as_bytes()).or_fail(|| "setdomainname")?;
    }
    Ok(())
}

/// Puts pipes or the terminal on fds 0 to 2.
fn attach_streams(context: &Context<'_>, console: Option<OwnedFd>) -> Result<()> {
    match (&context.streams, console) {
        (_, Some(console)) => terminal::make_controlling(console.as_fd()),
        (Some(streams), None) => process::set_streams([streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()]),
        (None, None) => Err(Failure::other("container has neither a terminal nor streams")),
    }
}

/// The host's `path`, before the pivot.
fn open_host(path: &Path, flags: rustix::fs::OFlags) -> std::io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, flags | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())?)
}

/// Attaches a detached mount on the mount point `target`.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> std::io::Result<()> {
    use rustix::mount::MoveMountFlags;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

/// A detached copy of the mount (or of the part of it) that `fd` names.
pub(crate) fn clone_mount(fd: BorrowedFd<'_>, recursive: bool) -> std::io::Result<OwnedFd> {
    use rustix::mount::OpenTreeFlags;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(rustix::mount::open_tree(fd, "", flags)?)
}
