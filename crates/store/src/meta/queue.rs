//! Group commit: whoever finds the file free writes for everybody who waits.
//!
//! A sync of the disk takes milliseconds, and who wants none does not wait for another's: what need not be
//! synced is left for whoever is writing, who takes it along or writes it afterwards.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::{Durability, MetaError, Write};

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What is being written just now has something that nobody waits for.
    writes_left: bool,
    waiting: Vec<Batch>,
    /// Somebody is writing.
    busy: bool,
}

#[derive(Debug)]
struct Batch {
    writes: Vec<Write>,
    durability: Durability,
    /// Of a caller who waits.
    outcome: Option<Arc<OnceLock<Result<(), MetaError>>>>,
}

impl Batch {
    fn is_left(&self) -> bool {
        self.outcome.is_none()
    }
}

impl Queue {
    /// Has `commit` called with these writes, possibly among others', and gives its result. Where somebody
    /// is writing already, what need not be durable is left to him.
    pub(super) fn submit(
        &self,
        writes: Vec<Write>,
        durability: Durability,
        commit: impl Fn(&[Write], Durability) -> Result<(), MetaError>,
    ) -> Result<(), MetaError> {
        let mut state = self.lock();
        if durability == Durability::Unsynced && state.busy {
            state.waiting.push(Batch { writes, durability, outcome: None });
            return Ok(());
        }
        self.wait(state, writes, durability, commit)
    }

    /// Waits until everything is in the database that was submitted by calls that have returned. Others'
    /// syncs that hold nothing of the kind are not waited for.
    pub(super) fn settle(
        &self,
        commit: impl Fn(&[Write], Durability) -> Result<(), MetaError>,
    ) -> Result<(), MetaError> {
        let state = self.lock();
        if !state.writes_left && !state.waiting.iter().any(Batch::is_left) {
            return Ok(());
        }
        self.wait(state, Vec::new(), Durability::Unsynced, commit)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        writes: Vec<Write>,
        durability: Durability,
        commit: impl Fn(&[Write], Durability) -> Result<(), MetaError>,
    ) -> Result<(), MetaError> {
        let outcome = Arc::new(OnceLock::new());
        state.waiting.push(Batch { writes, durability, outcome: Some(outcome.clone()) });
        loop {
            if let Some(result) = outcome.get() {
                return result.clone();
            }
            if state.busy {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.busy = true;
            state = self.write(state, &commit);
            // Nobody waits for what was left meanwhile. Nor is it tried again at once when it fails.
            if !state.waiting.is_empty() && state.waiting.iter().all(Batch::is_left) {
                state = self.write(state, &commit);
            }
            state.busy = false;
            self.changed.notify_all();
        }
    }

    /// Writes what is waiting. What was left by callers who are gone stays for the next one if it fails.
    fn write<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        commit: &impl Fn(&[Write], Durability) -> Result<(), MetaError>,
    ) -> MutexGuard<'a, State> {
        let mut group = std::mem::take(&mut state.waiting);
        state.writes_left = group.iter().any(Batch::is_left);
        drop(state);
        let durable = group.iter().any(|batch| batch.durability == Durability::Durable);
        let durability = if durable { Durability::Durable } else { Durability::Unsynced };
        let writes: Vec<Write> = group.iter().flat_map(|batch| batch.writes.iter().cloned()).collect();
        let result = if writes.is_empty() { Ok(()) } else { commit(&writes, durability) };
        for outcome in group.iter().filter_map(|batch| batch.outcome.as_ref()) {
            let _ = outcome.set(result.clone());
        }
        let mut state = self.lock();
        state.writes_left = false;
        if result.is_err() {
            group.retain(Batch::is_left);
            state.waiting.splice(0..0, group);
        }
        state
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
        queue.settle(commit).unwrap();
        assert_eq!(writes_seen.load(Ordering::SeqCst), 16);
        assert!(commits.load(Ordering::SeqCst) < 16);
    }

    fn put(key: &str, value: u8) -> Vec<Write> {
        vec![Write::Put(Table::Engine, key.to_owned(), vec![value])]
    }

    /// Somebody's sync takes as long as it takes: who wants none is not kept, and nothing is lost or
    /// changes its order.
    #[test]
    fn what_need_not_be_synced_waits_for_no_sync() {
        let (queue, seen) = (Queue::default(), Mutex::new(Vec::new()));
        let (begun, begin) = std::sync::mpsc::channel();
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let (begun, finished) = (Mutex::new(begun), Mutex::new(finished));
        let commit = |writes: &[Write], durability: Durability| {
            if durability == Durability::Durable {
                begun.lock().unwrap().send(()).unwrap();
                finished.lock().unwrap().recv().unwrap();
            }
            seen.lock().unwrap().extend(writes.iter().map(|write| format!("{write:?}")));
            Ok(())
        };
        std::thread::scope(|scope| {
            scope.spawn(|| queue.submit(put("k", 1), Durability::Durable, commit).unwrap());
            begin.recv().unwrap();
            // Nor is a reader, who need not see what has not returned.
            queue.settle(commit).unwrap();
            queue.submit(put("k", 2), Durability::Unsynced, commit).unwrap();
            queue.submit(put("k", 3), Durability::Unsynced, commit).unwrap();
            assert!(seen.lock().unwrap().is_empty());
            finish.send(()).unwrap();
        });
        queue.settle(commit).unwrap();
        let expected: Vec<_> = (1..4).flat_map(|n| put("k", n)).map(|write| format!("{write:?}")).collect();
        assert_eq!(*seen.lock().unwrap(), expected);
    }

    /// What was left and could not be written is written with the next.
    #[test]
    fn what_was_left_is_tried_again() {
        let (queue, seen, fails) = (Queue::default(), AtomicUsize::new(0), AtomicUsize::new(2));
        let (begun, begin) = std::sync::mpsc::channel();
        let (finish, finished) = std::sync::mpsc::channel::<()>();
        let (begun, finished) = (Mutex::new(begun), Mutex::new(finished));
        let commit = |writes: &[Write], _| {
            if fails.load(Ordering::SeqCst) == 2 {
                begun.lock().unwrap().send(()).unwrap();
                finished.lock().unwrap().recv().unwrap();
            }
            if fails.load(Ordering::SeqCst) > 0 {
                fails.fetch_sub(1, Ordering::SeqCst);
                let reason = "a test's".to_owned();
                return Err(MetaError::Database { step: "write", reason });
            }
            seen.fetch_add(writes.len(), Ordering::SeqCst);
            Ok(())
        };
        std::thread::scope(|scope| {
            let first = scope.spawn(|| queue.submit(put("a", 1), Durability::Durable, commit));
            begin.recv().unwrap();
            queue.submit(put("b", 2), Durability::Unsynced, commit).unwrap();
            finish.send(()).unwrap();
            first.join().unwrap().unwrap_err();
        });
        queue.submit(put("c", 3), Durability::Durable, commit).unwrap();
        assert_eq!(seen.load(Ordering::SeqCst), 2);
    }
}
