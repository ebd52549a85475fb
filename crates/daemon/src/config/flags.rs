//! Command line, as dockerd has it, plus ours.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

/// seacowd, the daemon of the seacow container engine.
#[derive(Debug, Default, Parser)]
#[command(name = "seacowd", version, disable_version_flag = true, about, long_about = None)]
pub(crate) struct Flags {
    /// Where to listen: unix:///path, tcp://address:port or fd:// (systemd); may be repeated
    #[arg(short = 'H', long = "host", value_name = "address")]
    pub(crate) hosts: Vec<String>,

    /// Directory of images, containers' files, volumes and logs
    #[arg(short = 'g', long, value_name = "dir")]
    pub(crate) data_root: Option<PathBuf>,

    /// Directory of sockets and of what does not outlive a boot
    #[arg(long, value_name = "dir")]
    pub(crate) exec_root: Option<PathBuf>,

    /// File that holds the daemon's process id
    #[arg(short = 'p', long, value_name = "file")]
    pub(crate) pidfile: Option<PathBuf>,

    /// Configuration file
    #[arg(long, value_name = "file")]
    pub(crate) config_file: Option<PathBuf>,

    /// Log everything
    #[arg(short = 'D', long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) debug: Option<bool>,

    /// Least important messages that are logged: debug, info, warn, error or fatal
    #[arg(short = 'l', long, value_name = "level")]
    pub(crate) log_level: Option<String>,

    /// Group that may use the Unix socket
    #[arg(short = 'G', long, value_name = "group")]
    pub(crate) group: Option<String>,

    /// Bridge that containers are connected to
    #[arg(short = 'b', long, value_name = "name")]
    pub(crate) bridge: Option<String>,

    /// Address and prefix length of the bridge, such as 10.77.0.1/16
    #[arg(long, value_name = "address")]
    pub(crate) bip: Option<String>,

    /// Name server for containers; may be repeated
    #[arg(long, value_name = "address")]
    pub(crate) dns: Vec<String>,

    /// Default log driver of containers; json-file is the only one
    #[arg(long, value_name = "name")]
    pub(crate) log_driver: Option<String>,

    /// Default log options of containers: max-size=…, max-file=…; may be repeated
    #[arg(long, value_name = "key=value")]
    pub(crate) log_opt: Vec<String>,

    /// Storage driver: overlay (Docker's overlay2), reflink, btrfs, zfs (untested) or copy; if
    /// not given, the one that the data root was used with, else reflink or overlay, whichever its file system
    /// allows
    #[arg(short = 's', long, value_name = "name")]
    pub(crate) storage_driver: Option<String>,

    /// Make a store of its own (an xfs in a file, as seacow storage init does) where the data root's file
    /// system cannot share extents; of that size, such as 50g, or of the disk's
    #[arg(long, value_name = "size", num_args = 0..=1, require_equals = true, default_missing_value = "disk")]
    pub(crate) storage_init: Option<String>,

    /// What images may take of the disk, such as 50g: beyond it, those that nobody uses are removed, the one
    /// that was used longest ago first
    #[arg(long, value_name = "size")]
    pub(crate) storage_budget: Option<String>,

