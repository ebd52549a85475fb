//! Which driver: by name, by what the data root holds already, by what its file system can.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;

use seacow_spec::{Classified, ErrorClass};
use seacow_sys::mount::{Attributes, Overlay, Upper};

use super::shelf;
use crate::error::{At, IoFailure};
use crate::layout::Layout;
use crate::meta::{Durability, Meta, MetaError, Table, Write};

/// The drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DriverKind {
    /// Overlayfs on any file system that can be below it.
    Overlay,
    /// Overlayfs on a file system that shares extents: a file that is copied up takes no room.
    Reflink,
    /// Subvolumes of btrfs.
    Btrfs,
    /// Datasets of zfs, by its tools. Never tried on one.
    Zfs,
    /// Whole copies, of shared extents where the file system has them. Works everywhere.
    Copy,
}

impl DriverKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Overlay, Self::Reflink, Self::Btrfs, Self::Zfs, Self::Copy];

    /// As `docker info` shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay2",
            Self::Reflink => "reflink",
            Self::Btrfs => "btrfs",
            Self::Zfs => "zfs",
            Self::Copy => "copy",
        }
    }

    /// Drivers of one form can use each other's snapshots.
    const fn form(self) -> Form {
        match self {
            Self::Overlay | Self::Reflink => Form::Upper,
            Self::Btrfs => Form::Subvolume,
            Self::Zfs => Form::Dataset,
            Self::Copy => Form::Tree,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Upper,
    Subvolume,
    Dataset,
    Tree,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no driver of that name.
#[derive(Debug, thiserror::Error)]
#[error("there is no storage driver {0:?}: overlay (overlay2), reflink, btrfs, zfs or copy (vfs)")]
pub struct UnknownDriver(String);

impl FromStr for DriverKind {
    type Err = UnknownDriver;

    /// Docker's names are accepted for what is the same.
    fn from_str(name: &str) -> Result<Self, UnknownDriver> {
        match name {
            "overlay" | "overlay2" => Ok(Self::Overlay),
            "reflink" => Ok(Self::Reflink),
            "btrfs" => Ok(Self::Btrfs),
            "zfs" => Ok(Self::Zfs),
            "copy" | "vfs" => Ok(Self::Copy),
            other => Err(UnknownDriver(other.to_owned())),
        }
    }
}

/// Why a driver cannot be used on a data root.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Its file system cannot do what the driver needs.
    #[error("the storage driver {kind} cannot be used on {root}: {reason}")]
    Unfit {
        /// Which.
        kind: DriverKind,
        /// The data root.
        root: String,
        /// What is missing.
        reason: String,
    },
    /// Containers of another driver are there.
    #[error(
        "the data root {root} holds the files of {count} containers of the storage driver {was}, which \
         {asked} cannot use; nothing was changed. Start with --storage-driver {was} and remove these \
         containers (commit first what is to be kept; images stay), or give {asked} another --data-root"
    )]
    Changed {
        /// The data root.
        root: String,
        /// How many.
        count: usize,
        /// Whose they are.
        was: DriverKind,
        /// What was asked for.
        asked: DriverKind,
    },
    /// The metadata failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
}

impl Classified for DriverError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Unfit { .. } => ErrorClass::InvalidArgument,
            Self::Changed { .. } => ErrorClass::Conflict,
            Self::Meta(error) => error.class(),
            Self::Io(error) => error.class(),
        }
    }
}

/// Key of the driver's name among the engine's documents.
const KEY: &str = "store/driver";

/// The driver to be used: the one that was `asked` for, else the one that was used before, else the
/// best that the file system allows. What was chosen is remembered.
pub(crate) fn choose(
    asked: Option<DriverKind>,
    layout: &Layout,
    meta: &Meta,
) -> Result<DriverKind, DriverError> {
    let count = described(&layout.snapshots())?;
    let was = recorded(meta)?.or((count > 0).then_some(DriverKind::Overlay));
    let root = || layout.data().display().to_string();
    let chosen = match (asked, was) {
        (Some(asked), Some(was)) if asked.form() != was.form() && count > 0 => {
            return Err(DriverError::Changed { root: root(), count, was, asked });
        }
        (Some(asked), _) => {
            let unfit = |reason| DriverError::Unfit { kind: asked, root: root(), reason };
            fits(asked, layout)?.map_err(unfit)?;
            asked
        }
        (None, Some(was)) if was.form() != Form::Upper && fits(was, layout)?.is_ok() => was,
        (None, Some(was)) if was.form() != Form::Upper && count > 0 => {
            let reason = fits(was, layout)?.err().unwrap_or_default();
            return Err(DriverError::Unfit { kind: was, root: root(), reason });
        }
        (None, _) => best(layout, was.is_some() && count > 0)?,
    };
    if was != Some(chosen) || recorded(meta)?.is_none() {
        let name = chosen.name().as_bytes().to_vec();
        meta.commit(vec![Write::Put(Table::Engine, KEY.into(), name)], Durability::Durable)?;
    }
    Ok(chosen)
}

