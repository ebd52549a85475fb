//! Further processes in running containers.
//!
//! An exec is created, started once, and remembered for a while after its end, so that a client can
//! ask for its exit status. The shim knows the running ones; the engine's table is rebuilt from it
//! after a restart, without the configuration of those that ended meanwhile.

mod create;
pub mod error;
mod inspect;
mod start;
mod wait;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use seacow_spec::docker::exec::ExecConfig;
use seacow_spec::lifecycle::Exit;
use seacow_spec::{ContainerId, ExecId};
use tokio::sync::watch;

pub use error::ExecError;
pub use start::PendingExec;

use crate::Engine;
use crate::blocking::lock;
use crate::container::Container;

/// How long an exec that ended, or was never started, is remembered; Docker's five minutes.
const KEPT: Duration = Duration::from_secs(300);
/// Execs of one container that are remembered. Health checks by exec make one every second.
const MAX_KEPT: usize = 1000;

/// Exit status of an exec whose program was not executed, found or not; Docker's.
const NOT_STARTED: i32 = 126;

/// One exec.
pub(crate) struct Exec {
    pub(crate) id: ExecId,
    pub(crate) container: ContainerId,
    pub(crate) config: ExecConfig,
    /// Detach keys, parsed.
    keys: Vec<u8>,
    made: Instant,
    phase: watch::Sender<Phase>,
}

/// Where an exec is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    Starting,
    Running { pid: i32 },
    Ended { pid: i32, code: i32, at: Instant },
}

impl Exec {
    fn new(id: ExecId, container: ContainerId, config: ExecConfig, keys: Vec<u8>, phase: Phase) -> Arc<Self> {
        Arc::new(Self { id, container, config, keys, made: Instant::now(), phase: watch::channel(phase).0 })
    }

    fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The command line as events show it.
    fn command(&self) -> String {
        self.config.cmd.as_deref().unwrap_or_default().join(" ")
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        match self.phase() {
            Phase::Created => now.duration_since(self.made) > KEPT,
            Phase::Starting | Phase::Running { .. } => false,
            Phase::Ended { at, .. } => now.duration_since(at) > KEPT,
        }
    }
}

/// All execs, by id.
#[derive(Default)]
pub(crate) struct Execs(Mutex<HashMap<ExecId, Arc<Exec>>>);

impl Execs {
    fn all(&self) -> MutexGuard<'_, HashMap<ExecId, Arc<Exec>>> {
        lock(&self.0)
    }

    fn find(&self, id: &str) -> Result<Arc<Exec>, ExecError> {
        let missing = || ExecError::NotFound(id.to_owned());
        let id = id.parse::<ExecId>().map_err(|_| missing())?;
        self.all().get(&id).cloned().ok_or_else(missing)
    }

    /// Adds one, and forgets what is old, or too much.
    fn add(&self, exec: &Arc<Exec>) {
        let now = Instant::now();
        let mut all = self.all();
        all.retain(|_, exec| !exec.is_forgettable(now));
        let mine = || all.values().filter(|other| other.container == exec.container);
        if mine().count() >= MAX_KEPT {
            let idle = mine().filter(|exec| matches!(exec.phase(), Phase::Created | Phase::Ended { .. }));
            if let Some(oldest) = idle.min_by_key(|exec| exec.made).map(|exec| exec.id.clone()) {
                all.remove(&oldest);
            }
        }
        all.insert(exec.id.clone(), Arc::clone(exec));
    }
}

impl Engine {
    /// A shim reports an exec's end.
    pub(crate) fn exec_exited(&self, container: &Container, id: &ExecId, exit: &Exit) {
        let exec = self.0.execs.all().get(id).cloned();
        if let Some(exec) = exec {
            self.end_exec(container, &exec, exit.code);
        }
    }

    fn end_exec(&self, container: &Container, exec: &Exec, code: i32) {
        let ended = exec.phase.send_if_modified(|phase| {
            let pid = match *phase {
                Phase::Running { pid } => pid,
                // Faster than the answer to its start.
                Phase::Starting => 0,
                Phase::Created | Phase::Ended { .. } => return false,
            };
            *phase = Phase::Ended { pid, code, at: Instant::now() };
            true
        });
        if ended {
            let attributes = [("execID", exec.id.to_string()), ("exitCode", code.to_string())];
            self.emit(container.event("exec_die", &attributes));
        }
    }

    /// A container's run ended, and everything in it with it.
    pub(crate) fn execs_of_ended(&self, container: &Container) {
        /// Killed with the pid namespace.
        const KILLED: i32 = 137;
        let running: Vec<Arc<Exec>> = self.execs_of(container);
        for exec in running.iter().filter(|exec| matches!(exec.phase(), Phase::Running { .. })) {
            self.end_exec(container, exec, KILLED);
        }
    }

    /// Ids of a container's running execs.
    pub(crate) fn running_execs(&self, container: &Container) -> Vec<String> {
        let mut ids: Vec<String> = self
            .execs_of(container)
            .iter()
            .filter(|exec| matches!(exec.phase(), Phase::Running { .. }))
            .map(|exec| exec.id.to_string())
            .collect();
        ids.sort();
        ids
    }

    /// Forgets a removed container's execs. Whoever waits for one that was never started hears that
    /// it will not be.
    pub(crate) fn forget_execs(&self, container: &Container) {
        let forgotten: Vec<_> =
            self.0.execs.all().extract_if(|_, exec| exec.container == container.id).collect();
        for (_, exec) in forgotten {
            exec.phase.send_if_modified(|phase| {
                let never = matches!(phase, Phase::Created);
                if never {
                    *phase = Phase::Ended { pid: 0, code: NOT_STARTED, at: Instant::now() };
                }
                never
            });
        }
    }

    fn execs_of(&self, container: &Container) -> Vec<Arc<Exec>> {
        self.0.execs.all().values().filter(|exec| exec.container == container.id).cloned().collect()
    }

    /// Takes up an exec that an earlier engine started.
    pub(crate) fn adopt_exec(&self, container: &Container, status: &seacow_spec::shim::ExecStatus) {
        let phase = match &status.exit {
            None => Phase::Running { pid: status.pid },
            Some(exit) => Phase::Ended { pid: status.pid, code: exit.code, at: Instant::now() },
        };
        let id = status.exec_id.clone();
        let exec = Exec::new(id, container.id.clone(), ExecConfig::default(), Vec::new(), phase);
        self.0.execs.add(&exec);
    }
}
