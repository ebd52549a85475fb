//! Reads any tar, keeping the bytes that are not contents.

use std::io::{self, Read};

use super::header::{BLOCK, Kind, Raw, trim_slashes};
use super::sparse::{PaxSparse, SparseMap, pairs};
use super::{padding, pax, sparse};

/// Why a tar stream was refused.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream itself broke.
    #[error("read the archive: {0}")]
    Read(#[from] io::Error),
    /// It ended in the middle.
    #[error("the archive ends in the middle of {0}")]
    Truncated(String),
    /// A header that is none.
    #[error("invalid tar header after {after:?}: {reason}")]
    Header {
        /// Name of the member before it.
        after: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A member that no tar would write.
    #[error("archive entry {name:?}: {reason}")]
    Member {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// More than is accepted from outside.
    #[error("archive entry {name:?}: the archive exceeds the limit of {limit} {what}")]
    TooLarge {
        /// Name of the entry where it was noticed.
        name: String,
        /// Of what.
        what: &'static str,
        /// How many.
        limit: u64,
    },
}

/// How much of a stream is accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Members.
    pub(crate) entries: u64,
    /// Bytes of the whole unpacked stream.
    pub(crate) bytes: u64,
}

/// Longest PAX block or GNU long name. Names have at most 4096 bytes, an attribute 64 KiB.
const MAX_META: u64 = 1 << 20;
/// Longest sparse map in the data of a member, in bytes and entries.
const MAX_SPARSE: u64 = 16 << 20;
/// What may follow the end mark: padding to a tape block of at most some MiB.
const MAX_TRAILER: u64 = 64 << 20;

/// One member of the archive.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// As it came in.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds after them.
    pub(crate) mtime: (i64, u32),
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
    /// Name and value, in the order of the archive.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of content in the stream.
    pub(crate) stored: u64,
    /// Set when the content has holes.
    pub(crate) sparse: Option<SparseMap>,
}

impl Member {
    /// Name for messages.
    pub(crate) fn display(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }

    /// Size of the file.
    pub(crate) fn size(&self) -> u64 {
        self.sparse.as_ref().map_or(self.stored, |map| map.size)
    }
}

