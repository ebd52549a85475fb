//! Puts members of a tar on the disk, below a root that nothing can leave.
//!
//! Used for layers (whiteouts become overlayfs's, what is replaced is kept for the recipe) and for
//! `docker cp` (whiteouts are plain files, what is replaced is gone). Every path is resolved by the
//! kernel within the root, so a symlink planted by an earlier entry leads nowhere else.

mod error;
mod whiteout;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use seacow_sys::Errno;
use seacow_sys::rooted::{Entry, Root};

pub use error::PlaceError;
use whiteout::WHITEOUT;

use crate::fsutil::attrs::{self, Attrs};
use crate::fsutil::copy::copy_content;
use crate::fsutil::ids::Ids;
use crate::tar::{Kind, Member, TarError, clean};

/// What differs between a layer and `docker cp`.
pub(crate) struct PlacePolicy<'a> {
    /// `.wh.` names are whiteouts, and the root's own entry counts.
    pub(crate) layer: bool,
    /// Where replaced things are kept, instead of being removed.
    pub(crate) keep: Option<Entry>,
    /// A directory and something else never replace each other.
    pub(crate) no_overwrite_dir_non_dir: bool,
    /// Owner of everything, instead of the archive's.
    pub(crate) owner: Option<(u32, u32)>,
    /// Whose ids owners are given in.
    pub(crate) ids: &'a Ids,
    /// Attributes of a directory that the archive implies but does not have.
    pub(crate) inherit: &'a (dyn Fn(&Path) -> Option<Attrs> + 'a),
    /// Longest file.
    pub(crate) max_file: u64,
    /// Bytes of the file system to leave free.
    pub(crate) reserve: u64,
}

/// Something replaced, which the recipe still refers to.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Replaced {
    /// How many non-empty contents had been placed before.
    pub(crate) after: u64,
    /// Where it was, bytes of the path.
    pub(crate) from: Vec<u8>,
    /// Its name among the kept things.
    pub(crate) name: String,
}

/// Places members, one after the other, then [`Place::finish`].
pub(crate) struct Place<'a> {
    root: &'a Root,
    base: PathBuf,
    policy: PlacePolicy<'a>,
    directory_times: Vec<(PathBuf, Timestamps)>,
    replaced: Vec<Replaced>,
    contents: u64,
    root_is_opaque: bool,
    has_root: bool,
    buffer: Vec<u8>,
    unchecked: u64,
    parent: Option<Parent>,
}

/// The directory of the last entry; archives keep a directory's entries together.
struct Parent {
    asked: PathBuf,
    dir: OwnedFd,
    /// Where it really is, symlinks resolved.
    real: PathBuf,
}

/// What is left to say when all is placed.
pub(crate) struct Placed {
    pub(crate) replaced: Vec<Replaced>,
    /// The layer hides everything below it.
    pub(crate) root_is_opaque: bool,
    /// The top directory had an entry of its own.
    pub(crate) has_root: bool,
}

/// Reads the present member's content.
pub(crate) type Content<'c> = dyn FnMut(&mut [u8]) -> Result<usize, TarError> + 'c;

/// Where a file's content comes from.
enum Source<'s, 'c> {
    /// The archive.
    Stream(&'s mut Content<'c>),
    /// Another file, with which it shares its extents where the file system can.
    File(&'s mut File),
}

const BUFFER: usize = 128 << 10;
/// How many bytes may be written before the free space is looked at again.
const CHECK_EVERY: u64 = 16 << 20;

impl<'a> Place<'a> {
    /// Below `base`, a path within `root`.
    pub(crate) fn new(root: &'a Root, base: &Path, policy: PlacePolicy<'a>) -> Self {
        Self {
            root,
            base: base.to_owned(),
            policy,
            directory_times: Vec::new(),
            replaced: Vec::new(),
            contents: 0,
            root_is_opaque: false,
            has_root: false,
            buffer: vec![0; BUFFER],
            unchecked: 0,
            parent: None,
        }
    }

    /// Places one member. For a file the answer is where its content lies, relative to the root.
    pub(crate) fn place(
        &mut self,
        member: &Member,
        content: &mut Content<'_>,
    ) -> Result<Option<PathBuf>, PlaceError> {
        self.place_from(member, &mut Source::Stream(content))
    }

    /// Places what is no file.
    pub(crate) fn place_empty(&mut self, member: &Member) -> Result<(), PlaceError> {
        self.place_from(member, &mut Source::Stream(&mut |_| Ok(0))).map(drop)
    }

