//! What containers of the default kind need and no request changes, made before it is asked for: namespaces of network and
//! IPC, the filesystems of `/dev` and `/sys`, a place for control groups, the cover of masked directories. A parked
//! supervisor (`spawner/parking.rs`) waits with one. Whatever a container wants otherwise is made for it as if there were no
//! kit.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hoist_sys::namespace::{self, Namespaces};
use hoist_sys::netlink::{Protocol, Socket};
use oci_spec::runtime::{Mount, Spec};
use rustix::fs::Mode;

use crate::cgroup;
use crate::defaults;
use crate::failure::{OrFail, Result};
use crate::init;

/// Filesystems that belong to no namespace of the container.
const FREE: [&str; 2] = ["tmpfs", "devpts"];

/// A kit for one container. Parts that could not be made are missing.
#[derive(Default)]
pub(crate) struct Kit {
    network: Option<Network>,
    ipc: Option<Ipc>,
    mounts: Vec<Ready>,
    /// A read-only tmpfs of no size.
    empty: Option<OwnedFd>,
    /// Where control groups of version 1 are mounted.
    cgroups: Option<OwnedFd>,
    /// Closing a mount that nobody took is waited for: not now.
    unused: Vec<OwnedFd>,
}

/// An IPC namespace for the container alone.
struct Ipc {
    namespace: OwnedFd,
    /// `/dev/mqueue` shows the queues of the namespace that it was mounted in.
    queues: Option<Ready>,
}

/// A network namespace for the container alone, and the ways to set it up.
pub(crate) struct Network {
    pub(crate) namespace: OwnedFd,
    /// A netlink socket inside.
    pub(crate) inside: Socket,
    /// A netlink socket of the host.
    pub(crate) outside: Socket,
    /// `/sys` shows the devices of the namespace that it was mounted in.
    sysfs: Option<Ready>,
    /// What Docker sets there was set.
    has_sysctls: bool,
}

/// A detached mount, and the entry of a spec that asks for it.
struct Ready {
    mount: Mount,
    tree: OwnedFd,
}

impl Kit {
    /// Makes one. For single-threaded processes: two namespaces and the umask are changed and changed back.
    pub(crate) fn make() -> Kit {
        let umask = rustix::process::umask(Mode::empty());
        let kit = Kit::make_with_any_mode();
        rustix::process::umask(umask);
        kit
    }

    fn make_with_any_mode() -> Kit {
        let spec = defaults::default_spec(cgroup::version());
        let wanted = |kinds: &[&str]| -> Vec<Mount> {
            let is_wanted = |mount: &&Mount| mount.typ().as_deref().is_some_and(|kind| kinds.contains(&kind));
            spec.mounts().iter().flatten().filter(is_wanted).cloned().collect()
        };
        let mut mounts: Vec<Ready> = wanted(&FREE).into_iter().filter_map(ready).collect();
        if let Some(at) = mounts.iter().position(|ready| ready.mount.destination() == Path::new("/dev"))
            && fill_devices(mounts[at].tree.as_fd(), &spec).is_err()
        {
            mounts.remove(at);
        }
        let one = |kind| wanted(&[kind]).into_iter().next();
        Kit {
            network: Network::make(one("sysfs")).ok(),
            ipc: Ipc::make(one("mqueue")).ok(),
            mounts,
            empty: init::empty_directory().ok(),
            cgroups: match cgroup::version() {
                cgroup::Version::V1 => init::directory_of_hierarchies().ok(),
                cgroup::Version::V2 => None,
            },
            unused: Vec::new(),
        }
    }

    pub(crate) fn network(&self) -> Option<&Network> {
        self.network.as_ref()
    }

    /// Takes out of the spec what was set already.
    pub(crate) fn take_sysctls_from(&self, spec: &mut Spec) {
        let are_set = self.network.as_ref().is_some_and(|network| network.has_sysctls);
        if let Some(wanted) = spec.linux_mut().as_mut().and_then(|linux| linux.sysctl_mut().as_mut())
            && are_set
        {
            wanted.retain(|name, value| defaults::network_sysctls().get(name) != Some(value));
        }
    }

    /// The network, for its set-up.
    pub(crate) fn take_network(&mut self) -> Option<Network> {
        self.network.take()
    }

    /// The container has its network elsewhere.
    pub(crate) fn discard_network(&mut self) {
        self.unused.extend(self.network.take().and_then(|network| network.sysfs).map(|sysfs| sysfs.tree));
    }

    pub(crate) fn ipc(&self) -> Option<&OwnedFd> {
        self.ipc.as_ref().map(|ipc| &ipc.namespace)
    }

