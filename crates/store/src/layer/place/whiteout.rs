//! `.wh.` entries: what a layer takes away from those below.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::FileType;
use seacow_sys::rooted::Entry;

use super::{Place, PlaceError, step};
use crate::fsutil::attrs;
use crate::tar::Member;

/// In front of a name that is gone.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// Everything below the directory is gone.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Book-keeping of aufs, which means nothing elsewhere.
const AUFS: &[u8] = b".wh..wh.";

impl Place<'_> {
    /// Places one such entry as overlayfs marks it.
    pub(super) fn whiteout(&mut self, member: &Member, entry: &Entry, path: &Path) -> Result<(), PlaceError> {
        let name = entry.name().as_bytes();
        if name == OPAQUE {
            if path.parent() == Some(&self.base) {
                // Overlayfs looks for this mark in no root.
                self.root_is_opaque = true;
                return Ok(());
            }
            let dir =
                Entry::in_dir(dup(entry)?, OsStr::new(".")).map_err(step(member, "open its directory"))?;
            return attrs::set_opaque(&dir).map_err(step(member, "hide what is below"));
        }
        if name.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = &name[WHITEOUT.len()..];
        let target = Entry::in_dir(dup(entry)?, OsStr::from_bytes(hidden))
            .ok()
            .filter(|_| hidden != b".")
            .ok_or_else(|| PlaceError::Meaningless { entry: member.display(), reason: "hides no name" })?;
        match target.file_type() {
            Ok(None) => attrs::make_whiteout(&target).map_err(step(member, "make the whiteout")),
            // The same layer has it: only what is below goes, and it is hidden by being there.
            Ok(Some(FileType::Directory)) => {
                attrs::set_opaque(&target).map_err(step(member, "hide what is below"))
            }
            Ok(Some(_)) => Ok(()),
            Err(errno) => Err(step(member, "look at what is there")(errno)),
        }
    }
}

fn dup(entry: &Entry) -> Result<OwnedFd, PlaceError> {
    rustix::io::fcntl_dupfd_cloexec(entry.dir(), 3).map_err(|errno| PlaceError::Io {
        entry: entry.name().to_string_lossy().into_owned(),
        step: "open its directory",
        source: errno.into(),
    })
}
