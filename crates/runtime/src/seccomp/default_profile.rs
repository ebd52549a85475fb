//! Docker's default profile, as data: which calls it allows to everybody, to whom it allows more,
//! and under which conditions on arguments. What it does not name answers EPERM.

use seacow_spec::oci::runtime::{Seccomp, SeccompArg, SeccompRule};
use seacow_sys::cred::Caps;
use seacow_sys::seccomp::Flags;

use super::profile::{ALLOW, Arch, Condition, ENOSYS, Profile, Test, errno};

/// Allowed to every container, by theme.
const EVERYBODY: &[&str] = &[
    // files: names
    "access faccessat faccessat2 chdir fchdir getcwd creat open openat openat2 close close_range \
     link linkat mkdir mkdirat mknod mknodat readlink readlinkat rename renameat renameat2 rmdir \
     symlink symlinkat unlink unlinkat umask name_to_handle_at",
    // files: status
    "stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs \
     fstatfs64 chmod fchmod fchmodat fchmodat2 chown chown32 fchown fchown32 fchownat lchown lchown32 \
     utime utimes utimensat utimensat_time64 futimesat truncate truncate64 ftruncate ftruncate64 \
     fallocate getdents getdents64 flock statmount listmount",
    "getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr \
     llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat",
    // files: contents
    "read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek sendfile \
     sendfile64 copy_file_range splice tee vmsplice sync syncfs fsync fdatasync sync_file_range \
     readahead fadvise64 fadvise64_64 cachestat io_setup io_submit io_cancel io_destroy io_getevents \
     io_pgetevents io_pgetevents_time64",
    "dup dup2 dup3 fcntl fcntl64 ioctl pipe pipe2 eventfd eventfd2 signalfd signalfd4 timerfd_create \
     timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 inotify_init inotify_init1 \
     inotify_add_watch inotify_rm_watch fanotify_mark memfd_create memfd_secret",
    // waiting
    "select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create epoll_create1 \
     epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 pause nanosleep \
     clock_nanosleep clock_nanosleep_time64 futex futex_time64 futex_waitv futex_wait futex_wake \
     futex_requeue get_robust_list set_robust_list restart_syscall",
    // memory
    "brk mmap mmap2 munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock \
     munlockall membarrier remap_file_pages pkey_alloc pkey_free pkey_mprotect mseal map_shadow_stack",
    // processes and threads
    "fork vfork execve execveat exit exit_group wait4 waitid waitpid gettid getpid getppid getpgid \
     getpgrp setpgid getsid setsid prctl arch_prctl modify_ldt set_tid_address set_thread_area \
     get_thread_area rseq getcpu kill tkill tgkill pidfd_open pidfd_send_signal process_mrelease \
     process_vm_readv process_vm_writev ptrace uretprobe",
    // where the machine has them
    "riscv_flush_icache riscv_hwprobe arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls",
    "sigaltstack sigprocmask sigreturn rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
     rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo",
    // identity, limits, scheduling
    "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getgroups getgroups32 getresuid \
     getresuid32 getresgid getresgid32 setuid setuid32 setgid setgid32 setgroups setgroups32 setreuid \
     setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32 setfsuid setfsuid32 \
     setfsgid setfsgid32 capget capset seccomp landlock_create_ruleset landlock_add_rule \
     landlock_restrict_self",
    "getrlimit ugetrlimit setrlimit prlimit64 getrusage getpriority setpriority ioprio_get ioprio_set \
     sched_yield sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam \
     sched_setparam sched_getscheduler sched_setscheduler sched_get_priority_max \
     sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64",
    // time and system
    "time gettimeofday times adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 \
     clock_gettime clock_gettime64 alarm getitimer setitimer timer_create timer_delete timer_getoverrun \
     timer_gettime timer_gettime64 timer_settime timer_settime64 uname sysinfo getrandom",
    // sockets
    "accept accept4 bind connect listen shutdown socketpair socketcall getsockname getpeername getsockopt \
     setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64",
    // System V and POSIX IPC
    "ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt \
     shmget mq_open mq_unlink mq_notify mq_getsetattr mq_timedreceive mq_timedreceive_time64 \
     mq_timedsend mq_timedsend_time64",
];

