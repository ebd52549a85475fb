//! `docker cp`: files of a container as tars.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;
use seacow_spec::docker::container::PathStat;
use seacow_spec::{Classified, ErrorClass};
use seacow_store::archive::{ArchiveError, ContainerRoot, PutOptions, Transfer};

use super::Container;
use crate::error::EngineError;
use crate::pipe::{self, ByteStream};
use crate::{Engine, blocking};

/// Largest password or group file that is looked through for a user.
const MAX_ACCOUNTS: u64 = 4 << 20;

/// How an upload is unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub struct PutArchive {
    /// A directory and something else never replace each other.
    pub no_overwrite_dir_non_dir: bool,
    /// Everything belongs to the container's user afterwards.
    pub copy_uid_gid: bool,
}

/// What is copied from which container into which.
#[derive(Clone, Debug, Default)]
pub struct CopyFiles {
    /// The container that has it.
    pub from: String,
    /// Where.
    pub from_path: String,
    /// The container that gets it.
    pub into: String,
    /// A directory there.
    pub into_path: String,
    /// What it is called there; as it was if absent.
    pub name: Option<String>,
}

/// Files that cannot be had or put, in the words that Docker's clients know.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// There is nothing of that name.
    #[error("Could not find the file {path} in container {container}")]
    NotFound {
        /// As asked for.
        path: String,
        /// As the client names it.
        container: String,
    },
    /// The container's root is read-only.
    #[error("container rootfs is marked read-only")]
    ReadOnly,
    /// Its user cannot be found in its password file.
    #[error("cannot find the user {0:?} in the container's /etc/passwd and /etc/group")]
    NoUser(String),
    /// Whatever else.
    #[error(transparent)]
    Archive(ArchiveError),
}

impl Classified for FilesError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound { .. } => ErrorClass::NotFound,
            Self::ReadOnly => ErrorClass::Forbidden,
            Self::NoUser(_) => ErrorClass::InvalidArgument,
            Self::Archive(error) => error.class(),
        }
    }
}

/// A path in a container, as the client wrote both.
#[derive(Clone)]
struct Asked {
    container: String,
    path: String,
}

impl Asked {
    fn failed(&self, error: ArchiveError) -> FilesError {
        match error {
            ArchiveError::NotFound(_) => {
                FilesError::NotFound { path: self.path.clone(), container: self.container.clone() }
            }
            other => FilesError::Archive(other),
        }
    }

    fn path(&self) -> PathBuf {
        Path::new("/").join(&self.path)
    }
}

impl Engine {
    /// What is at a path of a container.
    ///
    /// # Errors
    /// There is no such container or path.
    pub async fn archive_stat(&self, reference: &str, path: &str) -> Result<PathStat, EngineError> {
        let (container, asked) = self.asked(reference, path)?;
        let engine = self.clone();
        blocking::run("look into a container", move || {
            let stat = engine.look_into(&container, |root| root.stat(&asked.path()))?;
            Ok(stat.map_err(|error| asked.failed(error))?)
        })
        .await?
    }

    /// What is at a path of a container, as a tar.
    ///
    /// # Errors
    /// There is no such container or path.
    pub async fn archive_get(
        &self,
        reference: &str,
        path: &str,
    ) -> Result<(PathStat, ByteStream), EngineError> {
        let stat = self.archive_stat(reference, path).await?;
        let (container, asked) = self.asked(reference, path)?;
        let engine = self.clone();
        self.emit(container.event("archive-path", &[]));
        let tar = pipe::download(move |writer| -> Result<(), EngineError> {
            let read = engine.look_into(&container, |root| root.get_tar(&asked.path(), writer))?;
            Ok(read.map_err(|error| asked.failed(error))?)
        });
        Ok((stat, tar.await?))
    }

