//! Flags and file as one, checked.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use seacow_engine::Config;
use seacow_engine::config::{
    CgroupDriver, DATA_ROOT, EXEC_ROOT, LogDefaults, PoolSizes, StorageDriver, StoreFileSize,
};
use seacow_engine::registry::RegistryOptions;
use seacow_spec::reference::DEFAULT_DOMAIN;

use super::file::{File, FileError};
use super::flags::Flags;
use super::runtimes;
use crate::server::listen::{Address, ListenError};

/// Where the configuration file is if no flag says so.
const CONFIG_FILE: &str = "/etc/seacow/daemon.json";
/// Most containers that may be kept prepared: each costs about 110 kB and an address of the bridge.
const MAX_POOL: usize = 256;

/// Everything the daemon needs to start.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The engine's part.
    pub(crate) engine: Config,
    /// Where to listen.
    pub(crate) hosts: Vec<Address>,
    /// Group of the Unix sockets.
    pub(crate) group: Option<String>,
    /// File with the process id.
    pub(crate) pidfile: Option<PathBuf>,
    /// Whose ids containers have. Looked up when the daemon starts, which may have to make the user.
    pub(crate) userns_remap: Option<String>,
    /// Containers shall have labels, where the host has SELinux.
    pub(crate) selinux_enabled: bool,
    /// Least important messages that are logged.
    pub(crate) log_level: tracing::Level,
}

