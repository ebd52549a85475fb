//! Starting the engine, finding again what an earlier one left, and shutting down.
//!
//! The earlier engine may have been killed at any point. What is found, and what becomes of it:
//!
//! | record | shim | becomes |
//! |---|---|---|
//! | any | alive, program runs | as the shim says |
//! | any | alive, program ended | ended now, with its true status |
//! | running | lost | cleaned up; `exit.json`'s status, else 137; 255 after a boot of the machine |
//! | created, exited | lost | cleaned up |
//! | created, exited | lost, and its files too (power cut) | files prepared anew |
//! | none | alive or lost | cleaned up: a half-made create with its volumes, a slot, a finished removal |
//!
//! Shims of containers that were never started go by themselves with their engine.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use rustix::fs::{FlockOperation, Mode, OFlags};
use seacow_spec::lifecycle::{Exit, State};
use seacow_spec::shim::Status;
use seacow_spec::{Classified, ContainerId, ErrorClass, Timestamp};
use seacow_store::{
    Durability, FaultHook, MetaError, OpenError, RecordKind, SnapshotKey, Store, StoreFileError, StoreOptions,
};

use crate::config::CgroupDriver;
use crate::container::plugged::Plugged;
use crate::container::{Container, Link, Record};
use crate::error::EngineError;
use crate::network::bridge::Bridge;
use crate::network::{Identity, NetworkError};
use crate::plugin::Plugins;
use crate::shim::{Program, ShimClient};
use crate::{Config, Engine, Inner, blocking, budget, lsm, network, shim, slot, storage, storefile};

