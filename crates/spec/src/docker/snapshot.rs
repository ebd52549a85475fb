//! Snapshots and clones of containers: seacow's own, beside Docker's API.

use serde::{Deserialize, Serialize};

/// What a container's files were at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Snapshot {
    /// 64 hex digits.
    pub id: String,
    /// Unique among the container's.
    pub name: String,
    /// Id of the container.
    pub container: String,
    /// The container's name, without a slash.
    pub container_name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Bytes on the disk of what changed since the snapshot before, or since the image; in the ledger the
    /// bytes that nothing but its container has.
    pub own_bytes: u64,
    /// Bytes that others have too; told by the ledger alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_bytes: Option<u64>,
    /// Containers and images that use the same files, by name.
    pub shared_with: Vec<String>,
}

/// `POST /containers/{id}/snapshots` and `POST /volumes/{name}/snapshots`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SnapshotCreate {
    /// A number if empty.
    pub name: String,
}

/// What a volume held at some moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeSnapshot {
    /// Unique among the volume's.
    pub name: String,
    /// The volume's name.
    pub volume: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// Answer to `POST /containers/{id}/clone`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Cloned {
    /// Ids of the new containers, in their order.
    pub ids: Vec<String>,
}

/// Answer to `POST /snapshots/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SnapshotsPruned {
    /// `container@snapshot` and `volume@snapshot`; null when there were none.
    pub snapshots_deleted: Option<Vec<String>>,
    /// Bytes of the disk that nothing has any more.
    pub space_reclaimed: u64,
}
