//! The few kernel switches, read and written in the calling thread's network namespace.
//!
//! `/proc/sys/net` shows the namespace of the task that opens it, so no path below a container's
//! root is ever involved.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

/// A switch that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Dotted name, `net.ipv4.ip_forward`.
    pub key: String,
    /// What it was.
    pub from: String,
    /// What it is now.
    pub to: String,
}

/// A switch could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysctlError {
    /// Reading.
    #[error("read sysctl {key}")]
    Read {
        /// Dotted name.
        key: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Writing.
    #[error("set sysctl {key} = {value}")]
    Write {
        /// Dotted name.
        key: String,
        /// The value it should get.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl SysctlError {
    /// Which switch.
    pub fn key(&self) -> &str {
        let (Self::Read { key, .. } | Self::Write { key, .. }) = self;
        key
    }
}

/// Forwarding between interfaces; without it no container reaches the outside.
pub const IP_FORWARD: &str = "net.ipv4.ip_forward";

/// Dots become slashes and slashes dots, as sysctl(8) does it: an interface name may hold a dot.
fn path(key: &str) -> String {
    let swapped: String = key
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect();
    format!("/proc/sys/{swapped}")
}

/// Its value without the line end.
pub fn read(key: &str) -> Result<String, SysctlError> {
    match fs::read_to_string(path(key)) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(source) => Err(SysctlError::Read { key: key.to_owned(), source }),
    }
}

/// Makes it `value`; says what was changed, `None` when it was so already.
pub fn ensure(key: &str, value: &str) -> Result<Option<Change>, SysctlError> {
    let from = read(key)?;
    if from == value {
        return Ok(None);
    }
    fs::write(path(key), value).map_err(|source| SysctlError::Write {
        key: key.to_owned(),
        value: value.to_owned(),
        source,
    })?;
    Ok(Some(Change { key: key.to_owned(), from, to: value.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_name_may_hold_a_dot() {
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding"), "/proc/sys/net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn a_missing_switch_is_named() {
        assert_eq!(read("net.seacow.none").unwrap_err().to_string(), "read sysctl net.seacow.none");
    }
}
