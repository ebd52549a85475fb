//! Where the last N lines of a row of files begin, found from the end.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 64 << 10;

/// The file (index into `files`, oldest first) and offset from which exactly `lines` lines follow;
/// the very beginning when there are fewer.
pub(super) fn start(files: &[(File, u64)], lines: u64) -> io::Result<(usize, u64)> {
    let mut wanted = lines;
    for (index, (file, size)) in files.iter().enumerate().rev() {
        if wanted == 0 {
            return Ok((index, *size));
        }
        match backwards(file, *size, wanted)? {
            Found::Start(offset) => return Ok((index, offset)),
            Found::Fewer(count) => wanted -= count,
        }
    }
    Ok((0, 0))
}

enum Found {
    /// The lines begin here.
    Start(u64),
    /// The whole file has only so many.
    Fewer(u64),
}

fn backwards(file: &File, size: u64, wanted: u64) -> io::Result<Found> {
    let mut block = vec![0; usize::try_from(BLOCK).unwrap_or(0)];
    let (mut end, mut ends) = (size, 0);
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        let part = block.get_mut(..usize::try_from(end - begin).unwrap_or(0)).unwrap_or_default();
        file.read_exact_at(part, begin)?;
        for (at, _) in part.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if ends == wanted {
                return Ok(Found::Start(begin + at as u64 + 1));
            }
            ends += 1;
        }
        end = begin;
    }
    // The newline before the first line is the file's beginning.
    Ok(if ends == wanted { Found::Start(0) } else { Found::Fewer(ends) })
}
