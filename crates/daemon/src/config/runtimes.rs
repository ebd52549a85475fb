//! OCI runtimes besides our own: `--add-runtime`, `--default-runtime`, `runtimes` of the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use seacow_engine::runtime::{OURS, Runtimes};
use seacow_spec::shim::RuntimeCommand;
use serde::Deserialize;

use super::settings::{SettingsError, invalid};

/// containerd's shim for runc and what is like it: the one type that is a command like any other.
const RUNC_TYPE: &str = "io.containerd.runc.v2";

/// One runtime of the file, with Docker's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Entry {
    path: PathBuf,
    runtime_args: Vec<String>,
    runtime_type: String,
    options: Options,
}

/// Options of [`RUNC_TYPE`], with containerd's keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
struct Options {
    binary_name: PathBuf,
    systemd_cgroup: bool,
}

/// `--add-runtime name=path`.
pub(super) fn from_flags(flags: Vec<String>) -> Result<Option<BTreeMap<String, Entry>>, SettingsError> {
    let entries = flags.into_iter().map(|flag| match flag.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), Entry { path: path.into(), ..Entry::default() }))
        }
        Some(_) | None => Err(invalid("add-runtime", flag, "expected name=path")),
    });
    let entries: BTreeMap<_, _> = entries.collect::<Result<_, _>>()?;
    Ok((!entries.is_empty()).then_some(entries))
}

/// The engine's part of it.
pub(super) fn runtimes(
    entries: Option<&BTreeMap<String, Entry>>,
    default: Option<&String>,
) -> Result<Runtimes, SettingsError> {
    let configured = entries.into_iter().flatten().map(|(name, entry)| {
        if name == OURS {
            return Err(invalid("runtimes", name, "runtime name 'seacow' is reserved"));
        }
        Ok((name.clone(), command(name, entry)?))
    });
    let mut runtimes = Runtimes { configured: configured.collect::<Result<_, _>>()?, ..Runtimes::default() };
    if let Some(default) = default {
        runtimes.default.clone_from(default);
        // Any other day it is the client that is told.
        runtimes.find(default).map_err(|error| invalid("default-runtime", default, error))?;
    }
    Ok(runtimes)
}

fn command(name: &str, entry: &Entry) -> Result<RuntimeCommand, SettingsError> {
    let mut command = RuntimeCommand { path: entry.path.clone(), args: entry.runtime_args.clone() };
    match entry.runtime_type.as_str() {
        "" if entry.options != Options::default() => {
            return Err(invalid("runtimes", name, "options need a runtimeType"));
        }
        "" => {}
        _ if command != (RuntimeCommand { path: PathBuf::new(), args: Vec::new() }) => {
            return Err(invalid("runtimes", name, "runtimeType stands for path and runtimeArgs"));
        }
        RUNC_TYPE => {
            let runc = || PathBuf::from("runc");
            let Options { binary_name, systemd_cgroup } = &entry.options;
            command.path = if binary_name.as_os_str().is_empty() { runc() } else { binary_name.clone() };
            command.args.extend(systemd_cgroup.then(|| "--systemd-cgroup".to_owned()));
        }
        other => {
            let why = format!(
                "{other} is a shim of containerd's, and seacow has its own: name its runtime by path"
            );
            return Err(invalid("runtimes", name, why));
        }
    }
    let bare = command.path.components().count() == 1;
    if command.path.is_absolute() || bare {
        return Ok(command);
    }
    Err(invalid("runtimes", name, "path must be absolute, or a name on the daemon's PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(json: &str) -> BTreeMap<String, Entry> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn entries_of_the_file() {
        let file = entries(
            r#"{"a":{"path":"/bin/sh","runtimeArgs":["--x"]},"b":{"path":"crun"},
            "c":{"runtimeType":"io.containerd.runc.v2","options":{"BinaryName":"/bin/sh","SystemdCgroup":true}}}"#,
        );
        let runtimes = runtimes(Some(&file), Some(&"a".to_owned())).unwrap();
        assert_eq!(runtimes.configured["a"].args, ["--x"]);
        assert_eq!(runtimes.configured["b"].path, PathBuf::from("crun"));
        assert_eq!(runtimes.configured["c"].args, ["--systemd-cgroup"]);
        assert_eq!(runtimes.default, "a");
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            r#"{"seacow":{"path":"/bin/sh"}}"#,
            r#"{"a":{}}"#,
            r#"{"a":{"path":"relative/sh"}}"#,
            r#"{"a":{"runtimeType":"io.containerd.kata.v2"}}"#,
            r#"{"a":{"path":"/bin/sh","runtimeType":"io.containerd.runc.v2"}}"#,
            r#"{"a":{"path":"/bin/sh","options":{"SystemdCgroup":true}}}"#,
        ] {
            assert!(runtimes(Some(&entries(bad)), None).is_err(), "{bad}");
        }
        assert!(runtimes(None, Some(&"/no/such".to_owned())).is_err());
        for bad in ["sh", "=/bin/sh", "sh="] {
            assert!(from_flags(vec![bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
