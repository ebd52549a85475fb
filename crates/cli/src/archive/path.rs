//! What `cp`'s paths mean. A closing `/` or `/.` says "directory"; and the same copy has another
//! result depending on what is at its destination.

use crate::opts::volume::clean;

/// One end of a copy, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) path: String,
    pub(crate) exists: bool,
    pub(crate) is_dir: bool,
    /// The name that the user gave a source which was found behind a link.
    pub(crate) rebase: Option<String>,
}

/// A copy that cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum CopyError {
    #[error("cannot copy directory")]
    DirectoryToFile,
    #[error("no such directory")]
    NoDirectory,
}

/// Where an archive goes, and how its top name changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Prepared {
    pub(crate) directory: String,
    /// (old first component, new one)
    pub(crate) rename: Option<(String, String)>,
}

pub(crate) fn ends_in_slash(path: &str) -> bool {
    path.ends_with('/')
}

/// `x/.`, `.`: the contents of a directory.
pub(crate) fn names_contents(path: &str) -> bool {
    path.rsplit('/').next() == Some(".")
}

pub(crate) fn asserts_directory(path: &str) -> bool {
    ends_in_slash(path) || names_contents(path)
}

/// Go's `filepath.Base`.
pub(crate) fn base(path: &str) -> String {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        _ if path.is_empty() => ".".to_owned(),
        Some("") | None => "/".to_owned(),
        Some(base) => base.to_owned(),
    }
}

/// Directory and last entry; the entry is `.` where the path names a directory's contents.
pub(crate) fn split(path: &str) -> (String, String) {
    let mut cleaned = clean(path);
    if names_contents(path) && !names_contents(&cleaned) {
        cleaned.push_str("/.");
    }
    match cleaned.rsplit_once('/') {
        Some(("", base)) => ("/".to_owned(), base.to_owned()),
        Some((directory, base)) => (directory.to_owned(), base.to_owned()),
        None => (".".to_owned(), cleaned),
    }
}

/// Makes a path absolute, and keeps what its end says.
pub(crate) fn absolute(path: &str) -> String {
    keep_end(crate::opts::volume::absolute(path), path)
}

/// Gives a cleaned path the end (`/` or `/.`) of the one it was made from.
pub(crate) fn keep_end(mut cleaned: String, original: &str) -> String {
    if names_contents(original) && !names_contents(&cleaned) {
        cleaned.push_str(if ends_in_slash(&cleaned) { "." } else { "/." });
    }
    if ends_in_slash(original) && !ends_in_slash(&cleaned) {
        cleaned.push('/');
    }
    cleaned
}

/// The end behind a link, and the name the copy keeps if that differs.
pub(crate) fn rebase(original: &str, resolved: String) -> (String, Option<String>) {
    let resolved = keep_end(resolved, original);
    let name = (base(original) != base(&resolved)).then(|| base(original));
    (resolved, name)
}

/// Decides from both ends where the source's archive is unpacked and what it is called there.
pub(crate) fn prepare(source: &End, destination: &End) -> Result<Prepared, CopyError> {
    if destination.exists && destination.is_dir {
        return Ok(Prepared { directory: destination.path.clone(), rename: None });
    }
    if destination.exists && source.is_dir {
        return Err(CopyError::DirectoryToFile);
    }
    if !destination.exists && !source.is_dir && asserts_directory(&destination.path) {
        return Err(CopyError::NoDirectory);
    }
    let (directory, new) = split(&destination.path);
    let (_, old) = split(&source.path);
    let old = match (&source.rebase, source.is_dir || destination.exists) {
        (Some(name), true) => name.clone(),
        _ => old,
    };
    Ok(Prepared { directory, rename: Some((old, new)) })
}

/// An entry's name after the rename of its first component.
pub(crate) fn renamed(name: &str, rename: Option<&(String, String)>) -> String {
    let Some((old, new)) = rename else { return name.to_owned() };
    match name.strip_prefix(old.as_str()) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{new}{rest}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(path: &str, exists: bool, is_dir: bool) -> End {
        End { path: path.to_owned(), exists, is_dir, rebase: None }
    }

    fn prepared(
        source: (&str, bool),
        destination: (&str, bool, bool),
    ) -> Result<(String, Option<String>), CopyError> {
        let source = end(source.0, true, source.1);
        let destination = end(destination.0, destination.1, destination.2);
        prepare(&source, &destination)
            .map(|p| (p.directory, p.rename.map(|(old, new)| format!("{old}->{new}"))))
    }

    #[test]
    fn the_table_of_cases() {
        let ok =
            |directory: &str, rename: Option<&str>| Ok((directory.to_owned(), rename.map(str::to_owned)));
        // file to: nothing, nothing/, file, directory
        assert_eq!(prepared(("/s/f", false), ("/d/new", false, false)), ok("/d", Some("f->new")));
        assert_eq!(prepared(("/s/f", false), ("/d/new/", false, false)), Err(CopyError::NoDirectory));
        assert_eq!(prepared(("/s/f", false), ("/d/old", true, false)), ok("/d", Some("f->old")));
        assert_eq!(prepared(("/s/f", false), ("/d", true, true)), ok("/d", None));
        // directory to: nothing, file, directory
        assert_eq!(prepared(("/s/dir", true), ("/d/new/", false, false)), ok("/d", Some("dir->new")));
        assert_eq!(prepared(("/s/dir/.", true), ("/d/new", false, false)), ok("/d", Some(".->new")));
        assert_eq!(prepared(("/s/dir", true), ("/d/old", true, false)), Err(CopyError::DirectoryToFile));
        assert_eq!(prepared(("/s/dir", true), ("/d", true, true)), ok("/d", None));
        assert_eq!(prepared(("/s/f", false), ("/new", false, false)), ok("/", Some("f->new")));
    }

    #[test]
    fn ends_of_paths() {
        assert_eq!(split("/a/b/"), ("/a".into(), "b".into()));
        assert_eq!(split("/a/b/."), ("/a/b".into(), ".".into()));
        assert_eq!(split("a"), (".".into(), "a".into()));
        assert_eq!(absolute("/a//b/./"), "/a/b/");
        assert_eq!(rebase("/x/link", "/y/target".into()), ("/y/target".into(), Some("link".into())));
        assert_eq!(rebase("/x/link/.", "/y/t".into()).0, "/y/t/.");
        assert_eq!(renamed("dir/f", Some(&("dir".into(), "new".into()))), "new/f");
        assert_eq!(renamed("dirx", Some(&("dir".into(), "new".into()))), "dirx");
        assert_eq!(renamed("./f", Some(&(".".into(), "new".into()))), "new/f");
    }
}
