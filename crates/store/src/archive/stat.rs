//! `HEAD /containers/{id}/archive`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};
use seacow_spec::Timestamp;
use seacow_spec::docker::container::PathStat;
use seacow_sys::Errno;

use super::path::Asked;
use super::{ArchiveError, ContainerRoot};

impl ContainerRoot {
    /// What is at a path, in Docker's terms; of the link itself when it is one, with where it leads.
    ///
    /// # Errors
    /// There is nothing.
    pub fn stat(&self, path: &Path) -> Result<PathStat, ArchiveError> {
        let asked = Asked::parse(path);
        let stat = self.stat_of(&asked)?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        Ok(PathStat {
            name: String::from_utf8_lossy(&asked.base).into_owned(),
            size: stat.st_size,
            mode: go_mode(&stat),
            mtime: Timestamp::from_unix(stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default())
                .to_string(),
            link_target: if is_link {
                self.link_target(&asked.path)?.display().to_string()
            } else {
                String::new()
            },
        })
    }

    pub(super) fn stat_of(&self, asked: &Asked) -> Result<Stat, ArchiveError> {
        let found = if asked.follow {
            self.root.stat(&asked.path)
        } else {
            self.root.entry(&asked.path).and_then(|entry| entry.stat())
        };
        found.map_err(|errno| Self::missing(&asked.path, errno))
    }

    /// Where a symlink leads, within the container. A link to nothing leads where it says.
    fn link_target(&self, path: &Path) -> Result<PathBuf, ArchiveError> {
        let target = match self.root.locate(path) {
            Ok(found) => crate::fsutil::real_path(&self.root, found.as_fd()),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                let text = self.root.entry(path).and_then(|entry| entry.readlink());
                text.map(|text| Asked::parse(&path.parent().unwrap_or(path).join(text)).path)
            }
            Err(errno) => Err(errno),
        };
        target.map(|target| Path::new("/").join(target)).map_err(|errno| Self::missing(path, errno))
    }
}

/// Go's os.FileMode.
fn go_mode(stat: &Stat) -> u32 {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        FileType::RegularFile => 0,
        FileType::Unknown => 1 << 19,
    };
    let bit = |mask: u32, go: u32| if stat.st_mode & mask != 0 { go } else { 0 };
    kind | stat.st_mode & 0o777 | bit(0o4000, 1 << 23) | bit(0o2000, 1 << 22) | bit(0o1000, 1 << 20)
}
