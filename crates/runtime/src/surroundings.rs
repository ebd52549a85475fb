//! What a clone of a running process has around it, from the same description as a container that is made
//! from nothing: cgroups, and its mounts as a list.
//!
//! Such a process is not made by [`crate::init`], and there is no init that could mount: whoever makes the
//! clone works the list off inside it. What does not belong to the clone's own namespaces is mounted here,
//! detached.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags};
use seacow_spec::oci::runtime::{Linux, LinuxResources, Mount, NamespaceKind};
use seacow_spec::shim::{Create, Lower, Prepare, Rootfs};
use seacow_sys::mount::{self, Attributes, Change, MountFlags, Propagation};
use seacow_sys::ns::{self, Kinds};
use seacow_sys::rooted::Root;

use crate::cgroup::{Cgroups, Layout};
use crate::error::{Error, Step};
use crate::init::soft;
use crate::mounts::options::Options;
use crate::mounts::{cgroup_view, devices, place, rootfs};
use crate::process::{labels, sysctl};

/// One mount. Targets are paths of the clone's root.
#[derive(Debug)]
pub enum Placed {
    /// A detached tree becomes the root.
    Root(OwnedFd),
    /// A detached tree is put at a place.
    Tree {
        /// The tree.
        tree: OwnedFd,
        /// The place.
        target: String,
    },
    /// A file system of the clone's namespaces is made.
    New {
        /// Its kind.
        kind: String,
        /// The place.
        target: String,
        /// MS_* bits.
        flags: u64,
        /// Options.
        options: String,
    },
    /// Something is put at another place, too, where both exist.
    Bind {
        /// What.
        source: String,
        /// The place.
        target: String,
        /// MS_* bits.
        flags: u64,
    },
}

/// Everything around one clone.
#[derive(Debug)]
pub struct Surroundings {
    /// `tasks` files of those that it joins by writing `0`.
    pub tasks: Vec<OwnedFd>,
    /// In order.
    pub mounts: Vec<Placed>,
    /// Files of its own `/proc/sys`, settings of its namespaces, and what it writes to each.
    pub settings: Vec<(String, String)>,
    /// Files of its own `/proc` and the label that it writes to each.
    pub labels: Vec<(String, String)>,
}

impl Surroundings {
    /// Makes the cgroup that it is born in, where there is version 2, which comes before all else. The cgroups
    /// are the caller's to remove, whatever comes of it.
    pub fn birthplace(cgroups: &Cgroups, prepare: &Prepare) -> Result<Option<OwnedFd>, Error> {
        refuse(cgroups, prepare)?;
        soft::create(cgroups, false)
    }

    /// Makes the other cgroups, limits, and all mounts that can be made ahead. Behind [`Self::birthplace`].
    pub fn new(cgroups: &Cgroups, prepare: &Prepare, create: &Create) -> Result<Self, Error> {
        let nothing = Linux::default();
        let linux = create.spec.linux.as_ref().unwrap_or(&nothing);
        let no_limits = LinuxResources::default();
        let resources = linux.resources.as_ref().unwrap_or(&no_limits);
        soft::create_rest(cgroups)?;
        soft::set_devices(cgroups, &resources.devices, prepare.privileged)?;
        soft::apply(cgroups, resources, prepare.privileged)?;
        let tasks = cgroups.tasks_files().iter().map(|file| open_tasks(file)).collect::<Result<_, _>>()?;
        let mut list = List { prepare, cgroups, mounts: Vec::new() };
        list.fill(create, linux)?;
        let settings = linux.sysctl.iter().map(setting).collect::<Result<_, _>>()?;
        Ok(Self { tasks, mounts: list.mounts, settings, labels: labels_of(create)? })
    }
}

/// What a clone cannot have.
fn refuse(cgroups: &Cgroups, prepare: &Prepare) -> Result<(), Error> {
    let missing = |what: &str| Err(Error::NotImplemented { what: what.into() });
    for kind in [
        NamespaceKind::Pid,
        NamespaceKind::Mount,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Cgroup,
    ] {
        if !prepare.namespaces.iter().any(|ns| ns.kind == kind && ns.path.is_empty()) {
            return missing("a clone in namespaces that are not its own");
        }
    }
    if prepare.namespaces.iter().any(|ns| matches!(ns.kind, NamespaceKind::User | NamespaceKind::Time)) {
        return missing("a clone with a user or time namespace");
    }
    if cgroups.by_systemd() {
        return missing("a clone in a scope of systemd's");
    }
    Ok(())
}

