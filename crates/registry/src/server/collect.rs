//! Garbage: what no manifest lists any more.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use seacow_spec::Digest;
use serde::{Deserialize, Serialize};

use super::manifest::Listed;
use super::shelf::{Shelf, found};
use super::upload::Uploads;

/// How a collection goes about.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Collect {
    /// What is younger stays: it may belong to a push that is not at its end.
    pub grace: Duration,
    /// Manifests without a tag go too, unless an index lists them or they tell something of another.
    pub untagged: bool,
}

impl Default for Collect {
    fn default() -> Self {
        Self { grace: Duration::from_secs(24 * 3600), untagged: false }
    }
}

/// What went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Collected {
    /// Manifests.
    pub manifests: usize,
    /// Contents.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that nobody went on with.
    pub uploads: usize,
}

/// Removes garbage. Nothing is written to the registry meanwhile but uploads.
pub(super) fn collect(shelf: &Shelf, uploads: &Uploads, how: Collect) -> io::Result<Collected> {
    let mut done = Collected { uploads: uploads.remove_old(how.grace)?, ..Collected::default() };
    let repositories = shelf.repositories()?;
    if how.untagged {
        for name in &repositories {
            done.manifests += untagged(shelf, name)?;
        }
    }
    let _alone = shelf.alone();
    let mut needed = HashSet::new();
    for name in &repositories {
        let listed = listed(shelf, name)?;
        for (blob, age) in shelf.linked(name)? {
            if listed.contains(&blob) || age < how.grace {
                needed.insert(blob);
            } else {
                shelf.unlink_blob(name, &blob)?;
            }
        }
        needed.extend(shelf.manifests(name)?);
        needed.extend(listed);
    }
    for (content, age) in shelf.contents()? {
        if needed.contains(&content) || age < how.grace {
            continue;
        }
        let path = shelf.blob_path(&content);
        let Some(metadata) = found(std::fs::metadata(&path))? else { continue };
        std::fs::remove_file(&path)?;
        done.blobs += 1;
        done.bytes += metadata.len();
    }
    Ok(done)
}

/// What the manifests of a repository list.
fn listed(shelf: &Shelf, name: &str) -> io::Result<HashSet<Digest>> {
    let mut out = HashSet::new();
    for digest in shelf.manifests(name)? {
        if let Some((_, bytes)) = shelf.manifest(name, &digest)?
            && let Ok(listed) = Listed::read(&bytes)
        {
            out.extend(listed.blobs);
            out.extend(listed.manifests);
        }
    }
    Ok(out)
}

fn untagged(shelf: &Shelf, name: &str) -> io::Result<usize> {
    let mut keep = HashSet::new();
    for tag in shelf.tags(name)? {
        keep.extend(shelf.tag(name, &tag)?);
    }
    let all = shelf.manifests(name)?;
    loop {
        let before = keep.len();
        for digest in &all {
            let Some((_, bytes)) = shelf.manifest(name, digest)? else { continue };
            let Ok(listed) = Listed::read(&bytes) else { continue };
            if keep.contains(digest) {
                keep.extend(listed.manifests);
            } else if listed.subject.is_some_and(|subject| keep.contains(&subject)) {
                keep.insert(digest.clone());
            }
        }
        if keep.len() == before {
            break;
        }
    }
    let mut removed = 0;
    for digest in all.iter().filter(|digest| !keep.contains(digest)) {
        removed += usize::from(shelf.remove_manifest(name, digest)?);
    }
    Ok(removed)
}
