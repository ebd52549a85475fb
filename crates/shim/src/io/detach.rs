//! The key sequence that detaches a client from a terminal.

/// Recognises the sequence over any number of reads. What looks like its beginning is held back
/// until it is clear what it is.
#[derive(Debug, Default)]
pub(crate) struct Detach {
    keys: Vec<u8>,
    matched: usize,
}

/// What became of some input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filtered {
    /// Bytes for the container.
    pub(crate) pass: Vec<u8>,
    /// The sequence was completed; what followed it is dropped.
    pub(crate) detached: bool,
}

impl Detach {
    /// Recognises `keys`; empty recognises nothing.
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Whether input need not be filtered at all.
    pub(crate) fn is_off(&self) -> bool {
        self.keys.is_empty()
    }

    /// Looks through the next input.
    pub(crate) fn filter(&mut self, input: &[u8]) -> Filtered {
        let mut pass = Vec::with_capacity(self.matched + input.len());
        for &byte in input {
            self.step(byte, &mut pass);
            if self.matched == self.keys.len() {
                self.matched = 0;
                return Filtered { pass, detached: true };
            }
        }
        Filtered { pass, detached: false }
    }

    /// What is held back when the input ends.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let rest = self.keys[..self.matched].to_vec();
        self.matched = 0;
        rest
    }

    /// Takes one byte. On a mismatch the longest end of what was seen that can still begin the
    /// sequence stays held back (`^P^P^Q` detaches with `^P^Q`); the rest passes.
    fn step(&mut self, byte: u8, pass: &mut Vec<u8>) {
        let mut seen = self.keys[..self.matched].to_vec();
        seen.push(byte);
        let keep = (0..=seen.len()).rev().find(|&n| self.keys.starts_with(&seen[seen.len() - n..]));
        let keep = keep.unwrap_or(0);
        pass.extend_from_slice(&seen[..seen.len() - keep]);
        self.matched = keep;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[u8] = &[16, 17];

    fn feed(keys: &[u8], parts: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut detach = Detach::new(keys.to_vec());
        let mut passed = Vec::new();
        for part in parts {
            let filtered = detach.filter(part);
            passed.extend(filtered.pass);
            if filtered.detached {
                return (passed, true);
            }
        }
        passed.extend(detach.rest());
        (passed, false)
    }

    #[test]
    fn the_sequence_is_found_within_and_across_reads() {
        assert_eq!(feed(KEYS, &[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(feed(KEYS, &[b"ab\x10", b"\x11"]), (b"ab".to_vec(), true));
        assert_eq!(feed(KEYS, &[b"\x10", b"\x10", b"\x11"]), (b"\x10".to_vec(), true));
    }

    #[test]
    fn everything_else_passes_unchanged() {
        for text in [&b"\x10x\x11"[..], b"\x10\x10", b"\x11\x10", b"\x10", b""] {
            assert_eq!(feed(KEYS, &[text]), (text.to_vec(), false));
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(feed(KEYS, &bytes), (text.to_vec(), false));
        }
        assert_eq!(feed(b"aab", &[b"aaab"]), (b"a".to_vec(), true));
    }
}