    /// Places a copy of a file.
    pub(crate) fn place_copy(&mut self, member: &Member, of: &mut File) -> Result<(), PlaceError> {
        self.place_from(member, &mut Source::File(of)).map(drop)
    }

    fn place_from(
        &mut self,
        member: &Member,
        content: &mut Source<'_, '_>,
    ) -> Result<Option<PathBuf>, PlaceError> {
        let name = clean(&member.name).ok_or_else(|| PlaceError::Escapes {
            entry: member.display(),
            what: "the name",
            path: member.display(),
        })?;
        let path = self.base.join(path_of(name));
        if path == self.base {
            return self.place_root(member).map(|()| None);
        }
        let entry = self.entry(member, &path)?;
        if self.policy.layer && entry.name().as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(member, &entry, &path).map(|()| None);
        }
        let was_deleted = self.make_room(member, &entry)?;
        match member.kind {
            Kind::File => return self.file(member, &entry, content).map(Some),
            Kind::Directory => self.directory(member, &entry, &path, was_deleted)?,
            Kind::HardLink => self.hard_link(member, &entry)?,
            Kind::Symlink => {
                let target = Path::new(OsStr::from_bytes(&member.link));
                entry.symlink(target).map_err(step(member, "make the symlink"))?;
                self.attributes(member, &entry)?;
            }
            Kind::CharDevice => self.node(member, &entry, FileType::CharacterDevice)?,
            Kind::BlockDevice => self.node(member, &entry, FileType::BlockDevice)?,
            Kind::Fifo => self.node(member, &entry, FileType::Fifo)?,
        }
        Ok(None)
    }

