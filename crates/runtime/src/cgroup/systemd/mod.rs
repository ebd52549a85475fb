//! The systemd driver: a container's cgroup is a transient scope that systemd knows.
//!
//! On a host whose cgroups systemd manages, another writer below its slices would fight with it. So
//! it makes the scope (Delegate: what is inside is ours), and hears of every limit that we write, or
//! it would undo them when it reloads. Only limits that systemd has properties for are told; the
//! files are written by us in any case, which is where errors come from.
//!
//! A scope begins with a process, so init cannot be born in it: systemd moves it there. That takes
//! one round trip and happens when a slot is prepared, not when a container starts.

mod bus;
mod message;
mod properties;
mod unit;

use std::path::{Path, PathBuf};

use seacow_spec::error::{Classified, ErrorClass};
use seacow_spec::oci::runtime::LinuxResources;

use self::bus::{Address, Bus};
use self::message::{Property, Value, Writer};
pub(super) use self::unit::Scope;
use super::Layout;

/// Why systemd could not be asked, or did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// No manager runs here.
    #[error("it was asked for, but systemd does not run on this host ({} is missing)", .0.display())]
    NotRunning(PathBuf),
    /// The user's session has no manager.
    #[error("no address of the user's systemd: neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS is set")]
    NoAddress,
    /// Nobody listens.
    #[error("connect to {}", .socket.display())]
    Connect {
        /// Where.
        socket: PathBuf,
        /// The answer.
        #[source]
        source: std::io::Error,
    },
    /// It does not want to talk to us.
    #[error("systemd refused the connection: {0}")]
    Refused(String),
    /// The conversation broke off, or took too long.
    #[error("{doing} systemd")]
    Io {
        /// Reading or writing.
        doing: &'static str,
        /// The answer.
        #[source]
        source: std::io::Error,
    },
    /// A message that is none.
    #[error("malformed D-Bus message: {0}")]
    Malformed(&'static str),
    /// It said no.
    #[error("{method}: {message} ({name})")]
    Answer {
        /// What was asked.
        method: String,
        /// Name of the D-Bus error.
        name: String,
        /// Its text.
        message: String,
    },
    /// The job did not end well.
    #[error("the job of {unit} ended with {result:?}")]
    Job {
        /// Of which unit.
        unit: String,
        /// `failed`, `timeout`, `canceled` …
        result: String,
    },
}

impl Classified for BusError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotRunning(_) | Self::NoAddress => ErrorClass::NotImplemented,
            Self::Connect { .. } | Self::Refused(_) | Self::Io { .. } => ErrorClass::Unavailable,
            Self::Malformed(_) | Self::Job { .. } => ErrorClass::Internal,
            Self::Answer { name, .. } if name.ends_with(".InvalidArgs") => ErrorClass::InvalidArgument,
            Self::Answer { .. } => ErrorClass::Internal,
        }
    }
}

impl BusError {
    fn is_no_such_unit(&self) -> bool {
        matches!(self, Self::Answer { name, .. } if name.ends_with(".NoSuchUnit"))
    }
}

const ACCOUNTING: [&str; 4] = ["CPUAccounting", "MemoryAccounting", "IOAccounting", "TasksAccounting"];

/// Its presence is how sd_booted(3) tells that systemd is process 1.
const BOOTED: &str = "/run/systemd/system";

/// Reads `slice:prefix:name`.
pub(super) fn scope(path: &str) -> Option<Scope> {
    let user = is_rootless();
    let base = if user { user_manager_cgroup() } else { PathBuf::new() };
    Scope::parse(path, user, &base)
}