/// Why the daemon cannot start as it was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "unable to configure the daemon with file {path}: the following directives are specified both as a \
         flag and in the configuration file: {list}"
    )]
    Conflict { path: PathBuf, list: String },
    #[error(transparent)]
    Host(#[from] ListenError),
    #[error("TLS is not built yet: remove {0}, and reach a remote daemon through ssh")]
    Tls(&'static str),
    #[error("invalid {what}: {value:?}: {why}")]
    Value { what: &'static str, value: String, why: String },
    #[error("find seacowd's own path, to look for seacow-shim beside it: {0}")]
    NoExecutable(std::io::Error),
}

pub(super) fn invalid(what: &'static str, value: impl ToString, why: impl ToString) -> SettingsError {
    SettingsError::Value { what, value: value.to_string(), why: why.to_string() }
}

impl Settings {
    /// Reads the configuration file that `flags` name and joins both.
    ///
    /// # Errors
    /// A setting is given twice, cannot be read, or is not honoured.
    pub(crate) fn new(flags: Flags) -> Result<Self, SettingsError> {
        let path = flags.config_file.clone().unwrap_or_else(|| CONFIG_FILE.into());
        let file = File::read(&path, flags.config_file.is_some())?;
        Self::join(flags, file, &path)
    }

    fn join(flags: Flags, file: File, path: &Path) -> Result<Self, SettingsError> {
        let (wanted, conflicts) = merged(from_flags(flags)?, file);
        if !conflicts.is_empty() {
            return Err(SettingsError::Conflict { path: path.into(), list: conflicts.join(", ") });
        }
        Self::of(wanted)
    }

    fn of(wanted: File) -> Result<Self, SettingsError> {
        refuse_tls(&wanted)?;
        check_drivers(&wanted)?;
        let debug = wanted.debug.unwrap_or(false);
        let log_level = if debug { tracing::Level::DEBUG } else { level(wanted.log_level.as_deref())? };
        let engine = engine(&wanted)?;
        let hosts = match wanted.hosts.as_deref() {
            None | Some([]) => vec![Address::Unix(engine.exec_root.join("seacow.sock"))],
            Some(hosts) => hosts.iter().map(|host| Address::parse(host)).collect::<Result<_, _>>()?,
        };
        // The empty string is Docker's way of saying no.
        let userns_remap = wanted.userns_remap.filter(|user| !user.is_empty());
        Ok(Self {
            engine,
            hosts,
            group: wanted.group,
            pidfile: wanted.pidfile,
            log_level,
            userns_remap,
            selinux_enabled: wanted.selinux_enabled == Some(true),
        })
    }
}

/// The flags in the shape of the file, so that both can be laid over each other.
fn from_flags(flags: Flags) -> Result<File, SettingsError> {
    let many = |values: Vec<String>| (!values.is_empty()).then_some(values);
    let log_opts = log_options(flags.log_opt)?;
    Ok(File {
        hosts: many(flags.hosts),
        data_root: flags.data_root,
        exec_root: flags.exec_root,
        pidfile: flags.pidfile,
        debug: flags.debug,
        log_level: flags.log_level,
        group: flags.group,
        bridge: flags.bridge,
        bip: flags.bip,
        dns: many(flags.dns),
        log_driver: flags.log_driver,
        log_opts: (!log_opts.is_empty()).then_some(log_opts),
        storage_driver: flags.storage_driver,
        storage_init: flags.storage_init,
        storage_budget: flags.storage_budget,
        live_restore: flags.live_restore,
        exec_opts: many(flags.exec_opt),
        cgroup_parent: flags.cgroup_parent,
        runtimes: runtimes::from_flags(flags.add_runtime)?,
        default_runtime: flags.default_runtime,
        init: flags.init,
        init_path: flags.init_path,
        userns_remap: flags.userns_remap,
        selinux_enabled: flags.selinux_enabled,
        shim: flags.shim,
        pool_size: flags.pool_size,
        nft_table: flags.nft_table,
        ip: flags.ip,
        insecure_registries: many(flags.insecure_registry),
        registry_mirrors: many(flags.registry_mirror),
        registry_listen: flags.registry_listen,
        registry_root: flags.registry_root,
        registry_read_only: flags.registry_read_only,
        registry_htpasswd: flags.registry_htpasswd,
        registry_tls_cert: flags.registry_tls_cert,
        registry_tls_key: flags.registry_tls_key,
        registry_max_blob: flags.registry_max_blob,
        tls: flags.tls,
        tlsverify: flags.tlsverify,
        tlscacert: flags.tlscacert,
        tlscert: flags.tlscert,
        tlskey: flags.tlskey,
    })
}

/// One setting out of two places; one that is in both is a conflict.
fn one<T: Debug>(conflicts: &mut Vec<String>, name: &str, flag: Option<T>, file: Option<T>) -> Option<T> {
    match (flag, file) {
        (Some(flag), Some(file)) => {
            conflicts.push(format!("{name}: (from flag: {flag:?}, from file: {file:?})"));
            None
        }
        (flag, file) => flag.or(file),
    }
}

/// Both as one, and what is in both.
fn merged(flags: File, file: File) -> (File, Vec<String>) {
    let mut conflicts = Vec::new();
    macro_rules! lay_over {
        ($($field:ident $name:literal),* $(,)?) => {
            File { $($field: one(&mut conflicts, $name, flags.$field, file.$field)),* }
        };
    }
    let merged = lay_over! {
        hosts "hosts", data_root "data-root", exec_root "exec-root", pidfile "pidfile", debug "debug",
        log_level "log-level", group "group", bridge "bridge", bip "bip", dns "dns",
        log_driver "log-driver", log_opts "log-opts", storage_driver "storage-driver",
        storage_init "storage-init", storage_budget "storage-budget",
        live_restore "live-restore", exec_opts "exec-opts", cgroup_parent "cgroup-parent", runtimes "runtimes", default_runtime "default-runtime",
        init "init", init_path "init-path", userns_remap "userns-remap", selinux_enabled "selinux-enabled",
        shim "shim", pool_size "pool-size",
        nft_table "nft-table", ip "ip", insecure_registries "insecure-registries", registry_mirrors "registry-mirrors",
        registry_listen "registry-listen", registry_root "registry-root", registry_read_only "registry-read-only",
        registry_htpasswd "registry-htpasswd", registry_tls_cert "registry-tls-cert",
        registry_tls_key "registry-tls-key", registry_max_blob "registry-max-blob",
        tls "tls", tlsverify "tlsverify", tlscacert "tlscacert",
        tlscert "tlscert", tlskey "tlskey",
    };
    (merged, conflicts)
}

fn refuse_tls(wanted: &File) -> Result<(), SettingsError> {
    let asked = [
        ("tls", wanted.tls.unwrap_or(false)),
        ("tlsverify", wanted.tlsverify.unwrap_or(false)),
        ("tlscacert", wanted.tlscacert.is_some()),
        ("tlscert", wanted.tlscert.is_some()),
        ("tlskey", wanted.tlskey.is_some()),
    ];
    match asked.into_iter().find(|(_, asked)| *asked) {
        Some((name, _)) => Err(SettingsError::Tls(name)),
        None => Ok(()),
    }
}

/// The engine's part.
fn engine(wanted: &File) -> Result<Config, SettingsError> {
    let root = |what, given: &Option<PathBuf>, default: &str| {
        absolute(what, given.clone().unwrap_or_else(|| default.into()))
    };
    let data_root = root("data-root", &wanted.data_root, DATA_ROOT)?;
    let exec_root = root("exec-root", &wanted.exec_root, EXEC_ROOT)?;
    let shim = wanted.shim.clone().map_or_else(beside_this_program, Ok)?;
    let mut engine = Config::new(data_root, exec_root, shim);
    if let Some(name) = &wanted.storage_driver {
        let driver = name.parse::<StorageDriver>().map_err(|error| invalid("storage-driver", name, error))?;
        engine.storage_driver = Some(driver);
    }
    if let Some(size) = &wanted.storage_init {
        engine.store_file = Some(store_file_size("storage-init", size)?);
    }
    if let Some(size) = &wanted.storage_budget {
        let expected = || invalid("storage-budget", size, "expected such as 50g");
        engine.storage_budget = Some(bytes(size).filter(|bytes| *bytes > 0).ok_or_else(expected)?);
    }
    if let Some(bridge) = &wanted.bridge {
        engine.bridge = bridge_name(bridge)?;
    }
    if let Some(bip) = &wanted.bip {
        engine.subnet = Some(bip.parse().map_err(|error| invalid("bip", bip, error))?);
    }
    for address in wanted.dns.iter().flatten() {
        engine.dns.push(address.parse::<Ipv4Addr>().map_err(|error| invalid("dns", address, error))?);
    }
    if let Some(options) = &wanted.log_opts {
        engine.log = log_defaults(options)?;
    }
    engine.cgroup_driver = cgroup_driver(wanted.exec_opts.as_deref().unwrap_or_default())?;
    engine.cgroup_parent = cgroup_parent(engine.cgroup_driver, wanted.cgroup_parent.as_deref())?;
    engine.runtimes = runtimes::runtimes(wanted.runtimes.as_ref(), wanted.default_runtime.as_ref())?;
    engine.init = wanted.init.unwrap_or(false);
    if let Some(path) = &wanted.init_path {
        engine.init_path = absolute("init-path", path.clone())?;
    }
    if let Some(size) = wanted.pool_size {
        engine.pool = pool(size)?;
    }
    // Two daemons with bridges of their own must not share a table either.
    engine.nft_table = wanted.nft_table.clone().unwrap_or_else(|| table_of(&engine.bridge));
    if let Some(address) = &wanted.ip {
        let at = address.parse::<Ipv4Addr>().map_err(|error| invalid("ip", address, error))?;
        engine.publish_at = Some(at).filter(|at| !at.is_unspecified());
    }
    engine.registries.insecure = wanted.insecure_registries.clone().unwrap_or_default();
    for mirror in wanted.registry_mirrors.iter().flatten() {
        let (registry, url) = registry_mirror(mirror)?;
        engine.registries.mirrors.entry(registry).or_default().push(url);
    }
    engine.registry = own_registry(wanted)?;
    engine.debug = wanted.debug.unwrap_or(false);
    Ok(engine)
}

/// The registry of one's own; whoever says something of it also says where it listens.
fn own_registry(wanted: &File) -> Result<Option<RegistryOptions>, SettingsError> {
    let max_blob = match &wanted.registry_max_blob {
        None => None,
        Some(size) => {
            let expected = || invalid("registry-max-blob", size, "expected such as 10g");
            Some(bytes(size).ok_or_else(expected)?)
        }
    };
    let options = RegistryOptions {
        listen: wanted.registry_listen.clone(),
        root: wanted.registry_root.clone(),
        read_only: wanted.registry_read_only.unwrap_or(false),
        htpasswd: wanted.registry_htpasswd.clone(),
        tls_certificate: wanted.registry_tls_cert.clone(),
        tls_key: wanted.registry_tls_key.clone(),
        max_blob,
    };
    if options.listen.is_none() && options != RegistryOptions::default() {
        let why = "a registry that the daemon is to run needs an address: registry-listen";
        return Err(invalid("registry options", "", why));
    }
    Ok(options.listen.is_some().then_some(options))
}

/// `disk`, or bytes.
pub(crate) fn store_file_size(what: &'static str, text: &str) -> Result<StoreFileSize, SettingsError> {
    match text {
        "disk" => Ok(StoreFileSize::OfDisk),
        text => bytes(text)
            .map(StoreFileSize::Bytes)
            .ok_or_else(|| invalid(what, text, "expected such as 50g, or disk")),
    }
}

/// `URL` of Docker Hub, or `REGISTRY=URL`.
fn registry_mirror(text: &str) -> Result<(String, String), SettingsError> {
    let (registry, url) = match text.split_once('=') {
        // A query is no part of a mirror's address.
        Some((registry, url)) if !registry.contains(':') || !registry.contains('/') => (registry, url),
        _ => (DEFAULT_DOMAIN, text),
    };
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
    if host.is_empty() || host.starts_with('/') || host.contains(['?', '#', '@', ' ']) || registry.is_empty()
    {
        return Err(invalid(
            "registry-mirrors",
            text,
            "expected a URL such as https://mirror.example, or REGISTRY=URL",
        ));
    }
    Ok((registry.to_owned(), url.trim_end_matches('/').to_owned()))
}

/// Docker's one option of this kind for Linux.
fn cgroup_driver(options: &[String]) -> Result<CgroupDriver, SettingsError> {
    let mut driver = None;
    for option in options {
        match option.split_once('=') {
            Some(("native.cgroupdriver", name)) => {
                let known = CgroupDriver::named(name);
                let why = "expected cgroupfs or systemd";
                driver = Some(known.ok_or_else(|| invalid("exec-opt native.cgroupdriver", name, why))?);
            }
            _ => return Err(invalid("exec-opt", option, "only native.cgroupdriver=… is known")),
        }
    }
    Ok(driver.unwrap_or_else(CgroupDriver::of_this_host))
}

fn cgroup_parent(driver: CgroupDriver, wanted: Option<&str>) -> Result<String, SettingsError> {
    let Some(parent) = wanted else { return Ok(driver.default_parent().into()) };
    match driver {
        CgroupDriver::Systemd if !driver.takes(parent) => Err(invalid(
            "cgroup-parent",
            parent,
            "the systemd cgroup driver needs a slice, such as a-b.slice",
        )),
        CgroupDriver::Systemd => Ok(parent.to_owned()),
        CgroupDriver::Cgroupfs => {
            Ok(absolute("cgroup-parent", parent.into())?.to_string_lossy().into_owned())
        }
    }
}

fn table_of(bridge: &str) -> String {
    if bridge == seacow_engine::config::BRIDGE { "seacow".into() } else { format!("seacow-{bridge}") }
}

fn check_drivers(wanted: &File) -> Result<(), SettingsError> {
    if let Some(other) = wanted.log_driver.as_deref().filter(|name| *name != "json-file") {
        return Err(invalid("log-driver", other, "only json-file is built yet"));
    }
    if wanted.live_restore == Some(false) {
        return Err(invalid("live-restore", false, "containers always live on when the daemon stops"));
    }
    Ok(())
}

fn absolute(what: &'static str, path: PathBuf) -> Result<PathBuf, SettingsError> {
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(invalid(what, path.display(), "the path must be absolute"))
    }
}

fn beside_this_program() -> Result<PathBuf, SettingsError> {
    let program = std::env::current_exe().map_err(SettingsError::NoExecutable)?;
    Ok(program.with_file_name("seacow-shim"))
}

/// The kernel's rules for interface names.
fn bridge_name(name: &str) -> Result<String, SettingsError> {
    const MAX: usize = 15;
    let plain = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    if name == "none" {
        return Err(invalid("bridge", name, "a daemon without bridge is not built yet"));
    }
    if name.is_empty() || name.len() > MAX || name == "." || name == ".." || !name.bytes().all(plain) {
        return Err(invalid("bridge", name, format!("an interface name has 1 to {MAX} plain characters")));
    }
    Ok(name.to_owned())
}

fn pool(size: usize) -> Result<PoolSizes, SettingsError> {
    match size {
        0 => Ok(PoolSizes::OFF),
        1..=MAX_POOL => Ok(PoolSizes { bridge: size, ..PoolSizes::default() }),
        more => Err(invalid("pool-size", more, format!("at most {MAX_POOL}"))),
    }
}

fn log_options(flags: Vec<String>) -> Result<BTreeMap<String, String>, SettingsError> {
    flags
        .into_iter()
        .map(|option| match option.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(invalid("log-opt", option, "expected key=value")),
        })
        .collect()
}

