//! Forks of running containers: seacow's own, beside Docker's API.

use serde::{Deserialize, Serialize};

/// Answer to `POST /containers/{id}/fork`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ForkAnswer {
    /// The new containers, in their order.
    pub containers: Vec<ForkedContainer>,
    /// What it took.
    pub times: ForkTimes,
    /// How the memory was taken: `snapshot`, `kept` (from what was kept of the fork before) or `shadow`.
    pub path: String,
    /// Bytes of memory that were copied; everything else is shared.
    pub copied_bytes: u64,
}

/// One new container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ForkedContainer {
    /// 64 hex digits.
    pub id: String,
    /// Without a slash.
    pub name: String,
    /// Its address on the default bridge; empty without one.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// From the call until it ran, in microseconds.
    pub ready: u64,
}

/// Times of a fork, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ForkTimes {
    /// How long the source stood still.
    pub pause: u64,
    /// Of these, what the capture of its files took longer than that of its memory.
    pub files: u64,
    /// From the request to the shim until clones could be made.
    pub template: u64,
    /// From the call until the first clone ran.
    pub first: u64,
    /// From the call until all ran.
    pub all: u64,
}

/// Answer to `POST /containers/{id}/fork?dryrun=1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ForkReasons {
    /// What stands in the way, one sentence each; empty when nothing does.
    pub reasons: Vec<String>,
}
