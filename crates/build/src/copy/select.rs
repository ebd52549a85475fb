//! From the words of a `COPY` to the files that they name.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{CopyError, at, checksum};
use crate::context::Context;
use crate::gopath;
use crate::ignore::Matcher;
use crate::rooted::{Errno, FileType, Root, Stat, list};

/// Files of one `COPY`; node_modules of a large project has some hundred thousand.
pub(super) const MAX_ENTRIES: usize = 1 << 21;

/// Where files come from: the context, or an image.
pub(crate) struct Source<'a> {
    /// Its root.
    pub root: &'a Root,
    /// What is not to be seen; only the context has this.
    pub ignore: Option<&'a Matcher>,
    /// What is not to be copied, seen from what is: `--exclude`.
    pub excludes: Option<&'a Matcher>,
    /// Hashes of files' contents that are known already.
    pub digests: Option<&'a Digests>,
    /// Names keep their directories: `--parents`.
    pub parents: bool,
}

/// SHA-256 of the contents of files, by their paths below the root.
pub type Digests = HashMap<PathBuf, [u8; 32]>;

impl<'a> Source<'a> {
    /// Everything below a root.
    pub(crate) fn all_of(root: &'a Root) -> Self {
        Self { root, ignore: None, excludes: None, digests: None, parents: false }
    }

    /// The files of a context that its ignore file leaves.
    pub(crate) fn of_context(context: &'a Context) -> Self {
        let (ignore, digests) = (Some(context.ignore()), context.digests());
        Self { ignore, digests, ..Self::all_of(context.root()) }
    }
}

/// One file or tree that a word names.
#[derive(Clone, Debug)]
pub(crate) struct Picked {
    /// As named, cleaned: its last name is the name of the copy.
    pub path: PathBuf,
    /// What it is.
    pub kind: PickedKind,
    /// `file:…` or `dir:…`.
    pub hash: String,
    /// With `--parents`: its path below the destination.
    pub under: Option<PathBuf>,
}

/// What is copied.
#[derive(Clone, Debug)]
pub(crate) enum PickedKind {
    /// One thing that is no directory, symlinks followed.
    File(Node),
    /// What is below a directory, parents before children. Symlinks are not followed.
    Tree(Vec<Node>),
    /// A file whose text stands in the Dockerfile.
    Text(Node, Vec<u8>),
}

/// A file, directory, link or device in a source.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Below the picked directory; empty for a file by itself.
    pub rel: PathBuf,
    /// Its status.
    pub meta: Meta,
    /// Where it points, for a link.
    pub target: Option<PathBuf>,
    /// File capabilities.
    pub capability: Option<Vec<u8>>,
}

/// What a copy keeps of a file's status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub kind: FileType,
    /// Permissions and set-id bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes, of a regular file.
    pub size: u64,
    /// Seconds since the epoch.
    pub mtime: i64,
    pub mtime_nanos: i64,
    /// Major and minor number, of a device.
    pub device: (u32, u32),
    /// Which file it is, when it has several names.
    pub shared: Option<(u64, u64)>,
}

impl Meta {
    /// A file of root's that anybody may read.
    pub(super) fn of_text(size: u64, mtime: i64) -> Self {
        Self {
            kind: FileType::RegularFile,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime,
            mtime_nanos: 0,
            device: (0, 0),
            shared: None,
        }
    }
}

impl From<&Stat> for Meta {
    fn from(stat: &Stat) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_file = kind == FileType::RegularFile;
        let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
        let numbers = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let has_names = kind != FileType::Directory && stat.st_nlink > 1;
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            mtime: stat.st_mtime,
            mtime_nanos: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            device: if is_device { numbers } else { (0, 0) },
            shared: has_names.then_some((stat.st_dev, stat.st_ino)),
        }
    }
}

/// The one extended attribute that a layer made by a build keeps.
pub(super) const CAPABILITY: &str = "security.capability";

