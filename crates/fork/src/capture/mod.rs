//! Everything about the source but its memory's contents, read while it stands still.

mod process;
mod threads;
mod timers;

use seacow_sys::ptrace::{self, SignalInfo};
use seacow_sys::seccomp::SockFilter;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::examine::{self, Target};
use crate::files::{self, Files};
use crate::procfs::{self, Fields, Mapping};
use crate::reason::Reason;
use crate::source::Source;

pub(crate) use process::{Credentials, MemoryLayout, SETTINGS, layout};
pub(crate) use threads::ThreadState;
pub(crate) use timers::Timer;

/// A `struct sigaction`, as rt_sigaction takes it.
pub(crate) type Action = [u8; 32];

/// A signal that was waiting.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    /// For this thread (as the source's pid namespace sees it), or for any.
    pub(crate) thread: Option<i32>,
    pub(crate) info: SignalInfo,
}

/// The state of the source.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) pid: i32,
    /// The first is the process's first.
    pub(crate) threads: Vec<ThreadState>,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) layout: MemoryLayout,
    /// For signals 1 to 64.
    pub(crate) actions: Vec<Action>,
    pub(crate) interval_timers: [[u8; 32]; 3],
    pub(crate) timers: Vec<Timer>,
    pub(crate) queued: Vec<Queued>,
    pub(crate) credentials: Credentials,
    /// Oldest first.
    pub(crate) filters: Vec<Vec<SockFilter>>,
    pub(crate) umask: u64,
    pub(crate) directory: Vec<u8>,
    pub(crate) files: Files,
    /// Soft and hard, by the kernel's numbers.
    pub(crate) limits: Vec<[u64; 2]>,
    /// Values of [`SETTINGS`], in that order.
    pub(crate) settings: Vec<Option<u64>>,
    pub(crate) session_leader: bool,
    pub(crate) oom_score: String,
}

/// What was looked at to find reasons against a fork, and is of use afterwards.
pub(crate) struct Examined {
    status: Fields,
    files: Files,
    mappings: Vec<Mapping>,
    filters: Vec<Vec<SockFilter>>,
}

/// Looks from outside. When something cannot be handled that is the error.
pub(crate) fn examine(source: &Source, target: &Target<'_>, ours: &[i32]) -> Result<Examined> {
    let pid = source.pid;
    let status = Fields::read(pid, "status")?;
    let files = files::survey(pid, target.streams)?;
    let mappings = procfs::mappings(pid)?;
    let filters = filters(pid, &status)?;
    let mut reasons = examine::at_rest(target, ours)?;
    reasons.extend(examine::mappings(&mappings));
    reasons.extend(files.refused.iter().cloned());
    if filters.iter().any(|filter| examine::asks_listener(filter)) {
        reasons.push(Reason::SeccompListener);
    }
    if reasons.is_empty() {
        Ok(Examined { status, files, mappings, filters })
    } else {
        Err(Error::Refused(reasons))
    }
}

/// Reads the whole state. From here on the source makes calls.
pub(crate) fn capture(source: &mut Source, examined: Examined) -> Result<State> {
    let Examined { status, files, mappings, filters } = examined;
    gather(source, &status, files, mappings, filters)
}

/// As [`capture`], but descriptors and mappings, of a process that has just executed a program.
pub(crate) fn at_exec(source: &mut Source) -> Result<State> {
    let status = Fields::read(source.pid, "status")?;
    let filters = filters(source.pid, &status)?;
    if filters.iter().any(|filter| examine::asks_listener(filter)) {
        return Err(Error::Refused(vec![Reason::SeccompListener]));
    }
    gather(source, &status, Files::default(), Vec::new(), filters)
}

fn gather(
    source: &mut Source,
    status: &Fields,
    files: Files,
    mappings: Vec<Mapping>,
    filters: Vec<Vec<SockFilter>>,
) -> Result<State> {
    let pid = source.pid;
    let threads = threads::from_outside(source)?;
    let queued = queued(source)?;
    let mut timers = timers::listed(pid, source)?;

    // From here on the source makes calls.
    let mut batch = Batch::new(source.area()?);
    let asked = process::ask(&mut batch, status, &timers)?;
    let answers = source.run(0, batch)?;
    let inside = process::answered(source, &asked, &answers, &mut timers)?;
    let threads = threads::from_inside(source, threads)?;
    let numbers = |key| status.innermost(key);
    Ok(State {
        pid,
        threads,
        layout: process::layout(pid, inside.brk)?,
        mappings,
        actions: inside.actions,
        interval_timers: inside.interval_timers,
        timers,
        queued,
        credentials: Credentials::read(status)?,
        filters,
        umask: status.octal("Umask")?,
        directory: procfs::link(pid, "cwd")?,
        files,
        limits: procfs::limits(pid)?,
        settings: inside.settings,
        session_leader: numbers("NSsid")? == source.inner_pid,
        oom_score: procfs::read(pid, "oom_score_adj")?,
    })
}

fn filters(pid: i32, status: &Fields) -> Result<Vec<Vec<SockFilter>>> {
    let mut filters = Vec::new();
    if status.get("Seccomp")? != "2" {
        return Ok(filters);
    }
    while let Some(filter) =
        ptrace::seccomp_filter(pid, filters.len() as u64).map_err(Error::trace("read filter", pid))?
    {
        filters.push(filter);
    }
    Ok(filters)
}

fn queued(source: &Source) -> Result<Vec<Queued>> {
    let of = |tid, shared| ptrace::pending_signals(tid, shared).map_err(Error::trace("read signals", tid));
    let shared = of(source.pid, true)?.into_iter().map(|info| Queued { thread: None, info });
    let mut found: Vec<Queued> = shared.collect();
    for thread in &source.threads {
        let own = of(thread.tid, false)?.into_iter();
        found.extend(own.map(|info| Queued { thread: Some(thread.inner_tid), info }));
    }
    Ok(found)
}
