//! Writing tar: POSIX ustar, with a PAX record only where ustar has no room: docker's dialect.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file: `source` is opened when its turn comes.
    File {
        source: PathBuf,
        size: u64,
    },
    /// A regular file from memory.
    Bytes(Vec<u8>),
    Directory,
    Symlink(String),
    /// Another name of an entry written before.
    Hardlink(String),
    /// A character (`true`) or block device.
    Device {
        character: bool,
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// One entry of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Relative name with slashes; directories get their closing slash when written.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since the epoch.
    pub(crate) mtime: u64,
    /// `security.capability`, the one extended attribute that is kept.
    pub(crate) capability: Option<Vec<u8>>,
}

impl Entry {
    /// A file that exists only in the archive.
    pub(crate) fn bytes(name: &str, bytes: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Bytes(bytes),
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: 0,
            capability: None,
        }
    }
}

/// An archive that is made while it is read.
pub(crate) struct Archive<I> {
    entries: I,
    /// Headers and small contents that are ready to be read.
    ready: VecDeque<u8>,
    /// The file being copied: what is left of it, and the zeros after it.
    file: Option<(File, u64, usize)>,
    ended: bool,
}

impl<I: Iterator<Item = io::Result<Entry>>> Archive<I> {
    pub(crate) fn new(entries: I) -> Self {
        Self { entries, ready: VecDeque::new(), file: None, ended: false }
    }

    fn advance(&mut self) -> io::Result<()> {
        let Some(entry) = self.entries.next().transpose()? else {
            self.ready.extend([0; 2 * BLOCK]);
            self.ended = true;
            return Ok(());
        };
        match &entry.kind {
            Kind::File { source, size } => {
                let file = File::open(source)
                    .map_err(|e| io::Error::new(e.kind(), format!("open {}: {e}", source.display())))?;
                self.ready.extend(header(&entry, *size));
                self.file = Some((file, *size, padding(*size)));
            }
            Kind::Bytes(bytes) => {
                self.ready.extend(header(&entry, bytes.len() as u64));
                self.ready.extend(bytes);
                self.ready.extend(std::iter::repeat_n(0, padding(bytes.len() as u64)));
            }
            Kind::Directory | Kind::Symlink(_) | Kind::Hardlink(_) | Kind::Device { .. } | Kind::Fifo => {
                self.ready.extend(header(&entry, 0));
            }
        }
        Ok(())
    }

    fn read_file(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some((file, left, zeros)) = &mut self.file else { return Ok(0) };
        if *left == 0 {
            let zeros = *zeros;
            self.file = None;
            self.ready.extend(std::iter::repeat_n(0, zeros));
            return Ok(0);
        }
        // A file that grows meanwhile is cut at the size its header says.
        let want = usize::try_from(*left).unwrap_or(usize::MAX).min(buf.len());
        match file.read(&mut buf[..want])? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter while it was read")),
            n => {
                *left -= n as u64;
                Ok(n)
            }
        }
    }
}

impl<I: Iterator<Item = io::Result<Entry>>> Read for Archive<I> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.ready.is_empty() {
                return self.ready.read(buf);
            }
            if self.file.is_some() {
                match self.read_file(buf)? {
                    0 => continue,
                    n => return Ok(n),
                }
            }
            if self.ended {
                return Ok(0);
            }
            self.advance()?;
        }
    }
}

fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// Largest number that an octal field of this many digits holds.
const fn octal_max(digits: u32) -> u64 {
    (1 << (3 * digits)) - 1
}

