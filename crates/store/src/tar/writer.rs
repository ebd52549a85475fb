//! Writes tar as dockerd does.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::header::{BLOCK, Block, Kind, fits};
use super::pax;

/// Where a tar goes: somewhere that may want to know which bytes are a file's content.
pub(crate) trait TarOut {
    /// Header bytes, padding.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// The first `len` bytes of `file`, which the archive calls `path`.
    fn content(&mut self, file: &mut File, path: &Path, len: u64) -> io::Result<()>;
}

/// A plain stream.
impl<W: Write> TarOut for W {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn content(&mut self, file: &mut File, _path: &Path, len: u64) -> io::Result<()> {
        let copied = io::copy(&mut file.take(len), self)?;
        // The file shrank while it was read; the header has promised more.
        io::copy(&mut io::repeat(0).take(len - copied), self).map(drop)
    }
}

/// Everything a header says.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Without leading slash; directories with one at the end.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    /// With the type bits, which dockerd also writes.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Whole seconds.
    pub(crate) mtime: i64,
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
    /// Name and value.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Members one after the other, then [`TarWriter::finish`].
pub(crate) struct TarWriter<O> {
    out: O,
}

impl<O: TarOut> TarWriter<O> {
    pub(crate) fn new(out: O) -> Self {
        Self { out }
    }

    /// A member without content.
    pub(crate) fn head(&mut self, head: &Head) -> io::Result<()> {
        let records = pax_records(head);
        if !records.is_empty() {
            let mut block = Block::new(b'x');
            block.name(&pax_name(&head.name));
            block.numbers(0, 0, 0, narrow(records.len() as u64), 0);
            self.out.bytes(&block.seal())?;
            self.out.bytes(&records)?;
            self.pad(records.len() as u64)?;
        }
        let mut block = Block::new(head.kind.typeflag());
        block.name(&ascii(&head.name));
        block.link(&ascii(&head.link));
        block.numbers(
            i64::from(head.mode),
            i64::from(head.uid),
            i64::from(head.gid),
            narrow(head.size),
            head.mtime,
        );
        block.device(head.device.0, head.device.1);
        self.out.bytes(&block.seal())
    }

    /// A file with `head.size` bytes of content.
    pub(crate) fn file(&mut self, head: &Head, file: &mut File, path: &Path) -> io::Result<()> {
        self.head(head)?;
        if head.size > 0 {
            self.out.content(file, path, head.size)?;
        }
        self.pad(head.size)
    }

    /// A file whose content is here.
    pub(crate) fn blob(&mut self, head: &Head, content: &[u8]) -> io::Result<()> {
        self.head(head)?;
        self.out.bytes(content)?;
        self.pad(content.len() as u64)
    }

    /// A file whose content somebody else writes: exactly `head.size` bytes.
    pub(crate) fn stream(
        &mut self,
        head: &Head,
        write: impl FnOnce(&mut O) -> io::Result<()>,
    ) -> io::Result<()> {
        self.head(head)?;
        write(&mut self.out)?;
        self.pad(head.size)
    }

    /// The end mark: two zero blocks.
    pub(crate) fn finish(mut self) -> io::Result<O> {
        self.out.bytes(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn pad(&mut self, len: u64) -> io::Result<()> {
        self.out.bytes(&[0; BLOCK][..padding(len) as usize])
    }
}

/// Bytes up to the next block.
pub(crate) fn padding(len: u64) -> u64 {
    len.wrapping_neg() % BLOCK as u64
}

fn narrow(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// Records for what the header has no room for, sorted by key.
fn pax_records(head: &Head) -> Vec<u8> {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |key: &[u8], value: Vec<u8>| records.push((key.to_vec(), value));
    for (key, text) in [(&b"path"[..], &head.name), (b"linkpath", &head.link)] {
        if text.len() > 100 || !text.is_ascii() {
            add(key, text.clone());
        }
    }
    for (key, width, value) in [
        (&b"uid"[..], 8, i64::from(head.uid)),
        (b"gid", 8, i64::from(head.gid)),
        (b"size", 12, narrow(head.size)),
        (b"mtime", 12, head.mtime),
    ] {
        if !fits(width, value) {
            add(key, value.to_string().into_bytes());
        }
    }
    for (name, value) in &head.xattrs {
        add(&[pax::XATTR, name].concat(), value.clone());
    }
    records.sort();
    let mut block = Vec::new();
    for (key, value) in &records {
        pax::push(&mut block, key, value);
    }
    block
}

/// Go's name for the member that carries the records: `dir/PaxHeaders.0/file`.
fn pax_name(name: &[u8]) -> Vec<u8> {
    let (dir, file) = match name.iter().rposition(|b| *b == b'/') {
        Some(at) => name.split_at(at + 1),
        None => (&b""[..], name),
    };
    let mut out = ascii(dir);
    out.extend_from_slice(b"PaxHeaders.0");
    if !file.is_empty() {
        out.push(b'/');
        out.extend(ascii(file));
    }
    out
}

/// What is not ASCII is left out of header fields; the record has it.
fn ascii(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() {
        return text.to_vec();
    }
    text.iter().copied().filter(u8::is_ascii).collect()
}
