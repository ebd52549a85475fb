//! What lies below an upper directory, seen as overlayfs merges it, without mounting anything.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Stat};
use seacow_sys::Errno;

use super::attrs;

/// One layer's part of a merged directory.
#[derive(Clone, Debug)]
pub(crate) struct LowerDir {
    pub(crate) path: PathBuf,
    /// Device that is not left: other file systems mounted in the host's root are not in its view.
    device: Option<u64>,
}

impl LowerDir {
    /// A layer's own directory.
    pub(crate) fn layer(path: PathBuf) -> Self {
        Self { path, device: None }
    }

    /// A root file system without what is mounted in it.
    pub(crate) fn without_mounts(path: PathBuf) -> Result<Self, Errno> {
        let device = rustix::fs::lstat(&path)?.st_dev;
        Ok(Self { path, device: Some(device) })
    }
}

/// Something in the merged view.
#[derive(Debug)]
pub(crate) struct Below {
    pub(crate) stat: Stat,
    /// Where the topmost one is.
    pub(crate) path: PathBuf,
    /// All parts, when it is a directory.
    pub(crate) dirs: Vec<LowerDir>,
}

impl Below {
    pub(crate) fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }
}

/// The merged view of layers, topmost first.
#[derive(Debug)]
pub(crate) struct Lowers {
    roots: Vec<LowerDir>,
    known: HashMap<PathBuf, Vec<LowerDir>>,
}

impl Lowers {
    pub(crate) fn new(roots: Vec<LowerDir>) -> Self {
        Self { roots, known: HashMap::new() }
    }

    pub(crate) fn roots(&self) -> &[LowerDir] {
        &self.roots
    }

    /// Lays everything over one more directory.
    pub(crate) fn append(&mut self, root: LowerDir) {
        self.roots.push(root);
        self.known.clear();
    }

    /// What is at a path relative to the root; no symlink is followed.
    pub(crate) fn find(&mut self, path: &Path) -> Result<Option<Below>, Errno> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
        let dirs = self.dirs(parent)?;
        child(&dirs, name)
    }

    /// The parts of a merged directory; none when it is no directory.
    pub(crate) fn dirs(&mut self, path: &Path) -> Result<Vec<LowerDir>, Errno> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(self.roots.clone());
        };
        if let Some(known) = self.known.get(path) {
            return Ok(known.clone());
        }
        let above = self.dirs(parent)?;
        let dirs = child(&above, name)?.map(|below| below.dirs).unwrap_or_default();
        self.known.insert(path.to_owned(), dirs.clone());
        Ok(dirs)
    }

    /// Has the directory at `path` be merged with another one: overlayfs's redirect. To be called before
    /// anything below it is asked for.
    pub(crate) fn follow(&mut self, path: &Path, redirect: &[u8]) -> Result<(), Errno> {
        let dirs = self.redirected(path, redirect)?.map(|below| below.dirs).unwrap_or_default();
        self.known.insert(path.to_owned(), dirs);
        Ok(())
    }

    /// What a redirect at `path` leads to: a path from the root of the layers as they are, or a name in
    /// the same directory.
    pub(crate) fn redirected(&mut self, path: &Path, redirect: &[u8]) -> Result<Option<Below>, Errno> {
        let target = crate::layer::path_of(redirect.to_vec());
        let Ok(from_root) = target.strip_prefix("/") else {
            let dirs = self.dirs(path.parent().unwrap_or(Path::new("")))?;
            return child(&dirs, target.as_os_str());
        };
        let mut dirs = self.roots.clone();
        let mut found = None;
        for name in from_root.iter() {
            found = child(&dirs, name)?;
            dirs = found.as_ref().map(|below| below.dirs.clone()).unwrap_or_default();
        }
        Ok(found)
    }

    /// The directory that a path leads to, symlinks followed as they are in a container; `None` where it
    /// leads to nothing or to something else.
    pub(crate) fn resolve_dir(&mut self, path: &Path) -> Result<Option<PathBuf>, Errno> {
        let mut rest: Vec<OsString> = parts(path);
        let (mut found, mut links) = (PathBuf::new(), 0);
        while let Some(name) = rest.pop() {
            if name == ".." {
                found.pop();
                continue;
            }
            let Some(below) = self.find(&found.join(&name))? else { return Ok(None) };
            match FileType::from_raw_mode(below.stat.st_mode) {
                FileType::Directory => found.push(name),
                FileType::Symlink if links < MAX_LINKS => {
                    links += 1;
                    let text = rustix::fs::readlink(&below.path, Vec::new())?;
                    let target = crate::layer::path_of(text.into_bytes());
                    if target.is_absolute() {
                        found.clear();
                    }
                    rest.extend(parts(&target));
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// The names in a merged directory, sorted.
    pub(crate) fn names(&mut self, path: &Path) -> Result<Vec<OsString>, Errno> {
        let dirs = self.dirs(path)?;
        let mut names = Vec::new();
        for dir in &dirs {
            let root = seacow_sys::rooted::Root::open(&dir.path)?;
            names.extend(
                seacow_sys::rooted::list(std::os::fd::AsFd::as_fd(&root))?.into_iter().map(|(name, _)| name),
            );
        }
        names.sort_unstable();
        names.dedup();
        let mut out = Vec::new();
        for name in names {
            if child(&dirs, &name)?.is_some() {
                out.push(name);
            }
        }
        Ok(out)
    }
}

/// As many symlinks as the kernel follows in one path.
const MAX_LINKS: usize = 40;

/// Names of a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.rev().map(|part| part.as_os_str().to_owned()).collect()
}

/// Looks a name up as overlayfs does: a whiteout or a file ends the search, a directory goes on
/// into the layers below unless it is opaque.
fn child(dirs: &[LowerDir], name: &OsStr) -> Result<Option<Below>, Errno> {
    let mut found: Option<Below> = None;
    for dir in dirs {
        let path = dir.path.join(name);
        let stat = match rustix::fs::lstat(&path) {
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            stat => stat?,
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if attrs::is_whiteout(&stat) || (found.is_some() && !is_dir) {
            break;
        }
        let leaves = dir.device.is_some_and(|device| device != stat.st_dev);
        let part = LowerDir { path: path.clone(), device: dir.device };
        let below = found.get_or_insert_with(|| Below { stat, path, dirs: Vec::new() });
        if !is_dir {
            break;
        }
        if !leaves {
            let ends = attrs::is_opaque_at(&part.path)?;
            below.dirs.push(part);
            if ends {
                break;
            }
        }
    }
    Ok(found)
}
