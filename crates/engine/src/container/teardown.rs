//! Clearing away what a run has left, when nobody waits for anything else.
//!
//! Whoever ran the container is told of its end first; the processor is theirs for a moment. A start
//! or removal that needs the remains gone says so ([`Teardown::finish`]), and so does the engine's
//! shutdown.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// How long the remains are left alone. The client of a run is gone 1 ms after its end; the pool
/// begins to make the next slot 15 ms after it.
pub(super) const REST: Duration = Duration::from_millis(8);

/// The remains of a container's last run, seen by whoever waits for them to be gone.
#[derive(Clone, Debug)]
pub(crate) struct Teardown {
    done: watch::Receiver<bool>,
    wanted: Arc<Notify>,
}

/// The same, seen by the task that clears them away. Dropping it tells that it is done.
#[derive(Debug)]
pub(crate) struct Remains {
    done: watch::Sender<bool>,
    wanted: Arc<Notify>,
}

/// Both sides.
pub(crate) fn channel() -> (Remains, Teardown) {
    let (sender, done) = watch::channel(false);
    let wanted = Arc::new(Notify::new());
    (Remains { done: sender, wanted: Arc::clone(&wanted) }, Teardown { done, wanted })
}

impl Teardown {
    /// Waits until they are gone, in their own time.
    pub(crate) async fn finished(mut self) {
        // An error means that the sender is gone, which is as good.
        let _ = self.done.wait_for(|done| *done).await;
    }

    /// The same, at once.
    pub(crate) async fn finish(self) {
        self.wanted.notify_one();
        self.finished().await;
    }
}

impl Remains {
    /// Returns when it is time to clear away: after `time`, or when somebody needs it.
    pub(crate) async fn rest(&self, time: Duration, clearing: &Clearing) {
        let mut closing = clearing.closing.subscribe();
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.wanted.notified() => {}
            // An error means that nobody will say so any more.
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        self.done.send_replace(true);
    }
}

/// Everything that is being cleared away.
#[derive(Debug)]
pub(crate) struct Clearing {
    closing: watch::Sender<bool>,
    under_way: watch::Sender<usize>,
}

/// One piece of it, until dropped.
pub(crate) struct Piece(watch::Sender<usize>);

impl Default for Clearing {
    fn default() -> Self {
        Self { closing: watch::Sender::new(false), under_way: watch::Sender::new(0) }
    }
}

impl Clearing {
    /// One more piece is under way.
    pub(crate) fn begin(&self) -> Piece {
        self.under_way.send_modify(|count| *count += 1);
        Piece(self.under_way.clone())
    }

    /// Nothing rests any more; returns when all is cleared away, or after `limit`.
    pub(crate) async fn finish(&self, limit: Duration) {
        self.closing.send_replace(true);
        let mut under_way = self.under_way.subscribe();
        if tokio::time::timeout(limit, under_way.wait_for(|count| *count == 0)).await.is_err() {
            tracing::warn!("what ended containers left is still being cleared away; the next start goes on");
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR_EVER: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn remains_rest_until_somebody_needs_them_gone() {
        let clearing = Clearing::default();
        let (remains, teardown) = channel();
        let rested = async {
            remains.rest(FOR_EVER, &clearing).await;
            drop(remains);
        };
        tokio::join!(rested, teardown.clone().finish());
        teardown.finish().await;
    }

    #[tokio::test]
    async fn or_go_in_their_own_time() {
        let clearing = Clearing::default();
        let (remains, teardown) = channel();
        let begin = std::time::Instant::now();
        let rested = async {
            remains.rest(REST, &clearing).await;
            drop(remains);
            begin.elapsed()
        };
        let (rested, ()) = tokio::join!(rested, teardown.finished());
        assert!(rested >= REST);
    }

    #[tokio::test]
    async fn a_shutdown_waits_for_no_rest_and_for_all_pieces() {
        let clearing = Clearing::default();
        let (remains, _teardown) = channel();
        let piece = clearing.begin();
        let work = async {
            remains.rest(FOR_EVER, &clearing).await;
            drop(piece);
        };
        tokio::join!(clearing.finish(FOR_EVER), work);
        channel().0.rest(FOR_EVER, &clearing).await;
    }
}
