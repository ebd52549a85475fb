//! Cgroups of one container, versions 1 (with or without the empty version 2 tree) and 2.
//!
//! Traps that shaped this (measured): moving *another* process by its pid into `cgroup.procs` waits
//! for an RCU grace period, 5–10 ms. So the container's first process, single-threaded, writes `0`
//! into each version 1 `tasks` file itself, and is born in its version 2 cgroup by
//! CLONE_INTO_CGROUP. Nobody here ever writes somebody else's pid.
//!
//! What the user asked for fails loudly; what is set by default fails softly (no CAP_SYS_RESOURCE,
//! a controller that the kernel lacks).

mod control;
mod device_program;
mod devices;
mod layout;
mod limits_v1;
mod limits_v2;
mod oom;
mod shadow;
mod stats;
mod sub;
mod systemd;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use seacow_spec::error::{Classified, ErrorClass};
use seacow_spec::oci::runtime::{DeviceRule, LinuxResources};
use seacow_sys::Errno;

pub(crate) use layout::unescape;
pub use layout::{Hierarchy, Layout, layout};
pub use oom::{OomNews, OomWatch};
pub use shadow::ForShadow;
pub use stats::{BlockIoEntry, BlockIoStats, CpuStats, MemoryStats, PidsStats, Stats, Usage};
pub use sub::SubCgroups;
pub use systemd::BusError;
use systemd::Scope;

/// Why a cgroup operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted on this host")]
    NotMounted,
    /// A cgroup file or directory refused.
    #[error("{action} {}", .path.display())]
    File {
        /// What was tried, with the value if there was one.
        action: String,
        /// On what.
        path: PathBuf,
        /// The answer.
        #[source]
        source: std::io::Error,
    },
    /// A limit that this host cannot set.
    #[error("{limit} cannot be set: {reason}")]
    Unsupported {
        /// The limit.
        limit: String,
        /// What is missing.
        reason: String,
    },
    /// A value that makes no sense.
    #[error("{what}")]
    Invalid {
        /// The value and its place.
        what: String,
    },
    /// systemd was to do it.
    #[error("systemd cgroup driver: cannot {action}")]
    Systemd {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: BusError,
    },
    /// Processes did not freeze, die or leave in time.
    #[error("cgroup {}: {what}", .path.display())]
    Stuck {
        /// Which cgroup.
        path: PathBuf,
        /// What did not happen.
        what: String,
    },
}

impl Error {
    pub(crate) fn file(action: impl Into<String>, path: &Path, source: impl Into<std::io::Error>) -> Self {
        Self::File { action: action.into(), path: path.to_owned(), source: source.into() }
    }

    /// Whether it is a matter of rights, which rootless callers do without.
    pub(crate) fn is_denied(&self) -> bool {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(self, Self::File { source, .. } if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem))
    }

    fn is_missing(&self) -> bool {
        matches!(self, Self::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotMounted | Self::Unsupported { .. } => ErrorClass::NotImplemented,
            Self::Invalid { .. } => ErrorClass::InvalidArgument,
            Self::Systemd { source, .. } => source.class(),
            Self::File { .. } | Self::Stuck { .. } => ErrorClass::Internal,
        }
    }
}

/// The cgroups of one container: the same path below the root of every hierarchy.
#[derive(Clone, Debug)]
pub struct Cgroups {
    layout: &'static Layout,
    path: PathBuf,
    /// The scope that they are, with the systemd driver.
    scope: Option<Scope>,
}

impl Cgroups {
    /// Names the cgroups at `path` without making them. The path's form chooses the driver:
    /// `/seacow/<id>` is a directory of ours (cgroupfs), `slice:prefix:name`, as the OCI
    /// specification's cgroupsPath has it for systemd, the scope `prefix-name.scope` in that slice.
    pub fn new(path: &str) -> Result<Self, Error> {
        if !path.starts_with('/') && path.contains(':') {
            let invalid = || Error::Invalid {
                what: format!("cgroup path {path:?}: the systemd driver takes slice:prefix:name"),
            };
            let scope = systemd::scope(path).ok_or_else(invalid)?;
            return Ok(Self { layout: layout()?, path: scope.dir.clone(), scope: Some(scope) });
        }
        let relative = path.trim_matches('/');
        let sane = !relative.is_empty()
            && Path::new(relative).components().all(|c| matches!(c, std::path::Component::Normal(_)));
        if !sane {
            return Err(Error::Invalid { what: format!("cgroup path {path:?}") });
        }
        Ok(Self { layout: layout()?, path: relative.into(), scope: None })
    }

