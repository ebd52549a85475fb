//! The OCI runtime specification's state of a container, as hooks and `state` have it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "names are the specification's")]
pub enum Status {
    #[default]
    Creating,
    Created,
    Running,
    Stopped,
}

/// What a hook reads on its standard input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "fields are the specification's")]
pub struct State {
    pub oci_version: String,
    pub id: String,
    pub status: Status,
    /// As whoever reads it sees it: the host's number in the runtime's namespaces, the container's
    /// in the container's. 0 of a container that has stopped.
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: i32,
    pub bundle: PathBuf,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn is_zero(pid: &i32) -> bool {
    *pid == 0
}
