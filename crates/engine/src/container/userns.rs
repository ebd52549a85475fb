//! The user namespace of a container, where the daemon remaps ([`crate::remap`]).

use std::path::PathBuf;

use seacow_spec::oci::runtime::{LinuxNamespace, NamespaceKind};
use seacow_spec::shim::NamespaceSettings;

use super::error::ContainerError;
use super::invalid::Invalid;
use super::record::Record;
use crate::config::Config;
use crate::network::Mode;
use crate::remap::Remap;

/// The remap of a container; `None` where it has the host's ids.
pub(crate) fn remap<'a>(record: &Record, config: &'a Config) -> Option<&'a Remap> {
    config.remap.as_ref().filter(|_| record.host_config.userns_mode != "host")
}

/// Refuses what a remapped container cannot have, in Docker's words.
///
/// # Errors
/// Privileges or namespaces of the host.
pub(crate) fn check(record: &Record, config: &Config) -> Result<(), ContainerError> {
    let host = &record.host_config;
    if remap(record, config).is_none() {
        return Ok(());
    }
    if host.privileged {
        return Err(Invalid::RemappedPrivileged.into());
    }
    if record.network == Mode::Host {
        return Err(Invalid::RemappedNetwork.into());
    }
    if host.pid_mode == "host" {
        return Err(Invalid::RemappedPid.into());
    }
    Ok(())
}

/// Which user namespace it gets, and what a new one is filled with. Whoever joins the namespaces of
/// another container joins its user namespace too, which owns them.
///
/// # Errors
/// The other container does not run, has the host's ids, or there are several in different namespaces.
pub(super) fn namespace<F>(
    record: &Record,
    config: &Config,
    pid_of: F,
) -> Result<Option<(LinuxNamespace, NamespaceSettings)>, ContainerError>
where
    F: Fn(&str) -> Result<i32, ContainerError>,
{
    let Some(remap) = remap(record, config) else { return Ok(None) };
    let mut joined: Option<(i32, PathBuf)> = None;
    for donor in donors(record) {
        let pid = pid_of(donor)?;
        let found = link(&pid.to_string())?;
        if found == link("self")? {
            return Err(Invalid::JoinUnmapped(donor.to_owned()).into());
        }
        if joined.as_ref().is_some_and(|(_, other)| *other != found) {
            return Err(Invalid::JoinSeveral.into());
        }
        joined = Some((pid, found));
    }
    Ok(Some(match joined {
        None => remap.namespace(),
        Some((pid, _)) => {
            let path = format!("/proc/{pid}/ns/user");
            (LinuxNamespace { kind: NamespaceKind::User, path }, NamespaceSettings::default())
        }
    }))
}

/// The containers whose namespaces are joined.
fn donors(record: &Record) -> impl Iterator<Item = &str> {
    let host = &record.host_config;
    let by_mode =
        [&host.pid_mode, &host.ipc_mode].into_iter().filter_map(|mode| mode.strip_prefix("container:"));
    let network = match &record.network {
        Mode::Container(id) => Some(id.as_str()),
        Mode::Bridge | Mode::None | Mode::Host => None,
    };
    by_mode.chain(network)
}

/// What the kernel calls the user namespace of a process.
fn link(process: &str) -> Result<PathBuf, ContainerError> {
    let path = PathBuf::from(format!("/proc/{process}/ns/user"));
    std::fs::read_link(&path).map_err(|error| ContainerError::io("look at", &path, error))
}