    /// Unpacks a tar into a directory of a container.
    ///
    /// # Errors
    /// There is no such container or directory, it may not be written to, or an entry is refused.
    pub async fn archive_put(
        &self,
        reference: &str,
        path: &str,
        options: PutArchive,
        upload: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<(), EngineError> {
        let (container, asked) = self.asked(reference, path)?;
        if container.cell().record.host_config.readonly_rootfs && !on_writable_mount(&container, &asked) {
            return Err(FilesError::ReadOnly.into());
        }
        let reader = pipe::upload(upload);
        let (engine, target) = (self.clone(), Arc::clone(&container));
        pipe::run("unpack into a container", move || -> Result<(), EngineError> {
            let user = options.copy_uid_gid.then(|| target.cell().record.config.user.clone());
            let put = engine.look_into(&target, |root| -> Result<(), FilesError> {
                let options = PutOptions {
                    no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
                    owner: user.map(|user| owner(root, &user)).transpose()?,
                    ..PutOptions::default()
                };
                root.put_tar(&asked.path(), reader, &options).map_err(|error| asked.failed(error))
            })?;
            Ok(put?)
        })
        .await??;
        self.emit(container.event("extract-to-dir", &[]));
        Ok(())
    }

    /// Copies what one container has at a path into a directory of another one, or of itself, without an
    /// archive between them: extents are shared where the store can. Bytes of the files.
    ///
    /// # Errors
    /// There is no such container, path or directory, it may not be written to, or an entry is refused.
    pub async fn archive_copy(&self, copy: CopyFiles, options: PutArchive) -> Result<u64, EngineError> {
        let (source, from) = self.asked(&copy.from, &copy.from_path)?;
        let (target, into) = self.asked(&copy.into, &copy.into_path)?;
        if target.cell().record.host_config.readonly_rootfs && !on_writable_mount(&target, &into) {
            return Err(FilesError::ReadOnly.into());
        }
        let engine = self.clone();
        let told = (Arc::clone(&source), Arc::clone(&target));
        let bytes = blocking::run("copy between containers", move || -> Result<u64, EngineError> {
            let user = options.copy_uid_gid.then(|| target.cell().record.config.user.clone());
            let copied =
                engine.look_into_both(&source, &target, |root, other| -> Result<u64, FilesError> {
                    root.stat(&from.path()).map_err(|error| from.failed(error))?;
                    let put = PutOptions {
                        no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
                        owner: user.map(|user| owner(other, &user)).transpose()?,
                        ..PutOptions::default()
                    };
                    let (from_path, into_path) = (from.path(), into.path());
                    let name = copy.name.as_ref().map(String::as_bytes);
                    let what = Transfer { from: &from_path, into: &into_path, name };
                    root.copy_to(other, what, &put).map_err(|error| into.failed(error))
                })?;
            Ok(copied?)
        })
        .await??;
        self.emit(told.0.event("archive-path", &[]));
        self.emit(told.1.event("extract-to-dir", &[]));
        Ok(bytes)
    }

    fn asked(&self, reference: &str, path: &str) -> Result<(Arc<Container>, Asked), EngineError> {
        let container = self.0.containers.find(reference)?;
        Ok((container, Asked { container: reference.to_owned(), path: path.to_owned() }))
    }
}

/// A read-only container still has its volumes.
fn on_writable_mount(container: &Container, asked: &Asked) -> bool {
    let cell = container.cell();
    let path = asked.path();
    let mount = cell.record.mounts.iter().filter(|mount| path.starts_with(&mount.point.destination));
    // The deepest one is what is written to.
    mount.max_by_key(|mount| mount.point.destination.len()).is_some_and(|mount| mount.point.rw)
}

/// Numbers of `user[:group]`, by the container's own files.
fn owner(root: &ContainerRoot, user: &str) -> Result<(u32, u32), FilesError> {
    let missing = || FilesError::NoUser(user.to_owned());
    let read = |path: &str| {
        let bytes = root.root().read(Path::new(path), MAX_ACCOUNTS).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    let passwd = if name.is_empty() { String::new() } else { read("etc/passwd") };
    let (uid, own_gid) = match (name, name.parse::<u32>()) {
        ("", _) => (0, 0),
        (_, Ok(uid)) => (uid, account(&passwd, 2, &uid.to_string(), 3).unwrap_or(0)),
        (name, Err(_)) => {
            let uid = account(&passwd, 0, name, 2).ok_or_else(missing)?;
            (uid, account(&passwd, 0, name, 3).unwrap_or(0))
        }
    };
    let gid = match group {
        None => own_gid,
        Some(group) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => account(&read("etc/group"), 0, group, 2).ok_or_else(missing)?,
        },
    };
    Ok((uid, gid))
}

/// The number in field `want` of the line whose field `key` is `value`.
fn account(text: &str, key: usize, value: &str, want: usize) -> Option<u32> {
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(key) == Some(&value)).then(|| fields.get(want)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_the_container_s_own() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\nweb:x:33:44::/:/bin/sh\n")
            .unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nstaff:x:50:\n").unwrap();
        let root = ContainerRoot::of_directory(dir.path()).unwrap();
        for (user, expected) in [
            ("", (0, 0)),
            ("web", (33, 44)),
            ("33", (33, 44)),
            ("web:staff", (33, 50)),
            ("7:8", (7, 8)),
            ("9", (9, 0)),
        ] {
            assert_eq!(owner(&root, user).unwrap(), expected, "{user}");
        }
        assert!(owner(&root, "nobody").is_err());
        assert!(owner(&root, "web:nogroup").is_err());
    }
}
