//! Group commit: whoever finds the file free writes for everybody who waits.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use super::{Durability, MetaError, Write};

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Batch>,
    /// Somebody is writing.
    busy: bool,
}

#[derive(Debug)]
struct Batch {
    writes: Vec<Write>,
    durability: Durability,
    outcome: Arc<OnceLock<Result<(), MetaError>>>,
}

impl Queue {
    /// Has `commit` called with these writes, possibly among others', and gives its result.
    pub(super) fn submit(
        &self,
        writes: Vec<Write>,
        durability: Durability,
        commit: impl Fn(&[Write], Durability) -> Result<(), MetaError>,
    ) -> Result<(), MetaError> {
        let outcome = Arc::new(OnceLock::new());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push(Batch { writes, durability, outcome: outcome.clone() });
        loop {
            if let Some(result) = outcome.get() {
                return result.clone();
            }
            if state.busy {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.busy = true;
            let group = std::mem::take(&mut state.waiting);
            drop(state);
            run(group, &commit);
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.busy = false;
            self.changed.notify_all();
        }
    }
}

fn run(mut group: Vec<Batch>, commit: &impl Fn(&[Write], Durability) -> Result<(), MetaError>) {
    let durable = group.iter().any(|batch| batch.durability == Durability::Durable);
    let durability = if durable { Durability::Durable } else { Durability::Unsynced };
    let writes: Vec<Write> = group.iter_mut().flat_map(|batch| std::mem::take(&mut batch.writes)).collect();
    let result = commit(&writes, durability);
    for batch in group {
        let _ = batch.outcome.set(result.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn those_who_wait_are_committed_together() {
        let queue = Queue::default();
        let (commits, writes_seen) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let commit = |writes: &[Write], _| {
            commits.fetch_add(1, Ordering::SeqCst);
            writes_seen.fetch_add(writes.len(), Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(5));
            Ok(())
        };
        std::thread::scope(|scope| {
            for n in 0..16 {
                let (queue, commit) = (&queue, &commit);
                scope.spawn(move || {
                    let write = Write::Delete(Table::Engine, n.to_string());
                    queue.submit(vec![write], Durability::Unsynced, commit).unwrap();
                });
            }
        });
        assert_eq!(writes_seen.load(Ordering::SeqCst), 16);
        assert!(commits.load(Ordering::SeqCst) < 16);
    }
}
