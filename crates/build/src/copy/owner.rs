//! `--chown=user[:group]`, by number or by the image's own `/etc/passwd` and `/etc/group`.

use std::path::Path;

use seacow_spec::{Classified, ErrorClass};

use crate::rooted::{Errno, Root};

/// Account files larger than this are not accounts.
const MAX_ACCOUNTS: u64 = 16 << 20;

/// An owner that cannot be found; the texts are Docker's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OwnerError {
    /// More than one colon.
    #[error("invalid chown string format: {0}")]
    Format(String),
    /// No such name.
    #[error("can't find {id} for {kind} {name}: no such {kind}: {name}")]
    Unknown {
        /// `uid` or `gid`.
        id: &'static str,
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// The file is there but cannot be read.
    #[error("read {path} of the image: {source}")]
    Read {
        /// In the image.
        path: &'static str,
        /// Why not.
        source: Errno,
    },
}

impl Classified for OwnerError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Format(_) | Self::Unknown { .. } => ErrorClass::InvalidArgument,
            Self::Read { .. } => ErrorClass::Internal,
        }
    }
}

/// Numbers of `user[:group]`; a user alone is also the group's name or number.
pub(crate) fn look_up(image: &Root, owner: &str) -> Result<(u32, u32), OwnerError> {
    let (user, group) = match owner.split_once(':') {
        None => (owner, owner),
        Some((_, group)) if group.contains(':') => return Err(OwnerError::Format(owner.to_owned())),
        Some(both) => both,
    };
    let uid = number(image, user, "/etc/passwd").transpose();
    let uid =
        uid.unwrap_or_else(|| Err(OwnerError::Unknown { id: "uid", kind: "user", name: user.into() }))?;
    let gid = number(image, group, "/etc/group").transpose();
    let gid =
        gid.unwrap_or_else(|| Err(OwnerError::Unknown { id: "gid", kind: "group", name: group.into() }))?;
    Ok((uid, gid))
}

/// Both files have the name in the first and the number in the third field.
fn number(image: &Root, name: &str, path: &'static str) -> Result<Option<u32>, OwnerError> {
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let accounts = match image.read(Path::new(path), MAX_ACCOUNTS) {
        Ok(accounts) => accounts,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(source) => return Err(OwnerError::Read { path, source }),
    };
    let text = String::from_utf8_lossy(&accounts);
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name) && !name.is_empty();
        if found { fields.nth(1)?.trim().parse().ok() } else { None }
    }))
}
