//! The engine itself: version, info, disk usage, and seacow's own ledger.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct Version {
    pub platform: PlatformName,
    pub components: Vec<Component>,
    pub version: String,
    pub api_version: String,
    #[serde(rename = "MinAPIVersion")]
    pub min_api_version: String,
    pub git_commit: String,
    pub go_version: String,
    pub os: String,
    pub arch: String,
    pub kernel_version: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub experimental: bool,
    pub build_time: String,
}

/// The product's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct PlatformName {
    pub name: String,
}

/// One part of the product.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct Component {
    pub name: String,
    pub version: String,
    pub details: BTreeMap<String, String>,
}

/// `GET /system/df`, the shape up to API 1.51.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct DiskUsage {
    pub layers_size: i64,
    pub images: Vec<super::image::ImageSummary>,
    pub containers: Vec<super::container::ContainerSummary>,
    pub volumes: Vec<super::volume::Volume>,
    pub build_cache: Vec<serde_json::Value>,
}

/// `GET /system/cow`: what is shared and what was copied. Bytes are allocated disk space; a file
/// with several links counts once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CowLedger {
    /// One entry per container.
    pub containers: Vec<CowContainer>,
    /// One entry per image.
    pub images: Vec<CowImage>,
    /// Bytes of all layers, each counted once.
    pub layers_bytes: u64,
    /// Bytes of all writable layers.
    pub containers_bytes: u64,
}

/// What one container shares and owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CowContainer {
    /// The container.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
    /// The image's name as it was given.
    pub image: String,
    /// The image.
    #[serde(rename = "ImageID")]
    pub image_id: String,
    /// Bytes of image layers that it reads without owning; 0 for the host view, whose size is not
    /// counted.
    pub shared_bytes: u64,
    /// Containers and images that use at least one of the same layers, by name.
    pub shared_with: Vec<String>,
    /// Bytes in its writable layer.
    pub own_bytes: u64,
    /// Files of the image that it changed, and which were therefore copied.
    pub copied_up: Vec<CowFile>,
    /// Files that it made.
    pub created: u64,
    /// Files of the image that it deleted.
    pub deleted: u64,
    /// Its lowest layer is the live root file system of this machine.
    pub on_host: bool,
}

/// One copied file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CowFile {
    /// Absolute path in the container.
    pub path: String,
    /// Bytes allocated for the copy.
    pub bytes: u64,
}

/// What one image shares and owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CowImage {
    /// The image.
    pub id: String,
    /// Its names.
    pub tags: Vec<String>,
    /// Bytes in layers that other images use too.
    pub shared_bytes: u64,
    /// Bytes in layers that are its alone.
    pub own_bytes: u64,
    /// Containers that stand on it, by name.
    pub containers: Vec<String>,
}

/// `GET /system/doctor`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Diagnosis {
    /// Every check that was made.
    pub checks: Vec<Check>,
}

/// One check of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// What was checked, a few words.
    pub name: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found, one sentence.
    pub found: String,
    /// What to do about it; empty when all is well.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, with a limitation.
    Warning,
    /// Something will not work.
    Failed,
}
