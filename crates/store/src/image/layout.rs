//! Names and documents of an image archive: an OCI layout that is a `docker save` archive too.

use std::collections::BTreeMap;

use seacow_spec::Digest;
use serde::{Deserialize, Serialize};

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const INDEX: &str = "index.json";
pub(super) const REPOSITORIES: &str = "repositories";
pub(super) const OCI_LAYOUT: &str = "oci-layout";
pub(super) const OCI_LAYOUT_CONTENT: &str = "{\"imageLayoutVersion\": \"1.0.0\"}";
pub(super) const BLOBS: &str = "blobs/sha256/";
/// Annotation with the full name (containerd's).
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
/// Annotation with the tag, or whatever the tool took for a name (OCI's).
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One image in `manifest.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ArchiveItem {
    pub(super) config: String,
    #[serde(default, deserialize_with = "seacow_spec::docker::null_default")]
    pub(super) repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "seacow_spec::docker::null_default")]
    pub(super) layers: Vec<String>,
    /// Written for tools that look the descriptors up; not read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", skip_deserializing)]
    pub(super) layer_sources: BTreeMap<String, LayerSource>,
}

/// Descriptor of a layer, in Docker's spelling.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerSource {
    pub(super) media_type: String,
    pub(super) size: u64,
    pub(super) digest: Digest,
}

pub(super) fn blob(digest: &Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}
