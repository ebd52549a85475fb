//! `--init`: a process 1 that passes signals on and reaps orphans, bound into the container where
//! Docker has its own.

use std::path::Path;

use seacow_spec::oci::runtime::Mount;

use super::record::Record;
use crate::config::Config;

/// Where it is in the container.
const PATH: &str = "/sbin/docker-init";

/// The program on the host, if this container shall have one.
fn wanted<'a>(record: &Record, config: &'a Config) -> Option<&'a Path> {
    let asked = record.host_config.init.unwrap_or(config.init);
    // In the host's namespace it would not be process 1, and orphans go past it.
    (asked && record.host_config.pid_mode.is_empty()).then_some(config.init_path.as_path())
}

/// The command line with init before it.
pub(super) fn command(record: &Record, config: &Config) -> Vec<String> {
    let own = record.command();
    match wanted(record, config) {
        Some(_) => [PATH, "--"].into_iter().map(str::to_owned).chain(own).collect(),
        None => own,
    }
}

/// Its mount.
pub(super) fn mount(record: &Record, config: &Config) -> Option<Mount> {
    let source = wanted(record, config)?.to_string_lossy().into_owned();
    let options = ["bind", "rprivate", "ro"].map(str::to_owned).to_vec();
    Some(Mount { destination: PATH.into(), kind: "bind".into(), source, options, ..Mount::default() })
}
