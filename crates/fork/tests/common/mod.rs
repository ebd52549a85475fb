//! A container that is only namespaces: enough of one to be forked. Needs root.

#![allow(dead_code, reason = "test and example use their parts")]

pub(crate) mod programs;

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::pipe::PipeFlags;
use seacow_fork::{
    Charge, Clone, Doubled, Family, Held, Mount, ObjectId, Seen, Shadow, Spec, Surroundings, Target, Watch,
};
use seacow_sys::ns::{self, Kinds};
use seacow_sys::process::{self, Cloned};
use seacow_sys::seccomp::{self, SockFilter};
use seacow_sys::{cred, mount, netlink};

/// What holds whatever the kernel does: generous, since the machine may be busy.
pub(crate) const PAUSE: Duration = Duration::from_secs(10);
const LINE: Duration = Duration::from_secs(20);

/// How a program is run.
#[derive(Clone, Copy, Default)]
pub(crate) struct How {
    /// Not as root, without capabilities, under a system call filter, with no new privileges.
    pub(crate) confined: bool,
    /// It goes on when we end.
    pub(crate) outlives: bool,
}

/// Its output, line by line, with a time limit.
pub(crate) struct Lines {
    reader: BufReader<File>,
}

impl Lines {
    pub(crate) fn next_line(&mut self) -> String {
        if self.reader.buffer().is_empty() {
            let mut polled =
                [rustix::event::PollFd::new(self.reader.get_ref(), rustix::event::PollFlags::IN)];
            let limit = rustix::event::Timespec { tv_sec: LINE.as_secs() as i64, tv_nsec: 0 };
            let ready = rustix::event::poll(&mut polled, Some(&limit)).unwrap();
            assert!(ready > 0, "nothing was written for {LINE:?}");
        }
        let mut line = String::new();
        assert!(self.reader.read_line(&mut line).unwrap() > 0, "the program has ended");
        line.trim_end().to_owned()
    }

    pub(crate) fn number(&mut self) -> u64 {
        let line = self.next_line();
        line.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("not a number: {line}"))
    }
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC).unwrap()
}

/// A running program, killed and reaped at the end.
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) lines: Lines,
    pub(crate) stream: ObjectId,
}

impl Process {
    /// Another goes on in its place.
    pub(crate) fn becomes(&mut self, clone: Clone) {
        (self.pid, self.pidfd) = (clone.pid, clone.pidfd);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = process::pidfd_signal(self.pidfd.as_fd(), 9);
        let _ = process::wait(self.pidfd.as_fd());
    }
}

const KINDS: Kinds = Kinds::MOUNT.and(Kinds::PID).and(Kinds::UTS).and(Kinds::IPC).and(Kinds::NETWORK);

/// Runs a program as the first process of new namespaces, standard output and error being a pipe to us.
pub(crate) fn start(arguments: &[&str], how: How) -> Process {
    let (process, gate) = prepare(arguments, how);
    rustix::io::write(&gate, b"g").unwrap();
    process
}

/// The same, but it stands where it has executed the program.
pub(crate) fn start_watched(arguments: &[&str], how: How) -> (Process, Watch) {
    let (process, gate) = prepare(arguments, how);
    let mut watch = Watch::begin(process.pid).unwrap();
    rustix::io::write(&gate, b"g").unwrap();
    assert_eq!(watch.wait(PAUSE).unwrap(), Seen::Executed);
    (process, watch)
}

/// The same, with a shadow and running.
pub(crate) fn start_doubled(arguments: &[&str], how: How) -> (Process, Shadow, Watch) {
    let (mut process, watch) = start_watched(arguments, how);
    let Doubled { shadow, clone, watch } = watch.double(&target(&process), &Surroundings::default()).unwrap();
    process.becomes(clone);
    (process, shadow, watch)
}

