//! Whether a filter may be loaded before everything else is done.
//!
//! It may when it allows, whatever their arguments are, all calls that init still makes until its
//! program takes over. Found out as the kernel itself finds out which calls it need not run a filter
//! for: by running the program with nothing but a number.

use seacow_sys::seccomp::SockFilter;

use super::Filter;
use super::profile::{ALLOW, Arch};

/// What init may call between create and its program, as it is built for any supported libc. One
/// too many costs a later load at worst; one too few would end a container that such a filter has.
const REST: &[libc::c_long] = &[
    // Words with the parent, or with whoever starts a detached init.
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_ppoll,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    // Users and groups, streams, the program.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fchown,
    libc::SYS_close_range,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_getcwd,
    libc::SYS_umask,
    // Limits and identity.
    libc::SYS_prlimit64,
    libc::SYS_prctl,
    libc::SYS_setgroups,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_geteuid,
    libc::SYS_setsid,
    // Memory, signals, and what a libc does on its own.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    // The end, good or bad.
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// Whether everything that init still does is allowed. Not where an agent decides: it expects the
/// first call to be the program's.
pub(crate) fn lets_pass(filter: &Filter) -> bool {
    let allowed = |number: &libc::c_long| always_allows(&filter.program, *number as u32);
    !filter.notifies && REST.iter().all(allowed)
}

/// Whether the program allows this call of the native architecture without a look at its arguments.
fn always_allows(program: &[SockFilter], number: u32) -> bool {
    let native = Arch::NATIVE.first().map_or(0, |arch| arch.audit());
    let (mut at, mut accumulator) = (0, 0u32);
    while let Some(SockFilter { code, jt, jf, k }) = program.get(at).copied() {
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        at += 1;
        match (code, k) {
            (0x20, 0) => accumulator = number,
            (0x20, 4) => accumulator = native,
            (0x05, _) => at += k as usize,
            (0x15, _) => at += jump(accumulator == k),
            (0x25, _) => at += jump(accumulator > k),
            (0x35, _) => at += jump(accumulator >= k),
            (0x06, _) => return k == ALLOW,
            // It looks at an argument, or does what only arguments need.
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use seacow_spec::oci::runtime::Seccomp;

    use super::super::{compile, prepare, usual};
    use super::*;

    fn profile(text: &str) -> Filter {
        let oci: Seccomp = serde_json::from_str(text).unwrap();
        compile(&oci).unwrap()
    }

    #[test]
    fn the_usual_filter_does() {
        let choice = seacow_spec::shim::SeccompChoice::Default;
        let filter = prepare(&choice, None).unwrap().unwrap();
        let refused: Vec<_> =
            REST.iter().filter(|number| !always_allows(&filter.program, **number as u32)).collect();
        assert!(refused.is_empty(), "{refused:?}");
        let usual = usual::for_capabilities(usual::CAPABILITIES).unwrap();
        assert!(always_allows(&usual.program, libc::SYS_execve as u32));
    }

    #[test]
    fn one_that_refuses_a_step_does_not() {
        let deny = |name: &str| {
            profile(&format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{{"names":["{name}"],"action":"SCMP_ACT_ERRNO"}}]}}"#
            ))
        };
        assert!(lets_pass(&deny("chmod")));
        assert!(!lets_pass(&deny("setresuid")));
        assert!(!lets_pass(&deny("recvmsg")));
    }

    #[test]
    fn nor_one_that_looks_at_arguments_of_a_step() {
        let filter = profile(
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["prctl"],"action":"SCMP_ACT_ERRNO",
                "args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]}]}"#,
        );
        assert!(!always_allows(&filter.program, libc::SYS_prctl as u32));
        assert!(!lets_pass(&filter));
    }

    #[test]
    fn nor_one_that_logs_a_step_or_asks_an_agent() {
        let log = profile(r#"{"defaultAction":"SCMP_ACT_LOG"}"#);
        assert!(!lets_pass(&log));
        let mut asking = profile(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#);
        assert!(lets_pass(&asking));
        asking.notifies = true;
        assert!(!lets_pass(&asking));
    }
}
