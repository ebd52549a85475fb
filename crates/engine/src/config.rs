//! What the engine is told when it starts.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use seacow_store::DriverKind as StorageDriver;

use crate::lsm::selinux::Selinux;
use crate::remap::Remap;
use crate::runtime::Runtimes;
use crate::system::host;

/// Default directory of images, snapshots, volumes and logs.
pub const DATA_ROOT: &str = "/var/lib/seacow";
/// Default directory of what lives as long as the machine is up; a tmpfs.
pub const EXEC_ROOT: &str = "/run/seacow";
/// Where certificates of single registries are: ours, and Docker's.
pub const CERTIFICATES: [&str; 2] = ["/etc/seacow/certs.d", "/etc/docker/certs.d"];
/// Default bridge.
pub const BRIDGE: &str = "seacow0";
/// Seconds between the stop signal and SIGKILL, as Docker's.
pub const STOP_TIMEOUT: i64 = 10;
/// Prepared containers on the default bridge. Four starts in a row are as much as a person or a
/// test suite asks for before the pool is filled again; each costs about 110 kB.
pub const POOL_BRIDGE: usize = 4;
/// Prepared containers without network.
pub const POOL_NONE: usize = 1;

/// The engine's settings. Several engines run side by side when their roots, bridge, table and
/// cgroup differ.
#[derive(Clone, Debug)]
pub struct Config {
    /// Images, snapshots, volumes, logs, metadata: outlives the machine's boot.
    pub data_root: PathBuf,
    /// Sockets, prepared containers, records of `--rm` containers: gone after a boot.
    pub exec_root: PathBuf,
    /// How containers' files are made; the best that the data root allows if absent.
    pub storage_driver: Option<StorageDriver>,
    /// Makes a store file where the data root's file system shares no extents, and moves into it what is
    /// there.
    pub store_file: Option<StoreFileSize>,
    /// Bytes that images may take; unused ones are removed beyond.
    pub storage_budget: Option<u64>,
    /// The `seacow-shim` program.
    pub shim: PathBuf,
    /// Name of the default bridge.
    pub bridge: String,
    /// Gateway address and prefix of the default bridge; chosen free of the host's routes if absent.
    pub subnet: Option<ipnet::Ipv4Net>,
    /// Name of the nftables table.
    pub nft_table: String,
    /// Address of the host where ports are published that name none; all of them if absent.
    pub publish_at: Option<Ipv4Addr>,
    /// Who makes the containers' cgroups.
    pub cgroup_driver: CgroupDriver,
    /// Cgroup below which every container gets its own: `/seacow`, or `a-b.slice` with systemd.
    pub cgroup_parent: String,
    /// Log rotation where a container does not say otherwise.
    pub log: LogDefaults,
    /// How many containers are kept prepared.
    pub pool: PoolSizes,
    /// Name servers for containers that bring none; the host's if empty.
    pub dns: Vec<Ipv4Addr>,
    /// Whether containers get a process 1 of their own where they do not say otherwise (`--init`).
    pub init: bool,
    /// That process's program, `seacow-init`, or any that takes `-- PROGRAM ARGUMENT…`.
    pub init_path: PathBuf,
    /// OCI runtimes besides our own, and which is the default.
    pub runtimes: Runtimes,
    /// Whose ids containers have that do not ask for the host's (`--userns-remap`); the host's if absent.
    pub remap: Option<Remap>,
    /// Who labels containers for SELinux; they have no labels if absent.
    pub selinux: Option<Arc<Selinux>>,
    /// Registries: mirrors, those without TLS, certificates.
    pub registries: seacow_registry::Settings,
    /// The registry of one's own, if the daemon's options ask for it.
    pub registry: Option<crate::registry::RegistryOptions>,
    /// Told in `info`.
    pub debug: bool,
    /// Open files that shims, and with them containers, may have: soft and hard limit. The engine's own
    /// if absent; a daemon that raised its limit gives what it had before.
    pub open_files: Option<(u64, u64)>,
}

/// How large a new store file is. It takes what is in it, and grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreFileSize {
    /// As the disk below.
    OfDisk,
    /// Bytes.
    Bytes(u64),
}

/// Who makes the containers' cgroups, by Docker's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The runtime, as directories.
    Cgroupfs,
    /// systemd, as scopes: where it manages the cgroups of the host, there is no second writer then.
    Systemd,
}

impl CgroupDriver {
    /// As `info` and the option `native.cgroupdriver` have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }

