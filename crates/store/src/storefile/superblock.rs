//! The few fields of an xfs that tell whether the file below it is whole.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::StoreFileError;
use crate::error::At;

const MAGIC: &[u8; 4] = b"XFSB";
/// Bytes of the superblock's fixed part that is read.
const LEN: usize = 16;

/// Bytes of the file system, after a look whether the file has them all.
pub(super) fn check(file: &Path) -> Result<u64, StoreFileError> {
    let opened = File::open(file).at("open", file)?;
    let len = opened.metadata().at("look at", file)?.len();
    let foreign = |reason| StoreFileError::Foreign { file: file.to_owned(), reason };
    let mut head = [0; LEN];
    if len < LEN as u64 {
        return Err(StoreFileError::Short { file: file.to_owned(), len, wanted: LEN as u64 });
    }
    opened.read_exact_at(&mut head, 0).at("read", file)?;
    let [magic @ .., _, _, _, _, _, _, _, _, _, _, _, _] = &head;
    if magic != MAGIC {
        return Err(foreign("it does not begin with an xfs"));
    }
    let block = u64::from(u32::from_be_bytes([head[4], head[5], head[6], head[7]]));
    let mut blocks = [0; 8];
    blocks.copy_from_slice(&head[8..]);
    let Some(wanted) = u64::from_be_bytes(blocks).checked_mul(block).filter(|size| *size > 0) else {
        return Err(foreign("its size is impossible"));
    };
    if len < wanted {
        return Err(StoreFileError::Short { file: file.to_owned(), len, wanted });
    }
    Ok(wanted)
}