/// Key of the networks' ids among the engine's records.
const IDENTITY_KEY: &str = "networks";
/// Containers looked after at a time.
const PARALLEL: usize = 32;
/// How long the lock of an engine that was killed while it started a shim may stay held: the child
/// has a copy of the descriptor until it executes its own program.
const LOCK_LINGERS: Duration = Duration::from_secs(2);
/// How long a shutdown waits for what ended containers left to be cleared away.
const CLEARING_LIMIT: Duration = Duration::from_secs(10);
/// How long a start that the earlier engine asked for may still take.
const START_GRACE: Duration = Duration::from_secs(10);
/// Exit status of a container that ran when the machine went down.
const MACHINE_WENT_DOWN: i32 = 255;

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A directory could not be made.
    #[error("make directory {path}: {source}")]
    Directory {
        /// Which.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Another engine uses the exec root.
    #[error("the exec root {0} is in use by another seacowd")]
    InUse(String),
    /// The shim is missing or cannot be run.
    #[error("the shim {path}: {source}")]
    Shim {
        /// Where it should be.
        path: String,
        /// What is wrong.
        source: std::io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The file that it lies in.
    #[error(transparent)]
    StoreFile(#[from] StoreFileError),
    /// What runs cannot be moved.
    #[error("{0} containers run on the files that are to be moved; stop them first (nothing was changed)")]
    ContainersRun(usize),
    /// Its metadata.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The networks' ids cannot be read.
    #[error("the networks' ids: {0}")]
    Identity(#[source] serde_json::Error),
    /// The bridge.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl Classified for BootError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::InUse(_) | Self::ContainersRun(_) => ErrorClass::Conflict,
            Self::StoreFile(error) => error.class(),
            Self::Store(error) => error.class(),
            Self::Network(error) => error.class(),
            Self::Directory { .. } | Self::Shim { .. } | Self::Meta(_) | Self::Identity(_) => {
                ErrorClass::Internal
            }
        }
    }
}

impl Engine {
    /// Opens store and network, finds running containers again, and begins to keep containers
    /// prepared.
    ///
    /// # Errors
    /// Another engine has the data or exec root, the store cannot be read, or the bridge cannot be
    /// made.
    pub async fn boot(config: Config) -> Result<Self, EngineError> {
        Self::boot_with_faults(config, None).await
    }

    /// As [`Engine::boot`], on a store whose durable steps a test may have fail.
    #[doc(hidden)]
    pub async fn boot_with_faults(config: Config, faults: Option<FaultHook>) -> Result<Self, EngineError> {
        let engine = blocking::run("open the engine", move || open(config, faults)).await??;
        // Before any container needs it. Why it cannot be had is in the log and in `info`.
        blocking::run("load the AppArmor profile", || drop(lsm::apparmor::ensure_default())).await?;
        engine.reconcile().await?;
        engine.clear_away_builds().await;
        let opening = engine.clone();
        blocking::run("start the registry", move || opening.registry_boot()).await??;
        let weak = Arc::downgrade(&engine.0);
        tokio::spawn(Arc::clone(&engine.0.pool).fill(weak.clone()));
        if let Some(file) = &engine.0.store_file {
            tokio::spawn(storefile::tend(Arc::clone(file), weak.clone()));
        }
        if let Some(bytes) = engine.config().storage_budget {
            tokio::spawn(budget::tend(bytes, weak.clone()));
        }
        tokio::spawn(network::doors::watch(weak.clone()));
        tokio::spawn(Self::write_behind(Arc::clone(&engine.0.dirty), weak));
        Ok(engine)
    }

    /// Makes an end: prepared containers are removed, records written. Containers run on, unless
    /// they are not to be kept; where none does, bridge, cgroup and the mask of the host image go
    /// too, and come back at the next boot.
    pub async fn shutdown(&self, keep_containers: bool) {
        self.0.pool.close(self).await;
        let containers = self.0.containers.all();
        if !keep_containers {
            let running = containers.iter().filter(|container| container.cell().is_alive());
            let stops = running.map(|container| async {
                if let Err(error) = self.stop(container.id.as_str(), None, None).await {
                    tracing::warn!(id = container.id.short(), %error, "stop at shutdown");
                }
            });
            futures_util::future::join_all(stops).await;
        }
        futures_util::future::join_all(containers.iter().map(|container| self.let_go(container))).await;
        self.0.clearing.finish(CLEARING_LIMIT).await;
        self.write_dirty().await;
        let closing = self.clone();
        // An error means that the task was cut off, with everything else.
        let _ = blocking::run("stop the registry", move || closing.registry_close()).await;
        if let Err(error) = self.save_last_use() {
            tracing::warn!(%error, "note when images were used");
        }
        if !containers.iter().any(|container| container.cell().is_alive()) {
            self.bridge().remove().await;
            let inner = Arc::clone(&self.0);
            // An error means that the task was cut off, with everything else.
            let _ = blocking::run("leave nothing behind", move || leave_nothing(&inner)).await;
        }
    }

    async fn reconcile(&self) -> Result<(), EngineError> {
        let records = self.load_records().await?;
        let mut containers = Vec::with_capacity(records.len());
        for mut record in records {
            if let Some(file) = &self.0.store_file {
                storefile::follow(file, &mut record);
            }
            self.give_name(&mut record);
            self.keep_labels(&record);
            let container = Container::new(record);
            self.0.containers.insert(Arc::clone(&container));
            containers.push(container);
        }
        let found = containers.len();
        stream::iter(containers)
            .for_each_concurrent(PARALLEL, |container| async move { self.find_again(&container).await })
            .await;
        self.remove_orphans().await?;
        self.remove_half_made_volumes();
        self.prepare_missing().await?;
        self.release_left_plugged();
        self.finish_removals().await?;
        self.publish_again().await?;
        tracing::info!(found, kept = self.0.containers.len(), "containers of an earlier engine");
        Ok(())
    }

    /// Two records of one name can only be the work of a hand in the database; neither is lost.
    fn give_name(&self, record: &mut Record) {
        if self.0.containers.reserve(&record.name, &record.id).is_err() {
            match self.0.containers.invent_name(&record.id) {
                Ok(name) => {
                    tracing::warn!(id = record.id.short(), old = record.name, name, "a name was there twice");
                    record.name = name;
                }
                Err(error) => tracing::error!(id = record.id.short(), %error, "a name was there twice"),
            }
        }
    }

    async fn find_again(&self, container: &Arc<Container>) {
        let dir = self.config().exec_dir(&container.id);
        {
            let mut cell = container.cell();
            if cell.record.endpoint.is_none() {
                cell.record.endpoint = network::kept(&dir);
            }
        }
        match self.greet(container, &dir).await {
            Some((shim, status)) => self.take_up(container, shim, status).await,
            None => self.bury(container, &dir).await,
        }
    }

    /// Connects to a shim that may be there and listens to it from then on.
    async fn greet(&self, container: &Arc<Container>, dir: &Path) -> Option<(ShimClient, Status)> {
        if !shim::socket_exists(dir) {
            return None;
        }
        let client = shim::connect(dir).await.ok()?;
        client.listen(self.sink(container));
        let status = client.hello().await.ok()?;
        if !matches!(status.state, Some(State::Starting)) {
            return Some((client, status));
        }
        let wait = async {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                match client.status().await {
                    Ok(status) if matches!(status.state, Some(State::Starting)) => {}
                    other => return other.ok(),
                }
            }
        };
        let status = tokio::time::timeout(START_GRACE, wait).await.ok().flatten()?;
        Some((client, status))
    }

    /// Goes on with a container whose shim lives.
    async fn take_up(&self, container: &Arc<Container>, shim: ShimClient, status: Status) {
        let Some(state) = status.state else {
            return self.dismiss(container, shim, None).await;
        };
        match state {
            State::Running { .. } | State::Paused { .. } => {
                // An earlier engine's forks; this one has none that could be cheaper.
                let shim_of = shim.clone();
                tokio::spawn(async move { crate::container::fork::retire(&shim_of).await });
                self.resume(container, shim, state, None);
                self.thaw_marked(container).await;
                for exec in &status.execs {
                    self.adopt_exec(container, exec);
                }
            }
            State::Exited { since, exit } => {
                // Its end happens now, as far as anybody was told.
                let state = State::Running { pid: 0, since };
                self.resume(container, shim, state, Some(exit));
            }
            State::Created { failure } => self.dismiss(container, shim, failure).await,
            State::Starting | State::Removing => self.dismiss(container, shim, None).await,
        }
    }

    fn resume(&self, container: &Arc<Container>, shim: ShimClient, state: State, ended: Option<Exit>) {
        let early = {
            let mut cell = container.cell();
            // What has ended holds no address any more: somebody else may have it by now.
            cell.record.endpoint = cell.record.endpoint.take().filter(|_| ended.is_none());
            if let Some(endpoint) = &cell.record.endpoint
                && let Err(error) = self.bridge().reserve(endpoint.address)
            {
                tracing::error!(id = container.id.short(), %error, "a running container's address");
            }
            cell.record.state = state;
            cell.link = Link::Live(shim);
            cell.early_exit.take().or(ended)
        };
        container.tell(|life| life.begun = life.begun.max(life.ended + 1));
        match early {
            Some(exit) => self.exited(container, exit),
            None => self.save_later(container),
        }
    }

    /// A shim that was to start a container, for an engine that is gone.
    async fn dismiss(&self, container: &Arc<Container>, shim: ShimClient, failure: Option<Exit>) {
        shim.mute();
        if let Err(error) = shim.delete().await {
            tracing::warn!(id = container.id.short(), %error, "dismiss a shim");
        }
        self.remove_exec_dir(container).await;
        let remove = {
            let mut cell = container.cell();
            cell.record.endpoint = None;
            if let Some(failure) = failure {
                cell.record.finished_at = Some(failure.at);
                cell.record.error = failure.reason.clone().unwrap_or_default();
                cell.record.state = State::Created { failure: Some(failure) };
                cell.record.auto_remove()
            } else {
                settle(&mut cell.record);
                false
            }
        };
        if remove {
            self.remove_leftover(container).await;
        } else {
            self.save_later(container);
        }
    }

    /// There is no shim (any more).
    async fn bury(&self, container: &Arc<Container>, dir: &Path) {
        let state = {
            let mut cell = container.cell();
            cell.record.endpoint = None;
            cell.record.state.clone()
        };
        let dir_exists = dir.exists();
        match state {
            State::Running { .. } | State::Paused { .. } | State::Starting => {
                let exit = if dir_exists {
                    self.clean_up_lost(&container.id).await
                } else {
                    let reason = Some("the machine went down".to_owned());
                    Exit { code: MACHINE_WENT_DOWN, at: Timestamp::now(), oom_killed: false, reason }
                };
                if matches!(state, State::Starting) {
                    container.cell().record.state = State::Running { pid: 0, since: exit.at };
                }
                self.exited(container, exit);
            }
            State::Created { .. } | State::Exited { .. } => {
                if dir_exists {
                    self.clean_up_lost(&container.id).await;
                    self.remove_exec_dir(container).await;
                }
                let ended = matches!(state, State::Exited { .. });
                if ended && container.cell().record.auto_remove() {
                    self.remove_leftover(container).await;
                }
            }
            State::Removing => self.remove_leftover(container).await,
        }
    }

    async fn remove_leftover(&self, container: &Arc<Container>) {
        settle(&mut container.cell().record);
        if let Err(error) = self.remove_now(container, true, None).await {
            tracing::warn!(id = container.id.short(), %error, "remove a container of an earlier engine");
        }
    }

    /// Removes what belongs to no container: exec and log directories, snapshots.
    async fn remove_orphans(&self) -> Result<(), EngineError> {
        let known = |id: &ContainerId| self.0.containers.get(id).is_some();
        let list = |dir: std::path::PathBuf| -> Vec<ContainerId> {
            let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
            let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            ids.filter(|id| !known(id)).collect()
        };
        let (exec, logs) = (list(self.config().exec_dirs()), list(self.config().container_dirs()));
        stream::iter(exec)
            .for_each_concurrent(PARALLEL, |id| async move { self.remove_orphan(&id).await })
            .await;
        let inner = Arc::clone(&self.0);
        let removed = blocking::run("remove orphans", move || {
            for id in logs {
                slot::remove_tree(&inner.config.container_dir(&id));
            }
            // Read anew: nothing is created before the engine is handed out, but removals go on.
            let live: HashSet<SnapshotKey> =
                inner.containers.all().iter().map(|container| SnapshotKey::from(&container.id)).collect();
            let known = |id: &str| id.parse().is_ok_and(|id| live.contains(&id));
            inner.store.points().retain(known)?;
            Ok::<_, EngineError>(inner.store.snapshots().retain(&live)?)
        });
        let removed = removed.await??;
        if !removed.is_empty() {
            tracing::info!(count = removed.len(), "snapshots without a container were removed");
        }
        Ok(())
    }

    async fn remove_orphan(&self, id: &ContainerId) {
        let dir = self.config().exec_dir(id);
        let deleted = match shim::connect(&dir).await {
            // It may be busy with the clone after this one.
            Ok(client) => client.hello().await.is_ok() && client.delete().await.is_ok(),
            Err(_) => false,
        };
        if !deleted {
            self.clean_up_lost(id).await;
        }
        let _ = blocking::run("remove an exec directory", move || slot::remove_tree(&dir)).await;
        tracing::info!(id = id.short(), "remains without a container were removed");
    }
}

