//! The one buffer of all reads.

/// Bytes of one read, either way: what Docker's copiers use.
pub(crate) const READ: usize = 16 << 10;

/// Room for one read, there only while somebody reads.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// Empty, with room for [`READ`] bytes.
    pub(crate) fn fresh(&mut self) -> &mut Vec<u8> {
        self.0.clear();
        self.0.reserve_exact(READ);
        &mut self.0
    }

    /// Gives the memory back.
    pub(crate) fn release(&mut self) {
        self.0 = Vec::new();
    }
}