/// Everything but the exec, for which it waits until something is written.
fn prepare(arguments: &[&str], how: How) -> (Process, OwnedFd) {
    let (read, write) = pipe();
    let (wait, gate) = pipe();
    let arguments: Vec<CString> = arguments.iter().map(|word| CString::new(*word).unwrap()).collect();
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let cloned = process::clone3(&process::Clone { namespaces: KINDS, ..Default::default() }).unwrap();
    let Cloned::Parent { pid, pidfd } = cloned else {
        drop(gate);
        become_program(&arguments, how, &null, &write, &wait);
    };
    let stream = ObjectId::of(&read).unwrap();
    (Process { pid, pidfd, lines: Lines { reader: BufReader::new(read.into()) }, stream }, gate)
}

fn become_program(arguments: &[CString], how: How, null: &File, out: &OwnedFd, wait: &OwnedFd) -> ! {
    let failed = |what: &str| -> ! {
        eprintln!("in the child: {what}");
        process::exit_now(1)
    };
    let run = || -> Result<(), seacow_sys::Errno> {
        process::new_session()?;
        mount::make_all(mount::Propagation::Private)?;
        let proc = mount::filesystem("proc", "proc", &[], mount::Attributes::default());
        let proc = proc.map_err(|_| seacow_sys::Errno::IO)?;
        mount::unmount_detach(Path::new("/proc"))?;
        mount::attach_at(proc.as_fd(), Path::new("/proc"))?;
        mask()?;
        let mut batch = netlink::Batch::new();
        netlink::route::link_up(&mut batch, 1);
        let socket = netlink::Socket::open(netlink::Protocol::Route);
        if socket.and_then(|mut socket| socket.transact(&batch)).is_err() {
            return Err(seacow_sys::Errno::IO);
        }
        if how.confined {
            confine()?;
        }
        if !how.outlives {
            process::die_with_parent()?;
        }
        process::install_stdio(null.as_fd(), 0)?;
        process::install_stdio(out.as_fd(), 1)?;
        process::install_stdio(out.as_fd(), 2)?;
        process::close_on_exec_from(3)
    };
    if let Err(errno) = run() {
        failed(&errno.to_string());
    }
    if rustix::io::read(wait, &mut [0]) != Ok(1) {
        failed("nobody waits");
    }
    let environment: Vec<CString> =
        ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "PYTHONUNBUFFERED=1"]
            .iter()
            .map(|word| CString::new(*word).unwrap())
            .collect();
    let errno = process::execve(&arguments[0], arguments, &environment);
    failed(&errno.to_string())
}

/// Read-only and masked paths, as containers have them.
fn mask() -> Result<(), seacow_sys::Errno> {
    let read_only = mount::Change { set: mount::Attributes::READ_ONLY, ..Default::default() };
    mount::bind(Path::new("/proc/sys"), Path::new("/proc/sys"), false)?;
    mount::change_at(Path::new("/proc/sys"), &read_only)?;
    mount::bind(Path::new("/dev/null"), Path::new("/proc/timer_list"), false)
}

/// As a container's ordinary user: no capability, and what injection needs is forbidden by the filter.
fn confine() -> Result<(), seacow_sys::Errno> {
    cred::limit_bounding(cred::Caps(0xa804_25fb))?;
    cred::set_groups(&[1000, 27])?;
    cred::set_gid(1000)?;
    cred::set_uid(1000)?;
    cred::set_no_new_privileges()?;
    seccomp::load(&filter(), seccomp::Flags::default())
}

/// Denies what Docker's profile denies and an injection uses; clone3 is unknown.
fn filter() -> Vec<SockFilter> {
    let denied = [
        libc::SYS_ptrace,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_move_mount,
        libc::SYS_pivot_root,
        libc::SYS_process_vm_readv,
        libc::SYS_kcmp,
        libc::SYS_pidfd_getfd,
        libc::SYS_keyctl,
        libc::SYS_seccomp,
    ];
    let step = |code, jt, jf, k| SockFilter { code, jt, jf, k };
    let mut steps = vec![step(0x20, 0, 0, 0)];
    let number = |call: i64| call as u32;
    steps.push(step(0x15, 0, 1, number(libc::SYS_clone3)));
    steps.push(step(0x06, 0, 0, 0x0005_0000 | libc::ENOSYS as u32));
    for call in denied {
        steps.push(step(0x15, 0, 1, number(call)));
        steps.push(step(0x06, 0, 0, 0x0005_0000 | libc::EPERM as u32));
    }
    steps.push(step(0x06, 0, 0, 0x7fff_0000));
    steps
}