    /// The container shares its IPC namespace with others.
    pub(crate) fn discard_ipc(&mut self) {
        self.unused.extend(self.ipc.take().and_then(|ipc| ipc.queues).map(|queues| queues.tree));
    }

    /// What init's end would wait for: with it somewhere else, the namespace outlives init.
    pub(crate) fn into_ipc(self) -> Option<OwnedFd> {
        self.ipc.map(|ipc| ipc.namespace)
    }

    /// The filesystem that an entry asks for, if it is the usual one.
    pub(crate) fn filesystem(&self, wanted: &Mount) -> Option<BorrowedFd<'_>> {
        let sysfs = self.network.as_ref().and_then(|network| network.sysfs.as_ref());
        let queues = self.ipc.as_ref().and_then(|ipc| ipc.queues.as_ref());
        self.mounts
            .iter()
            .chain(sysfs)
            .chain(queues)
            .find(|ready| ready.mount == *wanted)
            .map(|ready| ready.tree.as_fd())
    }

    /// Whether the spec's `/dev` is ours, with the usual nodes and links in it.
    pub(crate) fn has_devices_of(&self, spec: &Spec) -> bool {
        let mut listed = spec.mounts().iter().flatten().filter(|mount| mount.destination() == Path::new("/dev"));
        listed.next_back().is_some_and(|mount| self.filesystem(mount).is_some())
    }

    pub(crate) fn cgroup_directory(&self) -> Option<BorrowedFd<'_>> {
        self.cgroups.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn empty(&self) -> Option<BorrowedFd<'_>> {
        self.empty.as_ref().map(AsFd::as_fd)
    }
}

fn ready(mount: Mount) -> Option<Ready> {
    let tree = init::mounts::usual_filesystem(&mount).ok()?;
    Some(Ready { mount, tree })
}

/// In the network namespace of the caller, which is what the kernel goes by.
fn set_sysctls() -> io::Result<()> {
    let path = |name: &str| Path::new("/proc/sys").join(name.replace('.', "/"));
    defaults::network_sysctls().iter().try_for_each(|(name, value)| std::fs::write(path(name), value))
}

/// The nodes and links of every container, and the places of what is mounted below.
fn fill_devices(directory: BorrowedFd<'_>, spec: &Spec) -> io::Result<()> {
    init::make_usual_devices(directory)?;
    let below = spec.mounts().iter().flatten().filter_map(|mount| mount.destination().strip_prefix("/dev").ok());
    for name in below.filter(|name| name.components().count() == 1) {
        rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o755))?;
    }
    Ok(())
}

impl Ipc {
    fn make(queues: Option<Mount>) -> io::Result<Ipc> {
        let own = File::open("/proc/self/ns/ipc")?;
        namespace::unshare(Namespaces::IPC)?;
        let made = File::open("/proc/self/ns/ipc")
            .map(|namespace| Ipc { namespace: namespace.into(), queues: queues.and_then(ready) });
        namespace::join(own.as_fd(), Namespaces::IPC)?;
        made
    }
}

impl Network {
    fn make(sysfs: Option<Mount>) -> io::Result<Network> {
        let own = File::open("/proc/self/ns/net")?;
        let outside = Socket::open(Protocol::Route)?;
        namespace::unshare(Namespaces::NETWORK)?;
        let made = (|| {
            let namespace = File::open("/proc/self/ns/net")?.into();
            let has_sysctls = set_sysctls().is_ok();
            let inside = Socket::open(Protocol::Route)?;
            Ok(Network { namespace, inside, outside, sysfs: sysfs.and_then(ready), has_sysctls })
        })();
        namespace::join(own.as_fd(), Namespaces::NETWORK)?;
        made
    }

    /// That of a process, by its pid and pidfd.
    pub(crate) fn of_process(pid: i32, pidfd: BorrowedFd<'_>) -> Result<Network> {
        let outside = Socket::open(Protocol::Route).or_fail(|| "open netlink socket")?;
        let path = format!("/proc/{pid}/ns/net");
        let namespace = File::open(&path).or_fail(|| format!("open {path}"))?.into();
        let own = File::open("/proc/self/ns/net").or_fail(|| "open /proc/self/ns/net")?;
        namespace::join(pidfd, Namespaces::NETWORK).or_fail(|| "join network namespace of the container")?;
        // A socket belongs to the namespace that it is opened in.
        let inside = Socket::open(Protocol::Route);
        namespace::join(own.as_fd(), Namespaces::NETWORK).or_fail(|| "return to own network namespace")?;
        let inside = inside.or_fail(|| "open netlink socket in the container")?;
        Ok(Network { namespace, inside, outside, sysfs: None, has_sysctls: false })
    }
}
