//! Bytes on their way to somebody who does not take them yet.

/// Memory that an empty queue may keep.
const KEEP: usize = 512;

/// A first-in first-out run of bytes. Its owner sets the bound.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    /// Bytes waiting.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether none wait.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What waits, oldest first.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Adds to the end.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.bytes.len() + bytes.len() > self.bytes.capacity() {
            // Moving the rest down is cheaper than growing.
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Forgets the `count` oldest bytes.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = self.bytes.len().min(self.start + count);
        if self.is_empty() {
            self.clear();
        }
    }

    /// Forgets everything, and gives large memory back.
    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEEP {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_over_partial_consumption() {
        let mut queue = Queue::default();
        let mut sent = Vec::new();
        for round in 0..1000u32 {
            queue.push(&round.to_le_bytes());
            let take = queue.len().min(3);
            sent.extend_from_slice(&queue.as_slice()[..take]);
            queue.consume(take);
        }
        sent.extend_from_slice(queue.as_slice());
        assert_eq!(sent, (0..1000u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        queue.clear();
        assert!(queue.is_empty());
    }

    #[test]
    fn an_emptied_queue_keeps_no_memory() {
        let mut queue = Queue::default();
        queue.push(&[0; 100_000]);
        queue.consume(100_000);
        assert!(queue.bytes.capacity() <= KEEP);
    }
}
