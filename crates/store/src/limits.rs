//! Bounds on what is accepted from outside.

/// Bounds on layers and archives. Every number can be changed; the defaults say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one layer's unpacked tar, or of an image archive: 64 GiB, several times the
    /// largest published images. A decompression bomb ends there, or where the disk would be full.
    pub max_bytes: u64,
    /// Entries of one layer: 4 million, ten times a large distribution with sources.
    pub max_entries: u64,
    /// Layers of one image: 127, Docker's own bound. Overlayfs takes 500.
    pub max_layers: usize,
    /// Bytes of a config blob or a manifest: 4 MiB, what registries accept.
    pub max_document: u64,
    /// Bytes of the file system that no layer may take: 64 MiB, so that metadata can still be
    /// written when a layer has filled the disk.
    pub reserve: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 64 << 30,
            max_entries: 4_000_000,
            max_layers: 127,
            max_document: 4 << 20,
            reserve: 64 << 20,
        }
    }
}
