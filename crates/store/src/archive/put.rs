//! `PUT /containers/{id}/archive`: a tar is unpacked into a directory.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use seacow_sys::cred;

use super::path::Asked;
use super::{ArchiveError, ContainerRoot};
use crate::error::At;
use crate::layer::{Place, PlacePolicy};
use crate::limits::Limits;
use crate::tar::{Bounds, TarError, TarReader, compress};

/// How an archive is unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub struct PutOptions {
    /// A directory and something else never replace each other (`noOverwriteDirNonDir`).
    pub no_overwrite_dir_non_dir: bool,
    /// Owner of everything (`copyUIDGID`: the container's user); `None` takes the archive's.
    pub owner: Option<(u32, u32)>,
    /// Bounds on the archive.
    pub limits: Limits,
}

impl ContainerRoot {
    /// Unpacks a tar (plain, or packed with gzip, bzip2, xz or zstd) into the directory at `path`, symlinks to it followed.
    ///
    /// # Errors
    /// There is no such directory, or an entry was refused; what came before it stays.
    pub fn put_tar(
        &self,
        path: &Path,
        archive: impl Read + Send,
        options: &PutOptions,
    ) -> Result<(), ArchiveError> {
        self.as_its_root(path, || self.unpack(path, archive, options))
    }

    /// Calls `work`, which makes files below `path`, as somebody who has a place in the root.
    pub(super) fn as_its_root(
        &self,
        path: &Path,
        work: impl FnOnce() -> Result<(), ArchiveError> + Send,
    ) -> Result<(), ArchiveError> {
        if self.ids.is_host() {
            return work();
        }
        // In a thread of its own, because files of the host's root have no place in there.
        let (uid, gid) = self.ids.outside((0, 0)).at("find root in the user namespace of", path)?;
        std::thread::scope(|scope| {
            let unpack = || {
                cred::own_files_as(uid, gid).at("make files as the container's root below", path)?;
                work()
            };
            let thread = std::thread::Builder::new()
                .name("seacow-unpack".into())
                .spawn_scoped(scope, unpack)
                .map_err(|_| ArchiveError::Thread("no thread could be made"))?;
            thread.join().map_err(|_| ArchiveError::Thread("the thread panicked"))?
        })
    }

    fn unpack(
        &self,
        path: &Path,
        archive: impl Read + Send,
        options: &PutOptions,
    ) -> Result<(), ArchiveError> {
        let base = self.directory(path)?;
        let mut place = self.place(&base, options);
        let unpacked = compress::unpack(archive).map_err(TarError::from)?;
        let bounds = Bounds { entries: options.limits.max_entries, bytes: options.limits.max_bytes };
        let mut tar = TarReader::new(unpacked, bounds);
        while let Some(member) = tar.next_member()? {
            tar.take_raw();
            place.place(&member, &mut |buffer| tar.read_content(buffer))?;
        }
        place.finish()?;
        Ok(())
    }

    /// Where the directory that a path leads to really is.
    pub(super) fn directory(&self, path: &Path) -> Result<PathBuf, ArchiveError> {
        let asked = Asked::parse(path);
        let target = self.root.locate(&asked.path).map_err(|errno| Self::missing(&asked.path, errno))?;
        let stat = rustix::fs::fstat(&target).map_err(|errno| Self::missing(&asked.path, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(ArchiveError::NotADirectory(asked.path));
        }
        crate::fsutil::real_path(&self.root, target.as_fd())
            .map_err(|errno| Self::missing(&asked.path, errno))
    }

    /// Puts things below a directory.
    pub(super) fn place<'a>(&'a self, base: &Path, options: &PutOptions) -> Place<'a> {
        let policy = PlacePolicy {
            layer: false,
            keep: None,
            no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
            owner: options.owner,
            ids: &self.ids,
            inherit: &|_| None,
            max_file: options.limits.max_bytes,
            reserve: options.limits.reserve,
        };
        Place::new(&self.root, base, policy)
    }
}