/// Allowed where the capability is in the bounding set: its number, the calls.
const WITH_CAPABILITY: &[(u32, &str)] = &[
    (2, "open_by_handle_at"),
    (16, "delete_module init_module finit_module"),
    (17, "iopl ioperm"),
    (18, "chroot"),
    (19, "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    (20, "acct"),
    (
        CAP_SYS_ADMIN,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    (22, "reboot"),
    (23, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (25, "settimeofday stime clock_settime clock_settime64"),
    (26, "vhangup"),
    (34, "syslog"),
    (38, "perf_event_open"),
    (39, "bpf"),
];

const CAP_SYS_ADMIN: u32 = 21;
/// Flags of clone that make a namespace: mount, cgroup, UTS, IPC, user, PID, network.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// Address families up to here: AF_UNIX 1 to AF_ROSE 11.
const FIRST_FAMILIES: u64 = 12;
/// The others that a container may use. Left out are those that Linux has no code for any more, and
/// two that reach where a container should not: AF_ALG 38 (the kernel's cryptography, an attack
/// surface without need) and AF_VSOCK 40 (the hypervisor, past every network namespace).
const FAMILIES: [u64; 25] =
    [13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45];
/// PER_LINUX, PER_LINUX32, both with UNAME26, and the question for the present one.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

const EPERM: u16 = 1;

/// One rule of the profile.
struct Rule {
    names: &'static str,
    conditions: Vec<Condition>,
    action: u32,
}

fn rules(caps: Caps) -> Vec<Rule> {
    let has = |number: u32| caps.0 >> number & 1 == 1;
    let allow = |names| Rule { names, conditions: Vec::new(), action: ALLOW };
    let when = |names, test| Rule { names, conditions: vec![Condition { index: 0, test }], action: ALLOW };
    let mut rules: Vec<Rule> = EVERYBODY.iter().map(|names| allow(names)).collect();
    rules.extend(WITH_CAPABILITY.iter().filter(|(cap, _)| has(*cap)).map(|(_, names)| allow(names)));
    rules.push(when("socket", Test::Less(FIRST_FAMILIES)));
    rules.extend(FAMILIES.map(|family| when("socket", Test::Equal(family))));
    rules.extend(PERSONALITIES.map(|persona| when("personality", Test::Equal(persona))));
    if !has(CAP_SYS_ADMIN) {
        rules.push(when("clone", Test::Masked { mask: CLONE_NAMESPACES, value: 0 }));
        // Its flags are in memory, out of a filter's sight; libraries fall back to clone.
        rules.push(Rule { names: "clone3", conditions: Vec::new(), action: ENOSYS });
    }
    rules
}

/// The profile for a process with these capabilities in its bounding set.
pub(super) fn for_capabilities(caps: Caps) -> Profile {
    let mut profile = Profile::new(errno(EPERM), Arch::NATIVE, Flags::SPEC_ALLOW);
    for rule in rules(caps) {
        for name in rule.names.split_ascii_whitespace() {
            profile.add(name, &rule.conditions, rule.action);
        }
    }
    profile
}

/// The same in the OCI specification's form: for a `config.json`, and for other runtimes.
pub fn oci(caps: Caps) -> Seccomp {
    let architectures = Arch::NATIVE.iter().map(|arch| arch.name());
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: Some(EPERM.into()),
        architectures: architectures.map(str::to_owned).collect(),
        syscalls: rules(caps).iter().map(oci_rule).collect(),
        ..Seccomp::default()
    }
}

fn oci_rule(rule: &Rule) -> SeccompRule {
    let args = rule.conditions.iter().map(|condition| {
        let (op, value, value_two) = match condition.test {
            Test::Equal(value) => ("SCMP_CMP_EQ", value, 0),
            Test::NotEqual(value) => ("SCMP_CMP_NE", value, 0),
            Test::Less(value) => ("SCMP_CMP_LT", value, 0),
            Test::LessOrEqual(value) => ("SCMP_CMP_LE", value, 0),
            Test::Greater(value) => ("SCMP_CMP_GT", value, 0),
            Test::GreaterOrEqual(value) => ("SCMP_CMP_GE", value, 0),
            Test::Masked { mask, value } => ("SCMP_CMP_MASKED_EQ", mask, value),
        };
        SeccompArg { index: condition.index.into(), value, value_two, op: op.into() }
    });
    let (action, errno_ret) = if rule.action == ALLOW {
        ("SCMP_ACT_ALLOW", None)
    } else {
        ("SCMP_ACT_ERRNO", Some(rule.action & 0xffff))
    };
    SeccompRule {
        names: rule.names.split_ascii_whitespace().map(str::to_owned).collect(),
        action: action.into(),
        errno_ret,
        args: args.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::calls::{CALLS, ELSEWHERE, MULTIPLEXED};
    use super::super::profile::may_be_multiplexed;
    use super::*;

    #[test]
    fn every_name_is_known_and_said_once() {
        assert!(CALLS.windows(2).all(|pair| pair[0].0 < pair[1].0), "the table is sorted");
        assert!(ELSEWHERE.windows(2).all(|pair| pair[0] < pair[1]), "the names are sorted");
        for (name, _) in MULTIPLEXED.iter().flat_map(|(_, selectors)| *selectors) {
            let row = CALLS.iter().find(|row| row.0 == *name).unwrap();
            assert!(may_be_multiplexed(row), "{name}");
        }
        let mut seen = std::collections::BTreeSet::new();
        for name in EVERYBODY.iter().flat_map(|names| names.split_ascii_whitespace()) {
            assert!(seen.insert(name), "{name} twice");
            assert!(
                ELSEWHERE.contains(&name) || CALLS.iter().any(|row| row.0 == name),
                "{name} is in no table"
            );
        }
        for name in WITH_CAPABILITY.iter().flat_map(|(_, names)| names.split_ascii_whitespace()) {
            assert!(CALLS.iter().any(|row| row.0 == name), "{name} is in no table");
        }
    }
}
