//! Where a file's bytes lie, and the room of whole file systems.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Errno, raw};

const FIEMAP: libc::Ioctl = 0xc020_660b_u32 as libc::Ioctl;
const FITRIM: libc::Ioctl = 0xc018_5879_u32 as libc::Ioctl;
const XFS_FSGEOMETRY: libc::Ioctl = 0x8100_587e_u32 as libc::Ioctl;
const XFS_FSGROWFSDATA: libc::Ioctl = 0x4010_586e_u32 as libc::Ioctl;

/// How many extents are asked for at a time.
const BATCH: usize = 128;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved_too: [u32; 3],
}

#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; BATCH],
}

const EXTENT_LAST: u32 = 0x1;
/// Where it will be is not known yet.
const EXTENT_NOWHERE: u32 = 0x2 | 0x4;
/// It lies within the file's own metadata.
const EXTENT_INLINE: u32 = 0x200;
const EXTENT_SHARED: u32 = 0x2000;

/// A piece of a file as the file system has it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it lies, in the file system's own addresses; `None` while it was not written out.
    pub at: Option<u64>,
    /// Bytes of the file in it. Of a packed piece (btrfs), what is unpacked.
    pub bytes: u64,
    /// Another file, or another place of this one, has it too.
    pub shared: bool,
}

/// Tells `each` piece of a file that has blocks of its own. `EOPNOTSUPP` where the file system does not tell.
pub fn pieces(file: BorrowedFd<'_>, mut each: impl FnMut(Piece)) -> Result<(), Errno> {
    let mut map = Fiemap {
        start: 0,
        length: u64::MAX,
        flags: 0,
        mapped: 0,
        count: BATCH as u32,
        reserved: 0,
        extents: [Extent::default(); BATCH],
    };
    loop {
        // SAFETY: the ioctl reads the head of `struct fiemap` and writes it and at most `count`
        // extents behind it; Fiemap has that layout with room for BATCH of them.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP, &raw mut map) };
        raw::check(done.into())?;
        let found = map.extents.get(..map.mapped as usize).unwrap_or_default();
        let Some(last) = found.last() else { return Ok(()) };
        for extent in found.iter().filter(|extent| extent.flags & EXTENT_INLINE == 0) {
            each(Piece {
                at: (extent.flags & EXTENT_NOWHERE == 0).then_some(extent.physical),
                bytes: extent.length,
                shared: extent.flags & EXTENT_SHARED != 0,
            });
        }
        let next = last.logical.saturating_add(last.length);
        if last.flags & EXTENT_LAST != 0 || next <= map.start {
            return Ok(());
        }
        map.start = next;
    }
}

/// Bytes of a file that no other file shares with it. `EOPNOTSUPP` where the file system does not tell.
pub fn own_bytes(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut own = 0u64;
    pieces(file, |piece| {
        if !piece.shared {
            own = own.saturating_add(piece.bytes);
        }
    })?;
    Ok(own)
}

#[repr(C)]
struct TrimRange {
    start: u64,
    length: u64,
    min_length: u64,
}

/// Tells the device below a file system which blocks are free; gives the bytes of those. `file` is
/// any file or directory of it. `EOPNOTSUPP` where the device cannot use it.
pub fn trim(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut range = TrimRange { start: 0, length: u64::MAX, min_length: 0 };
    // SAFETY: the ioctl reads and writes one `struct fstrim_range`, whose layout TrimRange has.
    raw::check(unsafe { libc::ioctl(file.as_raw_fd(), FITRIM, &raw mut range) }.into())?;
    Ok(range.length)
}

/// The start of `struct xfs_fsop_geom`, and room for the rest of it.
#[repr(C)]
struct Geometry {
    block_size: u32,
    realtime_extent: u32,
    group_blocks: u32,
    groups: u32,
    log_blocks: u32,
    sector_size: u32,
    inode_size: u32,
    inode_percent: u32,
    data_blocks: u64,
    rest: [u64; 27],
}

#[repr(C)]
struct Growth {
    new_blocks: u64,
    inode_percent: u32,
}

/// Bytes of a mounted xfs. `file` is any file or directory of it.
pub fn xfs_bytes(file: BorrowedFd<'_>) -> Result<u64, Errno> {
    let geometry = geometry(file)?;
    Ok(geometry.data_blocks.saturating_mul(geometry.block_size.into()))
}

/// Makes a mounted xfs as large as its device has become (`bytes`). Smaller than it is now, or not
/// larger by a block: nothing happens.
pub fn grow_xfs(file: BorrowedFd<'_>, bytes: u64) -> Result<(), Errno> {
    let geometry = geometry(file)?;
    let blocks = bytes / u64::from(geometry.block_size.max(1));
    if blocks <= geometry.data_blocks {
        return Ok(());
    }
    let growth = Growth { new_blocks: blocks, inode_percent: geometry.inode_percent };
    // SAFETY: the ioctl reads one `struct xfs_growfs_data`, whose layout Growth has.
    raw::check(unsafe { libc::ioctl(file.as_raw_fd(), XFS_FSGROWFSDATA, &raw const growth) }.into()).map(drop)
}

fn geometry(file: BorrowedFd<'_>) -> Result<Geometry, Errno> {
    let mut geometry = Geometry {
        block_size: 0,
        realtime_extent: 0,
        group_blocks: 0,
        groups: 0,
        log_blocks: 0,
        sector_size: 0,
        inode_size: 0,
        inode_percent: 0,
        data_blocks: 0,
        rest: [0; 27],
    };
    // SAFETY: the ioctl writes one `struct xfs_fsop_geom` of 256 bytes, which is Geometry's size.
    raw::check(unsafe { libc::ioctl(file.as_raw_fd(), XFS_FSGEOMETRY, &raw mut geometry) }.into())?;
    Ok(geometry)
}

const _: () = assert!(size_of::<Geometry>() == 256 && size_of::<Growth>() == 16 && size_of::<Extent>() == 56);
