//! Containers: what is known about them and what can be done with them, one verb a file.
//!
//! A [`Container`] has three locks' worth of state. `ops` lets one slow verb (start, stop, remove, …)
//! at a time; it is held across awaits. `cell` holds the record and the live parts; it is held for
//! a few statements only, never across an await. `life` is what waiters watch.

pub mod archive;
pub mod attach;
pub(crate) mod capabilities;
pub(crate) mod capture;
pub mod clone;
pub mod commit;
mod cpuset;
mod create;
mod diff;
pub mod error;
pub(crate) mod exit;
mod export;
pub mod fork;
mod inspect;
pub mod invalid;
mod ipc;
mod kept;
mod labels;
pub mod list;
pub mod logs;
mod look;
mod merge;
mod missing;
pub(crate) mod mounts;
pub(crate) mod normalize;
mod pause;
mod pid1;
pub(crate) mod plugged;
mod prune;
pub(crate) mod ready;
pub mod record;
pub(crate) mod registry;
pub mod remove;
mod rename;
mod resize;
mod resources;
mod seccomp;
mod security;
pub(crate) mod snapshot;
pub(crate) mod spec_build;
mod start;
mod stop;
pub(crate) mod teardown;
mod top;
mod update;
pub(crate) mod userns;
mod volumes;
pub mod wait;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use seacow_spec::ContainerId;
use seacow_spec::docker::event::Event;
use seacow_spec::lifecycle::{self, Exit, IllegalTransition, State};
use tokio::sync::watch;

pub(crate) use create::settle_hostname;
pub use error::ContainerError;
pub use invalid::Invalid;
pub use record::Record;

use crate::blocking::lock;
use crate::network::ports::Held;
use crate::shim::ShimClient;

/// One container.
pub(crate) struct Container {
    pub(crate) id: ContainerId,
    /// One slow verb at a time.
    pub(crate) ops: Arc<tokio::sync::Mutex<()>>,
    /// An announced client has come, or will not come.
    pub(crate) arrived: tokio::sync::Notify,
    cell: Mutex<Cell>,
    life: watch::Sender<Life>,
    /// Held while its record is read and written, or deleted: the last write is of the last state,
    /// and nothing is written after the deletion. Taken on threads that may block.
    pub(crate) writing: Mutex<()>,
    /// Its record is noted in the exec root and may not be in the database yet.
    pub(crate) noted: AtomicBool,
    /// Held while it is frozen or thawed and that is noted, so that both stay one.
    pub(crate) freezing: tokio::sync::Mutex<()>,
    /// Held for writing while the engine itself holds the container still for a moment.
    pub(crate) still: Arc<tokio::sync::RwLock<()>>,
}

/// The changing parts of a container.
pub(crate) struct Cell {
    pub(crate) record: Record,
    pub(crate) link: Link,
    /// Clients that wait for a shim to be handed to.
    pub(crate) queue: Vec<QueuedAttach>,
    /// Attachments that were announced but whose socket has not come yet.
    pub(crate) announced: usize,
    /// The program ended before the engine heard that it had started.
    pub(crate) early_exit: Option<Exit>,
    /// Who goes on in the place of the main process, told before the answer to its start was worked off.
    pub(crate) early_move: Option<i32>,
    /// The kernel's OOM killer struck during this run.
    pub(crate) oom: bool,
    /// The last shim's remains are being cleared away; a new one waits for it.
    pub(crate) teardown: Option<teardown::Teardown>,
    /// Restarts under way: its end is not its last.
    pub(crate) restarting: u32,
    /// What keeps its published ports from others.
    pub(crate) held_ports: Held,
    /// It is frozen for a moment, which nobody asked for.
    pub(crate) held: bool,
    /// How often it was forked.
    pub(crate) forks: u64,
    /// Out of the registry; nothing may be written about it any more.
    pub(crate) removed: bool,
}

/// The connection to a container's shim, if it has one.
pub(crate) enum Link {
    /// No shim: the next start is cold.
    None,
    /// A shim that has been told everything but the start.
    Ready(Arc<Ready>),
    /// The program runs.
    Live(ShimClient),
}

/// A shim that is making, or has made, the container.
pub(crate) struct Ready {
    pub(crate) shim: ShimClient,
    /// What came of `Create`: `None` while it is under way.
    pub(crate) outcome: watch::Receiver<Option<Result<(), seacow_spec::ErrorReport>>>,
    /// Device and inode of every bind mount's source when it was mounted; a start finds out whether
    /// somebody has put something else in its place since.
    pub(crate) sources: Vec<Option<(u64, u64)>>,
}

