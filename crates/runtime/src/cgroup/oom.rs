//! The kernel's out-of-memory killer: being told, and counting.
//!
//! Version 1 tells an eventfd; version 2 wakes whoever polls `memory.events` for `POLLPRI`. What the
//! kernel does (kernel/cgroup/cgroup.c, fs/kernfs/file.c, mm/oom_kill.c; seen on 6.12 and 6.18):
//!
//! - It counts a kill before it sends SIGKILL, so that at the end of a process its count is in.
//! - In version 2, hitting the limit gives notice too. One notice is followed by the next after 10 ms
//!   at the earliest; what happens in between is told then, or never if the cgroup is gone.
//! - Removing a version 2 cgroup wakes nobody. A read after that says `ENODEV`.
//!
//! Somebody else removes cgroups as soon as they are empty: systemd its scopes. So the count may be
//! gone before it was read. Kills are also counted in the cgroup above, for all its children.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, PollFlags};
use rustix::fs::{Mode, OFlags};
use seacow_sys::Errno;

use super::control::field;
use super::{Cgroups, Error, Layout, read, write};

/// Room for `memory.events`: six lines.
const EVENTS_SIZE: usize = 1024;

/// What a look at the counters found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomNews {
    /// Nothing that matters here.
    Nothing,
    /// The limit was hit. Somebody may be killed for it next.
    Pressure,
    /// The killer struck since the last look.
    Killed,
    /// The cgroup was removed, and what had happened since the last look is lost with it.
    Gone {
        /// Whether the killer struck meanwhile, here or in a neighbour below the same cgroup.
        killed_nearby: bool,
    },
}

/// Becomes ready for [`Self::interest`] when memory ran out in the cgroup.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
    seen: Counts,
    /// Kills counted in the cgroup above at the last look.
    around: Option<u64>,
}

#[derive(Debug)]
enum Source {
    V1 {
        event: OwnedFd,
        control: PathBuf,
    },
    V2 {
        events: OwnedFd,
        /// The same file of the cgroup above.
        above: Option<PathBuf>,
    },
}

/// Counters that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    kills: u64,
    /// How often the limit was hit.
    hits: u64,
}

impl Counts {
    fn of(text: &str) -> Self {
        let count = |key| field(text, key).unwrap_or(0);
        // "oom_kill_disable 0" precedes "oom_kill 3": the space tells them apart.
        Self { kills: count("oom_kill "), hits: count("max ") + count("oom ") }
    }

    /// What is new in `now`.
    fn news(self, now: Self) -> OomNews {
        if now.kills > self.kills {
            OomNews::Killed
        } else if now.hits > self.hits {
            OomNews::Pressure
        } else {
            OomNews::Nothing
        }
    }
}

impl OomWatch {
    /// What to poll for.
    pub fn interest(&self) -> PollFlags {
        match self.source {
            Source::V1 { .. } => PollFlags::IN,
            Source::V2 { .. } => PollFlags::PRI,
        }
    }

    /// Takes the kernel's notice, if there is one, and looks what is new since the last call.
    pub fn check(&mut self) -> Result<OomNews, Error> {
        // Before the cgroup's own, so that a kill in between is never counted there alone: it would be
        // in what was seen nearby, and not in what was seen here.
        let around = self.kills_above();
        let now = match &self.source {
            Source::V1 { event, control } => {
                let told = rustix::io::read(event, &mut [0; 8]).is_ok();
                match read(control) {
                    // Notice of the limit has no counter in version 1.
                    Ok(text) => Some(Counts { hits: self.seen.hits + u64::from(told), ..Counts::of(&text) }),
                    Err(error) if error.is_missing() => None,
                    Err(error) => return Err(error),
                }
            }
            Source::V2 { events, .. } => read_open(events)?,
        };
        let Some(now) = now else {
            let killed = self.kills_above().zip(self.around).is_some_and(|(now, before)| now > before);
            return Ok(OomNews::Gone { killed_nearby: killed });
        };
        let news = self.seen.news(now);
        (self.seen, self.around) = (now, around);
        Ok(news)
    }

