//! `ADD` of what has to be fetched: files over HTTP, git repositories.

use std::io::Read as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use seacow_spec::id::hex;
use sha2::{Digest as _, Sha256};

use super::Site;
use crate::build::Run;
use crate::copy::CopyError;
use crate::dockerfile::CopyArgs;
use crate::error::BuildError;
use crate::executor::{Fetched, Remote};
use crate::gopath;
use crate::options::{is_git, is_url};
use crate::rooted::Root;

/// Hex digits of a whole commit id: SHA-1's and SHA-256's.
const COMMIT_LENGTHS: [usize; 2] = [40, 64];

/// One thing to be fetched.
#[derive(Debug)]
pub(super) struct Place {
    remote: Remote,
    /// As written.
    text: String,
}

/// The remote thing that a word names, if it does.
pub(super) fn place(
    site: &Site,
    args: &CopyArgs,
    word: &str,
    dest: &str,
) -> Result<Option<Place>, BuildError> {
    let instruction = site.instruction;
    let refused = |source| BuildError::Sources { instruction, source };
    if instruction != "ADD" {
        return if is_url(word) { Err(refused(CopyError::UrlForCopy)) } else { Ok(None) };
    }
    let over_ssh = word.starts_with("git@") || word.starts_with("ssh://");
    if over_ssh {
        return Err(refused(CopyError::GitOverSsh(word.to_owned())));
    }
    let remote = if is_git(word) {
        git(args, word).map_err(refused)?
    } else if is_url(word) {
        if args.keep_git_dir {
            let why = "keep-git-dir only works with git repositories";
            return Err(BuildError::AddFlag { flag: "--keep-git-dir", why });
        }
        Remote::Url { url: word.to_owned(), name: file_name(word, dest).map_err(refused)? }
    } else {
        return Ok(None);
    };
    Ok(Some(Place { remote, text: word.to_owned() }))
}

/// The file's name: the destination's, where that is a file; else the URL's.
fn file_name(url: &str, dest: &str) -> Result<String, CopyError> {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let own = path.split_once('/').map(|(_, path)| gopath::base(path)).unwrap_or_default();
    let name = if own.is_empty() && !dest.ends_with('/') { gopath::base(dest) } else { own };
    if name.is_empty() || name == "." || name == ".." {
        return Err(CopyError::NoFileName(url.to_owned()));
    }
    Ok(name.to_owned())
}

/// `https://host/repo.git#reference:subdirectory`, or with a query `?ref=…&subdir=…`.
fn git(args: &CopyArgs, word: &str) -> Result<Remote, CopyError> {
    let (repository, fragment) = word.split_once('#').unwrap_or((word, ""));
    let (mut reference, mut subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
    let (repository, query) = repository.split_once('?').unwrap_or((repository, ""));
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("ref" | "branch" | "tag" | "commit", value)) => reference = value,
            Some(("subdir", value)) => subdirectory = value,
            _ => return Err(CopyError::GitUrl(word.to_owned(), "unexpected query")),
        }
    }
    if reference.starts_with('-') || repository.starts_with('-') {
        return Err(CopyError::GitUrl(word.to_owned(), "a reference does not begin with a dash"));
    }
    if Path::new(subdirectory).components().any(|part| part == std::path::Component::ParentDir) {
        return Err(CopyError::GitUrl(word.to_owned(), "the subdirectory leads out of the repository"));
    }
    let repository = match repository.strip_prefix("github.com/") {
        Some(path) => format!("https://github.com/{path}"),
        None => repository.to_owned(),
    };
    Ok(Remote::Git {
        repository,
        reference: reference.to_owned(),
        subdirectory: subdirectory.to_owned(),
        keep_git_dir: args.keep_git_dir,
    })
}

impl Place {
    /// What names it among the files that were fetched.
    pub(super) fn word(&self) -> String {
        match &self.remote {
            Remote::Url { name, .. } => name
                .chars()
                .flat_map(|ch| "*?[\\".contains(ch).then_some('\\').into_iter().chain([ch]))
                .collect(),
            Remote::Git { .. } => ".".to_owned(),
        }
    }

    /// What it is to the cache, where that is known without fetching it.
    pub(super) fn key(&self, args: &CopyArgs) -> Option<String> {
        let content = match (&self.remote, &args.checksum) {
            (_, Some(checksum)) => checksum,
            (Remote::Git { reference, .. }, None) if is_commit(reference) => reference,
            _ => return None,
        };
        let all = format!("{:?} {content}", self.remote);
        Some(format!("remote:{}", hex(&Sha256::digest(all))))
    }

