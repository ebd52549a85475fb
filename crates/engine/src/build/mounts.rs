//! What is mounted for one `RUN`, and what has to stay until it ended.
//!
//! Everything becomes an ordinary mount of an ordinary container. Secrets and scripts are files below
//! the exec root, which is memory; they go with the step. Part of an image that has several layers,
//! and whatever may be written to and is thrown away, is a copy, because no mount would be both.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use seacow_build::executor::{FilesFrom, RunMount, RunMountKind};
use seacow_spec::docker::host_config::{BindOptions, HostConfig, ImageOptions, Mount, TmpfsOptions};
use seacow_spec::{Digest, ErrorClass, ErrorReport};
use seacow_store::archive::{ContainerRoot, PutOptions};

use super::agent::Agent;
use super::caches::Lease;
use super::executor::{BuildExecutor, report};
use super::tree::Tree;

/// What a step's mounts need while it runs.
#[derive(Default)]
pub(super) struct Furniture<'a> {
    leases: Vec<Lease<'a>>,
    dirs: Vec<TemporaryDir>,
    agents: Vec<Agent>,
    /// Where things are mounted.
    pub(super) targets: Vec<PathBuf>,
}

/// A directory that goes when dropped.
pub(super) struct TemporaryDir(pub(super) PathBuf);