    /// `None` where nobody counts: the root cgroup does not, nor does version 1.
    fn kills_above(&self) -> Option<u64> {
        let Source::V2 { above: Some(above), .. } = &self.source else { return None };
        read(above).ok().map(|text| Counts::of(&text).kills)
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::V1 { event, .. } => event.as_fd(),
            Source::V2 { events, .. } => events.as_fd(),
        }
    }
}

/// `None` when the cgroup is gone. A read of the whole is what ends the kernel's notice.
fn read_open(events: &OwnedFd) -> Result<Option<Counts>, Error> {
    let mut buffer = [0; EVENTS_SIZE];
    match rustix::io::retry_on_intr(|| rustix::io::pread(events, &mut buffer, 0)) {
        Ok(len) => Ok(Some(Counts::of(&String::from_utf8_lossy(buffer.get(..len).unwrap_or_default())))),
        Err(Errno::NODEV) => Ok(None),
        Err(errno) => Err(Error::file("read", Path::new("memory.events"), errno)),
    }
}

impl Cgroups {
    /// How many processes the OOM killer has killed. 0 without the memory controller.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        let Some(dir) = self.dir_of("memory") else { return Ok(0) };
        let file = match self.layout() {
            Layout::V1 { .. } => dir.join("memory.oom_control"),
            Layout::V2 { .. } => dir.join("memory.events"),
        };
        match read(&file) {
            Ok(text) => Ok(Counts::of(&text).kills),
            Err(error) if error.is_missing() => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Watches for it. `None` without the memory controller.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, Error> {
        let Some(dir) = self.dir_of("memory") else { return Ok(None) };
        let source = match self.layout() {
            Layout::V1 { .. } => Some(watch_v1(&dir)?),
            Layout::V2 { .. } => watch_v2(&dir)?,
        };
        let Some(source) = source else { return Ok(None) };
        let mut watch = OomWatch { source, seen: Counts::default(), around: None };
        // From here on only what is new counts; and a file that was never read is always ready.
        match watch.check()? {
            OomNews::Gone { .. } => Ok(None),
            OomNews::Nothing | OomNews::Pressure | OomNews::Killed => Ok(Some(watch)),
        }
    }
}

fn watch_v1(dir: &Path) -> Result<Source, Error> {
    let control = dir.join("memory.oom_control");
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|e| Error::file("make an event for", &control, e))?;
    let file = rustix::fs::open(&control, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::file("open", &control, e))?;
    let line = format!("{} {}", event.as_raw_fd(), file.as_raw_fd());
    write(&dir.join("cgroup.event_control"), &line)?;
    Ok(Source::V1 { event, control })
}

fn watch_v2(dir: &Path) -> Result<Option<Source>, Error> {
    let path = dir.join("memory.events");
    match rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(events) => {
            let above = dir.parent().map(|above| above.join("memory.events"));
            Ok(Some(Source::V2 { events, above }))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(Error::file("open", &path, errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_news() {
        let before = Counts::of("low 0\nhigh 7\nmax 3\noom 0\noom_kill 0\noom_group_kill 0\n");
        assert_eq!(before, Counts { kills: 0, hits: 3 });
        assert_eq!(before.news(before), OomNews::Nothing);
        let hit = Counts::of("low 0\nhigh 9\nmax 3\noom 1\noom_kill 0\noom_group_kill 0\n");
        assert_eq!(before.news(hit), OomNews::Pressure);
        let killed = Counts::of("low 0\nhigh 9\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n");
        assert_eq!(hit.news(killed), OomNews::Killed);
        assert_eq!(Counts::of("oom_kill_disable 0\nunder_oom 0\noom_kill 4\n").kills, 4);
    }
}