    /// The driver of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Cgroupfs, Self::Systemd].into_iter().find(|driver| driver.name() == name)
    }

    /// Docker's choice: systemd where it runs and cgroups are those of version 2.
    pub fn of_this_host() -> Self {
        let v2 = matches!(host::cgroups(), host::Cgroups::V2 { .. });
        if v2 && Path::new("/run/systemd/system").is_dir() { Self::Systemd } else { Self::Cgroupfs }
    }

    /// Where containers are that do not say.
    pub const fn default_parent(self) -> &'static str {
        match self {
            Self::Cgroupfs => "/seacow",
            Self::Systemd => "system.slice",
        }
    }

    /// Whether it can put containers there.
    pub fn takes(self, parent: &str) -> bool {
        match self {
            Self::Cgroupfs => !parent.contains(':'),
            Self::Systemd => {
                let stem = parent.strip_suffix(".slice").unwrap_or_default();
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'@');
                stem.split('-').all(|part| !part.is_empty() && part.bytes().all(plain))
            }
        }
    }
}

/// Log rotation where a container does not say otherwise. Bounded by default: an unbounded log is
/// the most reported way to fill a disk with Docker.
#[derive(Clone, Copy, Debug)]
pub struct LogDefaults {
    /// Bytes per file.
    pub max_size: u64,
    /// Files per container.
    pub max_files: u32,
}

impl Default for LogDefaults {
    fn default() -> Self {
        Self { max_size: 10 << 20, max_files: 3 }
    }
}

/// How many containers are kept prepared, per kind of network.
#[derive(Clone, Copy, Debug)]
pub struct PoolSizes {
    /// On the default bridge.
    pub bridge: usize,
    /// Without network.
    pub none: usize,
}

impl Default for PoolSizes {
    fn default() -> Self {
        Self { bridge: POOL_BRIDGE, none: POOL_NONE }
    }
}

impl PoolSizes {
    /// No pool: every start is cold.
    pub const OFF: Self = Self { bridge: 0, none: 0 };
}

impl Config {
    /// The defaults for these roots and this shim.
    pub fn new(
        data_root: impl Into<PathBuf>,
        exec_root: impl Into<PathBuf>,
        shim: impl Into<PathBuf>,
    ) -> Self {
        let shim: PathBuf = shim.into();
        Self {
            data_root: data_root.into(),
            exec_root: exec_root.into(),
            storage_driver: None,
            store_file: None,
            storage_budget: None,
            init: false,
            init_path: shim.with_file_name("seacow-init"),
            shim,
            bridge: BRIDGE.into(),
            subnet: None,
            nft_table: "seacow".into(),
            publish_at: None,
            cgroup_driver: CgroupDriver::Cgroupfs,
            cgroup_parent: CgroupDriver::Cgroupfs.default_parent().into(),
            log: LogDefaults::default(),
            pool: PoolSizes::default(),
            dns: Vec::new(),
            runtimes: Runtimes::default(),
            remap: None,
            selinux: None,
            registries: seacow_registry::Settings {
                certificates: CERTIFICATES.map(PathBuf::from).to_vec(),
                ..seacow_registry::Settings::default()
            },
            registry: None,
            debug: false,
            open_files: None,
        }
    }

    /// Where all containers' exec directories are.
    pub fn exec_dirs(&self) -> PathBuf {
        self.exec_root.join("c")
    }

    /// Where the records of `--rm` containers are.
    pub fn records_dir(&self) -> PathBuf {
        self.exec_root.join("records")
    }

    /// The exec directory of one container: socket, exit status, files bound into it.
    pub fn exec_dir(&self, id: &seacow_spec::ContainerId) -> PathBuf {
        self.exec_dirs().join(id.as_str())
    }

    /// Where all containers' log directories are.
    pub fn container_dirs(&self) -> PathBuf {
        self.data_root.join("containers")
    }

    /// The log directory of one container.
    pub fn container_dir(&self, id: &seacow_spec::ContainerId) -> PathBuf {
        self.container_dirs().join(id.as_str())
    }

    /// The newest log file of one container.
    pub fn log_path(&self, id: &seacow_spec::ContainerId) -> PathBuf {
        self.container_dir(id).join(format!("{id}-json.log"))
    }

    /// The lock that keeps a second engine out of `root`.
    pub fn lock_path(root: &Path) -> PathBuf {
        root.join("engine.lock")
    }
}
