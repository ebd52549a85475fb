//! Flags and file as one, checked.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use seacow_engine::Config;
use seacow_engine::config::{DATA_ROOT, EXEC_ROOT, LogDefaults, PoolSizes};

use super::file::{File, FileError};
use super::flags::Flags;
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

fn invalid(what: &'static str, value: impl ToString, why: impl ToString) -> SettingsError {
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
        join(flags, file, &path)
    }
}

/// Collects the settings that both sources have.
#[derive(Default)]
struct Join {
    conflicts: Vec<String>,
}

impl Join {
    fn one<T: Debug>(&mut self, name: &str, flag: Option<T>, file: Option<T>) -> Option<T> {
        match (flag, file) {
            (Some(flag), Some(file)) => {
                self.conflicts.push(format!("{name}: (from flag: {flag:?}, from file: {file:?})"));
                None
            }
            (flag, file) => flag.or(file),
        }
    }

    fn many(&mut self, name: &str, flag: Vec<String>, file: Option<Vec<String>>) -> Vec<String> {
        self.one(name, (!flag.is_empty()).then_some(flag), file).unwrap_or_default()
    }
}

fn join(flags: Flags, file: File, path: &Path) -> Result<Settings, SettingsError> {
    let mut both = Join::default();
    let hosts = both.many("hosts", flags.hosts, file.hosts);
    let data_root = both.one("data-root", flags.data_root, file.data_root);
    let exec_root = both.one("exec-root", flags.exec_root, file.exec_root);
    let pidfile = both.one("pidfile", flags.pidfile, file.pidfile);
    let debug = both.one("debug", flags.debug, file.debug).unwrap_or(false);
    let log_level = both.one("log-level", flags.log_level, file.log_level);
    let group = both.one("group", flags.group, file.group);
    let bridge = both.one("bridge", flags.bridge, file.bridge);
    let bip = both.one("bip", flags.bip, file.bip);
    let dns = both.many("dns", flags.dns, file.dns);
    let log_driver = both.one("log-driver", flags.log_driver, file.log_driver);
    let log_opts = log_options(flags.log_opt)?;
    let log_opts = both.one("log-opts", (!log_opts.is_empty()).then_some(log_opts), file.log_opts);
    let storage_driver = both.one("storage-driver", flags.storage_driver, file.storage_driver);
    let live_restore = both.one("live-restore", flags.live_restore, file.live_restore);
    let cgroup_parent = both.one("cgroup-parent", flags.cgroup_parent, file.cgroup_parent);
    let shim = both.one("shim", flags.shim, file.shim);
    let pool_size = both.one("pool-size", flags.pool_size, file.pool_size);
    let nft_table = both.one("nft-table", flags.nft_table, file.nft_table);
    let tls = [
        ("tls", flags.tls.or(file.tls).unwrap_or(false)),
        ("tlsverify", flags.tlsverify.or(file.tlsverify).unwrap_or(false)),
        ("tlscacert", flags.tlscacert.or(file.tlscacert).is_some()),
        ("tlscert", flags.tlscert.or(file.tlscert).is_some()),
        ("tlskey", flags.tlskey.or(file.tlskey).is_some()),
    ];
    if !both.conflicts.is_empty() {
        return Err(SettingsError::Conflict { path: path.into(), list: both.conflicts.join(", ") });
    }
    if let Some((name, _)) = tls.into_iter().find(|(_, set)| *set) {
        return Err(SettingsError::Tls(name));
    }
    check_drivers(storage_driver.as_deref(), log_driver.as_deref(), live_restore)?;

    let data_root = absolute("data-root", data_root.unwrap_or_else(|| DATA_ROOT.into()))?;
    let exec_root = absolute("exec-root", exec_root.unwrap_or_else(|| EXEC_ROOT.into()))?;
    let shim = shim.map_or_else(beside_this_program, Ok)?;
    let hosts = if hosts.is_empty() {
        vec![Address::Unix(exec_root.join("seacow.sock"))]
    } else {
        hosts.iter().map(|host| Address::parse(host)).collect::<Result<_, _>>()?
    };
    let mut engine = Config::new(data_root, exec_root, shim);
    if let Some(bridge) = bridge {
        engine.bridge = bridge_name(bridge)?;
    }
    if let Some(bip) = bip {
        engine.subnet = Some(bip.parse().map_err(|error| invalid("bip", &bip, error))?);
    }
    for address in dns {
        engine.dns.push(address.parse::<Ipv4Addr>().map_err(|error| invalid("dns", &address, error))?);
    }
    if let Some(options) = log_opts {
        engine.log = log_defaults(&options)?;
    }
    if let Some(parent) = cgroup_parent {
        engine.cgroup_parent = absolute("cgroup-parent", parent.into())?.to_string_lossy().into_owned();
    }
    if let Some(size) = pool_size {
        engine.pool = pool(size)?;
    }
    // Two daemons with bridges of their own must not share a table either.
    engine.nft_table = nft_table.unwrap_or_else(|| table_of(&engine.bridge));
    engine.debug = debug;
    let log_level = if debug { tracing::Level::DEBUG } else { level(log_level.as_deref())? };
    Ok(Settings { engine, hosts, group, pidfile, log_level })
}

fn table_of(bridge: &str) -> String {
    if bridge == seacow_engine::config::BRIDGE { "seacow".into() } else { format!("seacow-{bridge}") }
}

fn check_drivers(storage: Option<&str>, log: Option<&str>, live: Option<bool>) -> Result<(), SettingsError> {
    if let Some(other) = storage.filter(|name| !matches!(*name, "overlay" | "overlay2")) {
        return Err(invalid("storage-driver", other, "only overlay is built yet"));
    }
    if let Some(other) = log.filter(|name| *name != "json-file") {
        return Err(invalid("log-driver", other, "only json-file is built yet"));
    }
    if live == Some(false) {
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
fn bridge_name(name: String) -> Result<String, SettingsError> {
    const MAX: usize = 15;
    let plain = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
    if name == "none" {
        return Err(invalid("bridge", name, "a daemon without bridge is not built yet"));
    }
    if name.is_empty() || name.len() > MAX || name == "." || name == ".." || !name.bytes().all(plain) {
        return Err(invalid("bridge", name, format!("an interface name has 1 to {MAX} plain characters")));
    }
    Ok(name)
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

/// `10m`, `1g`, `512k`, `100`: powers of 1024, as Docker reads them.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('b').unwrap_or(&lower);
    let (number, shift) = match lower.as_bytes().last()? {
        b'k' => (&lower[..lower.len() - 1], 10),
        b'm' => (&lower[..lower.len() - 1], 20),
        b'g' => (&lower[..lower.len() - 1], 30),
        _ => (lower, 0),
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
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
        join(flags, file, Path::new("/etc/seacow/daemon.json"))
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
            &["--log-driver=syslog"],
            &["--log-opt=tag=x"],
            &["--live-restore=false"],
            &["--data-root=relative"],
            &["--bip=nonsense"],
            &["--bridge=a-name-of-more-than-fifteen"],
            &["-H", "http://x"],
            &["--log-level=loud"],
            &["--pool-size=100000"],
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
        assert_eq!(bytes("512k"), Some(512 << 10));
        assert_eq!(bytes("x"), None);
    }
}