fn open_tasks(file: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .step(|| format!("open {}", file.display()))
}

/// The file of a kernel setting. All its namespaces are its own ([`refuse`]).
fn setting((name, value): (&String, &String)) -> Result<(String, String), Error> {
    let below = sysctl::below_proc_sys(name, |_| true)?;
    Ok((Path::new("/proc/sys").join(below).display().to_string(), value.clone()))
}

/// What confines it. The files are those of the `/proc` that was just mounted for it, before anything of
/// the container's could put something in their place.
fn labels_of(create: &Create) -> Result<Vec<(String, String)>, Error> {
    let Some(process) = &create.spec.process else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    if !process.selinux_label.is_empty() && labels::selinux_is_on() {
        all.push(("/proc/self/attr/current".to_owned(), process.selinux_label.clone()));
    }
    let profile = process.apparmor_profile.as_str();
    if !matches!(profile, "" | "unconfined") && labels::apparmor_is_on() {
        let own = "/proc/self/attr/apparmor/current";
        let file = if Path::new(own).exists() { own } else { "/proc/self/attr/current" };
        all.push((file.to_owned(), format!("changeprofile {profile}")));
    }
    Ok(all)
}

/// The list as it is being written.
struct List<'a> {
    prepare: &'a Prepare,
    cgroups: &'a Cgroups,
    mounts: Vec<Placed>,
}

