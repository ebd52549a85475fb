//! Everything a daemon keeps on disk: layers, images, snapshots, volumes, records.
//!
//! ```text
//!             ┌─ images ── config blob, names, parent ─┐
//!  Store ─────┼─ layers ── fs + recipe, by chain id ───┤── metadata (redb): what it does not
//!             ├─ snapshots ─ upper + work, by key ─────┤   name is garbage
//!             ├─ volumes ── _data, by name ────────────┤
//!             └─ records ── the engine's documents ────┘
//! ```
//! Nothing here is asynchronous, and nothing here mounts anything, but for one thing:
//! [`Store::with_mounted`] looks into a stopped container, in a mount namespace that is gone with
//! its thread.
//!
//! Three rules hold everywhere. *Invisible until committed*: things are made in private directories,
//! synced, renamed into place, and exist when the metadata says so. *Content names itself*: layers
//! and images are found by digest, and the same content twice is one thing. *Nothing outside is
//! trusted*: every archive is bounded, and no path in it is resolved but by the kernel below a root
//! ([`seacow_sys::rooted`]).
//!
//! | module | what |
//! |---|---|
//! | [`layer`] | read-only trees: unpack a tar, commit an upper directory, give the exact tar back |
//! | [`snapshot`] | writable layers: described, never mounted; what changed; what it takes |
//! | [`image`] | find, name, make, remove, save, load, import images; the `host` image |
//! | [`blob`] | packed layers as registries have them, kept while there is room |
//! | [`storefile`] | a store that shares extents on a host that cannot: an xfs in a file |
//! | [`volume`] | plain named volumes |
//! | [`point`] | what a container's files were, kept under a name |
//! | [`census`] | who has which bytes of the disk |
//! | [`record`] | opaque documents of the engine |
//! | [`archive`] | `docker cp` and `export` on a container's root |
#![forbid(unsafe_code)]

pub mod archive;
pub mod blob;
pub mod census;
mod disk;
mod error;
mod fsutil;
mod hash;
mod host;
pub mod image;
pub mod layer;
mod layout;
mod limits;
mod meta;
pub mod point;
pub mod quota;
pub mod record;
mod shared;
pub mod snapshot;
mod store;
pub mod storefile;
mod sweeper;
mod tar;
pub mod volume;

/// Paths below a container's root, for those who build images with us.
pub use seacow_sys::{Errno, rooted};

pub use blob::{Blobs, Part as BlobPart};
pub use census::{Census, Holder, Part};
pub use disk::FaultHook;
pub use error::IoFailure;
pub use hash::{chain_id, chain_of, digest};
pub use host::HostError;
pub use image::{Image, ImageError, Images};
pub use layer::{Layer, LayerError, LayerInfo, Layers, PlaceError, UpperMode};
pub use limits::Limits;
pub use meta::{Durability, MetaError};
pub use point::{Point, PointError, Points};
pub use record::{RecordKind, Records};
pub use snapshot::{DriverError, DriverKind, SnapshotDriver, SnapshotError, SnapshotKey};
pub use store::{OpenError, Store, StoreOptions};
pub use storefile::{StoreFile, StoreFileError};
pub use tar::TarError;
pub use tar::compress::unpack;
pub use tar::pack::{Packing, pack};
pub use volume::{NewVolume, Volume, VolumeError, Volumes};