impl TemporaryDir {
    /// A new one below `parent`, for root only.
    pub(super) fn new(parent: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = seacow_spec::id::random_hex()?;
        let path = parent.join(name.get(..16).unwrap_or(&name));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> ErrorReport {
    move |error| ErrorReport::new(ErrorClass::Internal, format!("{what}: {error}"))
}

impl<'a> Furniture<'a> {
    /// Makes what the mounts need, and puts them into the container's settings. `None` when the build
    /// was cancelled meanwhile.
    pub(super) fn make(
        build: &'a BuildExecutor,
        mounts: &[RunMount],
        host: &mut HostConfig,
    ) -> Result<Option<Self>, ErrorReport> {
        let mut furniture = Self::default();
        for mount in mounts {
            furniture.targets.push(PathBuf::from(&mount.target));
            let Some(made) = furniture.one(build, mount)? else { return Ok(None) };
            host.mounts.get_or_insert_default().push(Mount { target: mount.target.clone(), ..made });
        }
        Ok(Some(furniture))
    }

    fn one(&mut self, build: &'a BuildExecutor, mount: &RunMount) -> Result<Option<Mount>, ErrorReport> {
        Ok(Some(match &mount.kind {
            RunMountKind::Files { from, path, writable } => self.files(build, from, path, *writable)?,
            RunMountKind::Cache { id, sharing, read_only, owner, seed } => {
                let engine = &build.engine;
                let cancelled = || build.cancel.is_cancelled();
                let lease = engine.0.caches.take(&engine.config().data_root, id, *sharing, &cancelled);
                let Some(lease) = lease.map_err(failed("take a cache"))? else { return Ok(None) };
                if lease.is_new {
                    lease.make(*owner).map_err(failed("make a cache"))?;
                    if let Some((from, path)) = seed {
                        copy_out(build, from, path, &lease.data)?;
                    }
                }
                let made = bind(&lease.data, *read_only);
                self.leases.push(lease);
                made
            }
            RunMountKind::Tmpfs(size) => Mount {
                kind: "tmpfs".into(),
                // What is built in it is run in it.
                tmpfs_options: Some(TmpfsOptions {
                    size_bytes: *size,
                    options: Some(vec![vec!["exec".into()]]),
                    ..TmpfsOptions::default()
                }),
                ..Mount::default()
            },
            RunMountKind::File { data, owner } => {
                let dir = self.dir(build.memory_dir())?;
                let path = dir.join("file");
                file(&path, &data.0, *owner).map_err(failed("make a file for a build step"))?;
                bind(&path, true)
            }
            RunMountKind::Agent { id, owner } => {
                let dir = self.dir(build.memory_dir())?;
                let agent = Agent::listen(build, id, &dir.join("agent"), *owner)?;
                let made = bind(agent.path(), false);
                self.agents.push(agent);
                made
            }
        }))
    }

    /// A directory that stays as long as the step.
    fn dir(&mut self, parent: PathBuf) -> Result<PathBuf, ErrorReport> {
        let dir = TemporaryDir::new(&parent).map_err(failed("make a directory for a build step"))?;
        let path = dir.0.clone();
        self.dirs.push(dir);
        Ok(path)
    }

    fn files(
        &mut self,
        build: &'a BuildExecutor,
        from: &FilesFrom,
        path: &Path,
        writable: bool,
    ) -> Result<Mount, ErrorReport> {
        let FilesFrom::Image(Some(image)) = from else {
            let root = match from {
                FilesFrom::Directory(root) => root.clone(),
                FilesFrom::Image(_) => self.dir(build.disk_dir())?,
            };
            if !writable {
                return Ok(bind(&beneath(&root, path)?, true));
            }
            let copy = self.dir(build.disk_dir())?;
            copy_out(build, from, path, &copy.join("copy"))?;
            return Ok(bind(&copied(&copy), false));
        };
        if !writable && (path.as_os_str().is_empty() || has_one_layer(build, image)?) {
            let subpath = path.to_string_lossy().into_owned();
            return Ok(Mount {
                kind: "image".into(),
                source: image.to_string(),
                read_only: true,
                image_options: Some(ImageOptions { subpath }),
                ..Mount::default()
            });
        }
        let copy = self.dir(build.disk_dir())?;
        copy_out(build, from, path, &copy.join("copy"))?;
        Ok(bind(&copied(&copy), !writable))
    }
}

fn bind(source: &Path, read_only: bool) -> Mount {
    Mount {
        kind: "bind".into(),
        source: source.display().to_string(),
        read_only,
        bind_options: Some(BindOptions::default()),
        ..Mount::default()
    }
}

/// Where [`copy_out`] has put it.
fn copied(dir: &Path) -> PathBuf {
    dir.join("copy")
}

fn file(path: &Path, data: &[u8], (mode, uid, gid): (u32, u32, u32)) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(data)?;
    chown(path, Some(uid), Some(gid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// A path in a context, its links resolved without leaving it.
fn beneath(root: &Path, path: &Path) -> Result<PathBuf, ErrorReport> {
    let missing = |errno: seacow_store::Errno| {
        ErrorReport::new(ErrorClass::InvalidArgument, format!("bind source {}: {errno}", path.display()))
    };
    let opened = seacow_store::rooted::Root::open(root).map_err(missing)?;
    let found = opened.locate(path).map_err(missing)?;
    use std::os::fd::AsRawFd as _;
    fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(failed("find a bind source"))
}

fn has_one_layer(build: &BuildExecutor, image: &Digest) -> Result<bool, ErrorReport> {
    let chain = build.chain(Some(image))?;
    let view = build.engine.store().snapshots().view(chain.as_ref()).map_err(report)?;
    Ok(matches!(view, seacow_spec::shim::Rootfs::Directory(_)))
}

/// Copies a file or directory to `target`, which must not be there unless it is an empty directory.
fn copy_out(build: &BuildExecutor, from: &FilesFrom, path: &Path, target: &Path) -> Result<(), ErrorReport> {
    let (view, source);
    match from {
        FilesFrom::Directory(root) => source = ContainerRoot::of_directory(root).map_err(report)?,
        FilesFrom::Image(image) => {
            view = Tree::read_only(build, build.chain(image.as_ref())?.as_ref())?;
            source = view.container_root()?;
        }
    }
    // In pieces, through a directory of its own: the archive names what it holds by its own name.
    let parent = target.parent().unwrap_or(Path::new("/"));
    let place = TemporaryDir::new(parent).map_err(failed("make a directory for a copy"))?;
    let sink = ContainerRoot::of_directory(&place.0).map_err(report)?;
    let (reader, mut writer) = io::pipe().map_err(failed("make a pipe"))?;
    let whole = Path::new("/").join(path);
    let wrote = std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            let done = source.get_tar(&whole, &mut writer);
            drop(writer);
            done
        });
        let unpacked = sink.put_tar(Path::new("/"), reader, &PutOptions::default()).map_err(report);
        let wrote = match writing.join() {
            Ok(wrote) => wrote.map_err(report),
            Err(_) => Err(ErrorReport::new(ErrorClass::Internal, "copying files broke down")),
        };
        wrote.and(unpacked)
    });
    wrote?;
    let entry = fs::read_dir(&place.0).and_then(|mut dir| dir.next().transpose());
    let made = match entry.map_err(failed("look for a copy"))? {
        Some(entry) if !path.as_os_str().is_empty() => entry.path(),
        _ => place.0.clone(),
    };
    // The root has no name to be moved by, and a cache keeps its own look.
    if made == place.0 || target.is_dir() && made.is_dir() {
        return move_contents(&made, target).map_err(failed("move a copy"));
    }
    fs::rename(made, target).map_err(failed("move a copy"))
}

fn move_contents(from: &Path, to: &Path) -> io::Result<()> {
    if !to.is_dir() {
        fs::create_dir(to)?;
        fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::rename(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