/// Takes away what the engine made outside its roots, beside the bridge. Goes on after a failure.
fn leave_nothing(inner: &Inner) {
    if let Err(error) = inner.doors.close(|doors| inner.keep_doors(doors)) {
        tracing::warn!(%error, "note that the firewall's doors are closed");
    }
    if let Err(error) = inner.store.remove_host_mask() {
        tracing::warn!(%error, "the mask of the host image is left behind");
    }
    // A slice stays, as with Docker: it may have been there before, with settings of its own.
    if inner.config.cgroup_driver == CgroupDriver::Cgroupfs {
        remove_cgroup_parent(&inner.config.cgroup_parent);
    }
    // Last: nothing is found by its path from here on. What is open stays so until the process ends.
    if let Some(file) = &inner.store_file
        && let Err(error) = file.detach()
    {
        tracing::warn!(%error, "the store file stays mounted");
    }
}

/// Removes the cgroup that containers had theirs in, from every hierarchy. One that another engine
/// uses is not empty, and stays.
fn remove_cgroup_parent(parent: &str) {
    let mounted = Path::new("/sys/fs/cgroup");
    let below = std::fs::read_dir(mounted).into_iter().flatten().filter_map(Result::ok);
    for hierarchy in below.map(|entry| entry.path()).chain([mounted.to_owned()]) {
        let group = hierarchy.join(parent.trim_start_matches('/'));
        if group != hierarchy && group.join("cgroup.procs").exists() {
            let _ = std::fs::remove_dir(group);
        }
    }
}

