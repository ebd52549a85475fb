//! A place in a log that is being written and rotated.
//!
//! `<path>` is the newest file, `<path>.1` the one before, and so on. A rotation renames, so an
//! open file stays what it is; its successor is found by looking which name it has now.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::entry::{Format, Outcome};
use super::tail;

/// Bytes read at a time.
const CHUNK: usize = 64 << 10;
/// A longer line is not one of ours (the shim cuts at 16 KiB, JSON makes at most six times that).
const MAX_LINE: usize = 1 << 20;
/// Files beyond this many are not looked for.
const MAX_FILES: usize = 1000;

/// A place in the log.
pub(super) struct Cursor {
    path: PathBuf,
    /// Lines to begin with; `None` once the beginning was found, or all are wanted.
    tail: Option<u64>,
    /// Stop at this offset of the file that was the newest at the beginning.
    end: Option<u64>,
    opened: bool,
    /// Older files first; the last is the one that grows.
    files: VecDeque<File>,
    offset: u64,
    /// The beginning of a line whose end was not read yet.
    partial: Vec<u8>,
}

/// What one read gave.
#[derive(Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    /// There is no more at the moment.
    pub(super) at_end: bool,
    /// There is nothing more that is wanted.
    pub(super) past_until: bool,
}

impl Cursor {
    pub(super) fn new(path: PathBuf, tail: Option<u64>, end: Option<u64>) -> Self {
        Self { path, tail, end, opened: false, files: VecDeque::new(), offset: 0, partial: Vec::new() }
    }

    /// Reads on.
    pub(super) fn read(&mut self, format: &Format) -> io::Result<Chunk> {
        if !self.opened && !self.open()? {
            return Ok(Chunk { at_end: true, ..Chunk::default() });
        }
        let mut chunk = Chunk::default();
        let mut block = vec![0; CHUNK];
        while chunk.bytes.is_empty() && !chunk.at_end {
            let Some(file) = self.files.front() else {
                chunk.at_end = true;
                break;
            };
            let limit = match self.end {
                Some(end) if self.files.len() == 1 => {
                    usize::try_from(end.saturating_sub(self.offset)).unwrap_or(CHUNK).min(CHUNK)
                }
                _ => CHUNK,
            };
            let part = block.get_mut(..limit).unwrap_or_default();
            let n = if limit == 0 { 0 } else { file.read_at(part, self.offset)? };
            if n == 0 {
                chunk.at_end = !self.advance()?;
                continue;
            }
            self.offset += n as u64;
            if self.lines(part.get(..n).unwrap_or_default(), format, &mut chunk.bytes) == Outcome::PastUntil {
                chunk.past_until = true;
                chunk.at_end = true;
            }
        }
        Ok(chunk)
    }

    /// Opens all files there are and finds the place to begin. Nothing logged yet is no error.
    fn open(&mut self) -> io::Result<bool> {
        let mut found: VecDeque<File> = VecDeque::new();
        let mut newest = None;
        for index in 0..MAX_FILES {
            let file = match File::open(numbered(&self.path, index)) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let inode = file.metadata()?.ino();
            // Rotated between two opens: the file just opened came back under its next name.
            if newest.replace(inode) != Some(inode) {
                found.push_front(file);
            }
        }
        if found.is_empty() {
            return Ok(false);
        }
        if let Some(lines) = self.tail.take() {
            let sized: io::Result<Vec<(File, u64)>> =
                found.into_iter().map(|file| file.metadata().map(|meta| (file, meta.len()))).collect();
            let sized = sized?;
            let (index, offset) = tail::start(&sized, lines)?;
            self.offset = offset;
            found = sized.into_iter().skip(index).map(|(file, _)| file).collect();
        }
        self.files = found;
        self.opened = true;
        Ok(true)
    }

    /// Goes to the next file, if the present one is finished. Says whether there is more to read.
    fn advance(&mut self) -> io::Result<bool> {
        if self.files.len() > 1 {
            self.files.pop_front();
            self.start_file();
            return Ok(true);
        }
        if self.end.is_some() {
            return Ok(false);
        }
        let Some(current) = self.files.front() else { return Ok(false) };
        let meta = current.metadata()?;
        match successors(&self.path, meta.ino())? {
            // Still the newest.
            None => Ok(false),
            // Something may have been written between the last read and the rotation.
            Some(_) if meta.len() > self.offset => Ok(true),
            Some(newer) if newer.is_empty() => Ok(false),
            Some(newer) => {
                self.files = newer;
                self.start_file();
                Ok(true)
            }
        }
    }

    fn start_file(&mut self) {
        self.offset = 0;
        self.partial.clear();
    }

    /// Formats whole lines; keeps what is left.
    fn lines(&mut self, part: &[u8], format: &Format, out: &mut Vec<u8>) -> Outcome {
        for piece in part.split_inclusive(|byte| *byte == b'\n') {
            if piece.last() != Some(&b'\n') {
                if self.partial.len() + piece.len() <= MAX_LINE {
                    self.partial.extend_from_slice(piece);
                }
                continue;
            }
            let outcome = if self.partial.is_empty() {
                format.append(piece, out)
            } else {
                self.partial.extend_from_slice(piece);
                let outcome = format.append(&self.partial, out);
                self.partial.clear();
                outcome
            };
            if outcome == Outcome::PastUntil {
                return outcome;
            }
        }
        Outcome::Next
    }
}

/// The files newer than the one with this inode, oldest first; `None` when it is the newest. If it
/// was rotated away, all there are.
fn successors(path: &Path, inode: u64) -> io::Result<Option<VecDeque<File>>> {
    let mut newer = VecDeque::new();
    for index in 0..MAX_FILES {
        let file = match File::open(numbered(path, index)) {
            Ok(file) => file,
            // Just renamed away, its successor not made yet.
            Err(error) if error.kind() == ErrorKind::NotFound && index == 0 => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        if file.metadata()?.ino() == inode {
            return Ok((index > 0).then_some(newer));
        }
        newer.push_front(file);
    }
    Ok(Some(newer))
}

fn numbered(path: &Path, index: usize) -> PathBuf {
    if index == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    PathBuf::from(name)
}
