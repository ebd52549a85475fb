//! Cgroups for a container's shadow, and for what is forked from that.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{Cgroups, Error, Layout};

/// Open directories and files; those that this host does not have are missing.
#[derive(Debug)]
pub struct ForShadow {
    /// The container's directory of version 2.
    pub born_in: Option<OwnedFd>,
    /// The container's `tasks` files of version 1.
    pub tasks: Vec<OwnedFd>,
    /// Of these, the one that memory is charged to.
    pub memory: Option<OwnedFd>,
    /// The caller's own directory of version 2.
    pub own: Option<OwnedFd>,
    /// The caller's own `tasks` file of the hierarchy for memory.
    pub own_memory: Option<OwnedFd>,
}

impl Cgroups {
    /// Opens them. The container's are there already; `None` when systemd puts processes there.
    pub fn for_shadow(&self) -> Result<Option<ForShadow>, Error> {
        if self.by_systemd() {
            return Ok(None);
        }
        let tasks = self.tasks_files().iter().map(|file| open_tasks(file)).collect::<Result<_, _>>()?;
        let is_v1 = matches!(self.layout(), Layout::V1 { .. });
        let memory = self.dir_of("memory").filter(|_| is_v1).map(|dir| open_tasks(&dir.join("tasks")));
        let file = Path::new("/proc/self/cgroup");
        let table = std::fs::read_to_string(file).map_err(|error| Error::file("read", file, error))?;
        let own = self.layout().unified().and_then(|mount| own_dir(mount, &table, ""));
        let own_memory = match self.layout() {
            Layout::V1 { hierarchies, .. } => hierarchies
                .iter()
                .find(|hierarchy| hierarchy.controllers.iter().any(|name| name == "memory"))
                .and_then(|hierarchy| own_dir(&hierarchy.mount, &table, "memory")),
            Layout::V2 { .. } => None,
        };
        Ok(Some(ForShadow {
            born_in: self.create_for_clone()?,
            tasks,
            memory: memory.transpose()?,
            own: own.map(|dir| open_dir(&dir)).transpose()?,
            own_memory: own_memory.map(|dir| open_tasks(&dir.join("tasks"))).transpose()?,
        }))
    }
}

impl Layout {
    fn unified(&self) -> Option<&Path> {
        match self {
            Self::V1 { unified, .. } => unified.as_deref(),
            Self::V2 { mount } => Some(mount),
        }
    }
}

/// Where a process with this `/proc/self/cgroup` is in the hierarchy of a controller; that without
/// controllers is version 2.
fn own_dir(mount: &Path, table: &str, controller: &str) -> Option<PathBuf> {
    let of_line = |line: &str| {
        let (names, path) = line.split_once(':')?.1.split_once(':')?;
        let path = Path::new(path).strip_prefix("/").ok()?;
        names.split(',').any(|name| name == controller).then(|| mount.join(path))
    };
    // What is not below the mount point is out of reach.
    table.lines().find_map(of_line).filter(|dir| !dir.components().any(|part| part.as_os_str() == ".."))
}

fn open_tasks(file: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::file("open", file, errno))
}

fn open_dir(dir: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| Error::file("open", dir, errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_place() {
        let table = "5:cpu,memory:/a/b\n1:name=systemd:/x\n0::/../outside\n";
        assert_eq!(own_dir(Path::new("/m"), table, "memory"), Some("/m/a/b".into()));
        assert_eq!(own_dir(Path::new("/u"), table, ""), None);
        assert_eq!(own_dir(Path::new("/u"), "0::/\n", ""), Some("/u".into()));
        assert_eq!(own_dir(Path::new("/m"), table, "pids"), None);
    }
}
