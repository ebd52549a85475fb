//! Mounts that do not depend on the image, on a private tmpfs, ready to be moved.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, XattrFlags};
use seacow_spec::oci::runtime::Mount;
use seacow_spec::shim::Prepare;
use seacow_sys::Errno;
use seacow_sys::mount::{self, Attributes, Change, MountFlags};
use seacow_sys::rooted::Root;

use super::cgroup_view::View;
use super::masks::{self, Covers};
use super::options::Options;
use super::{cgroup_view, devices, lent, place};
use crate::cgroup::Cgroups;
use crate::error::{Error, Step};

/// The staged trees.
#[derive(Debug)]
pub(crate) struct Stage {
    dir: PathBuf,
    /// Destinations of mounts that are not inside another staged one.
    tops: Vec<String>,
    covers: Covers,
    covered: Vec<String>,
    settings: Option<OwnedFd>,
}

impl Stage {
    /// Takes over `dir`, an empty directory of the host, in the calling mount namespace.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        // Slave, not private: a later bind mount may ask to go on receiving the host's mounts.
        mount::make_all(mount::Propagation::Slave).step(|| "detach from the host's mounts".into())?;
        mount::mount_at("tmpfs", "seacow-stage", dir, MountFlags::NOSUID, "mode=700,nr_inodes=256")
            .step(|| format!("mount stage {}", dir.display()))?;
        Self { dir: dir.to_owned(), ..Self::bare()? }.lay_out()
    }

    /// As [`Stage::open`] for a caller who will not be able to walk the path again: becomes its
    /// directory, with these owners. [`Stage::lay_out`] follows.
    pub(crate) fn open_here(dir: &Path, uid: u32, gid: u32) -> Result<Self, Error> {
        mount::make_all(mount::Propagation::Slave).step(|| "detach from the host's mounts".into())?;
        let (uid, gid) = (uid.to_string(), gid.to_string());
        let options = [
            ("mode", Some("700")),
            ("nr_inodes", Some("256")),
            ("uid", Some(uid.as_str())),
            ("gid", Some(gid.as_str())),
        ];
        let stage = mount::filesystem("tmpfs", "seacow-stage", &options, Attributes::NO_SUID)?;
        mount::attach_at(stage.as_fd(), dir).step(|| format!("mount stage {}", dir.display()))?;
        rustix::process::fchdir(&stage).step(|| "enter the stage".into())?;
        Self::bare()
    }

    fn bare() -> Result<Self, Error> {
        let covers = Covers::null()?;
        Ok(Self { dir: ".".into(), tops: Vec::new(), covers, covered: Vec::new(), settings: None })
    }

    /// Makes its own directories.
    pub(crate) fn lay_out(mut self) -> Result<Self, Error> {
        // Moving out of a shared mount is refused.
        for name in ["empty", "trees", "rootfs", "host"] {
            make_dir(&self.dir.join(name))?;
        }
        self.covers.add_empty(&self.dir.join("empty"))?;
        Ok(self)
    }

    /// Mounts everything but cgroups, which need the cgroups to be joined first.
    pub(crate) fn fill(&mut self, prepare: &Prepare) -> Result<(), Error> {
        for entry in &prepare.mounts {
            if entry.kind == "cgroup" || entry.kind == "cgroup2" {
                continue;
            }
            let at = self.at(&entry.destination)?;
            make_dirs(&self.trees(), &at)?;
            self.mount(entry, &at)?;
            if is_dev(entry) {
                let dev = Root::open(&at).step(|| "open staged /dev".into())?;
                devices::populate(&dev, prepare.privileged)?;
            }
            self.note(&entry.destination);
        }
        Ok(())
    }

    /// Mounts the view of the cgroups, then hides and protects paths.
    pub(crate) fn finish(&mut self, prepare: &Prepare, cgroups: &Cgroups, view: View) -> Result<(), Error> {
        for entry in prepare.mounts.iter().filter(|m| m.kind == "cgroup" || m.kind == "cgroup2") {
            let at = self.at(&entry.destination)?;
            make_dirs(&self.trees(), &at)?;
            cgroup_view::place(&at, entry, cgroups, view)?;
            self.note(&entry.destination);
        }
        let root = Root::open(&self.trees()).step(|| "open the stage".into())?;
        self.settings = settings(&root);
        for path in &prepare.readonly_paths {
            if self.holds(path) {
                masks::make_readonly(&root, path)?;
                self.covered.push(path.clone());
            }
        }
        for path in &prepare.masked_paths {
            if self.holds(path) {
                self.covers.hide(&root, path)?;
                self.covered.push(path.clone());
            }
        }
        Ok(())
    }

    fn mount(&self, entry: &Mount, at: &Path) -> Result<(), Error> {
        let options = Options::parse(&entry.options);
        if options.bind.is_some() || entry.kind == "bind" {
            let root = Root::open(&self.trees()).step(|| "open the stage".into())?;
            return place::place(&root, entry, None);
        }
        let source = if entry.source.is_empty() { &entry.kind } else { &entry.source };
        // Devices are made in it; it becomes read-only at the end.
        let flags =
            if is_dev(entry) { options.flags().difference(MountFlags::RDONLY) } else { options.flags() };
        let (options, label) = labelled_afterwards(entry, options);
        // The path is ours alone and has no links: one call is enough.
        let made = mount::mount_at(&entry.kind, source, at, flags, &options.data);
        made.or_else(|errno| lent::instead(errno, entry, at, &options)).step(|| {
            format!("mount {} on {} with options {:?}", entry.kind, entry.destination, options.data)
        })?;
        label.map_or(Ok(()), |label| give_label(at, &label))
    }

    /// Moves the staged trees below the container's root. Afterwards the stage holds nothing of it.
    pub(crate) fn move_into(&self, root: &Root) -> Result<(), Error> {
        for top in &self.tops {
            let path = Path::new(top);
            // An image whose /proc is a link elsewhere would get its masks beside the real thing.
            if (top == "/proc" || top == "/sys" || top == "/dev")
                && root.entry(path).and_then(|e| e.file_type()).step(|| format!("find {top}"))?
                    == Some(rustix::fs::FileType::Symlink)
            {
                // The last words are runc's.
                let why = "is a symbolic link, but must be mounted on ordinary directory";
                return Err(Error::Invalid { what: format!("{top} of the image {why}") });
            }
            let target = place::mount_point(root, path, true)?;
            mount::move_to(&self.at(top)?, target.as_fd()).step(|| format!("move {top} into place"))?;
        }
        Ok(())
    }

    /// Makes `/dev` read-only, where it shall be, now that its devices and the terminal are there.
    pub(crate) fn protect_dev(&self, root: &Root, mounts: &[Mount]) -> Result<(), Error> {
        let wanted = |m: &&Mount| is_dev(m) && Options::parse(&m.options).set.contains(Attributes::READ_ONLY);
        if !mounts.iter().any(|m| wanted(&m)) {
            return Ok(());
        }
        let dev = root.locate_dir(Path::new("/dev")).step(|| "find /dev".into())?;
        mount::change(dev.as_fd(), &Change { set: Attributes::READ_ONLY, ..Change::default() })
            .step(|| "make /dev read-only".into())
    }

    /// Hides and protects what lies outside the staged trees, now that the root is there.
    pub(crate) fn cover_rest(
        &self,
        root: &Root,
        masked: &[String],
        readonly: &[String],
    ) -> Result<(), Error> {
        for path in readonly.iter().filter(|p| !self.covered.contains(p)) {
            masks::make_readonly(root, path)?;
        }
        for path in masked.iter().filter(|p| !self.covered.contains(p)) {
            self.covers.hide(root, path)?;
        }
        Ok(())
    }

    /// The directory of the kernel's settings, not yet read-only, in the container's own `/proc`.
    pub(crate) fn settings(&self) -> Option<BorrowedFd<'_>> {
        self.settings.as_ref().map(AsFd::as_fd)
    }

    /// Whether it is the caller's directory ([`Stage::open_here`]).
    pub(crate) fn is_here(&self) -> bool {
        self.dir == Path::new(".")
    }

    /// Where the root file system is attached.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Where the view of the host is attached.
    pub(crate) fn host_view(&self) -> PathBuf {
        self.dir.join("host")
    }

    fn trees(&self) -> PathBuf {
        self.dir.join("trees")
    }

    /// A destination's place on the stage.
    fn at(&self, destination: &str) -> Result<PathBuf, Error> {
        let invalid = || Error::Invalid { what: format!("prepared mount destination {destination:?}") };
        let path = Path::new(destination).strip_prefix("/").map_err(|_| invalid())?;
        let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
        if !plain || path.as_os_str().is_empty() {
            return Err(invalid());
        }
        Ok(self.trees().join(path))
    }

    fn note(&mut self, destination: &str) {
        if !self.holds(destination) {
            self.tops.push(destination.to_owned());
        }
    }

    /// Whether a path lies in one of the staged trees.
    fn holds(&self, path: &str) -> bool {
        self.tops.iter().any(|top| Path::new(path).starts_with(top))
    }
}

