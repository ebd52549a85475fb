//! The whole `config.json`.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};
use seacow_spec::oci::runtime::{
    DeviceRule, IdMapping, Linux, LinuxDevice, LinuxResources, Mount, NamespaceKind, Process, Root, Seccomp,
    Spec,
};
use seacow_spec::shim::{Create, Prepare, SeccompChoice};

use crate::error::Error;
use crate::mounts::devices;
use crate::process::identity::set_of;
use crate::seccomp;

/// What we write is understood by runtimes of this version; some refuse any later one.
const VERSION: &str = "1.0.2";

/// What was made for the runtime.
#[derive(Debug)]
pub struct Ready {
    /// The mounted root file system.
    pub root: PathBuf,
    /// The container's own mounts, with sources that can be bound.
    pub mounts: Vec<Mount>,
    /// The process, in numbers.
    pub process: Process,
    /// The network namespace, if the container gets one of its own.
    pub network: Option<String>,
    /// The user namespace, if it does not have the host's.
    pub user: Option<UserNamespace>,
}

/// A user namespace that is there.
#[derive(Debug)]
pub struct UserNamespace {
    /// Names it to the runtime.
    pub path: String,
    /// What the runtime might not find out: its maps of users and groups.
    pub uid_mappings: Vec<IdMapping>,
    /// See `uid_mappings`.
    pub gid_mappings: Vec<IdMapping>,
}

/// `config.json` of the container that `prepare` and `create` describe.
///
/// # Errors
/// The devices of the host cannot be listed, for a privileged container.
pub fn spec(prepare: &Prepare, create: &Create, ready: Ready) -> Result<Spec, Error> {
    let wanted = create.spec.linux.clone().unwrap_or_default();
    let mut namespaces = prepare.namespaces.clone();
    for namespace in &mut namespaces {
        match (namespace.kind, &ready.network, &ready.user) {
            (NamespaceKind::Network, Some(path), _) => namespace.path.clone_from(path),
            (NamespaceKind::User, _, Some(user)) => namespace.path.clone_from(&user.path),
            _ => {}
        }
    }
    let (uid_mappings, gid_mappings) =
        ready.user.map(|user| (user.uid_mappings, user.gid_mappings)).unwrap_or_default();
    let mut mounts = prepare.mounts.clone();
    mounts.extend(ready.mounts);
    if !wanted.mount_label.is_empty() {
        // They add it themselves; twice is an error.
        mounts.iter_mut().for_each(|mount| mount.options.retain(|o| !o.starts_with("context=")));
    }
    let mut devices = wanted.devices.clone();
    if prepare.privileged {
        devices.extend(of_host(&devices)?);
    }
    let seccomp = seccomp_of(&create.seccomp, &ready.process);
    Ok(Spec {
        oci_version: VERSION.into(),
        process: Some(ready.process),
        root: Some(Root {
            path: ready.root.to_string_lossy().into_owned(),
            readonly: create.spec.root.as_ref().is_some_and(|root| root.readonly),
        }),
        mounts,
        linux: Some(Linux {
            resources: Some(resources(wanted.resources.clone().unwrap_or_default(), prepare.privileged)),
            cgroups_path: prepare.cgroups_path.clone(),
            namespaces,
            uid_mappings,
            gid_mappings,
            time_offsets: prepare.settings.time_offsets.clone(),
            devices,
            seccomp,
            masked_paths: prepare.masked_paths.clone(),
            readonly_paths: prepare.readonly_paths.clone(),
            ..wanted
        }),
        ..create.spec.clone()
    })
}

fn seccomp_of(choice: &SeccompChoice, process: &Process) -> Option<Seccomp> {
    match choice {
        SeccompChoice::Unconfined => None,
        SeccompChoice::Profile(profile) => Some((**profile).clone()),
        SeccompChoice::Default => {
            let bounding = process.capabilities.as_ref().map(|caps| caps.bounding.as_slice());
            Some(seccomp::default_as_oci(set_of(bounding.unwrap_or_default())))
        }
    }
}

/// The rules of devices whole: nothing, the usual ones, then the container's own; all of them for a
/// privileged one.
fn resources(mut resources: LinuxResources, privileged: bool) -> LinuxResources {
    let every = |allow| DeviceRule { allow, access: "rwm".into(), ..DeviceRule::default() };
    let own = std::mem::take(&mut resources.devices);
    resources.devices = if privileged {
        vec![every(true)]
    } else {
        let usual = devices::NODES.iter().map(|(_, major, minor)| DeviceRule {
            allow: true,
            kind: "c".into(),
            major: Some((*major).into()),
            minor: Some((*minor).into()),
            access: "rwm".into(),
        });
        [every(false)].into_iter().chain(usual).chain(own).collect()
    };
    resources
}

/// A node for every device of the host, but for those that are there already.
fn of_host(known: &[LinuxDevice]) -> Result<Vec<LinuxDevice>, Error> {
    let mut all = Vec::new();
    devices::each_of_host(&mut |below, meta| {
        let path = Path::new("/dev").join(below).to_string_lossy().into_owned();
        if !known.iter().any(|device| device.path == path) {
            let kind = if meta.file_type().is_char_device() { "c" } else { "b" };
            all.push(LinuxDevice {
                path,
                kind: kind.into(),
                major: i64::from(major(meta.rdev())),
                minor: i64::from(minor(meta.rdev())),
                file_mode: Some(meta.mode() & 0o7777),
                uid: Some(meta.uid()),
                gid: Some(meta.gid()),
            });
        }
        Ok(())
    })?;
    Ok(all)
}
