//! What a running container leaves on the machine, and when all of it is gone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::memory;

/// How long traces are waited for.
const LIMIT: Duration = Duration::from_secs(20);

/// Everything of one container that can be seen from outside.
#[derive(Debug)]
pub(crate) struct Traces {
    /// Its first process and its shim, with their start times: numbers are used again.
    processes: Vec<(u32, String)>,
    /// Cgroups, and directories of the engine.
    paths: Vec<PathBuf>,
    /// Its link on the host's side, as the daemon sees it.
    link: Option<String>,
    daemon: u32,
    /// What its mounts have in their lines of the daemon's mountinfo.
    marks: Vec<String>,
}

impl Traces {
    /// Looks at the running container with that first process. `link` is the name of its veth,
    /// `directories` what the engine may have made for it.
    pub(crate) fn of(
        daemon: u32,
        id: &str,
        pid: u32,
        link: Option<String>,
        directories: Vec<PathBuf>,
    ) -> Result<Self> {
        let processes = [pid, memory::parent(pid)?];
        let mut paths = cgroups(pid, id);
        paths.extend(directories.into_iter().filter(|path| path.exists()));
        // The engine's directories are mount points with dockerd.
        let marks = paths.iter().map(|path| path.display().to_string()).chain([id.to_owned()]).collect();
        Ok(Self {
            processes: processes.into_iter().filter_map(|pid| Some((pid, started(pid)?))).collect(),
            paths,
            link,
            daemon,
            marks,
        })
    }

    /// Waits until nothing is left; how long that took, at a resolution of half a millisecond.
    pub(crate) fn await_gone(&self) -> Result<Duration> {
        let start = Instant::now();
        loop {
            let left = self.left();
            if left.is_empty() {
                return Ok(start.elapsed());
            }
            if start.elapsed() > LIMIT {
                bail!("left after {LIMIT:?}: {}", left.join(", "));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    fn left(&self) -> Vec<String> {
        let processes = self.processes.iter().filter(|(pid, time)| started(*pid).as_ref() == Some(time));
        let mut left: Vec<String> = processes.map(|(pid, _)| format!("process {pid}")).collect();
        left.extend(self.paths.iter().filter(|path| path.exists()).map(|path| path.display().to_string()));
        if let Some(link) = self.link.as_ref().filter(|link| links(self.daemon).contains(*link)) {
            left.push(format!("link {link}"));
        }
        let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", self.daemon)).unwrap_or_default();
        let ours = mounts.lines().filter(|line| self.marks.iter().any(|mark| line.contains(mark)));
        left.extend(ours.map(|line| format!("mount {line}")));
        left
    }
}

/// The interfaces in the network namespace of a process.
pub(crate) fn links(pid: u32) -> BTreeSet<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// When a process started, in ticks; nothing when it is gone or a zombie.
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may contain anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    fields.nth(18).filter(|_| !matches!(state, "Z" | "X")).map(str::to_owned)
}

/// The cgroup directories of a process that are named after the container.
fn cgroups(pid: u32, id: &str) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut found = Vec::new();
    for line in text.lines().filter(|line| line.contains(id)) {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let mounted = match controllers {
            "" if Path::new("/sys/fs/cgroup/unified").exists() => "unified",
            other => other.strip_prefix("name=").unwrap_or(other),
        };
        found.push(Path::new("/sys/fs/cgroup").join(mounted).join(path.trim_start_matches('/')));
    }
    found.retain(|path| path.exists());
    found
}