    /// Containers live on while the daemon does not run; always so here
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) live_restore: Option<bool>,

    /// native.cgroupdriver=cgroupfs or systemd; systemd is the default where it manages cgroup version 2
    #[arg(long, value_name = "key=value")]
    pub(crate) exec_opt: Vec<String>,

    /// Cgroup below which containers have theirs: a path, or a slice (a-b.slice) with systemd
    #[arg(long, value_name = "path")]
    pub(crate) cgroup_parent: Option<String>,

    /// One more OCI runtime: name=path; may be repeated
    #[arg(long, value_name = "name=path")]
    pub(crate) add_runtime: Vec<String>,

    /// OCI runtime of containers that ask for none; seacow's own if not given
    #[arg(long, value_name = "name")]
    pub(crate) default_runtime: Option<String>,

    /// Run an init in containers that passes signals on and reaps orphans
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) init: Option<bool>,

    /// That init's program; seacow-init beside seacow-shim if not given
    #[arg(long, value_name = "file")]
    pub(crate) init_path: Option<PathBuf>,

    /// Root of containers is an ordinary user of the host, of the ids that /etc/subuid and /etc/subgid
    /// grant: default (made if missing), user, uid, user:group or uid:gid
    #[arg(long, value_name = "user[:group]")]
    pub(crate) userns_remap: Option<String>,

    /// Label containers for SELinux; without effect where the host does not have it
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) selinux_enabled: Option<bool>,

    /// The seacow-shim program; beside seacowd if not given
    #[arg(long, value_name = "file")]
    pub(crate) shim: Option<PathBuf>,

    /// Containers that are kept prepared for the next run; 0 prepares none
    #[arg(long, value_name = "number")]
    pub(crate) pool_size: Option<usize>,

    /// Name of the nftables table
    #[arg(long, value_name = "name")]
    pub(crate) nft_table: Option<String>,

    /// Address of this host where ports are published that name none; 0.0.0.0, all of them, if not given,
    /// 127.0.0.1 for this host only
    #[arg(long, value_name = "address")]
    pub(crate) ip: Option<String>,

    /// Registry that may be without TLS, or with a certificate that nobody vouches for: host[:port] or a
    /// network such as 10.0.0.0/8; may be repeated. Those on this machine are of them
    #[arg(long, value_name = "host")]
    pub(crate) insecure_registry: Vec<String>,

    /// URL that is asked before Docker Hub; may be repeated. For another registry: REGISTRY=URL
    #[arg(long, value_name = "url")]
    pub(crate) registry_mirror: Vec<String>,

    /// Run a registry of one's own, which listens there: address:port, or :port for all addresses
    #[arg(long, value_name = "address")]
    pub(crate) registry_listen: Option<String>,

    /// Directory of the registry's files; registry in the data root if not given
    #[arg(long, value_name = "dir")]
    pub(crate) registry_root: Option<PathBuf>,

    /// The registry takes nothing and removes nothing
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) registry_read_only: Option<bool>,

    /// Names and passwords for the registry, as htpasswd -B makes them
    #[arg(long, value_name = "file")]
    pub(crate) registry_htpasswd: Option<PathBuf>,

    /// The registry's certificate, in PEM; with --registry-tls-key
    #[arg(long, value_name = "file")]
    pub(crate) registry_tls_cert: Option<PathBuf>,

    /// Its key, in PEM
    #[arg(long, value_name = "file")]
    pub(crate) registry_tls_key: Option<PathBuf>,

    /// Most that the registry takes of one blob, such as 10g
    #[arg(long, value_name = "size")]
    pub(crate) registry_max_blob: Option<String>,

    /// TLS is not built yet
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(crate) tls: Option<bool>,

    /// TLS is not built yet
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    pub(crate) tlsverify: Option<bool>,

    /// TLS is not built yet
    #[arg(long, hide = true)]
    pub(crate) tlscacert: Option<PathBuf>,

    /// TLS is not built yet
    #[arg(long, hide = true)]
    pub(crate) tlscert: Option<PathBuf>,

    /// TLS is not built yet
    #[arg(long, hide = true)]
    pub(crate) tlskey: Option<PathBuf>,

    /// Check the configuration and exit
    #[arg(long)]
    pub(crate) validate: bool,

    /// Print the version and exit
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,

    /// What to do instead of serving
    #[command(subcommand)]
    pub(crate) action: Option<Action>,
}

/// Work on a data root that no daemon uses.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// The store in a file, for a data root whose file system cannot share extents
    #[command(subcommand)]
    Storage(Storage),
}

/// Work on a store file.
#[derive(Debug, Subcommand)]
pub(crate) enum Storage {
    /// Make it, and move into it what the data root has
    Init {
        /// Its size at first, such as 50g; it takes what is in it, and grows. The disk's if not given
        #[arg(long, value_name = "size")]
        size: Option<String>,
    },
    /// Tell what it is and takes
    Status,
}