/// The state of a container without a process.
fn settle(record: &mut Record) {
    record.state = match std::mem::replace(&mut record.state, State::Created { failure: None }) {
        State::Running { since, .. } | State::Paused { since, .. } => {
            let exit = Exit { code: 137, at: Timestamp::now(), oom_killed: false, reason: None };
            State::Exited { since, exit }
        }
        State::Starting | State::Removing => State::Created { failure: None },
        state @ (State::Created { .. } | State::Exited { .. }) => state,
    };
}

/// Everything that blocks.
fn open(mut config: Config, faults: Option<FaultHook>) -> Result<Engine, EngineError> {
    // Others may pass to the API's socket, and see nothing else.
    directory(&config.exec_root, 0o711)?;
    let exec_dirs = config.exec_dirs();
    directory(&exec_dirs, 0o700)?;
    // Containers' root, nobody here, has to find his way to what another runtime is given for him.
    let mode = Mode::from(if config.remap.is_some() { 0o711 } else { 0o700 });
    rustix::fs::chmod(&exec_dirs, mode).map_err(|errno| BootError::Directory {
        path: exec_dirs.display().to_string(),
        source: errno.into(),
    })?;
    directory(&config.records_dir(), 0o700)?;
    let lock = lock_exec_root(&config.exec_root)?;
    let program = Program::load(&config.shim)
        .map_err(|source| BootError::Shim { path: config.shim.display().to_string(), source })?;
    let store_file = storefile::attach(&mut config)?;
    let mut options = StoreOptions::new(&config.data_root, &config.exec_root);
    options.driver = config.storage_driver;
    options.faults = faults;
    let store = Arc::new(Store::open(options).map_err(BootError::from)?);
    // After the store, which makes the data root its way.
    directory(&config.container_dirs(), 0o700)?;
    let mut networks = identity(&store)?;
    let bridge = Bridge::open(&config, networks.subnet).map_err(BootError::from)?;
    let before = networks.clone();
    networks.subnet = Some(bridge.subnet());
    if networks != before {
        keep_identity(&store, &networks)?;
    }
    let doors = network::doors::Doors::open(bridge.name(), &config.nft_table, &networks.doors, |doors| {
        keep_identity(&store, &Identity { doors: doors.to_vec(), ..networks.clone() })
    })?;
    let pool = slot::Pool::new(&config);
    let plugged = Plugged::open(&config.exec_root)
        .map_err(|source| BootError::Directory { path: config.exec_root.display().to_string(), source })?;
    let plugins = Plugins::new(&config.exec_root);
    Ok(Engine(Arc::new(Inner {
        config,
        program,
        store,
        store_file,
        bridge,
        networks,
        doors,
        containers: Default::default(),
        execs: Default::default(),
        events: Default::default(),
        pool,
        ready: Default::default(),
        clearing: Default::default(),
        memory: Default::default(),
        last_use: Default::default(),
        plugins,
        plugged,
        dirty: Arc::new(storage::Dirty::default()),
        registry: crate::registry::OwnRegistry::default(),
        caches: crate::build::Caches::default(),
        contexts: crate::build::Contexts::default(),
        memory_of_builds: crate::build::Memory::default(),
        build_sessions: crate::build::Sessions::default(),
        _lock: lock,
    })))
}