impl Scope {
    /// Makes the scope around a process and waits until it is in there.
    pub(super) fn start(&self, pid: i32) -> Result<(), BusError> {
        let pid = u32::try_from(pid).map_err(|_| BusError::Malformed("a negative process id"))?;
        let mut properties = vec![
            ("Description", Value::Text(format!("seacow container {}", self.name))),
            ("Slice", Value::Text(self.slice.clone())),
            ("Delegate", Value::Bool(true)),
            ("PIDs", Value::Numbers(vec![pid])),
            ("DefaultDependencies", Value::Bool(false)),
            // A scope whose process was killed by the kernel would stay for ever as failed.
            ("CollectMode", Value::Text("inactive-or-failed".into())),
            // Without a word systemd sets its DefaultTasksMax, a limit that nobody asked for.
            ("TasksMax", Value::U64(u64::MAX)),
        ];
        // Accounting is what makes a controller appear.
        properties.extend(ACCOUNTING.map(|name| (name, Value::Bool(true))));
        let mut body = Writer::default();
        body.text(&self.unit);
        body.text("replace");
        body.properties(&properties);
        body.no_structs();
        self.bus()?.run_job(&self.unit, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)
    }

    /// Tells of limits, so that they are not undone. `devices` only where systemd would reset them.
    pub(super) fn set(
        &self,
        layout: &Layout,
        resources: &LinuxResources,
        all_devices: Option<bool>,
    ) -> Result<(), BusError> {
        let properties: Vec<Property> = properties::of(layout, resources, all_devices);
        if properties.is_empty() {
            return Ok(());
        }
        let mut body = Writer::default();
        body.text(&self.unit);
        body.bool(true); // until the next boot
        body.properties(&properties);
        self.bus()?.call("SetUnitProperties", "sba(sv)", body).map(drop)
    }

    /// Ends the scope. That it is gone already is the ordinary case: it ends with its last process.
    pub(super) fn stop(&self) -> Result<(), BusError> {
        let mut body = Writer::default();
        body.text(&self.unit);
        body.text("replace");
        match self.bus()?.run_job(&self.unit, "StopUnit", "ss", body) {
            Err(error) if error.is_no_such_unit() => Ok(()),
            done => done,
        }
    }

    fn bus(&self) -> Result<Bus, BusError> {
        Bus::connect(&addresses(self.user)?)
    }
}

/// The private socket first.
fn addresses(user: bool) -> Result<Vec<Address>, BusError> {
    if !Path::new(BOOTED).exists() {
        return Err(BusError::NotRunning(BOOTED.into()));
    }
    if !user {
        return Ok(vec![
            Address { socket: "/run/systemd/private".into(), is_private: true },
            Address { socket: "/run/dbus/system_bus_socket".into(), is_private: false },
        ]);
    }
    let mut found = Vec::new();
    if let Some(dir) = std::env::var_os("XDG_RUNTIME_DIR") {
        found.push(Address { socket: Path::new(&dir).join("systemd/private"), is_private: true });
    }
    let session = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    found.extend(session_sockets(&session).map(|socket| Address { socket, is_private: false }));
    if found.is_empty() { Err(BusError::NoAddress) } else { Ok(found) }
}

/// `unix:path=/run/user/7/bus,guid=…;…`
fn session_sockets(addresses: &str) -> impl Iterator<Item = PathBuf> {
    let unix = addresses.split(';').filter_map(|address| address.strip_prefix("unix:"));
    unix.filter_map(|options| options.split(',').find_map(|option| option.strip_prefix("path=")))
        .map(PathBuf::from)
}

/// Not root, or root of a user namespace only: the machine's manager would not obey.
pub(super) fn is_rootless() -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Where the user's manager keeps its units: the cgroup of a process in it tells; otherwise the place
/// where systemd always puts it.
fn user_manager_cgroup() -> PathBuf {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let dir = own.lines().find_map(|line| {
        line.strip_prefix("0::/").or(line.split_once(":name=systemd:/").map(|(_, dir)| dir))
    });
    let mut manager = PathBuf::new();
    for part in dir.unwrap_or_default().split('/') {
        manager.push(part);
        if part.starts_with("user@") && part.ends_with(".service") {
            return manager;
        }
    }
    let uid = rustix::process::geteuid().as_raw();
    PathBuf::from(format!("user.slice/user-{uid}.slice/user@{uid}.service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_session() {
        let found: Vec<PathBuf> =
            session_sockets("unix:abstract=/x,guid=1;unix:path=/run/user/7/bus,guid=2;tcp:host=h").collect();
        assert_eq!(found, [PathBuf::from("/run/user/7/bus")]);
    }
}
