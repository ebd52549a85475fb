//! The end of a run: reported first, cleared away later.
//!
//! [`Engine::on_signal`] runs on the shim connection's reading task and never waits: state, events
//! and waiters are done when it returns. Deleting the shim, its directory and, for `--rm`, the
//! container's files goes on in the background; a start or removal that comes meanwhile waits for
//! exactly that.

use std::sync::Arc;

use super::teardown::{self, Remains};
use super::{Container, Link};
use crate::Engine;
use crate::shim::{self, ShimClient, Signal};
use seacow_spec::Timestamp;
use seacow_spec::lifecycle::{Event, Exit};
use seacow_spec::shim::{EXIT_NAME, Event as ShimEvent};

/// Exit status of a container whose shim was killed: its init dies with it, by SIGKILL.
const SHIM_LOST: i32 = 137;

impl Engine {
    /// A shim said something.
    pub(crate) fn on_signal(&self, container: &Arc<Container>, signal: Signal) {
        match signal {
            Signal::Event(ShimEvent::Exited(exit)) => self.exited(container, exit),
            Signal::Event(ShimEvent::ExecExited { exec_id, exit }) => {
                self.exec_exited(container, &exec_id, &exit)
            }
            Signal::Event(ShimEvent::OutOfMemory) => {
                container.cell().oom = true;
                self.emit(container.event("oom", &[]));
            }
            Signal::Event(ShimEvent::Moved { pid }) => {
                let mut cell = container.cell();
                if cell.apply(Event::Moved { pid }).is_err() {
                    // Faster than the answer to its start.
                    cell.early_move = Some(pid);
                }
            }
            Signal::Lost => self.shim_lost(container),
        }
    }

    /// The main process ended.
    pub(crate) fn exited(&self, container: &Arc<Container>, mut exit: Exit) {
        let (remains, teardown) = teardown::channel();
        let (shim, connection, code, ran, remove) = {
            let mut cell = container.cell();
            exit.oom_killed |= cell.oom;
            let code = exit.code;
            let since = cell.record.started_at();
            if !cell.is_alive() {
                // Faster than the answer to its start, which settles it.
                cell.early_exit = Some(exit);
                return;
            }
            let at = exit.at;
            let reason = exit.reason.clone().unwrap_or_default();
            if let Err(illegal) = cell.apply(Event::Exited(exit)) {
                tracing::error!(%illegal, "a container's end");
                return;
            }
            cell.record.finished_at = Some(at);
            cell.record.error = reason;
            cell.queue.clear();
            // With the state: a start that finds it ended also finds what it has to wait for.
            cell.teardown = Some(teardown);
            let shim = match std::mem::replace(&mut cell.link, Link::None) {
                Link::Live(shim) => Some(shim),
                Link::None | Link::Ready(_) => None,
            };
            let ran = since.map_or(0, |since| (at.unix_nanos() - since.unix_nanos()) / 1_000_000_000);
            let remove = cell.record.auto_remove() && cell.restarting == 0;
            let held = std::mem::take(&mut cell.held_ports);
            (shim, cell.record.endpoint.take().map(|endpoint| (endpoint, held)), code, ran, remove)
        };
        crate::step!("exit: heard");
        self.execs_of_ended(container);
        self.emit_disconnected(container);
        let attributes = [("exitCode", code.to_string()), ("execDuration", ran.to_string())];
        self.emit(container.event("die", &attributes));
        if let Some((endpoint, held)) = connection {
            self.disconnect(&endpoint, held);
        }
        container.tell(|life| life.end(code));
        if remove {
            self.remove_ended(container, code);
        }
        self.clear_away(container, shim, !remove, remains);
    }

    /// The connection to a container's shim ended without a word about the container.
    fn shim_lost(&self, container: &Arc<Container>) {
        let shim = {
            let mut cell = container.cell();
            match std::mem::replace(&mut cell.link, Link::None) {
                Link::Live(shim) => shim,
                ready @ Link::Ready(_) => {
                    // Whoever starts it finds out and starts cold.
                    cell.link = ready;
                    return;
                }
                Link::None => return,
            }
        };
        drop(shim);
        let (engine, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            let exit = engine.clean_up_lost(&container.id).await;
            container.cell().link = Link::None;
            engine.exited(&container, exit);
        });
    }

    /// Clears away what a lost shim left and says how its container ended.
    pub(crate) async fn clean_up_lost(&self, id: &seacow_spec::ContainerId) -> Exit {
        let dir = self.config().exec_dir(id);
        if let Err(error) = shim::cleanup(&self.0.program, &dir).await {
            tracing::warn!(id = id.short(), %error, "clean up");
        }
        let written = std::fs::read(dir.join(EXIT_NAME)).ok();
        written.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_else(|| Exit {
            code: SHIM_LOST,
            at: Timestamp::now(),
            oom_killed: false,
            reason: Some("the container's shim was lost".into()),
        })
    }

    /// Deletes shim and exec directory in the background; before that, if there will be a
    /// container, its record is made safe: until then the exit status is the shim's to keep.
    fn clear_away(&self, container: &Arc<Container>, shim: Option<ShimClient>, keep: bool, remains: Remains) {
        let piece = self.0.clearing.begin();
        let (engine, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            remains.rest(teardown::REST, &engine.0.clearing).await;
            if keep && let Err(error) = engine.save(&container).await {
                tracing::warn!(id = container.id.short(), %error, "write the record of an ended container");
            }
            if let Some(shim) = shim {
                shim.mute();
                if let Err(error) = shim.delete().await {
                    tracing::warn!(id = container.id.short(), %error, "delete a container's shim");
                }
            }
            engine.remove_exec_dir(&container).await;
            engine.release_plugged(&container.id).await;
            drop((remains, piece));
        });
    }
}

/// Has the last run's remains cleared away, and waits until they are.
pub(crate) async fn await_teardown(container: &Container) {
    let teardown = container.cell().teardown.clone();
    if let Some(teardown) = teardown {
        teardown.finish().await;
    }
}
