//! An image's files as one tree, for `COPY`, `ADD` and `WORKDIR`.
//!
//! The mounts live in the mount namespace of a thread that sleeps as long as the tree is used; the
//! builder gets a descriptor of the root, which leads into that namespace. When the tree is dropped
//! the thread ends and the mounts with it.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use seacow_build::executor::{Change, View, Workspace};
use seacow_spec::shim::Rootfs;
use seacow_spec::{ChainId, ErrorClass, ErrorReport, Timestamp};
use seacow_store::archive::ContainerRoot;
use seacow_store::layer::UpperMode;
use seacow_store::snapshot::{PrepareOptions, SnapshotKey};

use super::executor::{BuildExecutor, report};
use super::finish::Finish;
use crate::Engine;

/// A mounted tree.
pub(super) struct Tree<'a> {
    build: &'a BuildExecutor,
    /// The writable layer, unless it is read-only.
    key: Option<SnapshotKey>,
    mounted: Option<Mounted>,
}

struct Mounted {
    root: OwnedFd,
    /// Dropped to end the thread.
    _stay: Sender<()>,
    thread: JoinHandle<()>,
}

impl<'a> Tree<'a> {
    /// A fresh writable layer over a stack.
    pub(super) fn writable(build: &'a BuildExecutor, chain: Option<&ChainId>) -> Result<Self, ErrorReport> {
        let random = seacow_spec::id::random_hex().map_err(internal)?;
        let key: SnapshotKey = format!("build-{}", &random[..32]).parse().map_err(report)?;
        let options = PrepareOptions { volatile: false, ..PrepareOptions::default() };
        let rootfs = build.engine.store().snapshots().prepare(&key, chain, &options).map_err(report)?;
        // From here on dropping the tree removes the layer again.
        let mut tree = Self { build, key: Some(key), mounted: None };
        tree.mounted = Some(Mounted::new(&build.engine, rootfs)?);
        Ok(tree)
    }

    /// A stack, to be read.
    pub(super) fn read_only(build: &'a BuildExecutor, chain: Option<&ChainId>) -> Result<Self, ErrorReport> {
        let rootfs = build.engine.store().snapshots().view(chain).map_err(report)?;
        Ok(Self { build, key: None, mounted: Some(Mounted::new(&build.engine, rootfs)?) })
    }

    /// The tree for those who copy in archives.
    pub(super) fn container_root(&self) -> Result<ContainerRoot, ErrorReport> {
        let path = format!("/proc/self/fd/{}", self.root().as_raw_fd());
        ContainerRoot::of_directory(Path::new(&path)).map_err(report)
    }

    fn unmount(&mut self) {
        if let Some(Mounted { root, _stay, thread }) = self.mounted.take() {
            drop(root);
            drop(_stay);
            // A thread that panicked has unmounted, too.
            let _ = thread.join();
        }
    }
}

impl Mounted {
    fn new(engine: &Engine, rootfs: Rootfs) -> Result<Self, ErrorReport> {
        let (tell, told) = channel();
        let (stay, left) = channel::<()>();
        let engine = engine.clone();
        let thread = std::thread::Builder::new()
            .name("seacow-build-tree".into())
            .spawn(move || hold(&engine, &rootfs, &tell, left))
            .map_err(internal)?;
        match told.recv() {
            Ok(root) => Ok(Self { root: root?, _stay: stay, thread }),
            Err(_) => Err(ErrorReport::new(
                ErrorClass::Internal,
                "the thread that mounts an image's files broke down",
            )),
        }
    }
}

/// Mounts, tells the root, and keeps the mounts until nobody stays.
fn hold(engine: &Engine, rootfs: &Rootfs, tell: &Sender<Result<OwnedFd, ErrorReport>>, left: Receiver<()>) {
    let tell = tell.clone();
    let failed = tell.clone();
    let held = engine.store().with_mounted(rootfs, &[], move |root| {
        let opened = root.root().locate_dir(Path::new("/"));
        // An error here means that the builder is gone already.
        let _ = tell.send(opened.map_err(|errno| internal(errno.into())));
        // Returns when the sender is dropped.
        let _ = left.recv();
    });
    if let Err(error) = held {
        let _ = failed.send(Err(report(error)));
    }
}

fn internal(error: std::io::Error) -> ErrorReport {
    ErrorReport::new(ErrorClass::Internal, format!("mount an image's files: {error}"))
}

impl View for Tree<'_> {
    fn root(&self) -> BorrowedFd<'_> {
        match &self.mounted {
            Some(mounted) => mounted.root.as_fd(),
            // Only `commit` and `drop` take it, and nothing is asked for after them.
            None => rustix::fs::CWD,
        }
    }
}

impl Workspace for Tree<'_> {
    fn commit(mut self: Box<Self>, epoch: Option<Timestamp>) -> Result<Change, ErrorReport> {
        self.unmount();
        let Some(key) = self.key.clone() else { return Ok(Change::Empty) };
        let snapshots = self.build.engine.store().snapshots();
        if snapshots.changes(&key).map_err(report)?.is_empty() {
            return Ok(Change::Empty);
        }
        let finish = Finish { targets: Vec::new(), epoch };
        if !finish.is_nothing() {
            finish.apply(self.build.engine.store(), &key).map_err(report)?;
        }
        let layer = snapshots.commit(&key, UpperMode::Move).map_err(report)?;
        Ok(self.build.keep(layer))
    }
}

impl Drop for Tree<'_> {
    fn drop(&mut self) {
        self.unmount();
        if let Some(key) = self.key.take()
            && let Err(error) = self.build.engine.store().snapshots().remove(&key)
        {
            tracing::warn!(key = key.as_str(), %error, "remove the files of a build step");
        }
    }
}