impl List<'_> {
    fn fill(&mut self, create: &Create, linux: &Linux) -> Result<(), Error> {
        let tree = root_tree(create, linux)?;
        let root = Root::from_fd(tree.try_clone().step(|| "duplicate a mount".into())?);
        self.mounts.push(Placed::Root(tree));
        let own = |entry: &&Mount| matches!(entry.kind.as_str(), "cgroup" | "cgroup2");
        let prepared = &self.prepare.mounts;
        let rest: Vec<&Mount> = prepared.iter().filter(|entry| !own(entry)).collect();
        for entry in &rest {
            if entry.destination == "/dev" && entry.kind == "tmpfs" {
                self.dev(entry, linux, &create.spec.mounts)?;
            } else {
                self.add(entry, &root)?;
            }
        }
        for entry in prepared.iter().filter(own) {
            self.cgroup_view(entry)?;
        }
        for entry in &create.spec.mounts {
            self.add(entry, &root)?;
        }
        self.cover(linux, &root);
        Ok(())
    }

    fn add(&mut self, entry: &Mount, root: &Root) -> Result<(), Error> {
        let options = Options::parse(&entry.options);
        let target = entry.destination.clone();
        if options.bind.is_some() || entry.kind == "bind" {
            self.mounts.push(Placed::Tree { tree: place::bound_tree(entry, &options, None)?, target });
            return Ok(());
        }
        match entry.kind.as_str() {
            "proc" | "sysfs" | "devpts" | "mqueue" => {
                // The file system of message queues takes no label with the mount.
                let keep = |option: &&str| entry.kind != "mqueue" || !option.starts_with("context=");
                let kept: Vec<&str> = options.data.split(',').filter(keep).collect();
                let flags = u64::from(options.flags().bits());
                self.mounts.push(Placed::New {
                    kind: entry.kind.clone(),
                    target,
                    flags,
                    options: kept.join(","),
                });
            }
            "tmpfs" if !options.copy_up => {
                let below = root.locate(Path::new(&target)).or_else(|_| root.locate(Path::new("/")));
                let below = below.step(|| format!("find {target}"))?;
                let data = place::data_for("tmpfs", &options.data, below.as_fd())
                    .step(|| format!("find {target}"))?;
                self.mounts.push(Placed::Tree { tree: tmpfs(entry, &data, options.set)?, target });
            }
            kind => {
                return Err(Error::NotImplemented {
                    what: format!("a mount of kind {kind} ({target}) in a clone"),
                });
            }
        }
        Ok(())
    }

    /// `/dev` with its nodes, and with the places for what is mounted in it.
    fn dev(&mut self, entry: &Mount, linux: &Linux, further: &[Mount]) -> Result<(), Error> {
        let options = Options::parse(&entry.options);
        let tree = tmpfs(entry, &options.data, options.set.without(Attributes::READ_ONLY))?;
        let dev = Root::from_fd(tree.try_clone().step(|| "duplicate a mount".into())?);
        devices::populate(&dev, self.prepare.privileged)?;
        let below = |path: &str| Path::new(path).strip_prefix("/dev").ok().map(Path::to_owned);
        for mount in self.prepare.mounts.iter().chain(further) {
            if let Some(path) = below(&mount.destination).filter(|path| !path.as_os_str().is_empty()) {
                drop(
                    dev.mkdir_all(&path, Mode::from(0o755))
                        .step(|| format!("make mount point {}", mount.destination))?,
                );
            }
        }
        // What lies elsewhere is in the files of the source already.
        let nodes: Vec<_> = linux
            .devices
            .iter()
            .filter_map(|device| {
                let path = Path::new("/").join(below(&device.path)?).display().to_string();
                Some(seacow_spec::oci::runtime::LinuxDevice { path, ..device.clone() })
            })
            .collect();
        devices::add(&dev, &nodes)?;
        if options.set.contains(Attributes::READ_ONLY) {
            set(&tree, Attributes::READ_ONLY, "/dev")?;
        }
        self.mounts.push(Placed::Tree { tree, target: entry.destination.clone() });
        Ok(())
    }

    /// The hierarchies as the clone's own cgroup namespace shows them.
    fn cgroup_view(&mut self, entry: &Mount) -> Result<(), Error> {
        let options = Options::parse(&entry.options);
        let flags = u64::from(options.flags().bits());
        let target = entry.destination.clone();
        let hierarchies = match self.cgroups.layout() {
            Layout::V2 { .. } => {
                self.mounts.push(Placed::New {
                    kind: "cgroup2".into(),
                    target,
                    flags,
                    options: String::new(),
                });
                return Ok(());
            }
            Layout::V1 { hierarchies, .. } => hierarchies,
        };
        let plain = Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC;
        let tree = tmpfs(entry, "mode=755", plain)?;
        let mut views = Vec::new();
        for (name, hierarchy) in cgroup_view::make_places(tree.as_fd(), hierarchies)? {
            let own = hierarchy.mount.join(self.cgroups.path());
            let bound = cgroup_view::bound(&own, &options)
                .step(|| format!("bind cgroup {}", hierarchy.mount_options()))?;
            views.push(Placed::Tree { tree: bound, target: format!("{target}/{}", name.to_string_lossy()) });
        }
        if options.set.contains(Attributes::READ_ONLY) {
            set(&tree, Attributes::READ_ONLY, &target)?;
        }
        self.mounts.push(Placed::Tree { tree, target });
        self.mounts.append(&mut views);
        Ok(())
    }

    /// Hidden and read-only paths.
    fn cover(&mut self, linux: &Linux, root: &Root) {
        let bind = |source: &str, target: &str, flags: MountFlags| Placed::Bind {
            source: source.to_owned(),
            target: target.to_owned(),
            flags: u64::from(flags.bits()),
        };
        for path in both(&self.prepare.readonly_paths, &linux.readonly_paths) {
            // A bind loses what it is not told.
            let flags = self.flags_at(path) | MountFlags::RDONLY | RECURSIVE;
            self.mounts.push(bind(path, path, flags));
        }
        let mut cover: Option<&str> = None;
        for path in both(&self.prepare.masked_paths, &linux.masked_paths) {
            match (kind_of(path, root), cover) {
                (None, _) => {}
                (Some(FileType::Directory), Some(cover)) => {
                    self.mounts.push(bind(cover, path, MountFlags::empty()));
                }
                (Some(FileType::Directory), None) => {
                    cover = Some(path);
                    self.mounts.push(Placed::New {
                        kind: "tmpfs".into(),
                        target: path.to_owned(),
                        flags: u64::from(MountFlags::RDONLY.bits()),
                        options: "size=0,nr_inodes=2".into(),
                    });
                }
                (Some(_), _) => self.mounts.push(bind("/dev/null", path, MountFlags::empty())),
            }
        }
    }

    /// The flags of the prepared mount that a path lies in.
    fn flags_at(&self, path: &str) -> MountFlags {
        let holds = |entry: &&Mount| Path::new(path).starts_with(&entry.destination);
        let inner = self.prepare.mounts.iter().filter(holds).max_by_key(|entry| entry.destination.len());
        inner.map_or(MountFlags::empty(), |entry| Options::parse(&entry.options).flags())
    }
}