    /// The path below each hierarchy's root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The host's layout.
    pub fn layout(&self) -> &'static Layout {
        self.layout
    }

    /// Makes the version 2 directory, where the container's first process is born, and opens it.
    /// `None` on a host without a version 2 tree, and with systemd, which makes it around a process.
    pub fn create_for_clone(&self) -> Result<Option<OwnedFd>, Error> {
        if self.scope.is_some() {
            return Ok(None);
        }
        let (root, controllers) = match self.layout {
            Layout::V2 { mount } => (mount, true),
            // Those that no version 1 hierarchy has taken: hugetlb, mostly.
            Layout::V1 { unified: Some(unified), .. } => {
                (unified, !self.layout.unified_controllers().is_empty())
            }
            Layout::V1 { unified: None, .. } => return Ok(None),
        };
        // Not the last level: a cgroup with processes cannot give controllers to children.
        let dir = make(root, &self.path, &mut |level, last| {
            if controllers && !last { limits_v2::delegate(level) } else { Ok(()) }
        })?;
        let fd = rustix::fs::open(&dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::file("open", &dir, e))?;
        Ok(Some(fd))
    }

    /// Whether systemd makes and removes them.
    pub fn by_systemd(&self) -> bool {
        self.scope.is_some()
    }

    /// With the systemd driver: makes the scope around `pid`, which is in it afterwards.
    pub fn adopt(&self, pid: i32) -> Result<(), Error> {
        let Some(scope) = &self.scope else { return Ok(()) };
        scope.start(pid).map_err(|source| self.systemd("start a scope", source))
    }

    fn systemd(&self, action: &str, source: BusError) -> Error {
        Error::Systemd { action: format!("{action} for {}", self.path.display()), source }
    }

    /// Makes the version 1 directories.
    pub fn create_v1(&self) -> Result<(), Error> {
        let Layout::V1 { hierarchies, .. } = self.layout else { return Ok(()) };
        for hierarchy in hierarchies {
            let cpuset = hierarchy.controllers.iter().any(|c| c == "cpuset");
            make(&hierarchy.mount, &self.path, &mut |level, _| {
                if cpuset { limits_v1::clone_children(level) } else { Ok(()) }
            })?;
            if cpuset {
                limits_v1::fill_cpuset(&hierarchy.mount, &self.path)?;
            }
        }
        Ok(())
    }

    /// The files into which a single-threaded process writes `0` to join.
    pub fn tasks_files(&self) -> Vec<PathBuf> {
        match self.layout {
            Layout::V1 { hierarchies, .. } => {
                hierarchies.iter().map(|h| h.mount.join(&self.path).join("tasks")).collect()
            }
            Layout::V2 { .. } => Vec::new(),
        }
    }

    /// Directory of a version 1 controller, or the version 2 directory.
    pub fn dir_of(&self, controller: &str) -> Option<PathBuf> {
        match self.layout {
            Layout::V1 { hierarchies, .. } => hierarchies
                .iter()
                .find(|h| h.controllers.iter().any(|c| c == controller))
                .map(|h| h.mount.join(&self.path)),
            Layout::V2 { mount } => Some(mount.join(&self.path)),
        }
    }

    /// The directory in the version 2 tree.
    fn unified_dir(&self) -> Option<PathBuf> {
        match self.layout {
            Layout::V1 { unified, .. } => unified.as_ref().map(|mount| mount.join(&self.path)),
            Layout::V2 { mount } => Some(mount.join(&self.path)),
        }
    }

    /// Whether a controller is the version 2 tree's.
    fn unified_has(&self, controller: &str) -> bool {
        self.layout.unified_controllers().iter().any(|one| one == controller)
    }

    /// Every directory of this container.
    pub fn dirs(&self) -> Vec<PathBuf> {
        match self.layout {
            Layout::V1 { hierarchies, unified } => hierarchies
                .iter()
                .map(|h| &h.mount)
                .chain(unified)
                .map(|mount| mount.join(&self.path))
                .collect(),
            Layout::V2 { mount } => vec![mount.join(&self.path)],
        }
    }

    /// Sets the device rules of a container that does not run yet, in the place of earlier ones:
    /// `requested`, and the default ones unless it may use `all` (a privileged container).
    pub fn set_devices(&self, requested: &[DeviceRule], all: bool) -> Result<(), Error> {
        let rules = devices::effective(requested, all)?;
        match self.layout {
            Layout::V1 { .. } => limits_v1::set_devices(self, &rules),
            Layout::V2 { .. } => device_program::install(self, &rules),
        }
    }

    /// Sets limits of a new container, and has systemd know of them and of the device rules, of which
    /// the default ones are left out where it may use `all_devices`.
    pub fn apply(&self, resources: &LinuxResources, all_devices: bool) -> Result<(), Error> {
        match self.layout {
            Layout::V1 { .. } => limits_v1::apply(self, resources)?,
            Layout::V2 { .. } => limits_v2::apply(self, resources)?,
        }
        self.tell(resources, Some(all_devices))
    }

    /// Changes what is set in `resources` of a running container; device rules stay, unless there are
    /// new ones.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        if !resources.devices.is_empty() {
            self.replace_devices(&devices::effective(&resources.devices, false)?)?;
        }
        match self.layout {
            Layout::V1 { .. } => limits_v1::apply(self, resources)?,
            Layout::V2 { .. } => limits_v2::apply(self, resources)?,
        }
        self.tell(resources, None)
    }

    /// Version 1 starts from "nothing", which must not be seen by a running program.
    fn replace_devices(&self, rules: &[devices::Rule]) -> Result<(), Error> {
        if matches!(self.layout, Layout::V2 { .. }) {
            return device_program::install(self, rules);
        }
        let frozen = self.is_frozen()?;
        if !frozen {
            self.freeze()?;
        }
        let set = limits_v1::set_devices(self, rules);
        let thawed = if frozen { Ok(()) } else { self.thaw() };
        set.and(thawed)
    }

    /// What systemd does not know it takes back when it reloads.
    fn tell(&self, resources: &LinuxResources, all_devices: Option<bool>) -> Result<(), Error> {
        let Some(scope) = &self.scope else { return Ok(()) };
        scope.set(self.layout, resources, all_devices).map_err(|source| self.systemd("set limits", source))
    }
}

