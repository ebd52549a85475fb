//! From a bundle's `config.json` to what the library wants.

use std::path::{Path, PathBuf};

use seacow_runtime::{Error, cgroup, seccomp, validate};
use seacow_spec::id::ContainerId;
use seacow_spec::oci::runtime::{Linux, Mount, Process, Spec, VERSION};
use seacow_spec::oci::state::State;
use seacow_spec::selinux::label_mounts;
use seacow_spec::shim::{Create, LogConfig, NamespaceSettings, Prepare, Rootfs, SeccompChoice, Stdio};

use super::error::CliError;

/// A bundle, read and split.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) dir: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) prepare: Prepare,
    pub(crate) create: Create,
    pub(crate) process: Process,
    /// Fields that are not fully honoured.
    pub(crate) warnings: Vec<validate::Warning>,
}

/// Reads `config.json` in `dir`. `by_systemd` chooses the cgroup driver.
pub(crate) fn load(dir: &Path, id: &str, by_systemd: bool) -> Result<Bundle, CliError> {
    let dir = dir.canonicalize().map_err(|e| CliError::file("find bundle", dir, e))?;
    let config = dir.join("config.json");
    let json = std::fs::read(&config).map_err(|e| CliError::file("read", &config, e))?;
    let spec = validate::read(&json).map_err(Error::from)?;
    let mut warnings = validate::check(&spec).map_err(Error::from)?;
    if let Some(profile) = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()) {
        warnings.extend(seccomp::check(profile).map_err(Error::from)?);
    }
    // Without one there is nothing to execute, which `start` says.
    let nothing = || Process { cwd: "/".into(), ..Process::default() };
    let process = spec.process.clone().unwrap_or_else(nothing);
    let root = spec.root.clone().ok_or_else(|| CliError::State("config.json has no root".into()))?;
    let rootfs = dir.join(&root.path);
    let linux = spec.linux.clone().unwrap_or_default();
    validate::check_rootfs(&rootfs).map_err(Error::from)?;
    let mut mounts = from_bundle(&dir, spec.mounts.clone());
    label_mounts(&mut mounts, &linux.mount_label);
    let (staged, rest) = split_mounts(&mounts);
    let prepare = Prepare {
        id: library_id(id),
        namespaces: linux.namespaces.clone(),
        cgroups_path: cgroups_path(&linux, id, by_systemd)?,
        mounts: staged,
        masked_paths: linux.masked_paths.clone(),
        readonly_paths: linux.readonly_paths.clone(),
        privileged: false,
        settings: NamespaceSettings {
            uid_mappings: linux.uid_mappings.clone(),
            gid_mappings: linux.gid_mappings.clone(),
            time_offsets: linux.time_offsets.clone(),
        },
        runtime: None,
    };
    let seccomp =
        linux.seccomp.clone().map_or(SeccompChoice::Unconfined, |s| SeccompChoice::Profile(Box::new(s)));
    let create = Create {
        user: user(&process),
        maps_root: false,
        extra_groups: process.user.additional_gids.iter().map(u32::to_string).collect(),
        rootfs: Rootfs::Directory(rootfs.clone()),
        stdio: stdio(&process),
        log: LogConfig::None,
        seccomp,
        state: State {
            oci_version: VERSION.into(),
            id: id.to_owned(),
            bundle: dir.clone(),
            annotations: spec.annotations.clone(),
            ..State::default()
        },
        spec: Spec { mounts: rest, process: Some(process.clone()), ..spec },
    };
    Ok(Bundle { dir, rootfs, prepare, create, process, warnings })
}

/// `uid:gid`, as the library takes users.
pub(crate) fn user(process: &Process) -> String {
    format!("{}:{}", process.user.uid, process.user.gid)
}

/// Terminal and its size.
pub(crate) fn stdio(process: &Process) -> Stdio {
    let size = process.console_size.unwrap_or_default();
    Stdio { terminal: process.terminal, rows: size.height, cols: size.width, ..Stdio::default() }
}

/// The library names containers by 64 hex digits and uses the name for nothing that is seen here.
fn library_id(id: &str) -> ContainerId {
    let hex: String = id.bytes().map(|b| format!("{b:02x}")).collect();
    let mut padded: String = hex.chars().take(64).collect();
    while padded.len() < 64 {
        padded.push('0');
    }
    padded.parse().unwrap_or_else(|_| zero_id())
}

fn zero_id() -> ContainerId {
    // 64 zeros are an id, which the tests below prove.
    #[expect(clippy::expect_used, reason = "a constant of the right form")]
    "0".repeat(64).parse().expect("64 hex digits are a container id")
}

fn cgroups_path(linux: &Linux, id: &str, by_systemd: bool) -> Result<String, CliError> {
    Ok(match linux.cgroups_path.as_str() {
        requested if by_systemd => cgroup::scope_path(requested, "seacow", id)?,
        "" => format!("/seacow/{id}"),
        path if path.starts_with('/') => path.to_owned(),
        relative => format!("/seacow/{relative}"),
    })
}

/// A relative source is one below the bundle, wherever the caller and whoever opens it stand.
fn from_bundle(dir: &Path, mut mounts: Vec<Mount>) -> Vec<Mount> {
    for entry in mounts.iter_mut().filter(|entry| is_bind(entry)) {
        if Path::new(&entry.source).is_relative() {
            // Both parts were text before.
            entry.source = dir.join(&entry.source).to_string_lossy().into_owned();
        }
    }
    mounts
}

fn is_bind(entry: &Mount) -> bool {
    entry.kind == "bind" || entry.options.iter().any(|o| o == "bind" || o == "rbind")
}

/// Kernel file systems below /proc, /sys and /dev are staged; the rest needs the root.
fn split_mounts(mounts: &[Mount]) -> (Vec<Mount>, Vec<Mount>) {
    mounts.iter().cloned().partition(|m| {
        let kernel = matches!(
            m.kind.as_str(),
            "proc" | "sysfs" | "tmpfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2"
        );
        let bind = m.options.iter().any(|o| o == "bind" || o == "rbind" || o == "tmpcopyup");
        let below = ["/proc", "/sys", "/dev"].iter().any(|top| Path::new(&m.destination).starts_with(top));
        kernel && !bind && below
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_id_becomes_a_library_id() {
        for id in ["a", "my-container_1.2+3", &"x".repeat(100)] {
            assert_ne!(library_id(id), zero_id());
        }
    }
}