/// Members one after the other.
///
/// Every byte of the stream is either content, given by [`TarReader::read_content`], or appears in
/// what [`TarReader::take_raw`] gives, in order: raw, content, raw, content, … raw.
pub(crate) struct TarReader<R> {
    inner: R,
    bounds: Bounds,
    entries: u64,
    bytes: u64,
    raw: Vec<u8>,
    /// Content of the present member not read yet, and the padding behind it.
    left: u64,
    padding: u64,
    last: String,
    ended: bool,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R, bounds: Bounds) -> Self {
        Self {
            inner,
            bounds,
            entries: 0,
            bytes: 0,
            raw: Vec::new(),
            left: 0,
            padding: 0,
            last: String::new(),
            ended: false,
        }
    }

    /// Bytes that were not content, since the last call.
    pub(crate) fn take_raw(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.raw)
    }

    /// The present member's content, up to the buffer's length; 0 at its end.
    pub(crate) fn read_content(&mut self, buf: &mut [u8]) -> Result<usize, TarError> {
        let want = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let len = self.inner.read(&mut buf[..want])?;
        if len == 0 {
            return Err(TarError::Truncated(format!("{:?}", self.last)));
        }
        self.left -= len as u64;
        Ok(len)
    }

    /// The next member; its predecessor's content must have been read.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        if self.ended {
            return Ok(None);
        }
        self.finish_member()?;
        let mut extra = Extra::default();
        loop {
            let Some(block) = self.header_block()? else {
                self.ended = true;
                return Ok(None);
            };
            let raw = Raw(&block);
            let size = raw.size().and_then(|size| u64::try_from(size).ok());
            let Some(size) = size else { return Err(self.bad_header("the size is no number")) };
            match raw.typeflag() {
                b'x' | b'X' => {
                    let block = self.meta(size)?;
                    extra.take_pax(&block).map_err(|reason| self.bad_header(reason))?;
                }
                // Global records: git writes a comment; dockerd ignores them all, and so must we
                // for the same layer to look the same.
                b'g' => drop(self.meta(size)?),
                b'L' => extra.long_name = Some(until_nul(self.meta(size)?)),
                b'K' => extra.long_link = Some(until_nul(self.meta(size)?)),
                _ => return self.member(&raw, extra).map(Some),
            }
        }
    }

    /// Reads what follows the end mark, which belongs to the stream's digest all the same.
    pub(crate) fn drain(&mut self) -> Result<Vec<u8>, TarError> {
        let mut rest = self.take_raw();
        let limit = MAX_TRAILER + rest.len() as u64;
        let read = (&mut self.inner).take(MAX_TRAILER + 1).read_to_end(&mut rest)?;
        if read as u64 > MAX_TRAILER {
            let name = self.last.clone();
            return Err(TarError::TooLarge { name, what: "bytes after its end", limit });
        }
        Ok(rest)
    }

    /// Skips what is left of the content; for readers who are not interested in it.
    pub(crate) fn skip_content(&mut self) -> Result<(), TarError> {
        let mut buf = vec![0; 64 << 10];
        while self.read_content(&mut buf)? > 0 {}
        Ok(())
    }

    fn finish_member(&mut self) -> Result<(), TarError> {
        if self.left > 0 {
            self.skip_content()?;
        }
        let padding = std::mem::take(&mut self.padding);
        self.read_raw(padding)
    }

    /// `None` at the end mark, or where the stream just ends (old tars, truncated by habit).
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let Some(block) = self.block()? else { return Ok(None) };
        let raw = Raw(&block);
        if raw.is_zero() {
            return match self.block()? {
                None => Ok(None),
                Some(second) if Raw(&second).is_zero() => Ok(None),
                Some(_) => Err(self.bad_header("a zero block is not followed by another")),
            };
        }
        if !raw.checksum_holds() {
            return Err(self.bad_header("the checksum does not match"));
        }
        self.entries += 1;
        self.check(self.entries, self.bounds.entries, "entries")?;
        Ok(Some(block))
    }

    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let start = self.raw.len();
        let got = (&mut self.inner).take(BLOCK as u64).read_to_end(&mut self.raw)?;
        self.count(BLOCK as u64)?;
        if got == 0 {
            return Ok(None);
        }
        match <[u8; BLOCK]>::try_from(&self.raw[start..]) {
            Ok(block) => Ok(Some(block)),
            Err(_) => Err(TarError::Truncated(format!("a header after {:?}", self.last))),
        }
    }

    /// A member that describes the next one.
    fn meta(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        self.check(size, MAX_META, "bytes of extended headers")?;
        let start = self.raw.len();
        self.count(size)?;
        self.read_raw(size)?;
        let block = self.raw[start..].to_vec();
        self.read_raw(padding(size))?;
        Ok(block)
    }

    fn read_raw(&mut self, len: u64) -> Result<(), TarError> {
        let got = (&mut self.inner).take(len).read_to_end(&mut self.raw)?;
        if (got as u64) < len {
            return Err(TarError::Truncated(format!("{:?}", self.last)));
        }
        Ok(())
    }

    fn member(&mut self, raw: &Raw<'_>, extra: Extra) -> Result<Member, TarError> {
        let name = extra.sparse.name.clone().or(extra.path).or(extra.long_name).unwrap_or_else(|| raw.name());
        self.last = String::from_utf8_lossy(&name).into_owned();
        let kind = self.kind(raw, &name)?;
        let number = |value: Option<i64>, reason| value.ok_or_else(|| self.bad_member(reason));
        let size = match extra.size {
            Some(size) => size,
            None => u64::try_from(number(raw.size(), "the size is no number")?).unwrap_or(0),
        };
        let (major, minor) = match kind {
            Kind::CharDevice | Kind::BlockDevice => {
                raw.device().ok_or_else(|| self.bad_member("the device number is no number"))?
            }
            _ => (0, 0),
        };
        let mut member = Member {
            kind,
            mode: (number(raw.mode(), "the mode is no number")? & 0o7777) as u32,
            uid: self.id(extra.uid, raw.uid())?,
            gid: self.id(extra.gid, raw.gid())?,
            mtime: match extra.mtime {
                Some(time) => time,
                None => (number(raw.mtime(), "the time is no number")?, 0),
            },
            link: extra.link.or(extra.long_link).unwrap_or_else(|| raw.link().to_vec()),
            device: (narrow(major), narrow(minor)),
            xattrs: extra.xattrs,
            // Go reads no content after the header of anything that is no file, whatever its size.
            stored: if kind == Kind::File { size } else { 0 },
            sparse: None,
            name,
        };
        self.count(member.stored)?;
        self.left = member.stored;
        self.padding = padding(member.stored);
        self.sparse(raw, &extra.sparse, &mut member)?;
        Ok(member)
    }

    fn kind(&self, raw: &Raw<'_>, name: &[u8]) -> Result<Kind, TarError> {
        Ok(match raw.typeflag() {
            // Before POSIX a directory was a file with a slash at the end.
            0 if name.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'M' | b'V' | b'N' | b'D' => {
                return Err(
                    self.bad_member("volume labels, continued and incremental archives are not taken")
                );
            }
            _ => return Err(self.bad_member("unknown type of entry")),
        })
    }

    fn sparse(&mut self, raw: &Raw<'_>, pax: &PaxSparse, member: &mut Member) -> Result<(), TarError> {
        let map = if member.kind != Kind::File {
            return Ok(());
        } else if raw.typeflag() == b'S' {
            self.old_gnu_map(raw)?
        } else if pax.map_is_in_data() {
            let before = self.left;
            let segments = self.map_in_data()?;
            member.stored -= before - self.left;
            sparse::SparseMap { size: pax.size.unwrap_or(0), segments }
        } else if pax.seen {
            pax.map().ok_or_else(|| self.bad_member("the sparse map is malformed"))?
        } else {
            return Ok(());
        };
        if !map.is_sound(member.stored) {
            return Err(self.bad_member("the sparse map contradicts itself"));
        }
        member.sparse = Some(map);
        Ok(())
    }

    /// Pairs in the header, continued in blocks of their own.
    fn old_gnu_map(&mut self, raw: &Raw<'_>) -> Result<SparseMap, TarError> {
        let (field, mut more, size) = raw.gnu_sparse();
        let mut numbers = Vec::new();
        let mut take = |field: &[u8]| -> Option<()> {
            for pair in field.chunks_exact(24) {
                if pair[0] == 0 {
                    break;
                }
                numbers.push(u64::try_from(super::header::number(&pair[..12])?).ok()?);
                numbers.push(u64::try_from(super::header::number(&pair[12..])?).ok()?);
            }
            Some(())
        };
        let mut sound = take(field);
        while more && sound.is_some() {
            let Some(block) = self.block()? else {
                return Err(TarError::Truncated(format!("{:?}", self.last)));
            };
            sound = take(&block[..504]);
            more = block[504] != 0;
        }
        let size = size.and_then(|size| u64::try_from(size).ok());
        match (sound, size, pairs(&numbers)) {
            (Some(()), Some(size), Some(segments)) => Ok(SparseMap { size, segments }),
            _ => Err(self.bad_member("the sparse map is malformed")),
        }
    }

    /// Decimal lines: how many pairs, then the pairs; padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<sparse::Segment>, TarError> {
        let mut text = Vec::new();
        let mut numbers: Vec<u64> = Vec::new();
        let mut at = 0;
        loop {
            while let Some(len) = text[at..].iter().position(|b| *b == b'\n') {
                let number = pax::decimal(&text[at..at + len]);
                numbers.push(number.ok_or_else(|| self.bad_member("the sparse map is malformed"))?);
                at += len + 1;
                if numbers[0].checked_mul(2).is_some_and(|count| numbers.len() as u64 == count + 1) {
                    return pairs(&numbers[1..])
                        .ok_or_else(|| self.bad_member("the sparse map is malformed"));
                }
            }
            self.check(text.len() as u64 + 1, MAX_SPARSE, "bytes of a sparse map")?;
            let block = (BLOCK as u64).min(self.left);
            if block < BLOCK as u64 {
                return Err(self.bad_member("the sparse map is cut off"));
            }
            let start = self.raw.len();
            self.read_raw(block)?;
            self.left -= block;
            text.extend_from_slice(&self.raw[start..]);
        }
    }

    fn id(&self, pax: Option<i64>, field: Option<i64>) -> Result<u32, TarError> {
        let id = pax.or(field).ok_or_else(|| self.bad_member("the owner is no number"))?;
        // The largest id means "leave it" to the kernel.
        u32::try_from(id)
            .ok()
            .filter(|id| *id != u32::MAX)
            .ok_or_else(|| self.bad_member("the owner's number is out of the kernel's range"))
    }

    fn count(&mut self, bytes: u64) -> Result<(), TarError> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.check(self.bytes, self.bounds.bytes, "bytes")
    }

    fn check(&self, value: u64, limit: u64, what: &'static str) -> Result<(), TarError> {
        if value <= limit {
            return Ok(());
        }
        Err(TarError::TooLarge { name: self.last.clone(), what, limit })
    }

    fn bad_header(&self, reason: &'static str) -> TarError {
        TarError::Header { after: self.last.clone(), reason }
    }

    fn bad_member(&self, reason: &'static str) -> TarError {
        TarError::Member { name: self.last.clone(), reason }
    }
}