/// Surroundings for clones.
pub(crate) struct World {
    root: OwnedFd,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { root: mount::clone_tree_at(Path::new("/"), true).unwrap() }
    }

    /// A network namespace with a loopback that is up.
    pub(crate) fn network() -> OwnedFd {
        let own = ns::open_own(Kinds::NETWORK).unwrap();
        ns::unshare(Kinds::NETWORK).unwrap();
        let mut batch = netlink::Batch::new();
        netlink::route::link_up(&mut batch, 1);
        netlink::Socket::open(netlink::Protocol::Route).unwrap().transact(&batch).unwrap();
        let made = ns::open_own(Kinds::NETWORK).unwrap();
        ns::enter(own.as_fd(), Kinds::NETWORK).unwrap();
        made
    }

    /// The same file system for every clone: a copy of the mounts.
    pub(crate) fn clone_of(&mut self, family: &Family, network: &OwnedFd) -> Process {
        self.try_clone(family, network, Vec::new()).unwrap()
    }

    pub(crate) fn try_clone(
        &mut self,
        family: &Family,
        network: &OwnedFd,
        addresses: Vec<(IpAddr, IpAddr)>,
    ) -> seacow_fork::Result<Process> {
        let spec = Spec { addresses, ..Spec::default() };
        self.clone_with(family, network, spec).map(|(process, _)| process)
    }

    /// A clone with a shadow of its own.
    pub(crate) fn clone_with_shadow(&mut self, family: &Family, network: &OwnedFd) -> (Process, Shadow) {
        let spec = Spec { shadow: Some(Charge::default()), ..Spec::default() };
        let (process, shadow) = self.clone_with(family, network, spec).unwrap();
        (process, shadow.unwrap())
    }

    /// A clone that is not let go.
    pub(crate) fn held(&mut self, family: &Family, network: &OwnedFd) -> Held {
        let (_, write) = pipe();
        let root = mount::clone_tree(self.root.as_fd(), true).unwrap();
        let spec = Spec {
            mounts: mounts(&root),
            network: Some(network.as_fd()),
            streams: vec![write.as_fd()],
            host_name: "clone".into(),
            ..Spec::default()
        };
        family.clone_from(&spec).unwrap()
    }

    fn clone_with(
        &mut self,
        family: &Family,
        network: &OwnedFd,
        spec: Spec<'_>,
    ) -> seacow_fork::Result<(Process, Option<Shadow>)> {
        let (read, write) = pipe();
        let root = mount::clone_tree(self.root.as_fd(), true).unwrap();
        let spec = Spec {
            mounts: mounts(&root),
            network: Some(network.as_fd()),
            streams: vec![write.as_fd()],
            host_name: "clone".into(),
            ..spec
        };
        let mut held = family.clone_from(&spec)?;
        let shadow = held.take_shadow();
        let Clone { pid, pidfd } = held.release()?;
        let stream = ObjectId::of(&read).unwrap();
        let process = Process { pid, pidfd, lines: Lines { reader: BufReader::new(read.into()) }, stream };
        Ok((process, shadow))
    }
}

pub(crate) fn mounts(root: &OwnedFd) -> Vec<Mount<'_>> {
    let proc = Mount::New {
        kind: c"proc".into(),
        target: c"/proc".into(),
        flags: libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
        options: c"".into(),
    };
    vec![Mount::Root(root.as_fd()), proc]
}

/// What a source of ours is to the library.
pub(crate) fn target(source: &Process) -> Target<'_> {
    Target { pid: source.pid, streams: std::slice::from_ref(&source.stream), cgroup: None }
}

/// Waits until a condition holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LINE;
    while !holds() {
        assert!(Instant::now() < end, "not reached: {what}");
        std::thread::yield_now();
    }
}

/// A field of `/proc/PID/status`.
pub(crate) fn status(pid: i32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap().trim().to_owned()
}
