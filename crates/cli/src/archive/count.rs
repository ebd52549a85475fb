//! How much of an archive has been sent.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Counts what is read through it.
pub(crate) struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
    /// Says by going away that nothing more will be read.
    _alive: Sender<()>,
}

/// The count, on another thread.
pub(crate) struct Count {
    count: Arc<AtomicU64>,
    alive: Receiver<()>,
}

impl<R> Counted<R> {
    pub(crate) fn new(inner: R) -> (Self, Count) {
        let count = Arc::new(AtomicU64::new(0));
        let (sender, alive) = channel();
        (Self { inner, count: Arc::clone(&count), _alive: sender }, Count { count, alive })
    }
}

impl Count {
    /// The bytes read, once the reader is done with, or after `patience`.
    pub(crate) fn total(&self, patience: Duration) -> u64 {
        // Nothing is ever sent: it ends by the sender going away, or by time.
        let _ = self.alive.recv_timeout(patience);
        self.count.load(Ordering::Relaxed)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_known_when_the_reader_is_gone() {
        let (mut reader, count) = Counted::new(&b"12345"[..]);
        let thread = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
        });
        assert_eq!(count.total(Duration::from_secs(60)), 5);
        thread.join().unwrap();
    }
}