    /// Fetches it, and compares it with what it should be.
    pub(super) fn fetch<'a>(
        &self,
        run: &mut Run<'a, '_>,
        args: &CopyArgs,
    ) -> Result<Box<dyn Fetched + 'a>, BuildError> {
        let remote = match (&self.remote, &args.checksum) {
            (Remote::Git { repository, reference, subdirectory, keep_git_dir }, Some(commit)) => {
                if reference.is_empty() && is_commit(commit) {
                    &Remote::Git {
                        repository: repository.clone(),
                        reference: commit.clone(),
                        subdirectory: subdirectory.clone(),
                        keep_git_dir: *keep_git_dir,
                    }
                } else {
                    &self.remote
                }
            }
            _ => &self.remote,
        };
        let fetched = run.shared.executor.fetch(remote, &run.shared.cancel);
        let fetched = fetched.map_err(|error| run.stopped_or(error))?;
        let Some(wanted) = &args.checksum else { return Ok(fetched) };
        let root = super::files::root_of_fd(fetched.root())?;
        let found = match &self.remote {
            Remote::Url { name, .. } => format!("sha256:{}", hash_of(&root, name)?),
            Remote::Git { .. } => fetched.commit().unwrap_or_default().to_owned(),
        };
        let same = match &self.remote {
            Remote::Url { .. } => found == wanted.to_ascii_lowercase(),
            Remote::Git { .. } => !found.is_empty() && found.starts_with(&wanted.to_ascii_lowercase()),
        };
        if same {
            return Ok(fetched);
        }
        Err(BuildError::Checksum { source_text: self.text.clone(), found, wanted: wanted.clone() })
    }
}

fn is_commit(text: &str) -> bool {
    COMMIT_LENGTHS.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn hash_of(root: &Root, name: &str) -> Result<String, BuildError> {
    let path = Path::new(name);
    let failed = |step, source| BuildError::Copy(CopyError::Path { step, path: path.to_owned(), source });
    let fd = root.open_at(path, OFlags::RDONLY, Mode::empty()).map_err(|errno| failed("open", errno))?;
    let mut file = std::fs::File::from(fd);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        let len = file.read(&mut buffer).map_err(|source| {
            BuildError::Copy(CopyError::Data { step: "read", path: path.to_owned(), source })
        })?;
        if len == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: Site = Site { stage: 0, line: 1, instruction: "ADD" };

    fn of(word: &str, dest: &str) -> Result<Option<Remote>, String> {
        let place = place(&SITE, &CopyArgs::default(), word, dest);
        place.map(|place| place.map(|place| place.remote)).map_err(|error| error.to_string())
    }

    #[test]
    fn names_of_files() {
        for (url, dest, name) in [
            ("http://h/a/b.tar?x=1", "/d/", Ok("b.tar")),
            ("http://h/a/b/", "/d/", Ok("b")),
            ("http://h/", "/d/f", Ok("f")),
            ("http://h", "/d/", Err("cannot determine filename for source http://h")),
        ] {
            match (of(url, dest), name) {
                (Ok(Some(Remote::Url { name: got, .. })), Ok(name)) => assert_eq!(got, name, "{url}"),
                (Err(got), Err(text)) => assert!(got.ends_with(text), "{got}"),
                (got, _) => panic!("{url}: {got:?}"),
            }
        }
        assert_eq!(of("dir/file", "/"), Ok(None));
    }

    #[test]
    fn repositories() {
        let git = |repository: &str, reference: &str, subdirectory: &str| Remote::Git {
            repository: repository.into(),
            reference: reference.into(),
            subdirectory: subdirectory.into(),
            keep_git_dir: false,
        };
        for (word, want) in [
            ("https://h/r.git", git("https://h/r.git", "", "")),
            ("https://h/r.git#v1", git("https://h/r.git", "v1", "")),
            ("https://h/r.git#:docs", git("https://h/r.git", "", "docs")),
            ("git://h/r#main:a/b", git("git://h/r", "main", "a/b")),
            ("https://h/r.git?ref=x&subdir=y", git("https://h/r.git", "x", "y")),
            ("github.com/o/r", git("https://github.com/o/r", "", "")),
        ] {
            assert_eq!(of(word, "/"), Ok(Some(want)), "{word}");
        }
        for word in ["git@h:r.git", "https://h/r.git#-x", "https://h/r.git#a:../b", "https://h/r.git?odd=1"] {
            assert!(of(word, "/").is_err(), "{word}");
        }
    }
}