impl Source<'_> {
    /// Everything that the words name, in their order, wildcards' matches sorted.
    pub(crate) fn select(&self, words: &[String]) -> Result<Vec<Picked>, CopyError> {
        let mut picked = Vec::new();
        for word in words {
            let (pivot, path) = self.pivot(word);
            let before = Path::new(&pivot);
            if !gopath::has_wildcards(&path) {
                picked.push(self.pick(Path::new(&gopath::clean(&path)), before)?);
                continue;
            }
            for found in self.wildcards(&path)? {
                picked.push(self.pick(&found, before)?);
            }
        }
        picked.retain(|one| !self.is_excluded_itself(one));
        if picked.is_empty() { Err(CopyError::Nothing) } else { Ok(picked) }
    }

    /// A word as a path below the root, and what of it `--parents` does not keep: `a/./b/c`.
    fn pivot(&self, word: &str) -> (String, String) {
        let path = word.strip_prefix('/').unwrap_or(word);
        let path = path.strip_prefix("./").unwrap_or(path);
        match path.split_once("/./") {
            Some((pivot, rest)) if self.parents => (gopath::clean(pivot), format!("{pivot}/{rest}")),
            _ => (String::new(), path.to_owned()),
        }
    }

    fn is_excluded_itself(&self, picked: &Picked) -> bool {
        let is_file = matches!(picked.kind, PickedKind::File(_));
        let name = picked.path.file_name().unwrap_or_default().to_string_lossy();
        is_file && self.excludes.is_some_and(|excludes| excludes.excludes(&name))
    }

    /// Paths that match, one component after the other; links to directories are not walked into.
    fn wildcards(&self, pattern: &str) -> Result<Vec<PathBuf>, CopyError> {
        let mut found = vec![PathBuf::new()];
        for component in pattern.split('/') {
            let bad = |source| CopyError::Pattern { pattern: pattern.to_owned(), source };
            gopath::matches(component, "").map_err(bad)?;
            let mut deeper = Vec::new();
            for dir in found {
                let mut names = self.names(&dir)?;
                names.sort();
                let fits =
                    |name: &OsString| gopath::matches(component, &name.to_string_lossy()).unwrap_or(false);
                deeper.extend(names.into_iter().filter(fits).map(|name| dir.join(name)));
            }
            found = deeper;
        }
        found.retain(|path| self.is_visible(path, || self.is_dir(path)));
        Ok(found)
    }

    /// The names in a directory; none where there is no directory.
    fn names(&self, dir: &Path) -> Result<Vec<OsString>, CopyError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.root.open_without_symlinks(dir, flags, Mode::empty()) {
            Ok(fd) => {
                Ok(list(fd.as_fd()).map_err(at("list", dir))?.into_iter().map(|(name, _)| name).collect())
            }
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(Vec::new()),
            Err(errno) => Err(at("open", dir)(errno)),
        }
    }

    fn is_dir(&self, path: &Path) -> bool {
        let is_dir = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        self.root.entry(path).and_then(|entry| entry.stat()).is_ok_and(is_dir)
    }

    /// A directory that is excluded may still hold files that are taken back in.
    fn is_visible(&self, path: &Path, is_dir: impl FnOnce() -> bool) -> bool {
        passes(self.ignore, path, is_dir)
    }

    /// One path without wildcards.
    fn pick(&self, path: &Path, before: &Path) -> Result<Picked, CopyError> {
        if path.starts_with("..") {
            return Err(CopyError::Outside(path.display().to_string()));
        }
        let missing = || {
            let name = path.display().to_string();
            if self.ignore.is_some() { CopyError::NotInContext(name) } else { CopyError::NotInImage(name) }
        };
        let under = self.parents.then(|| path.strip_prefix(before).unwrap_or(path).to_owned());
        let stat = match self.root.stat(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing()),
            stat => stat.map_err(at("stat", path))?,
        };
        let meta = Meta::from(&stat);
        let is_dir = meta.kind == FileType::Directory;
        if !self.is_visible(path, || is_dir) {
            return Err(missing());
        }
        if is_dir {
            let nodes = self.tree(path)?;
            if nodes.is_empty() && self.is_hidden(path) {
                return Err(missing());
            }
            let hash = checksum::tree(self, path, meta, &nodes)?;
            return Ok(Picked { path: path.to_owned(), kind: PickedKind::Tree(nodes), hash, under });
        }
        let node = Node { rel: PathBuf::new(), meta, target: None, capability: self.capability(path)? };
        let hash = checksum::file(self, path, &node)?;
        Ok(Picked { path: path.to_owned(), kind: PickedKind::File(node), hash, under })
    }

    fn is_hidden(&self, path: &Path) -> bool {
        self.ignore.is_some_and(|ignore| ignore.excludes(&path.to_string_lossy()))
    }

    /// File capabilities of what a path names, symlinks followed.
    fn capability(&self, path: &Path) -> Result<Option<Vec<u8>>, CopyError> {
        let fd = self.root.open_at(path, OFlags::PATH, Mode::empty()).map_err(at("open", path))?;
        read_capability(&fd).map_err(at("read capabilities of", path))
    }

    /// Everything below a directory, parents before children, sorted.
    fn tree(&self, top: &Path) -> Result<Vec<Node>, CopyError> {
        // The directory may be a link; what is below it is not followed any more.
        let dir = self.root.locate_dir(top).map_err(at("open", top))?;
        let root = Root::from_fd(dir);
        let mut nodes = Vec::new();
        let mut stack = vec![PathBuf::new()];
        while let Some(rel) = stack.pop() {
            if !rel.as_os_str().is_empty() {
                nodes.push(self.node(&root, top, &rel)?);
                if nodes.len() > MAX_ENTRIES {
                    return Err(CopyError::TooMany(top.display().to_string()));
                }
                if nodes.last().is_some_and(|node| node.meta.kind != FileType::Directory) {
                    continue;
                }
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let here = top.join(&rel);
            let fd = root.open_without_symlinks(&rel, flags, Mode::empty()).map_err(at("open", &here))?;
            let mut entries = list(fd.as_fd()).map_err(at("list", &here))?;
            // The stack gives back the last one first.
            entries.sort_by(|a, b| b.0.cmp(&a.0));
            for (name, kind) in entries {
                let rel = rel.join(&name);
                let is_dir = || kind == FileType::Directory;
                if self.is_visible(&below(top, &rel), is_dir) && passes(self.excludes, &rel, is_dir) {
                    stack.push(rel);
                }
            }
        }
        let take_back = |matcher: Option<&Matcher>| matcher.is_some_and(Matcher::has_exceptions);
        if take_back(self.ignore) || take_back(self.excludes) {
            self.drop_empty_excluded(top, &mut nodes);
        }
        Ok(nodes)
    }

    /// Directories that are excluded were only walked for files that are taken back in.
    fn drop_empty_excluded(&self, top: &Path, nodes: &mut Vec<Node>) {
        let mut kept: Vec<Node> = Vec::with_capacity(nodes.len());
        for node in nodes.drain(..).rev() {
            // Children come after their parents, so from the back a parent's children are the last kept.
            let has_child = kept.last().is_some_and(|child| child.rel.starts_with(&node.rel));
            let excluded = self.excludes.is_some_and(|e| e.excludes(&node.rel.to_string_lossy()));
            if has_child || !excluded && !self.is_hidden(&below(top, &node.rel)) {
                kept.push(node);
            }
        }
        kept.reverse();
        *nodes = kept;
    }

    fn node(&self, root: &Root, top: &Path, rel: &Path) -> Result<Node, CopyError> {
        let here = top.join(rel);
        let fd = root
            .open_without_symlinks(rel, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
            .map_err(at("open", &here))?;
        let meta = Meta::from(&rustix::fs::fstat(&fd).map_err(at("stat", &here))?);
        let target = match meta.kind {
            FileType::Symlink => Some(read_link(&fd).map_err(at("read link", &here))?),
            _ => None,
        };
        let capability = match meta.kind {
            FileType::RegularFile => read_capability(&fd).map_err(at("read capabilities of", &here))?,
            _ => None,
        };
        Ok(Node { rel: rel.to_owned(), meta, target, capability })
    }
}

fn passes(matcher: Option<&Matcher>, path: &Path, is_dir: impl FnOnce() -> bool) -> bool {
    let Some(matcher) = matcher else { return true };
    !matcher.excludes(&path.to_string_lossy()) || matcher.has_exceptions() && is_dir()
}

/// A path as the ignore file's patterns see it: `.` has no name of its own.
fn below(top: &Path, rel: &Path) -> PathBuf {
    if top == Path::new(".") { rel.to_owned() } else { top.join(rel) }
}

fn read_link(fd: &impl AsFd) -> Result<PathBuf, Errno> {
    use std::os::unix::ffi::OsStringExt;
    // An O_PATH handle of a link, and an empty path: the link itself.
    let text = rustix::fs::readlinkat(fd, "", Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(text.into_bytes())))
}

/// Longest value of a capability (`struct vfs_ns_cap_data` has 24 bytes).
const CAPABILITY_MAX: usize = 64;

fn read_capability(fd: &impl AsFd) -> Result<Option<Vec<u8>>, Errno> {
    use std::os::fd::AsRawFd;
    let mut value = vec![0; CAPABILITY_MAX];
    // An O_PATH handle has no fgetxattr; its /proc name stands for it alone.
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    match rustix::fs::getxattr(path, OsStr::new(CAPABILITY), value.as_mut_slice()) {
        Ok(len) => {
            value.truncate(len);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}
