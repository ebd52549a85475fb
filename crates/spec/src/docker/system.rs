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

/// `GET /info`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct Info {
    #[serde(rename = "ID")]
    pub id: String,
    pub containers: i64,
    pub containers_running: i64,
    pub containers_paused: i64,
    pub containers_stopped: i64,
    pub images: i64,
    pub driver: String,
    pub driver_status: Vec<[String; 2]>,
    pub plugins: InfoPlugins,
    pub memory_limit: bool,
    pub swap_limit: bool,
    pub cpu_cfs_period: bool,
    pub cpu_cfs_quota: bool,
    #[serde(rename = "CPUShares")]
    pub cpu_shares: bool,
    #[serde(rename = "CPUSet")]
    pub cpu_set: bool,
    pub pids_limit: bool,
    #[serde(rename = "IPv4Forwarding")]
    pub ipv4_forwarding: bool,
    pub bridge_nf_iptables: bool,
    pub bridge_nf_ip6tables: bool,
    pub debug: bool,
    #[serde(rename = "NFd")]
    pub n_fd: i64,
    pub oom_kill_disable: bool,
    pub n_goroutines: i64,
    pub system_time: String,
    pub logging_driver: String,
    pub cgroup_driver: String,
    pub cgroup_version: String,
    pub n_events_listener: i64,
    pub kernel_version: String,
    pub operating_system: String,
    #[serde(rename = "OSVersion")]
    pub os_version: String,
    #[serde(rename = "OSType")]
    pub os_type: String,
    pub architecture: String,
    pub index_server_address: String,
    pub registry_config: Option<serde_json::Value>,
    #[serde(rename = "NCPU")]
    pub ncpu: i64,
    pub mem_total: i64,
    pub generic_resources: Option<Vec<serde_json::Value>>,
    pub docker_root_dir: String,
    pub http_proxy: String,
    pub https_proxy: String,
    pub no_proxy: String,
    pub name: String,
    pub labels: Vec<String>,
    pub experimental_build: bool,
    pub server_version: String,
    pub runtimes: BTreeMap<String, InfoRuntime>,
    pub default_runtime: String,
    pub swarm: InfoSwarm,
    pub live_restore_enabled: bool,
    pub isolation: String,
    pub init_binary: String,
    pub containerd_commit: InfoCommit,
    pub runc_commit: InfoCommit,
    pub init_commit: InfoCommit,
    pub security_options: Vec<String>,
    #[serde(rename = "CDISpecDirs")]
    pub cdi_spec_dirs: Option<Vec<String>>,
    pub warnings: Option<Vec<String>>,
}

/// Drivers by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct InfoPlugins {
    pub volume: Vec<String>,
    pub network: Vec<String>,
    pub authorization: Option<Vec<String>>,
    pub log: Vec<String>,
}

/// A runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct InfoRuntime {
    pub path: String,
    #[serde(rename = "runtimeArgs", skip_serializing_if = "Vec::is_empty")]
    pub runtime_args: Vec<String>,
}

/// The state of swarm mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct InfoSwarm {
    #[serde(rename = "NodeID")]
    pub node_id: String,
    pub node_addr: String,
    pub local_node_state: String,
    pub control_available: bool,
    pub error: String,
    pub remote_managers: Option<Vec<serde_json::Value>>,
}

/// Where a program comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct InfoCommit {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Expected")]
    pub expected: String,
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
    pub build_cache: Vec<BuildCacheRecord>,
    /// Not Docker's: what all of it takes on the disk. When everything was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskTotals>,
    /// Not Docker's: snapshots of containers and of volumes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<CowObject>,
}

/// Something that builds keep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[expect(missing_docs, reason = "fields are Docker's")]
pub struct BuildCacheRecord {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<String>>,
    #[serde(rename = "Type")]
    pub kind: String,
    pub description: String,
    pub in_use: bool,
    pub shared: bool,
    pub size: i64,
    pub created_at: Option<crate::Timestamp>,
    pub last_used_at: Option<crate::Timestamp>,
    pub usage_count: i64,
}

/// What a data root takes on the disk, in allocated bytes. Each byte is in one of the parts, in the first
/// that has it, and the parts add up to the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DiskTotals {
    /// Layers of images.
    pub images_bytes: u64,
    /// Further layers: snapshots of containers.
    pub snapshots_bytes: u64,
    /// What containers have written, prepared ones included.
    pub containers_bytes: u64,
    /// What volumes hold.
    pub volumes_bytes: u64,
    /// Snapshots of volumes.
    pub volume_snapshots_bytes: u64,
    /// Logs and scratch mounts of containers.
    pub logs_bytes: u64,
    /// What is being made or removed at the moment.
    pub passing_bytes: u64,
    /// The store's own: metadata, and what all containers have at the bottom.
    pub store_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
    /// Size of the file system that it is on.
    pub file_system_bytes: u64,
    /// Of that, what is in use, by whomever.
    pub file_system_used_bytes: u64,
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
    /// One entry per snapshot of a container.
    pub snapshots: Vec<super::snapshot::Snapshot>,
    /// One entry per layer.
    pub layers: Vec<CowObject>,
    /// One entry per volume.
    pub volumes: Vec<CowObject>,
    /// One entry per snapshot of a volume.
    pub volume_snapshots: Vec<CowObject>,
    /// Bytes of all layers, each counted once; what snapshots hold is among them.
    pub layers_bytes: u64,
    /// Bytes of all writable layers that are in no layer.
    pub containers_bytes: u64,
    /// All bytes, each counted once.
    pub disk: DiskTotals,
}

/// What a layer, a volume or a snapshot shares and owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CowObject {
    /// `layer`, `volume`, `snapshot` or `volume snapshot`.
    pub kind: String,
    /// A layer's chain id, a snapshot's id, a volume's name.
    pub id: String,
    /// As users write it: the short id of a layer, `container@snapshot`, `volume@snapshot`.
    pub name: String,
    /// Bytes that something else has too.
    pub shared_bytes: u64,
    /// Bytes that nothing else has. A layer is its own while one image, with its containers, has it.
    pub own_bytes: u64,
    /// Who else has any of the bytes, by name.
    pub shared_with: Vec<String>,
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
    /// Bytes that it reads and others have too: layers, and extents of files that it changed; 0 for the
    /// host view, whose size is not counted.
    pub shared_bytes: u64,
    /// Everything that has any of these, by name.
    pub shared_with: Vec<String>,
    /// Bytes that nothing else has.
    pub own_bytes: u64,
    /// Files of the image that it changed, and which were therefore copied.
    pub copied_up: Vec<CowFile>,
    /// Files that it made.
    pub created: u64,
    /// Files of the image that it deleted.
    pub deleted: u64,
    /// Its lowest layer is the live root file system of this machine.
    pub on_host: bool,
    /// Of its processes, while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<CowMemory>,
}

/// Memory of a container's processes that is there at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CowMemory {
    /// All of it.
    pub resident_bytes: u64,
    /// What no other process has.
    pub own_bytes: u64,
    /// What others have too: clones, the container that it was forked from, its own processes among each other,
    /// everybody who has mapped the same files.
    pub shared_bytes: u64,
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
    /// Bytes that others than its containers and their snapshots have too.
    pub shared_bytes: u64,
    /// Bytes that are its alone.
    pub own_bytes: u64,
    /// Containers that stand on it, by name.
    pub containers: Vec<String>,
    /// Everything that has any of its bytes, by name; its containers among them.
    pub shared_with: Vec<String>,
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