/// `None` when `/proc` is not among the staged trees, or is without settings.
fn settings(trees: &Root) -> Option<OwnedFd> {
    trees.locate_dir(Path::new("/proc/sys")).ok()
}

/// The file system of message queues is there, one per IPC namespace, before anybody mounts it, and
/// takes no label with the mount: its directory gets one then.
fn labelled_afterwards(entry: &Mount, options: Options) -> (Options, Option<String>) {
    let context = entry.options.iter().find_map(|option| option.strip_prefix("context="));
    match context {
        Some(label) if entry.kind == "mqueue" => {
            let rest: Vec<String> =
                entry.options.iter().filter(|option| !option.starts_with("context=")).cloned().collect();
            (Options::parse(&rest), Some(label.trim_matches('"').to_owned()))
        }
        Some(_) | None => (options, None),
    }
}

fn give_label(at: &Path, label: &str) -> Result<(), Error> {
    match rustix::fs::lsetxattr(at, "security.selinux", label.as_bytes(), XattrFlags::empty()) {
        // The policy has no labels for such files.
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno).step(|| format!("label {} as {label}", at.display())),
    }
}

fn is_dev(entry: &Mount) -> bool {
    entry.destination == "/dev" && entry.kind == "tmpfs"
}

fn make_dir(path: &Path) -> Result<(), Error> {
    match rustix::fs::mkdir(path, Mode::from(0o755)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).step(|| format!("make {}", path.display())),
    }
}

/// Makes `path` below `base`; on the stage nobody else makes links.
fn make_dirs(base: &Path, path: &Path) -> Result<(), Error> {
    match rustix::fs::mkdir(path, Mode::from(0o755)) {
        Ok(()) | Err(Errno::EXIST) => return Ok(()),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno).step(|| format!("make {}", path.display())),
    }
    let mut at = base.to_owned();
    for part in path.strip_prefix(base).unwrap_or(path).components() {
        at.push(part);
        make_dir(&at)?;
    }
    Ok(())
}
