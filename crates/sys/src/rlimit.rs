//! Resource limits of processes.

use rustix::process::{Pid, Resource, Rlimit};

use crate::Errno;

/// One limit's two values; `u64::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In force.
    pub soft: u64,
    /// How far it may be raised.
    pub hard: u64,
}

/// A kind of limit.
#[derive(Clone, Copy, Debug)]
pub struct Kind(Resource);

impl Kind {
    /// By name: `RLIMIT_NOFILE` or `nofile`.
    pub fn named(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        Some(Self(match upper.strip_prefix("RLIMIT_").unwrap_or(&upper) {
            "AS" => Resource::As,
            "CORE" => Resource::Core,
            "CPU" => Resource::Cpu,
            "DATA" => Resource::Data,
            "FSIZE" => Resource::Fsize,
            "LOCKS" => Resource::Locks,
            "MEMLOCK" => Resource::Memlock,
            "MSGQUEUE" => Resource::Msgqueue,
            "NICE" => Resource::Nice,
            "NOFILE" => Resource::Nofile,
            "NPROC" => Resource::Nproc,
            "RSS" => Resource::Rss,
            "RTPRIO" => Resource::Rtprio,
            "RTTIME" => Resource::Rttime,
            "SIGPENDING" => Resource::Sigpending,
            "STACK" => Resource::Stack,
            _ => return None,
        }))
    }
}

/// The calling process's limit.
pub fn get(kind: Kind) -> Limit {
    limit(rustix::process::getrlimit(kind.0))
}

/// Sets the calling process's limit. Raising `hard` needs CAP_SYS_RESOURCE.
pub fn set(kind: Kind, limit: Limit) -> Result<(), Errno> {
    rustix::process::setrlimit(kind.0, raw(limit))
}

/// Sets another process's limit and gives the old one.
pub fn set_of(pid: i32, kind: Kind, new: Limit) -> Result<Limit, Errno> {
    let pid = Pid::from_raw(pid).ok_or(Errno::SRCH)?;
    rustix::process::prlimit(Some(pid), kind.0, raw(new)).map(limit)
}

fn raw(limit: Limit) -> Rlimit {
    let value = |n| if n == u64::MAX { None } else { Some(n) };
    Rlimit { current: value(limit.soft), maximum: value(limit.hard) }
}

fn limit(raw: Rlimit) -> Limit {
    Limit { soft: raw.current.unwrap_or(u64::MAX), hard: raw.maximum.unwrap_or(u64::MAX) }
}
