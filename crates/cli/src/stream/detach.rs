//! The key sequence that leaves a container running and gives the terminal back.

/// Watches input for the sequence; keys that turn out not to begin it are passed on.
#[derive(Debug, Clone)]
pub(crate) struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

/// What to do with a piece of input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Send these bytes.
    Pass(Vec<u8>),
    /// Send these bytes, then detach.
    Detach(Vec<u8>),
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self { sequence: vec![16, 17], matched: 0 }
    }
}

impl DetachKeys {
    /// Parses `ctrl-p,ctrl-q`, `a`, `ctrl-@` and the like; an empty text is the default, Ctrl-P Ctrl-Q.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bad = |key: &str| format!("invalid detach keys ({text}): Unknown character: '{key}'");
        let mut sequence = Vec::new();
        for key in text.split(',') {
            let code = match key.to_ascii_lowercase().strip_prefix("ctrl-") {
                Some(letter) => match letter.as_bytes() {
                    [c @ b'a'..=b'z'] => c - b'a' + 1,
                    b"@" => 0,
                    b"[" => 27,
                    b"\\" => 28,
                    b"]" => 29,
                    b"^" => 30,
                    b"_" => 31,
                    _ => return Err(bad(key)),
                },
                None => match key.as_bytes() {
                    [c] if c.is_ascii() => *c,
                    _ => return Err(bad(key)),
                },
            };
            sequence.push(code);
        }
        Ok(Self { sequence, matched: 0 })
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Input {
        let mut pass = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.sequence.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    return Input::Detach(pass);
                }
                continue;
            }
            pass.extend_from_slice(&self.sequence[..self.matched]);
            self.matched = usize::from(self.sequence.first() == Some(byte));
            if self.matched == 0 {
                pass.push(*byte);
            } else if self.sequence.len() == 1 {
                return Input::Detach(pass);
            }
        }
        Input::Pass(pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_sequence_across_reads() {
        let mut keys = DetachKeys::parse("").unwrap();
        assert_eq!(keys.feed(b"ab\x10"), Input::Pass(b"ab".to_vec()));
        assert_eq!(keys.feed(b"c"), Input::Pass(b"\x10c".to_vec()));
        assert_eq!(keys.feed(b"\x10\x10"), Input::Pass(b"\x10".to_vec()));
        assert_eq!(keys.feed(b"\x11rest"), Input::Detach(Vec::new()));
    }

    #[test]
    fn own_sequences() {
        let mut keys = DetachKeys::parse("ctrl-@,x").unwrap();
        assert_eq!(keys.feed(b"a\0x"), Input::Detach(b"a".to_vec()));
        assert!(DetachKeys::parse("ctrl-!").is_err());
        assert!(DetachKeys::parse("ab").is_err());
    }
}
