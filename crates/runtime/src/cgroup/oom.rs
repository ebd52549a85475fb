//! The kernel's out-of-memory killer: being told, and counting.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::EventfdFlags;
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags};

use super::control::field;
use super::{Cgroups, Error, Layout, read, write};

/// Becomes readable when memory ran out in the cgroup, or the cgroup was removed.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    cgroups: Cgroups,
    seen: u64,
}

impl OomWatch {
    /// Empties the descriptor and tells whether the OOM killer struck since the last call.
    pub fn check(&mut self) -> Result<bool, Error> {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.fd, &mut buffer).is_ok_and(|len| len == buffer.len()) {}
        let kills = self.cgroups.oom_kills()?;
        let struck = kills > self.seen;
        self.seen = kills;
        Ok(struck)
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
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
            // "oom_kill_disable 0" precedes "oom_kill 3": the space tells them apart.
            Ok(text) => Ok(field(&text, "oom_kill ").unwrap_or(0)),
            Err(error) if error.is_missing() => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Watches for it. `None` without the memory controller.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, Error> {
        let Some(dir) = self.dir_of("memory") else { return Ok(None) };
        let fd = match self.layout() {
            Layout::V1 { .. } => {
                let control = dir.join("memory.oom_control");
                let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                    .map_err(|e| Error::file("make an event for", &control, e))?;
                let file = rustix::fs::open(&control, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|e| Error::file("open", &control, e))?;
                let line = format!("{} {}", event.as_raw_fd(), file.as_raw_fd());
                write(&dir.join("cgroup.event_control"), &line)?;
                event
            }
            Layout::V2 { .. } => {
                let events = dir.join("memory.events");
                let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
                    .map_err(|e| Error::file("make a watch for", &events, e))?;
                match inotify::add_watch(&watch, &events, inotify::WatchFlags::MODIFY) {
                    Ok(_) => watch,
                    Err(seacow_sys::Errno::NOENT) => return Ok(None),
                    Err(errno) => return Err(Error::file("watch", &events, errno)),
                }
            }
        };
        Ok(Some(OomWatch { fd, cgroups: self.clone(), seen: self.oom_kills()? }))
    }
}