/// A client that wants a container's streams.
pub(crate) struct QueuedAttach {
    pub(crate) request: seacow_spec::shim::Attach,
    pub(crate) socket: OwnedFd,
    /// Hears the size of the log at the moment of attachment.
    pub(crate) attached: Option<tokio::sync::oneshot::Sender<u64>>,
}

/// What waiters watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Life {
    /// Runs that began, failed starts included. A number and no flag: who waits for the end of one
    /// must not miss it because the next has begun by the time he looks.
    pub(crate) begun: u64,
    /// Those of them that ended.
    pub(crate) ended: u64,
    /// Exit status of the last of them.
    pub(crate) code: i32,
    /// It is gone.
    pub(crate) removed: bool,
    /// Why removal failed.
    pub(crate) error: Option<String>,
}

impl Life {
    /// Whether a main process exists or is being started.
    pub(crate) fn is_running(&self) -> bool {
        self.begun > self.ended
    }

    /// Whether the run of this number is over, or there will be none any more.
    pub(crate) fn is_over(&self, run: u64) -> bool {
        self.ended >= run || self.removed
    }

    /// A run ended, or its start failed.
    pub(crate) fn end(&mut self, code: i32) {
        self.ended += 1;
        // One that nobody saw beginning.
        self.begun = self.begun.max(self.ended);
        self.code = code;
    }
}

impl Container {
    pub(crate) fn new(record: Record) -> Arc<Self> {
        let life =
            Life { code: record.exit_code(), begun: u64::from(record.state.is_alive()), ..Life::default() };
        Arc::new(Self {
            id: record.id.clone(),
            ops: Arc::default(),
            arrived: tokio::sync::Notify::new(),
            cell: Mutex::new(Cell {
                record,
                link: Link::None,
                queue: Vec::new(),
                announced: 0,
                early_exit: None,
                early_move: None,
                oom: false,
                teardown: None,
                restarting: 0,
                held_ports: Held::default(),
                held: false,
                forks: 0,
                removed: false,
            }),
            life: watch::channel(life).0,
            writing: Mutex::new(()),
            noted: AtomicBool::new(false),
            freezing: tokio::sync::Mutex::new(()),
            still: Arc::default(),
        })
    }

    /// The changing parts. Not to be held across an await.
    pub(crate) fn cell(&self) -> MutexGuard<'_, Cell> {
        lock(&self.cell)
    }

    /// What is known about it now.
    pub(crate) fn record(&self) -> Record {
        self.cell().record.clone()
    }

    /// The shim of a running or paused container.
    pub(crate) fn live_shim(&self) -> Result<ShimClient, ContainerError> {
        match &self.cell().link {
            Link::Live(shim) => Ok(shim.clone()),
            Link::None | Link::Ready(_) => Err(ContainerError::NotRunning(self.id.to_string())),
        }
    }

    /// The shim of a running or paused container, and the number of the run that is its own.
    pub(crate) fn live_run(&self) -> Result<(ShimClient, u64), ContainerError> {
        loop {
            let run = self.life.borrow().begun;
            let shim = self.live_shim()?;
            // A shim goes before the next run begins, so this one is of a run that began before.
            if self.life.borrow().begun == run {
                return Ok((shim, run));
            }
        }
    }

    /// Watches its life from now on.
    pub(crate) fn watch(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    /// Tells waiters.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Life)) {
        self.life.send_modify(change);
    }

    /// An event about this container with Docker's attributes: labels, image, name, and `more`.
    pub(crate) fn event(&self, action: &str, more: &[(&str, String)]) -> Event {
        let cell = self.cell();
        let mut attributes: BTreeMap<String, String> = cell.record.config.labels.clone().unwrap_or_default();
        attributes.insert("image".into(), cell.record.image().to_owned());
        attributes.insert("name".into(), cell.record.name.clone());
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        crate::event::event("container", action, self.id.as_str(), attributes)
    }
}

impl Cell {
    /// Moves the lifecycle on.
    pub(crate) fn apply(&mut self, event: lifecycle::Event) -> Result<(), IllegalTransition> {
        self.record.state = lifecycle::apply(self.record.state.clone(), event)?;
        Ok(())
    }

    /// Whether a main process exists.
    pub(crate) fn is_alive(&self) -> bool {
        self.record.state.is_alive()
    }

    /// Whether it is frozen.
    pub(crate) fn is_paused(&self) -> bool {
        matches!(self.record.state, State::Paused { .. })
    }

    /// Whether it is frozen until somebody has it thawed.
    pub(crate) fn is_paused_for_good(&self) -> bool {
        self.is_paused() && !self.held
    }
}
