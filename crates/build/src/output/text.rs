//! Characters that come in pieces.

/// Bytes of a stream that are not a whole character yet.
#[derive(Debug, Default)]
pub(super) struct Characters(Vec<u8>);

impl Characters {
    /// Takes bytes, gives what is whole.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.0.extend_from_slice(bytes);
        let whole = whole_characters(&self.0);
        let rest = self.0.split_off(whole);
        let ready = std::mem::replace(&mut self.0, rest);
        String::from_utf8_lossy(&ready).into_owned()
    }

    /// What is left at the end, as it is.
    pub(super) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.0)).into_owned()
    }
}

/// How many bytes there are without a character that has only begun.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for at in (tail..bytes.len()).rev() {
        let needs = match bytes[at] {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => return bytes.len(),
        };
        return if bytes.len() - at < needs { at } else { bytes.len() };
    }
    bytes.len()
}
