//! Docker's default seccomp profile (that of Docker 28) in our own form: which calls a container may make, and on what
//! condition. Everything else gets EPERM. Only data; `profile` turns it into an OCI profile.

use oci_spec::runtime::{Arch, LinuxSeccompAction, LinuxSeccompOperator};

/// On what a rule depends besides the call's arguments.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Always,
    /// The container has this capability.
    Has(&'static str),
    /// The container lacks this capability.
    Lacks(&'static str),
    /// The kernel is at least this one.
    Kernel(u32, u32),
    /// The machine is one of these.
    Machine(&'static [Arch]),
}

/// A comparison of an argument: index, operator, value, second value.
pub(super) type Argument = (usize, LinuxSeccompOperator, u64, u64);

/// One rule: condition, what happens, its errno, comparisons, names separated by blanks.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) when: When,
    pub(super) action: LinuxSeccompAction,
    pub(super) errno: Option<u32>,
    pub(super) argument: Option<Argument>,
    pub(super) names: &'static str,
}

const fn allow(when: When, names: &'static str) -> Rule {
    Rule { when, action: LinuxSeccompAction::ScmpActAllow, errno: None, argument: None, names }
}

const fn allow_if(when: When, argument: Argument, names: &'static str) -> Rule {
    Rule { when, action: LinuxSeccompAction::ScmpActAllow, errno: None, argument: Some(argument), names }
}

/// Address family of VM sockets, which name hosts and not containers.
const AF_VSOCK: u64 = 40;

/// All `CLONE_NEW*` flags that clone(2) takes: no new namespaces.
const CLONE_NEW_FLAGS: u64 = 0x7e02_0000;

/// What personality(2) may set: Linux, 32-bit Linux, each also as version 2.6; and 0xffffffff, to ask.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

const ENOSYS: u32 = 38;

const X86: &[Arch] = &[Arch::ScmpArchX86_64];
const ARM: &[Arch] = &[Arch::ScmpArchArm, Arch::ScmpArchAarch64];

/// In Docker's order.
pub(super) const RULES: &[Rule] = &[
    allow(When::Always, EVERYDAY),
    allow(When::Kernel(4, 8), "process_vm_readv process_vm_writev ptrace"),
    allow_if(When::Always, (0, LinuxSeccompOperator::ScmpCmpNe, AF_VSOCK, 0), "socket"),
    allow_if(When::Always, (0, LinuxSeccompOperator::ScmpCmpEq, PERSONALITIES[0], 0), "personality"),
    allow_if(When::Always, (0, LinuxSeccompOperator::ScmpCmpEq, PERSONALITIES[1], 0), "personality"),
    allow_if(When::Always, (0, LinuxSeccompOperator::ScmpCmpEq, PERSONALITIES[2], 0), "personality"),
    allow_if(When::Always, (0, LinuxSeccompOperator::ScmpCmpEq, PERSONALITIES[3], 0), "personality"),
    allow_if(When::Always, (0, LinuxSeccompOperator::ScmpCmpEq, PERSONALITIES[4], 0), "personality"),
    allow(When::Machine(ARM), "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"),
    allow(When::Machine(X86), "arch_prctl modify_ldt"),
    allow(When::Has("CAP_DAC_READ_SEARCH"), "open_by_handle_at"),
    allow(
        When::Has("CAP_SYS_ADMIN"),
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    allow_if(When::Lacks("CAP_SYS_ADMIN"), (0, LinuxSeccompOperator::ScmpCmpMaskedEq, CLONE_NEW_FLAGS, 0), "clone"),
    // Its flags are behind a pointer, so a filter cannot see them: C libraries fall back to clone on ENOSYS.
    Rule {
        when: When::Lacks("CAP_SYS_ADMIN"),
        action: LinuxSeccompAction::ScmpActErrno,
        errno: Some(ENOSYS),
        argument: None,
        names: "clone3",
    },
    allow(When::Has("CAP_SYS_BOOT"), "reboot"),
    allow(When::Has("CAP_SYS_CHROOT"), "chroot"),
    allow(When::Has("CAP_SYS_MODULE"), "delete_module init_module finit_module"),
    allow(When::Has("CAP_SYS_PACCT"), "acct"),
    allow(When::Has("CAP_SYS_PTRACE"), "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    allow(When::Has("CAP_SYS_RAWIO"), "iopl ioperm"),
    allow(When::Has("CAP_SYS_TIME"), "settimeofday stime clock_settime clock_settime64"),
    allow(When::Has("CAP_SYS_TTY_CONFIG"), "vhangup"),
    allow(When::Has("CAP_SYS_NICE"), "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    allow(When::Has("CAP_SYSLOG"), "syslog"),
    allow(When::Has("CAP_BPF"), "bpf"),
    allow(When::Has("CAP_PERFMON"), "perf_event_open"),
];

/// What every container may do, whatever its capabilities.
const EVERYDAY: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 \
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd \
    eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark \
    fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock \
    fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex \
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu \
    getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer \
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 \
    getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat \
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents \
    io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule \
    landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr \
    listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier \
    memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect \
    mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep \
    newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect \
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 \
    pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 \
    recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir \
    rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity \
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop \
    semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area \
    set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid \
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid \
    setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 \
    sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat \
    sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime \
    utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev";
