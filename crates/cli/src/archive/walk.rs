//! Local files as archive entries: a tree in sorted order, hard links kept.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::ignore::Ignore;
use super::{Entry, Kind};

/// Whose the entries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// As on this machine.
    Kept,
    /// root's, as in every build context.
    Root,
}

/// Walks a directory (or names a single file), parents before their contents.
pub(crate) struct Walk {
    root: PathBuf,
    /// Names to visit, the next one last: the name in the archive and the path below `root`.
    stack: Vec<(String, PathBuf)>,
    owner: Owner,
    ignore: Ignore,
    /// First name of every inode that has several.
    links: HashMap<(u64, u64), String>,
}

impl Walk {
    /// Everything below `root/base`, named `name/…` in the archive. `.` as a base names the
    /// contents of `root` itself.
    pub(crate) fn new(root: &Path, base: &str, name: &str, owner: Owner) -> Self {
        Self {
            root: root.to_owned(),
            stack: vec![(name.to_owned(), PathBuf::from(base))],
            owner,
            ignore: Ignore::default(),
            links: HashMap::new(),
        }
    }

    /// The contents of a directory without the directory itself, less what `ignore` leaves out.
    pub(crate) fn context(root: &Path, ignore: Ignore) -> io::Result<Self> {
        let mut walk = Self { ignore, ..Self::new(root, ".", ".", Owner::Root) };
        walk.stack.clear();
        walk.push_children(Path::new(""), "")?;
        Ok(walk)
    }

    fn push_children(&mut self, relative: &Path, name: &str) -> io::Result<()> {
        let directory = self.root.join(relative);
        let failed = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", directory.display()));
        let mut names = Vec::new();
        for child in std::fs::read_dir(&directory).map_err(failed)? {
            let child = child.map_err(failed)?.file_name();
            let text = child.to_str().ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the name of a file in {} is not UTF-8", directory.display()),
                )
            })?;
            names.push(text.to_owned());
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        for child in names {
            let in_archive = match name {
                "" => child.clone(),
                "." => format!("./{child}"),
                name => format!("{}/{child}", name.trim_end_matches('/')),
            };
            self.stack.push((in_archive, relative.join(child)));
        }
        Ok(())
    }

    fn visit(&mut self, name: String, relative: &Path) -> io::Result<Option<Entry>> {
        let path = self.root.join(relative);
        let lost = |e: io::Error| io::Error::new(e.kind(), format!("lstat {}: {e}", path.display()));
        let metadata = path.symlink_metadata().map_err(lost)?;
        let left_out = self.ignore.leaves_out(&relative.to_string_lossy());
        if metadata.is_dir() && (!left_out || self.ignore.may_keep_below(&relative.to_string_lossy())) {
            self.push_children(relative, &name)?;
        }
        if left_out {
            return Ok(None);
        }
        let Some(kind) = self.kind(&name, &path, &metadata)? else { return Ok(None) };
        let (uid, gid) = match self.owner {
            Owner::Kept => (u64::from(metadata.uid()), u64::from(metadata.gid())),
            Owner::Root => (0, 0),
        };
        let capability = if matches!(kind, Kind::File { .. }) { capability(&path) } else { None };
        let mtime = u64::try_from(metadata.mtime()).unwrap_or(0);
        Ok(Some(Entry { name, kind, mode: metadata.mode() & 0o7777, uid, gid, mtime, capability }))
    }

    /// `None` for what cannot be in an archive (sockets).
    fn kind(&mut self, name: &str, path: &Path, metadata: &Metadata) -> io::Result<Option<Kind>> {
        let file_type = metadata.file_type();
        if !file_type.is_dir() && metadata.nlink() > 1 {
            let inode = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&inode) {
                return Ok(Some(Kind::Hardlink(first.clone())));
            }
            self.links.insert(inode, name.to_owned());
        }
        if file_type.is_file() {
            return Ok(Some(Kind::File { source: path.to_owned(), size: metadata.len() }));
        }
        if file_type.is_dir() {
            return Ok(Some(Kind::Directory));
        }
        if file_type.is_symlink() {
            let target = std::fs::read_link(path)?;
            return Ok(Some(Kind::Symlink(target.to_string_lossy().into_owned())));
        }
        if file_type.is_fifo() {
            return Ok(Some(Kind::Fifo));
        }
        if file_type.is_socket() {
            return Ok(None);
        }
        let device = metadata.rdev();
        Ok(Some(Kind::Device {
            character: file_type.is_char_device(),
            major: rustix::fs::major(device),
            minor: rustix::fs::minor(device),
        }))
    }
}

/// Longest `security.capability` there is (version 3 has 24 bytes).
const CAPABILITY: usize = 64;

fn capability(path: &Path) -> Option<Vec<u8>> {
    let mut value = [0_u8; CAPABILITY];
    let n = rustix::fs::lgetxattr(path, "security.capability", &mut value[..]).ok()?;
    Some(value[..n].to_vec())
}

impl Iterator for Walk {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some((name, relative)) = self.stack.pop() {
            match self.visit(name, &relative) {
                Ok(Some(entry)) => return Some(Ok(entry)),
                Ok(None) => {}
                Err(e) => return Some(Err(e)),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_with_links_and_without_the_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("b/keep")).unwrap();
        std::fs::create_dir(root.join("c")).unwrap();
        for file in ["a", "b/x.log", "b/keep/y.log", "b/z", "c/q"] {
            std::fs::write(root.join(file), file).unwrap();
        }
        std::fs::hard_link(root.join("a"), root.join("l")).unwrap();
        let ignore = Ignore::parse("**/*.log\n!b/keep/*.log\nc\n");
        let walk = Walk::context(root, ignore).unwrap();
        let entries: Vec<Entry> = walk.map(Result::unwrap).collect();
        let names: Vec<&str> = entries.iter().map(|e| e.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "b/keep", "b/keep/y.log", "b/z", "l"]);
        assert_eq!(entries[5].kind, Kind::Hardlink("a".to_owned()));
    }

    #[test]
    fn names_of_copies() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/f"), "").unwrap();
        let names = |base: &str, name: &str| -> Vec<String> {
            Walk::new(dir.path(), base, name, Owner::Kept).map(|e| e.unwrap().name).collect()
        };
        assert_eq!(names("d", "new"), ["new", "new/f"]);
        assert_eq!(names("d/.", "."), [".", "./f"]);
    }
}
