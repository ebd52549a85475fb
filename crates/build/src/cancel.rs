//! Telling a running build to stop.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A token that is shared between who may cancel and who must notice. Clones are the same token.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    cancelled: bool,
    hooks: Vec<Box<dyn FnOnce() + Send>>,
}

impl Cancel {
    /// A token that nobody has cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels, once: all hooks run on this thread.
    pub fn cancel(&self) {
        let hooks = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.cancelled = true;
            std::mem::take(&mut state.hooks)
        };
        for hook in hooks {
            hook();
        }
    }

    /// Whether somebody has cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).cancelled
    }

    /// Runs `hook` when the token is cancelled, at once when it already is. The hook must not
    /// block; it may come after the work it was meant for has ended.
    pub fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.cancelled {
            state.hooks.push(Box::new(hook));
            return;
        }
        drop(state);
        hook();
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn hooks_run_once_before_and_after() {
        let cancel = Cancel::new();
        let count = Arc::new(AtomicU32::new(0));
        let hook = |count: &Arc<AtomicU32>| {
            let count = Arc::clone(count);
            move || _ = count.fetch_add(1, Ordering::SeqCst)
        };
        cancel.on_cancel(hook(&count));
        assert!(!cancel.is_cancelled());
        cancel.clone().cancel();
        cancel.cancel();
        assert!(cancel.is_cancelled());
        assert_eq!(count.load(Ordering::SeqCst), 1);
        cancel.on_cancel(hook(&count));
        assert_eq!(count.load(Ordering::SeqCst), 2);
    }
}
