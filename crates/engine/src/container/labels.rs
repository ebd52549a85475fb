//! Labels of SELinux, from a container's options to its mounts.

use std::path::PathBuf;
use std::sync::Arc;

use seacow_spec::ContainerId;
use seacow_spec::docker::host_config::HostConfig;
use seacow_spec::selinux::Labels;
use seacow_spec::shim::Rootfs;

use super::record::{MountRecord, Record};
use super::{ContainerError, security};
use crate::config::Config;
use crate::error::EngineError;
use crate::lsm::relabel;
use crate::lsm::selinux::{Selinux, SelinuxError};
use crate::{Engine, blocking};

/// The label that a prepared container's mounts have.
#[derive(Clone, Debug)]
pub(super) enum MountLabel {
    None,
    /// By its id, as any container's that asks for nothing.
    ById(Arc<Selinux>),
    Fixed(String),
}

impl PartialEq for MountLabel {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            // A daemon has one policy.
            (Self::None, Self::None) | (Self::ById(_), Self::ById(_)) => true,
            (Self::Fixed(one), Self::Fixed(other)) => one == other,
            (Self::None | Self::ById(_) | Self::Fixed(_), _) => false,
        }
    }
}

impl MountLabel {
    pub(super) fn common(config: &Config) -> Self {
        config.selinux.clone().map_or(Self::None, Self::ById)
    }

    pub(super) fn of(record: &Record, config: &Config) -> Result<Self, ContainerError> {
        let Some(selinux) = &config.selinux else { return Ok(Self::None) };
        if record.labels.is_none() && Selinux::leaves_files_alone(&asked(&record.host_config)?) {
            return Ok(Self::ById(Arc::clone(selinux)));
        }
        Ok(Self::Fixed(of(record, config)?.mount))
    }

    pub(super) fn of_id(&self, id: &ContainerId) -> Result<String, ContainerError> {
        Ok(match self {
            Self::None => String::new(),
            Self::ById(selinux) => selinux.labels(id, &[])?.mount,
            Self::Fixed(label) => label.clone(),
        })
    }
}

/// The labels of a container that joins nobody, or has some already; empty where the daemon gives none.
///
/// # Errors
/// An option is none of SELinux's.
pub(super) fn of(record: &Record, config: &Config) -> Result<Labels, ContainerError> {
    let Some(selinux) = &config.selinux else { return Ok(Labels::default()) };
    if let Some(labels) = &record.labels {
        return Ok(labels.clone());
    }
    labelled(selinux, record, &asked(&record.host_config)?)
}

fn labelled(selinux: &Selinux, record: &Record, options: &[String]) -> Result<Labels, ContainerError> {
    let mut labels = selinux.labels(&record.id, options)?;
    if record.host_config.privileged {
        labels.process.clear();
    }
    Ok(labels)
}

/// What the container asks for: its own words, or what follows from the namespaces that it shares with
/// the host.
fn asked(host: &HostConfig) -> Result<Vec<String>, ContainerError> {
    let options = host.security_opt.as_deref().unwrap_or_default();
    let own = security::parse(options, host.privileged, &[])?.labels;
    let unconfined = host.ipc_mode == "host" || host.pid_mode == "host" || host.privileged;
    Ok(if own.is_empty() && unconfined { vec!["disable".to_owned()] } else { own })
}

impl Engine {
    /// Refuses label options that are none.
    pub(super) fn check_labels(&self, record: &Record) -> Result<(), ContainerError> {
        let Some(selinux) = &self.config().selinux else { return Ok(()) };
        let checked = selinux.labels(&record.id, &self.label_options(&record.host_config)?);
        // It may get another id.
        self.release_labels(&record.id);
        Ok(checked.map(drop)?)
    }

    /// The labels of a container in the making, whose id is settled.
    pub(super) fn new_labels(&self, record: &Record) -> Result<Option<Labels>, ContainerError> {
        let Some(selinux) = &self.config().selinux else { return Ok(None) };
        labelled(selinux, record, &self.label_options(&record.host_config)?).map(Some)
    }

    /// As [`asked`]; one that joins another container's processes or IPC has its labels, or could
    /// touch nothing of it.
    fn label_options(&self, host: &HostConfig) -> Result<Vec<String>, ContainerError> {
        let own = asked(host)?;
        if !own.is_empty() {
            return Ok(own);
        }
        let mut inherited: Option<Vec<String>> = None;
        let modes = [&host.ipc_mode, &host.pid_mode];
        for donor in modes.into_iter().filter_map(|mode| mode.strip_prefix("container:")) {
            let labels = self.0.containers.find(donor)?.cell().record.labels.clone().unwrap_or_default();
            let options = Selinux::as_options(&labels.process)?;
            if inherited.as_ref().is_some_and(|other| *other != options) {
                return Err(SelinuxError::Donors.into());
            }
            inherited = Some(options);
        }
        Ok(inherited.unwrap_or_default())
    }

    /// Takes over what an earlier engine gave.
    pub(crate) fn keep_labels(&self, record: &Record) {
        if let (Some(selinux), Some(labels)) = (&self.config().selinux, &record.labels) {
            selinux.keep(&record.id, labels);
        }
    }

    /// The categories of a container that is gone are free.
    pub(crate) fn release_labels(&self, id: &ContainerId) {
        if let Some(selinux) = &self.config().selinux {
            selinux.release(id);
        }
    }

    /// Labels what `:z` and `:Z` ask for, and volumes, which are nobody's but containers'.
    pub(super) async fn label_mounts(&self, record: &Record) -> Result<(), EngineError> {
        let Some(selinux) = &self.config().selinux else { return Ok(()) };
        let own = of(record, self.config())?.mount;
        let mut wanted: Vec<(PathBuf, String)> = Vec::new();
        for mount in &record.mounts {
            match shares(mount) {
                Some(true) => {
                    wanted.push((mount.source.clone(), selinux.shared(&own).map_err(ContainerError::from)?))
                }
                Some(false) => wanted.push((mount.source.clone(), own.clone())),
                None => {}
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let label = |(path, label): &(PathBuf, String)| {
            relabel::tree(path, label)
                .map_err(|source| ContainerError::Relabel { path: path.display().to_string(), source })
        };
        Ok(blocking::run("label mounts", move || wanted.iter().try_for_each(label)).await??)
    }

    /// Labels the files of a container that are no overlay, which would be mounted with the label.
    pub(crate) async fn label_root(&self, record: &Record, rootfs: &Rootfs) -> Result<(), EngineError> {
        let label = of(record, self.config())?.mount;
        let Rootfs::Directory(dir) = rootfs else { return Ok(()) };
        if label.is_empty() {
            return Ok(());
        }
        let dir = dir.clone();
        let done = blocking::run("label a container's files", move || {
            relabel::tree(&dir, &label)
                .map_err(|source| ContainerError::Relabel { path: dir.display().to_string(), source })
        });
        Ok(done.await??)
    }
}

/// Whether a mount is labelled, and for all containers (`z`) or for this one (`Z`).
fn shares(mount: &MountRecord) -> Option<bool> {
    let has = |word: &str| mount.point.mode.split(',').any(|part| part == word);
    match mount.point.kind.as_str() {
        "bind" | "volume" if has("Z") => Some(false),
        "bind" if has("z") => Some(true),
        "volume" => Some(true),
        _ => None,
    }
}
