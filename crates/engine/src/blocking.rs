//! The one bridge between the async engine and the blocking crates below it.
//!
//! Store and net know no async. Whatever of theirs may touch a disk, the kernel's network lock or
//! another process goes through [`run`]; what only reads memory is called directly, because a
//! thread hop costs more (10–20 µs) than the call.

use std::sync::{Mutex, MutexGuard, PoisonError};

use seacow_spec::{Classified, ErrorClass};

/// The blocking task did not finish: it panicked, or the runtime is shutting down.
#[derive(Debug, thiserror::Error)]
#[error("{step} was interrupted")]
pub struct Interrupted {
    /// What was being done.
    pub step: &'static str,
    /// What tokio says about it.
    pub source: tokio::task::JoinError,
}

impl Classified for Interrupted {
    fn class(&self) -> ErrorClass {
        ErrorClass::Internal
    }
}

/// Runs `work` on a thread that may block. `step` names it in the error.
///
/// # Errors
/// The work panicked or was cancelled by shutdown.
pub async fn run<T, F>(step: &'static str, work: F) -> Result<T, Interrupted>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|source| Interrupted { step, source })
}

/// Locks even after another holder panicked: every critical section of the engine leaves its data
/// whole between statements, and one failed request must not take all others with it.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