/// The second list repeats the first, or has more.
fn both<'a>(first: &'a [String], second: &'a [String]) -> impl Iterator<Item = &'a String> {
    first.iter().chain(second.iter().filter(|path| !first.contains(path)))
}

/// MS_REC, which rustix keeps for itself.
const RECURSIVE: MountFlags = MountFlags::from_bits_retain(0x4000);

/// What kind of file a path will be in the clone. The kernel's file systems have the same in every
/// container, but for processes.
fn kind_of(path: &str, root: &Root) -> Option<FileType> {
    let mode = if ["/proc/", "/sys/"].iter().any(|top| path.starts_with(top)) {
        rustix::fs::stat(path).ok()?.st_mode
    } else {
        root.stat(Path::new(path)).ok()?.st_mode
    };
    Some(FileType::from_raw_mode(mode))
}

fn tmpfs(entry: &Mount, data: &str, attributes: Attributes) -> Result<OwnedFd, Error> {
    let source = if entry.source.is_empty() { "tmpfs" } else { &entry.source };
    let options: Vec<(&str, Option<&str>)> = data
        .split(',')
        .filter(|option| !option.is_empty())
        .map(|option| match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        })
        .collect();
    Ok(mount::filesystem("tmpfs", source, &options, attributes)?)
}

fn set(tree: &OwnedFd, attributes: Attributes, what: &str) -> Result<(), Error> {
    mount::change(tree.as_fd(), &Change { set: attributes, ..Change::default() })
        .step(|| format!("set options of {what}"))
}

fn root_tree(create: &Create, linux: &Linux) -> Result<OwnedFd, Error> {
    let on_host = match &create.rootfs {
        Rootfs::Overlay { lowers, .. } => lowers.iter().any(|lower| matches!(lower, Lower::HostView { .. })),
        Rootfs::Directory(_) => false,
    };
    let tree = if on_host {
        leave_hosts_mounts()?;
        rootfs::detached(&with_view(&create.rootfs)?, linux, None)?
    } else {
        rootfs::detached(&create.rootfs, linux, None)?
    };
    if create.spec.root.as_ref().is_some_and(|root| root.readonly) {
        set(&tree, Attributes::READ_ONLY, "the root")?;
    }
    Ok(tree)
}

/// A root file system with a directory in the place of its view of the host. All clones have the same view:
/// it is mounted once, over the directory that is its upper layer, in a mount namespace that is ours alone.
fn with_view(rootfs: &Rootfs) -> Result<Rootfs, Error> {
    let Rootfs::Overlay { lowers, upper } = rootfs else { return Ok(rootfs.clone()) };
    let below = |lower: &Lower| match lower {
        Lower::Dir(dir) => Ok(Lower::Dir(dir.clone())),
        Lower::HostView { mask, root } => view_of_host(mask, root).map(|()| Lower::Dir(mask.clone())),
    };
    let lowers = lowers.iter().map(below).collect::<Result<_, _>>()?;
    Ok(Rootfs::Overlay { lowers, upper: upper.clone() })
}

/// Mounts the view, unless it is there: the daemon may have made the directory anew, or it is another's.
fn view_of_host(mask: &Path, root: &Path) -> Result<(), Error> {
    /// The file systems that are such views.
    static VIEWS: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let device = || {
        let stat = rustix::fs::stat(mask).step(|| format!("look at {}", mask.display()));
        stat.map(|stat| stat.st_dev)
    };
    let mut views = VIEWS.lock().unwrap_or_else(PoisonError::into_inner);
    if views.contains(&device()?) {
        return Ok(());
    }
    let view = rootfs::view_of_host(mask, root)?;
    mount::attach_at(view.as_fd(), mask).step(|| "attach the view of the host".into())?;
    views.push(device()?);
    Ok(())
}

/// Moves the calling process into a mount namespace of its own, once: views of the host have to be attached
/// somewhere for a moment, and nobody else shall see them.
fn leave_hosts_mounts() -> Result<(), Error> {
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.load(Ordering::Relaxed) {
        return Ok(());
    }
    ns::unshare(Kinds::MOUNT).step(|| "leave the host's mount namespace".into())?;
    mount::make_all(Propagation::Slave).step(|| "detach from the host's mounts".into())?;
    DONE.store(true, Ordering::Relaxed);
    Ok(())
}