/// Overlayfs where it can be, with shared extents where they can be. On btrfs too: a snapshot of a
/// subvolume waits for a transaction of the file system, two directories do not.
fn best(layout: &Layout, has_uppers: bool) -> Result<DriverKind, DriverError> {
    if has_uppers || fits(DriverKind::Overlay, layout)?.is_ok() {
        let shares = fits(DriverKind::Reflink, layout)?.is_ok();
        return Ok(if shares { DriverKind::Reflink } else { DriverKind::Overlay });
    }
    Ok(DriverKind::Copy)
}

fn recorded(meta: &Meta) -> Result<Option<DriverKind>, MetaError> {
    let name = meta.get(Table::Engine, KEY)?;
    let Some(name) = name.map(|name| String::from_utf8_lossy(&name).into_owned()) else { return Ok(None) };
    name.parse().map(Some).map_err(|error: UnknownDriver| MetaError::Document {
        table: Table::Engine.name(),
        key: KEY.into(),
        reason: error.to_string(),
    })
}

/// Snapshots that are more than a directory in the making.
fn described(snapshots: &Path) -> Result<usize, IoFailure> {
    let keys = shelf::keys(snapshots)?;
    Ok(keys.iter().filter(|key| shelf::is_described(&snapshots.join(key.as_str()))).count())
}

/// Whether a driver can be used, and if not, why.
fn fits(kind: DriverKind, layout: &Layout) -> Result<Result<(), String>, IoFailure> {
    let place = layout.new_draft()?;
    let answer = match kind {
        DriverKind::Overlay => overlay_works(&place, false),
        DriverKind::Reflink => overlay_works(&place, false).and_then(|()| extents_are_shared(&place)),
        DriverKind::Btrfs => match rustix::fs::statfs(&place) {
            Ok(found) if found.f_type as u64 == seacow_sys::btrfs::MAGIC => Ok(()),
            Ok(_) => Err("its file system is not btrfs".to_owned()),
            Err(errno) => Err(errno.to_string()),
        },
        DriverKind::Zfs => super::tree::zfs::works(&place),
        DriverKind::Copy => Ok(()),
    };
    crate::layout::remove_tree(&place)?;
    Ok(answer)
}

/// Whether overlayfs can leave content below.
pub(super) fn has_metacopy(layout: &Layout) -> Result<bool, IoFailure> {
    let place = layout.new_draft()?;
    let answer = overlay_works(&place, true).is_ok();
    crate::layout::remove_tree(&place)?;
    Ok(answer)
}

/// Whether files of the data root can share extents.
pub(super) fn shares_extents(layout: &Layout) -> Result<bool, IoFailure> {
    let place = layout.new_draft()?;
    let answer = extents_are_shared(&place).is_ok();
    crate::layout::remove_tree(&place)?;
    Ok(answer)
}

/// Mounts an overlay that nobody can see.
fn overlay_works(place: &Path, metacopy: bool) -> Result<(), String> {
    let (lower, upper, work) = (place.join("lower"), place.join("upper"), place.join("work"));
    for dir in [&lower, &upper, &work] {
        std::fs::create_dir(dir).map_err(|error| error.to_string())?;
    }
    let upper = Upper { dir: &upper, work: &work, volatile: false, metacopy };
    let overlay = Overlay { lowers: &[&lower], upper: Some(upper), source: "seacow-probe", context: None };
    overlay.mount(Attributes::empty()).map(drop).map_err(|error| format!("{error}: {}", error.errno))
}

pub(crate) fn extents_are_shared(place: &Path) -> Result<(), String> {
    let probe = || -> Result<bool, IoFailure> {
        let (from, to) = (place.join("from"), place.join("to"));
        std::fs::write(&from, [1; 4096]).at("write", &from)?;
        let source = File::open(&from).at("open", &from)?;
        let target = File::create_new(&to).at("create", &to)?;
        Ok(rustix::fs::ioctl_ficlone(&target, &source).is_ok())
    };
    match probe() {
        Ok(true) => Ok(()),
        Ok(false) => Err("its file system cannot share extents between files (xfs with reflink=1 and btrfs \
                          can; `seacow storage init` makes a store on any file system)"
            .to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers_too() {
        for kind in DriverKind::ALL {
            assert_eq!(kind.name().parse::<DriverKind>().ok(), Some(kind));
        }
        assert_eq!("overlay".parse::<DriverKind>().ok(), Some(DriverKind::Overlay));
        assert_eq!("vfs".parse::<DriverKind>().ok(), Some(DriverKind::Copy));
        assert!("aufs".parse::<DriverKind>().is_err());
    }
}
