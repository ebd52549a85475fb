//! What is known about one container, as it is kept on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;

use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::docker::host_config::HostConfig;
use seacow_spec::docker::inspect::MountPoint;
use seacow_spec::lifecycle::State;
use seacow_spec::selinux::Labels;
use seacow_spec::time::Timestamp;
use seacow_spec::{ContainerId, Digest};
use serde::{Deserialize, Serialize};

use crate::network::{Endpoint, Mode};
use crate::volume::local::FileSystem;

/// Version of this shape. A record with a higher one is left alone.
pub const VERSION: u32 = 1;

/// One container. Config and host config are merged and normalised: what `inspect` shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`] at the time of writing.
    pub version: u32,
    /// Its id.
    pub id: ContainerId,
    /// Its name, without a leading slash.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Id of its image.
    pub image_id: Digest,
    /// Merged with the image's.
    pub config: ContainerConfig,
    /// Normalised.
    pub host_config: HostConfig,
    /// Everything mounted besides the defaults, in order.
    pub mounts: Vec<MountRecord>,
    /// How it is connected.
    pub network: Mode,
    /// Asked-for hardware address.
    #[serde(default)]
    pub mac_address: Option<[u8; 6]>,
    /// Its address, while it has one.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
    /// Where it is in its life.
    pub state: State,
    /// When the last run ended.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// Why the last start failed.
    #[serde(default)]
    pub error: String,
    /// Its labels of SELinux, where it was made with some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// How often a restart policy restarted it.
    #[serde(default)]
    pub restart_count: i64,
    /// Variables that are never written anywhere: secrets of a build's step.
    #[serde(skip)]
    pub secret_env: Vec<String>,
}

/// One mount, resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// As `inspect` shows it.
    pub point: MountPoint,
    /// Where the bytes are on the host: differs from what is shown for subpaths.
    #[serde(default)]
    pub source: PathBuf,
    /// Options for the kernel beyond `bind` and `ro`: propagation, tmpfs's size and mode.
    #[serde(default)]
    pub options: Vec<String>,
    /// Make the missing source directory, as `-v` does.
    #[serde(default)]
    pub create_source: bool,
    /// Fill the empty volume with what the image has there.
    #[serde(default)]
    pub copy: bool,
    /// The volume was made for this container and goes with it.
    #[serde(default)]
    pub anonymous: bool,
    /// Do not bind what is mounted below the source.
    #[serde(default)]
    pub non_recursive: bool,
    /// Only this path in the source is bound.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// Labels of the volume, if it is made for this.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Driver options of the volume, if it is made for this.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_options: BTreeMap<String, String>,
    /// The volume is this file system, which the container mounts itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<FileSystem>,
    /// The source is a directory of the host, whatever the kind: its ids are the host's.
    #[serde(default)]
    pub hosts_ids: bool,
    /// The image whose files these are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// Directories that are laid over each other, topmost first, instead of the source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lowers: Vec<PathBuf>,
    /// What is written goes into a directory of the container's own, and the source stays as it is.
    #[serde(default)]
    pub scratch: bool,
}

impl Record {
    /// Whether it is removed at its end; such a record is never synced to disk.
    pub fn auto_remove(&self) -> bool {
        self.host_config.auto_remove
    }

    /// Program and arguments: entrypoint, then command.
    pub fn command(&self) -> Vec<String> {
        let parts = [self.config.entrypoint.as_ref(), self.config.cmd.as_ref()];
        parts.into_iter().flatten().flatten().cloned().collect()
    }

    /// The image's name as the client wrote it.
    pub fn image(&self) -> &str {
        &self.config.image
    }

    /// When the present or last run began.
    pub fn started_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Running { since, .. } | State::Paused { since, .. } | State::Exited { since, .. } => {
                Some(*since)
            }
            State::Created { .. } | State::Starting | State::Removing => None,
        }
    }

    /// The last exit status, 0 without one.
    pub fn exit_code(&self) -> i32 {
        self.state.exit().map_or(0, |exit| exit.code)
    }
}
