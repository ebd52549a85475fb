//! A clone: forked from the template, given its surroundings, then the source's state, then let go.

mod descriptors;
pub(crate) mod finish;
mod mounts;
mod sockets;
mod spec;
mod threads;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::capture::State;
use crate::error::{Error, Result};
use crate::puppet::{self, Puppet};
use crate::shadow::{self, Charge, Shadow};
use crate::template::Template;

pub use spec::{Mount, Spec};

/// How long making a clone may take; far more than any takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A clone that stands still, complete. Dropped, it is killed; so it is when the caller dies.
#[derive(Debug)]
pub struct Held {
    puppet: Puppet,
    /// The first is the process's first.
    threads: Vec<i32>,
    pidfd: OwnedFd,
    shadow: Option<Shadow>,
}

/// A clone that runs. It is the caller's child, or the caller's to adopt: a child of the process that
/// made the template.
#[derive(Debug)]
pub struct Clone {
    /// As the caller sees it.
    pub pid: i32,
    /// A handle on it.
    pub pidfd: OwnedFd,
}

impl Held {
    /// As the caller sees it.
    pub fn pid(&self) -> i32 {
        self.puppet.pid
    }

    /// A handle on it.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its shadow, once, when one was asked for. Without it the clone is forked by way of a snapshot.
    pub fn take_shadow(&mut self) -> Option<Shadow> {
        self.shadow.take()
    }

    /// Lets it run.
    pub fn release(self) -> Result<Clone> {
        // The first last: until then it is killed as a whole, should something fail.
        for tid in self.threads.iter().rev() {
            seacow_sys::ptrace::detach(*tid, 0).map_err(Error::trace("let go", *tid))?;
        }
        let Self { puppet, pidfd, .. } = self;
        let pid = puppet.pid;
        puppet.let_go();
        Ok(Clone { pid, pidfd })
    }
}

/// A clone on its way: the kernel copies the memory while the caller prepares what else it gets. Dropped, it is
/// waited for and killed.
#[derive(Debug)]
pub struct Begun<'a> {
    template: &'a Template,
    state: &'a State,
    /// Of the template: one fork.
    fork: Fork<'a>,
    with_shadow: bool,
}

/// Begins to make one.
pub(crate) fn begin<'a>(
    template: &'a Template,
    state: &'a State,
    cgroup: Option<BorrowedFd<'a>>,
    with_shadow: bool,
) -> Result<Begun<'a>> {
    let flags = if with_shadow { 0 } else { KINDS };
    let fork = Fork::begin(&template.puppet, template, cgroup, flags)?;
    Ok(Begun { template, state, fork, with_shadow })
}

impl Begun<'_> {
    /// Makes it whole. It stands still until it is released. What was said at the beginning about cgroup and
    /// shadow must be said again.
    pub fn finish(self, spec: &Spec<'_>) -> Result<Held> {
        let deadline = Instant::now() + PATIENCE;
        let Self { template, state, fork, with_shadow } = self;
        let first = fork.finish(deadline)?;
        let (puppet, shadow) = match (with_shadow, spec.shadow) {
            (false, _) => (first, None),
            (true, Some(charge)) => with_outside(template, state, first, charge, spec, deadline)?,
            (true, None) => return Err(Error::no_shadow("nobody is charged for it")),
        };
        let pidfd = seacow_sys::process::pidfd_open(puppet.pid).map_err(Error::own("open the clone"))?;
        surround(template, &puppet, state, spec, deadline)?;
        descriptors::open(template, &puppet, state, spec, deadline)?;
        label(&puppet, state, spec, deadline)?;
        let threads = threads::make(&puppet, state, deadline)?;
        finish::states(template.capabilities, &puppet, state, &threads, deadline)?;
        finish::oom_score(&puppet, state)?;
        finish::registers(template.instruction, &puppet, state, &threads, deadline)?;
        Ok(Held { puppet, threads, pidfd, shadow })
    }
}

/// Namespaces that the first process of a clone is born in.
const KINDS: i32 = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;

/// The first process of a new pid namespace, made of the memory of a fork of the template that stays outside as
/// its shadow.
fn with_outside(
    template: &Template,
    state: &State,
    outside: Puppet,
    charge: Charge<'_>,
    spec: &Spec<'_>,
    deadline: Instant,
) -> Result<(Puppet, Option<Shadow>)> {
    let outside = Shadow::adopt(outside, state.filters.len(), charge)?;
    let mut batch = Batch::new(outside.puppet.area);
    if spec.cgroup.is_some() {
        batch.call("close a descriptor", libc::SYS_close, &[0]);
    }
    if let Some(tasks) = charge.memory {
        shadow::join(&mut batch, tasks, template.channel.us as u64, 0);
    }
    outside.puppet.run(&batch, deadline)?;
    let fork = Fork::begin(&outside.puppet, template, spec.cgroup, KINDS | libc::CLONE_VM)?;
    let puppet = fork.finish(deadline)?;
    let mut batch = Batch::new(outside.puppet.area);
    batch.call("close descriptors", libc::SYS_close_range, &[0, u64::from(u32::MAX), 0]);
    let name = batch.text(shadow::NAME);
    batch.call("name", libc::SYS_prctl, &[libc::PR_SET_NAME as u64, name, 0, 0, 0]);
    outside.puppet.run(&batch, deadline)?;
    Ok((puppet, Some(outside)))
}

/// One fork of a puppet that is under way.
#[derive(Debug)]
struct Fork<'a> {
    parent: &'a Puppet,
    batch: Batch,
    under_way: bool,
    /// Open until the kernel has looked at it.
    _cgroup: Option<BorrowedFd<'a>>,
}

