//! What is done to the processes in a cgroup: list, freeze, kill; and removing it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use seacow_sys::Errno;

use super::{Cgroups, Error, Layout, read, write};

/// How long processes may take to freeze. A process in uninterruptible sleep delays it.
const FREEZE_TIME: Duration = Duration::from_secs(10);
/// How long killed processes may take to leave: exit of large address spaces, disk waits.
const EXIT_TIME: Duration = Duration::from_secs(10);
/// Nesting that a container's own cgroup tree may have here before listing gives up on the rest.
const DEPTH: usize = 64;

impl Cgroups {
    /// Host pids of all processes, also in sub-cgroups.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let Some(dir) = self.process_dir() else { return Ok(Vec::new()) };
        let mut pids = BTreeSet::new();
        for dir in tree(&dir) {
            match read(&dir.join("cgroup.procs")) {
                Ok(text) => pids.extend(text.lines().filter_map(|l| l.trim().parse::<i32>().ok())),
                Err(error) if error.is_missing() => {}
                // A threaded cgroup lists no processes (EOPNOTSUPP); its parent does.
                Err(Error::File { source, .. })
                    if source.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {}
                Err(error) => return Err(error),
            }
        }
        // 0 stands for a process outside our pid namespace.
        pids.remove(&0);
        Ok(pids.into_iter().collect())
    }

    /// The hierarchy that is asked for the processes: any, all have the same.
    pub fn process_dir(&self) -> Option<PathBuf> {
        match self.layout {
            Layout::V1 { hierarchies, .. } => {
                let freezer = self.dir_of("freezer").or_else(|| self.dir_of("pids"));
                freezer.or_else(|| hierarchies.first().map(|h| h.mount.join(&self.path)))
            }
            Layout::V2 { mount } => Some(mount.join(&self.path)),
        }
    }

    /// Freezes all processes and waits until they are.
    pub fn freeze(&self) -> Result<(), Error> {
        let what = "its processes did not freeze";
        self.wait_until(FREEZE_TIME, what, &mut || self.try_freeze()).inspect_err(|_| {
            // Half frozen is worse than not frozen; the caller gets the first error.
            let _ = self.thaw();
        })
    }

    /// Asks for all processes to be frozen and tells whether all are. To be called again until they
    /// are or [`Self::thaw`] takes it back: in version 1 a fork meanwhile leaves them half frozen,
    /// and asking again makes the kernel look again.
    pub fn try_freeze(&self) -> Result<bool, Error> {
        match self.layout {
            Layout::V1 { .. } => {
                let file = self.freezer()?.join("freezer.state");
                write(&file, "FROZEN")?;
                Ok(read(&file)?.trim() == "FROZEN")
            }
            Layout::V2 { mount } => {
                let dir = mount.join(&self.path);
                write(&dir.join("cgroup.freeze"), "1")?;
                Ok(field(&read(&dir.join("cgroup.events"))?, "frozen") == Some(1))
            }
        }
    }

    /// Lets frozen processes run again.
    pub fn thaw(&self) -> Result<(), Error> {
        match self.layout {
            Layout::V1 { .. } => write(&self.freezer()?.join("freezer.state"), "THAWED"),
            Layout::V2 { mount } => write(&mount.join(&self.path).join("cgroup.freeze"), "0"),
        }
    }

    /// Whether the container is frozen.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        match self.layout {
            Layout::V1 { .. } => Ok(read(&self.freezer()?.join("freezer.state"))?.trim() != "THAWED"),
            Layout::V2 { mount } => Ok(read(&mount.join(&self.path).join("cgroup.freeze"))?.trim() == "1"),
        }
    }

    fn freezer(&self) -> Result<PathBuf, Error> {
        self.dir_of("freezer").ok_or_else(|| Error::Unsupported {
            limit: "freezing".into(),
            reason: "the cgroup controller freezer is not mounted".into(),
        })
    }

    /// Sends a signal to all processes once.
    pub fn signal_all(&self, signal: i32) -> Result<(), Error> {
        for pid in self.pids()? {
            match seacow_sys::process::kill(pid, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => {
                    let dir = self.process_dir().unwrap_or_default();
                    return Err(Error::file(
                        format!("send signal {signal} to process {pid} of"),
                        &dir,
                        errno,
                    ));
                }
            }
        }
        Ok(())
    }

    /// Kills all processes and waits until they are gone. Frozen ones are thawed. The caller's own
    /// children among them must be reaped by the caller; a zombie does not count.
    pub fn kill_all(&self) -> Result<(), Error> {
        if let Layout::V2 { mount } = self.layout {
            let dir = mount.join(&self.path);
            match write(&dir.join("cgroup.kill"), "1") {
                // Before Linux 5.14.
                Err(error) if error.is_missing() => {}
                done => done?,
            }
        }
        self.wait_until(EXIT_TIME, "its processes did not end after SIGKILL", &mut || {
            let pids = self.pids()?;
            if pids.iter().all(|pid| is_zombie(*pid)) {
                return Ok(true);
            }
            self.signal_all(libc::SIGKILL)?;
            // Thawing what was never frozen is harmless; a missing freezer cannot have frozen.
            let _ = self.thaw();
            Ok(false)
        })
    }

    /// Removes all directories, and systemd's scope. Missing ones are fine; the kernel reports a cgroup
    /// busy for a moment after its last process has gone. Goes on after errors and gives the first.
    pub fn remove(&self) -> Result<(), Error> {
        let mut first = match &self.scope {
            Some(scope) => scope.stop().map_err(|source| self.systemd("stop the scope", source)),
            None => Ok(()),
        };
        for dir in self.dirs() {
            let removed = self.wait_until(EXIT_TIME, "it is still in use", &mut || remove_tree(&dir));
            if first.is_ok() {
                first = removed;
            }
        }
        first
    }

    /// Whether any directory exists.
    pub fn exists(&self) -> bool {
        self.dirs().iter().any(|d| d.exists())
    }

    fn wait_until(
        &self,
        time: Duration,
        what: &str,
        done: &mut dyn FnMut() -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + time;
        let mut pause = Duration::from_micros(100);
        loop {
            if done()? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::Stuck { path: self.path.clone(), what: what.to_owned() });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// The directory and all below it, deepest last.
fn tree(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![top.to_owned()];
    let mut level = vec![top.to_owned()];
    for _ in 0..DEPTH {
        let mut next = Vec::new();
        for dir in &level {
            let Ok(entries) = std::fs::read_dir(dir) else { continue };
            next.extend(
                entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()),
            );
        }
        if next.is_empty() {
            break;
        }
        found.extend(next.iter().cloned());
        level = next;
    }
    found
}

/// Removes a cgroup with its children; false while busy.
fn remove_tree(top: &Path) -> Result<bool, Error> {
    match rustix::fs::rmdir(top) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        Err(errno) => return Err(Error::file("remove cgroup", top, errno)),
    }
    let mut all_gone = true;
    for dir in tree(top).iter().rev() {
        match rustix::fs::rmdir(dir) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::BUSY | Errno::NOTEMPTY) => all_gone = false,
            Err(errno) => return Err(Error::file("remove cgroup", dir, errno)),
        }
    }
    Ok(all_gone)
}

/// Gone counts as zombie: nothing runs under this pid any more.
fn is_zombie(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

/// The number behind a key in a `key value` file.
pub(super) fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}
