//! Unpacking what a container sent. It is somebody else's data: no entry may reach outside the
//! destination, neither by its name nor through a link that an earlier entry made.

use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tar::{Archive, Entry, EntryType};

use super::path::renamed;

/// What went wrong, and at which entry.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExtractError {
    #[error("reading the archive: {0}")]
    Archive(#[source] io::Error),
    #[error("{0:?} would be written outside of the destination")]
    Outside(String),
    #[error("cannot overwrite {what} {path:?} with {with}")]
    Clash { path: PathBuf, what: &'static str, with: &'static str },
    #[error("writing {path:?}: {source}")]
    Write { path: PathBuf, source: io::Error },
}

/// Unpacks into `directory`; the first component of names is renamed. Returns the bytes of all
/// files.
pub(crate) fn extract(
    reader: impl Read,
    directory: &Path,
    rename: Option<&(String, String)>,
) -> Result<u64, ExtractError> {
    let directory = directory.canonicalize().map_err(at(directory))?;
    let mut archive = Archive::new(reader);
    // Contents change a directory's time, and may need it writable: its own come last.
    let mut finish = Vec::new();
    let mut total = 0;
    for entry in archive.entries().map_err(ExtractError::Archive)? {
        let mut entry = entry.map_err(ExtractError::Archive)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = renamed(name.trim_end_matches('/'), rename);
        let target = inside(&directory, &name)?;
        total += entry.size();
        if entry.header().entry_type() == EntryType::Directory {
            make_directory(&target)?;
            finish.push((target, entry.header().mode().unwrap_or(0o755), mtime(&entry)));
        } else {
            write_entry(&mut entry, &directory, &target, rename)?;
        }
    }
    for (path, mode, time) in finish.into_iter().rev() {
        let opened = File::open(&path).map_err(at(&path))?;
        opened.set_times(FileTimes::new().set_modified(time)).map_err(at(&path))?;
        fs::set_permissions(&path, Permissions::from_mode(mode & 0o7777)).map_err(at(&path))?;
    }
    Ok(total)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ExtractError + '_ {
    move |source| ExtractError::Write { path: path.to_owned(), source }
}

/// The path of a name below the destination. Its parent is resolved: a link that leads outside is
/// noticed here.
fn inside(directory: &Path, name: &str) -> Result<PathBuf, ExtractError> {
    let outside = || ExtractError::Outside(name.to_owned());
    let mut relative = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => relative.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    let Some(last) = relative.file_name() else { return Ok(directory.to_owned()) };
    let parent = directory.join(relative.parent().unwrap_or(Path::new("")));
    let parent = match parent.canonicalize() {
        Ok(parent) => parent,
        Err(_) => {
            make_parents(directory, relative.parent().unwrap_or(Path::new("")), name)?;
            parent.canonicalize().map_err(at(&parent))?
        }
    };
    if !parent.starts_with(directory) {
        return Err(outside());
    }
    Ok(parent.join(last))
}

/// Makes missing parents one by one, so that none is made behind a link that leads outside.
fn make_parents(directory: &Path, relative: &Path, name: &str) -> Result<(), ExtractError> {
    let mut here = directory.to_owned();
    for component in relative.components() {
        here.push(component);
        if here.symlink_metadata().is_err() {
            fs::create_dir(&here).map_err(at(&here))?;
        }
        let real = here.canonicalize().map_err(at(&here))?;
        if !real.starts_with(directory) {
            return Err(ExtractError::Outside(name.to_owned()));
        }
    }
    Ok(())
}

fn make_directory(path: &Path) -> Result<(), ExtractError> {
    match path.symlink_metadata() {
        Ok(old) if old.is_dir() => Ok(()),
        Ok(_) => Err(ExtractError::Clash { path: path.to_owned(), what: "non-directory", with: "directory" }),
        Err(_) => fs::create_dir(path).map_err(at(path)),
    }
}

fn write_entry<R: Read>(
    entry: &mut Entry<'_, R>,
    directory: &Path,
    target: &Path,
    rename: Option<&(String, String)>,
) -> Result<(), ExtractError> {
    if target.symlink_metadata().is_ok_and(|old| old.is_dir()) {
        return Err(ExtractError::Clash {
            path: target.to_owned(),
            what: "directory",
            with: "non-directory",
        });
    }
    let link = entry.link_name_bytes().map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    match entry.header().entry_type() {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => write_file(entry, target),
        EntryType::Symlink => {
            unlink(target)?;
            symlink(&link, target).map_err(at(target))
        }
        EntryType::Link => {
            let source = inside(directory, &renamed(&link, rename))?;
            unlink(target)?;
            fs::hard_link(&source, target).map_err(at(target))
        }
        other => {
            eprintln!("seacow: {} is left out: entries of type {other:?} are not copied", target.display());
            Ok(())
        }
    }
}