fn directory(path: &Path, mode: u32) -> Result<(), BootError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| BootError::Directory { path: path.display().to_string(), source })
}

fn lock_exec_root(root: &Path) -> Result<OwnedFd, BootError> {
    let path = Config::lock_path(root);
    let failed = |errno: rustix::io::Errno| BootError::Directory {
        path: path.display().to_string(),
        source: errno.into(),
    };
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let lock = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    let began = Instant::now();
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::AGAIN) if began.elapsed() < LOCK_LINGERS => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(rustix::io::Errno::AGAIN) => return Err(BootError::InUse(root.display().to_string())),
            Err(errno) => return Err(failed(errno)),
        }
    }
}

fn identity(store: &Store) -> Result<Identity, BootError> {
    if let Some(bytes) = store.records().get(RecordKind::Engine, IDENTITY_KEY)? {
        return serde_json::from_slice(&bytes).map_err(BootError::Identity);
    }
    let drawn = Identity::draw().map_err(NetworkError::Random)?;
    keep_identity(store, &drawn)?;
    Ok(drawn)
}

impl Inner {
    /// Stores which doors in the host's firewalls are ours.
    pub(crate) fn keep_doors(&self, doors: &[seacow_net::doors::Door]) -> Result<(), BootError> {
        keep_identity(&self.store, &Identity { doors: doors.to_vec(), ..self.networks.clone() })
    }
}

fn keep_identity(store: &Store, identity: &Identity) -> Result<(), BootError> {
    let bytes = serde_json::to_vec(identity).map_err(BootError::Identity)?;
    Ok(store.records().put(RecordKind::Engine, IDENTITY_KEY, bytes, Durability::Durable)?)
}
