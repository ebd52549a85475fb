//! Containers, images, networks, volumes, exec, events.
//!
//! [`Engine`] is what the daemon's routes call: async, cheap to clone, every verb of the Docker API
//! as one method, each in a file of its own (`container/start.rs`). It keeps the truth about
//! containers; bytes are the store's, links are net's, processes are the shims'. It knows no HTTP.
//!
//! A verb that changes something runs to its end even if the client goes away ([`Engine::finish`]).
//!
//! | module | what |
//! |---|---|
//! | [`blocking`] | the one bridge to the crates that block |
//! | [`boot`] | start, finding running containers again, shutdown |
//! | `budget` | what images may take of the disk |
//! | [`build`] | Dockerfiles, over the engine's own verbs |
//! | [`config`] | settings |
//! | [`container`] | containers, one verb a file |
//! | [`error`] | one error over all parts' |
//! | [`event`] | event bus, replay, filters |
//! | [`exec`] | further processes in containers |
//! | [`filter`] | `filters=` |
//! | [`image`] | images: Docker's rules over the store's |
//! | `lsm` | AppArmor and SELinux |
//! | [`network`] | the default bridge and the other modes |
//! | [`pipe`] | byte and progress streams across the blocking border |
//! | [`plugin`] | plug-ins by Docker's protocol |
//! | [`registry`] | the registry of one's own |
//! | [`remap`] | user namespaces: whose ids containers have |
//! | [`runtime`] | which OCI runtime makes a container |
//! | [`shim`] | connections to shims |
//! | `slot` | prepared shims |
//! | `storage` | records and snapshots of containers |
//! | `system` | info, version, disk usage, the copy-on-write ledger, the doctor |
//! | [`volume`] | volumes |
#![forbid(unsafe_code)]

pub mod apitime;
pub mod blocking;
pub mod boot;
mod budget;
pub mod build;
pub mod config;
pub mod container;
pub mod error;
pub mod event;
pub mod exec;
pub mod filter;
pub mod image;
mod lsm;
pub mod network;
pub mod pipe;
pub mod plugin;
pub mod registry;
pub mod remap;
pub mod runtime;
pub mod shim;
mod slot;
mod storage;
pub mod storefile;
mod system;
pub mod volume;

use std::future::Future;
use std::sync::Arc;

use seacow_store::Store;

pub use config::Config;
pub use container::attach::{AttachOptions, ClientSocket, PendingAttach};
pub use container::clone::CloneOptions;
pub use container::fork::ForkOptions;
pub use container::list::ListOptions;
pub use container::logs::{LogOptions, LogStream};
pub use container::remove::RemoveOptions;
pub use container::wait::WaitCondition;
pub use error::EngineError;
pub use event::EventFilter;
pub use exec::PendingExec;
pub use filter::Filters;
pub use lsm::selinux::{Selinux, SelinuxError};
pub use network::inspect::NetworkVerb;

/// The engine. Clones share everything.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) program: shim::Program,
    pub(crate) store: Arc<Store>,
    /// What the store lies in, where the host's file system shares no extents.
    pub(crate) store_file: Option<Arc<seacow_store::StoreFile>>,
    pub(crate) bridge: network::bridge::Bridge,
    pub(crate) networks: network::Identity,
    /// What is open for the bridge in the host's firewalls; [`network::Identity`] has what was stored at
    /// the start.
    pub(crate) doors: network::doors::Doors,
    pub(crate) containers: container::registry::Registry,
    pub(crate) execs: exec::Execs,
    pub(crate) events: event::EventBus,
    pub(crate) pool: Arc<slot::Pool>,
    pub(crate) ready: container::ready::ReadyCount,
    pub(crate) clearing: container::teardown::Clearing,
    pub(crate) last_use: std::sync::Mutex<budget::LastUse>,
    /// Held while a container starts that shares a volume in memory with others.
    pub(crate) memory: tokio::sync::Mutex<()>,
    pub(crate) plugins: plugin::Plugins,
    /// What plug-ins have mounted for containers.
    pub(crate) plugged: container::plugged::Plugged,
    pub(crate) dirty: Arc<storage::Dirty>,
    pub(crate) registry: registry::OwnRegistry,
    /// Directories that build steps keep.
    pub(crate) caches: build::Caches,
    /// Files that clients build from.
    pub(crate) contexts: build::Contexts,
    /// What builds found out.
    pub(crate) memory_of_builds: build::Memory,
    /// Clients of running builds.
    pub(crate) build_sessions: build::Sessions,
    /// Keeps a second engine out of the exec root.
    _lock: std::os::fd::OwnedFd,
}

/// Marks a step of the start path, for `examples/start_path.rs`; costs nothing unless listened to.
macro_rules! step {
    ($name:literal) => {
        tracing::trace!(target: "start_path", $name)
    };
}
pub(crate) use step;

/// On whose behalf a container is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The engine's own doing, on behalf of somebody who was checked before.
    Engine,
    /// A client, with the user id that the kernel says it has; `None` where it cannot say.
    Peer(Option<u32>),
}

impl Caller {
    /// Containers of the `host` image see the host's files.
    pub(crate) fn may_use_host_image(self) -> bool {
        match self {
            Self::Engine => true,
            Self::Peer(uid) => uid.is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw()),
        }
    }
}

impl Engine {
    /// The settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// How many prepared containers wait, and how many would at most.
    pub fn pool_state(&self) -> (usize, usize) {
        (self.0.pool.len(), self.0.pool.capacity())
    }

    /// How many of the next containers are made already, by guess.
    pub fn guesses(&self) -> usize {
        self.0.pool.guesses()
    }

    /// How many containers there are.
    pub fn container_count(&self) -> usize {
        self.0.containers.len()
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.0.store
    }

    pub(crate) fn bridge(&self) -> &network::bridge::Bridge {
        &self.0.bridge
    }

    pub(crate) fn events_bus(&self) -> &event::EventBus {
        &self.0.events
    }

    /// Runs `work` to its end, whether or not somebody still waits for it: a client that closes
    /// its connection half-way must not leave half a container.
    pub(crate) async fn finish<T, F>(&self, step: &'static str, work: F) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, EngineError>> + Send + 'static,
    {
        tokio::spawn(work).await.map_err(|source| blocking::Interrupted { step, source })?
    }
}