/// The old name goes first: writing into it could write through a link, or into a shared inode.
fn unlink(path: &Path) -> Result<(), ExtractError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(path)(e)),
        _ => Ok(()),
    }
}

fn write_file<R: Read>(entry: &mut Entry<'_, R>, target: &Path) -> Result<(), ExtractError> {
    unlink(target)?;
    let mut file = File::options().write(true).create_new(true).open(target).map_err(at(target))?;
    io::copy(entry, &mut file).map_err(at(target))?;
    let mode = entry.header().mode().unwrap_or(0o644) & 0o7777;
    file.set_permissions(Permissions::from_mode(mode)).map_err(at(target))?;
    file.set_times(FileTimes::new().set_modified(mtime(entry))).map_err(at(target))
}

fn mtime<R: Read>(entry: &Entry<'_, R>) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(entry.header().mtime().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::{Archive as Writer, Entry as Item, Kind};
    use super::*;

    fn item(name: &str, kind: Kind) -> Item {
        Item { name: name.to_owned(), kind, mode: 0o755, uid: 0, gid: 0, mtime: 1_000_000, capability: None }
    }

    fn unpack(
        items: Vec<Item>,
        rename: Option<(String, String)>,
    ) -> (tempfile::TempDir, Result<u64, ExtractError>) {
        let mut bytes = Vec::new();
        Writer::new(items.into_iter().map(Ok)).read_to_end(&mut bytes).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("to")).unwrap();
        let result = extract(bytes.as_slice(), &dir.path().join("to"), rename.as_ref());
        (dir, result)
    }

    #[test]
    fn trees_with_links_and_times() {
        let (dir, result) = unpack(
            vec![
                item("d", Kind::Directory),
                item("d/f", Kind::Bytes(b"abc".to_vec())),
                item("d/s", Kind::Symlink("f".into())),
                item("d/h", Kind::Hardlink("d/f".into())),
            ],
            Some(("d".into(), "new".into())),
        );
        assert_eq!(result.unwrap(), 3);
        let to = dir.path().join("to/new");
        assert_eq!(fs::read(to.join("s")).unwrap(), b"abc");
        assert_eq!(fs::read(to.join("h")).unwrap(), b"abc");
        let time = fs::metadata(&to).unwrap().modified().unwrap();
        assert_eq!(time.duration_since(UNIX_EPOCH).unwrap().as_secs(), 1_000_000);
    }

    #[test]
    fn nothing_gets_out() {
        for items in [
            vec![item("../x", Kind::Bytes(b"!".to_vec()))],
            vec![item("l", Kind::Symlink("..".into())), item("l/x", Kind::Bytes(b"!".to_vec()))],
            vec![item("l", Kind::Symlink("..".into())), item("l/sub/x", Kind::Bytes(b"!".to_vec()))],
            vec![item("l", Kind::Symlink("..".into())), item("h", Kind::Hardlink("l/secret".into()))],
        ] {
            let (dir, result) = unpack(items, None);
            assert!(matches!(result, Err(ExtractError::Outside(_))), "{result:?}");
            assert!(!dir.path().join("x").exists() && !dir.path().join("sub").exists());
        }
        // An absolute name is taken as relative.
        let (dir, result) = unpack(vec![item("/abs", Kind::Bytes(b"!".to_vec()))], None);
        assert!(result.is_ok() && dir.path().join("to/abs").exists());
    }

    #[test]
    fn files_replace_links_not_their_targets() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("victim"), "old").unwrap();
        fs::create_dir(dir.path().join("to")).unwrap();
        symlink("../victim", dir.path().join("to/f")).unwrap();
        let mut bytes = Vec::new();
        Writer::new([Ok(item("f", Kind::Bytes(b"new".to_vec())))].into_iter())
            .read_to_end(&mut bytes)
            .unwrap();
        extract(bytes.as_slice(), &dir.path().join("to"), None).unwrap();
        assert_eq!(fs::read(dir.path().join("victim")).unwrap(), b"old");
        assert_eq!(fs::read(dir.path().join("to/f")).unwrap(), b"new");
    }
}