/// The form of an OCI cgroupsPath that makes [`Cgroups::new`] use systemd: the request's own, or the
/// scope `prefix-id.scope` in the default slice when it has none.
///
/// # Errors
/// The request names a directory, which the other driver would make.
pub fn scope_path(requested: &str, prefix: &str, id: &str) -> Result<String, Error> {
    if requested.is_empty() {
        return Ok(format!(":{prefix}:{id}"));
    }
    if requested.starts_with('/') || systemd::scope(requested).is_none() {
        let what = format!("linux.cgroupsPath {requested:?}: the systemd driver takes slice:prefix:name");
        return Err(Error::Invalid { what });
    }
    Ok(requested.to_owned())
}

/// Joins all version 1 hierarchies. For the single-threaded process itself.
pub(crate) fn join_self(tasks: &[PathBuf]) -> Result<(), Error> {
    tasks.iter().try_for_each(|file| write(file, "0"))
}

/// As [`join_self`], without those that are not there.
pub(crate) fn join_present(tasks: &[PathBuf]) -> Result<(), Error> {
    tasks.iter().try_for_each(|file| match write(file, "0") {
        Err(error) if error.is_missing() => Ok(()),
        done => done,
    })
}

/// Makes `root/path` level by level; `made` adjusts the root and each level that was new, and hears
/// whether it is the last.
fn make(
    root: &Path,
    path: &Path,
    made: &mut dyn FnMut(&Path, bool) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    let full = root.join(path);
    match rustix::fs::mkdir(&full, Mode::from(0o755)) {
        Ok(()) => return made(&full, true).map(|()| full),
        Err(Errno::EXIST) => return Ok(full),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(Error::file("make cgroup", &full, errno)),
    }
    let mut level = root.to_owned();
    made(&level, false)?;
    for component in path.components() {
        level.push(component);
        match rustix::fs::mkdir(&level, Mode::from(0o755)) {
            Ok(()) => made(&level, level == full)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::file("make cgroup", &level, errno)),
        }
    }
    Ok(full)
}

/// Writes a value in one call, as cgroup files want it.
fn write(path: &Path, value: &str) -> Result<(), Error> {
    let refused = |errno: Errno| Error::file(format!("write {:?} to", value.trim_end()), path, errno);
    let fd = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(refused)?;
    rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_bytes())).map(drop).map_err(refused)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|e| Error::file("read", path, e))
}