impl<'a> Fork<'a> {
    fn begin(
        parent: &'a Puppet,
        template: &Template,
        cgroup: Option<BorrowedFd<'a>>,
        flags: i32,
    ) -> Result<Self> {
        const INTO_CGROUP: u64 = 0x2_0000_0000;
        let mut flags = (flags | libc::CLONE_PARENT) as u64;
        let mut batch = Batch::new(parent.area);
        if let Some(cgroup) = cgroup {
            flags |= INTO_CGROUP;
            fetch(&mut batch, template, cgroup.as_raw_fd());
        }
        // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        // set_tid_size, cgroup, which is the descriptor just fetched.
        let arguments = batch.words(&[flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        batch.fork("make the clone", libc::SYS_clone3, &[arguments, 88]);
        if cgroup.is_some() {
            batch.call("close a descriptor", libc::SYS_close, &[0]);
        }
        parent.begin(&batch)?;
        Ok(Self { parent, batch, under_way: true, _cgroup: cgroup })
    }

    /// The new process, which stands still.
    fn finish(mut self, deadline: Instant) -> Result<Puppet> {
        self.child(deadline)
    }

    fn child(&mut self, deadline: Instant) -> Result<Puppet> {
        self.under_way = false;
        let parent = self.parent;
        let answers = parent.finish(&self.batch, deadline)?;
        let [pid] = answers.children[..] else {
            return Err(Error::Astray { tid: parent.pid, what: "no child".into(), step: "make the clone" });
        };
        puppet::settle(pid, deadline).inspect_err(|_| puppet::end(pid))?;
        Puppet::adopt(pid, parent.area)
    }
}

impl Drop for Fork<'_> {
    fn drop(&mut self) {
        if self.under_way {
            // Killed with this value.
            drop(self.child(Instant::now() + PATIENCE));
        }
    }
}

/// Fetches a descriptor of ours. It becomes the lowest that is free.
fn fetch(batch: &mut Batch, template: &Template, ours: i32) {
    let arguments = [template.channel.us as u64, ours as u64, 0];
    batch.call("fetch a descriptor", libc::SYS_pidfd_getfd, &arguments);
}

/// Has the clone join the cgroups that nobody can be born in.
fn join_cgroups(batch: &mut Batch, template: &Template, spec: &Spec<'_>) {
    for file in &spec.join {
        fetch(batch, template, file.as_raw_fd());
        let itself = batch.data(b"0");
        batch.call("join a cgroup", libc::SYS_write, &[0, itself, 1]);
        batch.call("close a descriptor", libc::SYS_close, &[0]);
    }
}

/// Has the clone write the labels that it shall have: not before it has fetched all that it needs from us,
/// which a label may forbid.
fn label(puppet: &Puppet, state: &State, spec: &Spec<'_>, deadline: Instant) -> Result<()> {
    let taken = |number: &u64| state.files.files.iter().any(|file| file.number as u64 == *number);
    let free = (0..).find(|number| !taken(number)).unwrap_or_default();
    let mut batch = Batch::new(puppet.area);
    for (file, text) in &spec.labels {
        let (file, bytes) = (batch.text(file.to_bytes()), batch.data(text.as_bytes()));
        let flags = (libc::O_WRONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW) as u64;
        batch.call("open a label's file", libc::SYS_openat, &[libc::AT_FDCWD as u64, file, flags, 0]);
        batch.call("write a label", libc::SYS_write, &[free, bytes, text.len() as u64]);
        batch.call("close a descriptor", libc::SYS_close, &[free]);
    }
    puppet.run(&batch, deadline).map(drop)
}

/// Namespaces, mounts, host name, directory.
fn surround(
    template: &Template,
    puppet: &Puppet,
    state: &State,
    spec: &Spec<'_>,
    deadline: Instant,
) -> Result<()> {
    let mut batch = Batch::new(puppet.area);
    if spec.cgroup.is_some() {
        batch.call("close a descriptor", libc::SYS_close, &[0]);
    }
    batch.call("close /proc", libc::SYS_close, &[template.channel.proc as u64]);
    join_cgroups(&mut batch, template, spec);
    if state.session_leader {
        batch.call("session", libc::SYS_setsid, &[]);
    }
    batch.call("cgroup namespace", libc::SYS_unshare, &[libc::CLONE_NEWCGROUP as u64]);
    let name = batch.data(spec.host_name.as_bytes());
    batch.call("host name", libc::SYS_sethostname, &[name, spec.host_name.len() as u64]);
    if !spec.domain_name.is_empty() {
        let name = batch.data(spec.domain_name.as_bytes());
        batch.call("domain name", libc::SYS_setdomainname, &[name, spec.domain_name.len() as u64]);
    }
    if let Some(network) = spec.network {
        fetch(&mut batch, template, network.as_raw_fd());
        batch.call("network namespace", libc::SYS_setns, &[0, libc::CLONE_NEWNET as u64]);
        batch.call("close a descriptor", libc::SYS_close, &[0]);
    }
    mounts::attach(&mut batch, template, spec)?;
    let directory = batch.text(&state.directory);
    batch.call("directory", libc::SYS_chdir, &[directory]);
    for range in &template.not_forked {
        let arguments = [range.start, range.end - range.start, libc::MADV_DONTFORK as u64];
        batch.attempt("MADV_DONTFORK", libc::SYS_madvise, &arguments);
    }
    mounts::map_shared_files(&mut batch, state);
    puppet.run(&batch, deadline).map(drop)
}