fn log_defaults(options: &BTreeMap<String, String>) -> Result<LogDefaults, SettingsError> {
    let mut log = LogDefaults::default();
    for (key, value) in options {
        match key.as_str() {
            "max-size" => {
                log.max_size =
                    bytes(value).ok_or_else(|| invalid("log-opt max-size", value, "expected such as 10m"))?;
            }
            "max-file" => {
                log.max_files = value
                    .parse()
                    .ok()
                    .filter(|files| *files > 0)
                    .ok_or_else(|| invalid("log-opt max-file", value, "expected a number from 1"))?;
            }
            _ => return Err(invalid("log-opt", key, "only max-size and max-file are built yet")),
        }
    }
    Ok(log)
}

/// A size that is more than nothing.
fn bytes(text: &str) -> Option<u64> {
    seacow_spec::size::parse(text).filter(|bytes| *bytes > 0)
}

fn level(name: Option<&str>) -> Result<tracing::Level, SettingsError> {
    match name {
        None | Some("info") => Ok(tracing::Level::INFO),
        Some("debug") => Ok(tracing::Level::DEBUG),
        Some("trace") => Ok(tracing::Level::TRACE),
        Some("warn" | "warning") => Ok(tracing::Level::WARN),
        Some("error" | "fatal" | "panic") => Ok(tracing::Level::ERROR),
        Some(other) => Err(invalid("log-level", other, "expected debug, info, warn, error or fatal")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn settings(arguments: &[&str], file: File) -> Result<Settings, SettingsError> {
        let flags = Flags::try_parse_from(["seacowd"].iter().chain(arguments)).unwrap();
        Settings::join(flags, file, Path::new("/etc/seacow/daemon.json"))
    }

    #[test]
    fn defaults() {
        let settings = settings(&[], File::default()).unwrap();
        assert_eq!(settings.engine.data_root, Path::new("/var/lib/seacow"));
        assert_eq!(settings.hosts, [Address::Unix("/run/seacow/seacow.sock".into())]);
        assert_eq!(settings.engine.nft_table, "seacow");
        assert_eq!(settings.log_level, tracing::Level::INFO);
    }

    #[test]
    fn a_setting_in_both_places_is_refused() {
        let file = File { debug: Some(false), ..File::default() };
        let error = settings(&["-D"], file).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unable to configure the daemon with file /etc/seacow/daemon.json: the following directives are \
             specified both as a flag and in the configuration file: debug: (from flag: true, from file: false)"
        );
        let file = File { hosts: Some(vec!["unix:///a".into()]), ..File::default() };
        assert!(settings(&["-H", "unix:///b"], file).is_err());
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for arguments in [
            &["--tls"][..],
            &["--tlsverify"],
            &["--storage-driver=devicemapper"],
            &["--storage-init=much"],
            &["--storage-budget=much"],
            &["--storage-budget=0"],
            &["--log-driver=syslog"],
            &["--log-opt=tag=x"],
            &["--live-restore=false"],
            &["--data-root=relative"],
            &["--bip=nonsense"],
            &["--bridge=a-name-of-more-than-fifteen"],
            &["-H", "http://x"],
            &["--log-level=loud"],
            &["--pool-size=100000"],
            &["--exec-opt=native.cgroupdriver=none"],
            &["--exec-opt=isolation=hyperv"],
            &["--exec-opt=native.cgroupdriver=systemd", "--cgroup-parent=/path"],
            &["--exec-opt=native.cgroupdriver=systemd", "--cgroup-parent=a--b.slice"],
            &["--exec-opt=native.cgroupdriver=cgroupfs", "--cgroup-parent=a.slice"],
        ] {
            assert!(settings(arguments, File::default()).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn values() {
        let settings = settings(
            &[
                "--bip=10.77.0.1/16",
                "--log-opt=max-size=1m",
                "--log-opt=max-file=2",
                "-b",
                "seacow-x",
                "--debug=true",
            ],
            File::default(),
        )
        .unwrap();
        assert_eq!(settings.engine.log.max_size, 1 << 20);
        assert_eq!(settings.engine.log.max_files, 2);
        assert_eq!(settings.engine.nft_table, "seacow-seacow-x");
        assert_eq!(settings.log_level, tracing::Level::DEBUG);
        let slices =
            super::tests::settings(&["--exec-opt=native.cgroupdriver=systemd"], File::default()).unwrap();
        assert_eq!(slices.engine.cgroup_driver, CgroupDriver::Systemd);
        assert_eq!(slices.engine.cgroup_parent, "system.slice");
        assert_eq!(bytes("512k"), Some(512 << 10));
        assert_eq!(bytes("x"), None);
    }
}