/// A device number the kernel has no room for becomes one that no driver has.
fn narrow(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    if let Some(len) = text.iter().position(|b| *b == 0) {
        text.truncate(len);
    }
    text
}

/// What members of type x, L and K said about the next real one.
#[derive(Default)]
struct Extra {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<i64>,
    gid: Option<i64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: PaxSparse,
}

impl Extra {
    fn take_pax(&mut self, block: &[u8]) -> Result<(), &'static str> {
        const MALFORMED: &str = "the PAX records are malformed";
        for (key, value) in pax::parse(block).ok_or(MALFORMED)? {
            if let Some(name) = key.strip_prefix(pax::XATTR) {
                self.xattrs.push((name.to_vec(), value.to_vec()));
                continue;
            }
            if key.starts_with(b"GNU.sparse.") {
                if !self.sparse.take(key, value) {
                    return Err(MALFORMED);
                }
                continue;
            }
            // An empty value takes an earlier record back.
            let given = !value.is_empty();
            let number = || pax::decimal(value).and_then(|n| i64::try_from(n).ok()).ok_or(MALFORMED);
            match key {
                b"path" | b"linkpath" if value.contains(&0) => return Err("a NUL in a PAX name"),
                b"path" => self.path = given.then(|| value.to_vec()),
                b"linkpath" => self.link = given.then(|| value.to_vec()),
                b"size" if given => self.size = Some(number()? as u64),
                b"uid" if given => self.uid = Some(number()?),
                b"gid" if given => self.gid = Some(number()?),
                b"mtime" if given => self.mtime = Some(pax::time(value).ok_or(MALFORMED)?),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The member's path below the root: no `.`, no empty component, no slash in front; empty for the
/// root itself. `None` when it climbs out.
pub(crate) fn clean(name: &[u8]) -> Option<Vec<u8>> {
    let mut out: Vec<&[u8]> = Vec::new();
    for component in trim_slashes(name).split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                out.pop()?;
            }
            name => out.push(name),
        }
    }
    Some(out.join(&b'/'))
}