    /// Sets the directories' times, which every entry in them has changed.
    pub(crate) fn finish(self) -> Result<Placed, PlaceError> {
        for (path, times) in &self.directory_times {
            match self.root.entry(path).and_then(|entry| entry.utimens(times)) {
                // Replaced by something else since.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => {
                    let entry = path.display().to_string();
                    return Err(PlaceError::Io { entry, step: "set the times", source: errno.into() });
                }
            }
        }
        Ok(Placed { replaced: self.replaced, root_is_opaque: self.root_is_opaque, has_root: self.has_root })
    }

    fn place_root(&mut self, member: &Member) -> Result<(), PlaceError> {
        if member.kind != Kind::Directory {
            let reason = "the root is a directory";
            return Err(PlaceError::Meaningless { entry: member.display(), reason });
        }
        if !self.policy.layer {
            return Ok(());
        }
        let entry = self.root.entry(&self.base).map_err(step(member, "open the root"))?;
        self.attributes(member, &entry)?;
        self.directory_times.push((self.base.clone(), times(member)));
        self.has_root = true;
        Ok(())
    }

    /// The entry in its directory, which is made when the archive only implies it.
    fn entry(&mut self, member: &Member, path: &Path) -> Result<Entry, PlaceError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default();
        if self.parent.as_ref().is_none_or(|known| known.asked != parent) {
            let dir = match self.locate(parent) {
                Err(Errno::NOENT) => {
                    self.make_parents(member, parent)?;
                    self.locate(parent)
                }
                found => found,
            };
            self.parent = Some(dir.map_err(step(member, "open its directory"))?);
        }
        let Some(known) = &self.parent else {
            return Err(step(member, "open its directory")(Errno::NOENT));
        };
        rustix::io::fcntl_dupfd_cloexec(&known.dir, 3)
            .and_then(|dir| Entry::in_dir(dir, name))
            .map_err(step(member, "open its directory"))
    }

    fn locate(&self, path: &Path) -> Result<Parent, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.root.open_without_symlinks(path, flags, Mode::empty()) {
            Ok(dir) => Ok(Parent { asked: path.to_owned(), dir, real: path.to_owned() }),
            Err(Errno::LOOP) => {
                let dir = self.root.locate_dir(path)?;
                let real = crate::fsutil::real_path(self.root, dir.as_fd())?;
                Ok(Parent { asked: path.to_owned(), dir, real })
            }
            Err(errno) => Err(errno),
        }
    }

    fn make_parents(&mut self, member: &Member, parent: &Path) -> Result<(), PlaceError> {
        let mut prefix = PathBuf::new();
        for component in parent.components() {
            prefix.push(component);
            match self.root.locate_dir(&prefix) {
                Ok(_) => continue,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(step(member, "open its directory")(errno)),
            }
            let make = || -> Result<Option<Attrs>, Errno> {
                let entry = self.root.entry(&prefix)?;
                entry.mkdir(Mode::from_raw_mode(0o755))?;
                let below = prefix.strip_prefix(&self.base).unwrap_or(&prefix);
                let inherited = (self.policy.inherit)(below);
                let (uid, gid) = self.policy.ids.outside(self.policy.owner.unwrap_or((0, 0)))?;
                let new = || Attrs { mode: 0o755, uid, gid, mtime: None, xattrs: Vec::new() };
                let attrs = inherited.unwrap_or_else(new);
                attrs::apply(&entry, &attrs)?;
                Ok(Some(attrs))
            };
            let made = make().map_err(step(member, "make its directory"))?;
            if let Some(mtime) = made.and_then(|attrs| attrs.mtime) {
                self.directory_times.push((prefix.clone(), attrs::modified(mtime)));
            }
        }
        Ok(())
    }

    /// Clears the entry's place. True when the archive has deleted what the layers below have there.
    fn make_room(&mut self, member: &Member, entry: &Entry) -> Result<bool, PlaceError> {
        let stat = match entry.stat() {
            Err(Errno::NOENT) => return Ok(false),
            found => found.map_err(step(member, "look at what is there"))?,
        };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let wants_dir = member.kind == Kind::Directory;
        if self.policy.no_overwrite_dir_non_dir && is_dir != wants_dir {
            let path = Path::new("/").join(self.real(entry)).display().to_string();
            let entry = member.display();
            return Err(if is_dir {
                PlaceError::OverDirectory { path, entry }
            } else {
                PlaceError::OverNonDirectory { path, entry }
            });
        }
        if is_dir && wants_dir {
            return Ok(false);
        }
        if self.policy.layer && attrs::is_whiteout(&stat) {
            entry.unlink().map_err(step(member, "replace what is there"))?;
            return Ok(true);
        }
        self.replace(member, entry)?;
        Ok(false)
    }

    fn replace(&mut self, member: &Member, entry: &Entry) -> Result<(), PlaceError> {
        let keep_in = self.policy.keep.as_ref();
        let done = match keep_in {
            None => entry.remove_tree(),
            Some(keep) => {
                let name = self.replaced.len().to_string();
                let from = self.real(entry).into_os_string().into_vec();
                let moved = open_or_make(keep)
                    .and_then(|dir| Entry::in_dir(dir, OsStr::new(&name)))
                    .and_then(|target| entry.rename_to_new(&target));
                self.replaced.push(Replaced { after: self.contents, from, name });
                moved
            }
        };
        // A directory that moved may be the one we hold.
        if entry.name() == OsStr::new(".") || self.policy.keep.is_some() {
            self.parent_may_have_moved();
        }
        done.map_err(step(member, "replace what is there"))
    }

    fn parent_may_have_moved(&mut self) {
        // The entry's own directory is still where it was; one below the moved entry is not.
        self.parent = None;
    }

    /// The entry's path below the root, symlinks in it resolved.
    fn real(&self, entry: &Entry) -> PathBuf {
        match &self.parent {
            Some(parent) => parent.real.join(entry.name()),
            None => PathBuf::from(entry.name()),
        }
    }

    fn file(
        &mut self,
        member: &Member,
        entry: &Entry,
        content: &mut Source<'_, '_>,
    ) -> Result<PathBuf, PlaceError> {
        self.check_room(member)?;
        let fd = entry.create_new(Mode::from_raw_mode(0o600)).map_err(step(member, "create the file"))?;
        let mut file = File::from(fd);
        match content {
            Source::Stream(content) => self.write(member, &mut file, content)?,
            Source::File(from) => {
                copy_content(from, &mut file).map_err(step(member, "copy the file"))?;
            }
        }
        let (uid, gid) = self.owner(member)?;
        rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(step(member, "set the owner"))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(member.mode)).map_err(step(member, "set the mode"))?;
        attrs::set_xattrs_fd(file.as_fd(), &member.xattrs).map_err(step(member, "set an attribute"))?;
        rustix::fs::futimens(&file, &times(member)).map_err(step(member, "set the times"))?;
        if member.stored > 0 {
            self.contents += 1;
        }
        let dir = rustix::io::fcntl_dupfd_cloexec(entry.dir(), 3).map_err(step(member, "name the file"))?;
        let real = match &self.parent {
            Some(parent) => parent.real.clone(),
            None => {
                crate::fsutil::real_path(self.root, dir.as_fd()).map_err(step(member, "name the file"))?
            }
        };
        Ok(real.join(entry.name()))
    }

    fn write(
        &mut self,
        member: &Member,
        file: &mut File,
        content: &mut Content<'_>,
    ) -> Result<(), PlaceError> {
        let Some(map) = &member.sparse else {
            loop {
                let len = content(&mut self.buffer)?;
                if len == 0 {
                    return Ok(());
                }
                file.write_all(&self.buffer[..len]).map_err(step(member, "write the file"))?;
            }
        };
        file.set_len(map.size).map_err(step(member, "write the file"))?;
        for segment in &map.segments {
            file.seek(io::SeekFrom::Start(segment.offset)).map_err(step(member, "write the file"))?;
            let mut left = segment.len;
            while left > 0 {
                let want = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
                let len = content(&mut self.buffer[..want])?;
                if len == 0 {
                    return Err(TarError::Truncated(format!("{:?}", member.display())).into());
                }
                file.write_all(&self.buffer[..len]).map_err(step(member, "write the file"))?;
                left -= len as u64;
            }
        }
        Ok(())
    }

    /// Refuses what would fill the disk, before it does.
    fn check_room(&mut self, member: &Member) -> Result<(), PlaceError> {
        if member.size() > self.policy.max_file {
            let (entry, need) = (member.display(), member.size());
            return Err(PlaceError::NoSpace { entry, need, free: self.policy.max_file });
        }
        self.unchecked += member.stored;
        if self.unchecked < CHECK_EVERY {
            return Ok(());
        }
        self.unchecked = 0;
        let stat = rustix::fs::fstatvfs(self.root.as_fd()).map_err(step(member, "look at the free space"))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(self.policy.reserve);
        if member.stored > free {
            return Err(PlaceError::NoSpace { entry: member.display(), need: member.stored, free });
        }
        Ok(())
    }

    fn directory(
        &mut self,
        member: &Member,
        entry: &Entry,
        path: &Path,
        was_deleted: bool,
    ) -> Result<(), PlaceError> {
        match entry.mkdir(Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(step(member, "make the directory")(errno)),
        }
        if was_deleted {
            attrs::set_opaque(entry).map_err(step(member, "hide what is below"))?;
        }
        self.attributes(member, entry)?;
        self.directory_times.push((path.to_owned(), times(member)));
        Ok(())
    }

    fn hard_link(&mut self, member: &Member, entry: &Entry) -> Result<(), PlaceError> {
        let target = clean(&member.link).filter(|target| !target.is_empty());
        let target = target.ok_or_else(|| PlaceError::Escapes {
            entry: member.display(),
            what: "the link's target",
            path: String::from_utf8_lossy(&member.link).into_owned(),
        })?;
        self.root
            .entry(&self.base.join(path_of(target)))
            .and_then(|original| entry.link_from(&original))
            .map_err(step(member, "make the hard link"))
    }

    fn node(&mut self, member: &Member, entry: &Entry, kind: FileType) -> Result<(), PlaceError> {
        let (major, minor) = member.device;
        entry
            .mknod(kind, Mode::from_raw_mode(0o600), major, minor)
            .map_err(step(member, "make the device or pipe"))?;
        self.attributes(member, entry)
    }

    /// Whose it will be, as the host knows him.
    fn owner(&self, member: &Member) -> Result<(u32, u32), PlaceError> {
        let wanted = self.policy.owner.unwrap_or((member.uid, member.gid));
        self.policy
            .ids
            .outside(wanted)
            .map_err(step(member, "find the owner in the container's user namespace"))
    }

    /// Owner, mode, attributes, times, in the order in which they do not undo each other.
    fn attributes(&self, member: &Member, entry: &Entry) -> Result<(), PlaceError> {
        let (uid, gid) = self.owner(member)?;
        entry.chown(uid, gid).map_err(step(member, "set the owner"))?;
        if member.kind != Kind::Symlink {
            entry.chmod(Mode::from_raw_mode(member.mode)).map_err(step(member, "set the mode"))?;
        }
        attrs::set_xattrs(entry, &member.xattrs).map_err(step(member, "set an attribute"))?;
        entry.utimens(&times(member)).map_err(step(member, "set the times"))
    }
}

fn open_or_make(entry: &Entry) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match entry.open(flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            entry.mkdir(Mode::from_raw_mode(0o700))?;
            entry.open(flags, Mode::empty())
        }
        opened => opened,
    }
}

fn times(member: &Member) -> Timestamps {
    let (seconds, nanos) = member.mtime;
    attrs::modified(Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) })
}

pub(crate) fn path_of(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn step<E: Into<io::Error>>(member: &Member, step: &'static str) -> impl Fn(E) -> PlaceError {
    let entry = member.display();
    move |error| PlaceError::Io { entry: entry.clone(), step, source: error.into() }
}