/// The entry's header block, preceded by its PAX record if it needs one.
fn header(entry: &Entry, size: u64) -> Vec<u8> {
    let name = match entry.kind {
        Kind::Directory if !entry.name.ends_with('/') => format!("{}/", entry.name),
        _ => entry.name.clone(),
    };
    let link = match &entry.kind {
        Kind::Symlink(target) | Kind::Hardlink(target) => target.as_str(),
        _ => "",
    };
    let mut records = Vec::new();
    if name.len() > 100 || !name.is_ascii() {
        record(&mut records, "path", name.as_bytes());
    }
    if link.len() > 100 || !link.is_ascii() {
        record(&mut records, "linkpath", link.as_bytes());
    }
    for (key, value, max) in
        [("uid", entry.uid, octal_max(7)), ("gid", entry.gid, octal_max(7)), ("size", size, octal_max(11))]
    {
        if value > max {
            record(&mut records, key, value.to_string().as_bytes());
        }
    }
    if let Some(capability) = &entry.capability {
        record(&mut records, "SCHILY.xattr.security.capability", capability);
    }
    let mut out = Vec::new();
    if !records.is_empty() {
        let short: String = name.chars().filter(char::is_ascii).collect();
        let short = short.trim_end_matches('/').rsplit('/').next().unwrap_or("").to_owned();
        let record_name = format!("PaxHeaders.0/{short}");
        out.extend(block(&record_name, "", b'x', 0, [0, 0, 0], records.len() as u64, (0, 0)));
        let zeros = padding(records.len() as u64);
        out.extend(records);
        out.extend(std::iter::repeat_n(0, zeros));
    }
    let (kind, device) = match &entry.kind {
        Kind::File { .. } | Kind::Bytes(_) => (b'0', (0, 0)),
        Kind::Hardlink(_) => (b'1', (0, 0)),
        Kind::Symlink(_) => (b'2', (0, 0)),
        Kind::Device { character: true, major, minor } => (b'3', (*major, *minor)),
        Kind::Device { character: false, major, minor } => (b'4', (*major, *minor)),
        Kind::Directory => (b'5', (0, 0)),
        Kind::Fifo => (b'6', (0, 0)),
    };
    out.extend(block(&name, link, kind, entry.mode, [entry.uid, entry.gid, entry.mtime], size, device));
    out
}

/// `length key=value\n`, the length counting itself.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut total = rest + 1;
    while rest + total.to_string().len() != total {
        total += 1;
    }
    out.extend(format!("{total} {key}=").as_bytes());
    out.extend(value);
    out.push(b'\n');
}

fn block(
    name: &str,
    link: &str,
    kind: u8,
    mode: u32,
    [uid, gid, mtime]: [u64; 3],
    size: u64,
    device: (u32, u32),
) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put_text(&mut block[0..100], name);
    put_octal(&mut block[100..108], u64::from(mode & 0o7777));
    put_octal(&mut block[108..116], uid);
    put_octal(&mut block[116..124], gid);
    put_octal(&mut block[124..136], size);
    put_octal(&mut block[136..148], mtime);
    block[156] = kind;
    put_text(&mut block[157..257], link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    if device != (0, 0) {
        put_octal(&mut block[329..337], u64::from(device.0));
        put_octal(&mut block[337..345], u64::from(device.1));
    }
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Text that does not fit, or is not ASCII, is in the PAX record; here it is cut.
fn put_text(field: &mut [u8], text: &str) {
    for (slot, byte) in field.iter_mut().zip(text.bytes()) {
        *slot = if byte.is_ascii() { byte } else { b'_' };
    }
}

/// A number that does not fit is in the PAX record; here it is 0.
fn put_octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let value = if value > octal_max(digits as u32) { 0 } else { value };
    field[..digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, kind: Kind) -> Entry {
        Entry {
            name: name.to_owned(),
            kind,
            mode: 0o644,
            uid: 3_000_000,
            gid: 5,
            mtime: 1_700_000_000,
            capability: None,
        }
    }

    #[test]
    fn other_programs_read_what_we_write() {
        let long = format!("{}/ü", "d".repeat(120));
        let entries = vec![
            entry("dir", Kind::Directory),
            entry(&long, Kind::Bytes(b"hello".to_vec())),
            entry("link", Kind::Symlink("dir/x".to_owned())),
            Entry { capability: Some(vec![1, 0, 10, 255]), ..entry("cap", Kind::Bytes(vec![7; 513])) },
        ];
        let mut bytes = Vec::new();
        Archive::new(entries.into_iter().map(Ok)).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() % BLOCK, 0);
        let mut archive = ::tar::Archive::new(bytes.as_slice());
        let mut seen = Vec::new();
        for item in archive.entries().unwrap() {
            let mut item = item.unwrap();
            let path = item.path().unwrap().display().to_string();
            let uid = item.header().uid().unwrap();
            let mut body = Vec::new();
            item.read_to_end(&mut body).unwrap();
            seen.push((path, body.len(), uid));
        }
        let names: Vec<&str> = seen.iter().map(|(n, _, _)| n.as_str()).collect();
        assert_eq!(names, ["dir/", long.as_str(), "link", "cap"]);
        assert_eq!((seen[1].1, seen[3].1), (5, 513));
    }

    #[test]
    fn a_record_counts_its_own_length() {
        let mut out = Vec::new();
        record(&mut out, "path", &[b'x'; 90]);
        assert!(out.starts_with(b"99 path=x") && out.len() == 99);
        let mut out = Vec::new();
        record(&mut out, "path", &[b'x'; 91]);
        assert!(out.starts_with(b"101 path=x") && out.len() == 101);
    }
}
