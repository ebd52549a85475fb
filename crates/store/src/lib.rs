//! Layers, images, snapshots, volumes, metadata
