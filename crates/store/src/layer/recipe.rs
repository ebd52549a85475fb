//! What rebuilds a layer's exact tar from its files.
//!
//! A zstd stream: [`MAGIC`], then records. `R` length bytes: bytes as they are. `C` length path
//! count (offset length)*: parts of a file's content. `E` total: the end, and how long the tar is.
//! Numbers are LEB128. Headers and padding of a large distribution pack to about 1 % of its tar.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use std::os::unix::ffi::OsStrExt;

use super::place::{Replaced, path_of};
use crate::error::{At, IoFailure};
use crate::tar::Segment;

const MAGIC: &[u8] = b"seacow-recipe-1\n";
/// Low: a recipe is written once for every build step, while somebody waits.
const LEVEL: i32 = 1;
/// Raw bytes are collected up to this before a record is written.
const CHUNK: usize = 64 << 10;
/// Longest path, the kernel's own.
const MAX_PATH: u64 = 4096;

/// Writes a recipe.
pub(crate) struct RecipeWriter {
    out: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    path: PathBuf,
    raw: Vec<u8>,
    total: u64,
}

impl RecipeWriter {
    pub(crate) fn create(path: &Path) -> Result<Self, IoFailure> {
        let file = File::create_new(path).at("create the recipe", path)?;
        let make = || -> io::Result<_> {
            let mut out = zstd::stream::write::Encoder::new(BufWriter::new(file), LEVEL)?;
            out.include_checksum(true)?;
            out.write_all(MAGIC)?;
            Ok(out)
        };
        let out = make().at("write the recipe", path)?;
        Ok(Self { out, path: path.to_owned(), raw: Vec::new(), total: 0 })
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.raw.extend_from_slice(bytes);
        self.total += bytes.len() as u64;
        if self.raw.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    pub(crate) fn content(&mut self, path: &Path, segments: &[Segment]) -> io::Result<()> {
        self.flush()?;
        let path = path.as_os_str().as_bytes();
        self.out.write_all(b"C")?;
        self.number(path.len() as u64)?;
        self.out.write_all(path)?;
        self.number(segments.len() as u64)?;
        for segment in segments {
            self.number(segment.offset)?;
            self.number(segment.len)?;
            self.total += segment.len;
        }
        Ok(())
    }

    /// Gives the length of the tar.
    pub(crate) fn finish(mut self) -> Result<u64, IoFailure> {
        let path = std::mem::take(&mut self.path);
        let total = self.total;
        let end = move || -> io::Result<()> {
            self.flush()?;
            self.out.write_all(b"E")?;
            self.number(total)?;
            self.out.finish()?.flush()
        };
        end().at("write the recipe", path)?;
        Ok(total)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let raw = std::mem::take(&mut self.raw);
        self.out.write_all(b"R")?;
        self.number(raw.len() as u64)?;
        self.out.write_all(&raw)?;
        self.raw = raw;
        self.raw.clear();
        Ok(())
    }

    fn number(&mut self, mut value: u64) -> io::Result<()> {
        loop {
            let byte = (value & 0x7f) as u8;
            value >>= 7;
            if value == 0 {
                return self.out.write_all(&[byte]);
            }
            self.out.write_all(&[byte | 0x80])?;
        }
    }
}

/// One step of a recipe.
pub(crate) enum Step {
    /// Bytes as they are.
    Raw(Vec<u8>),
    /// Parts of a file; the path is where the file was when it was placed.
    Content(PathBuf, Vec<Segment>),
    /// The end, and the length of the whole.
    End(u64),
}

/// Reads a recipe.
pub(crate) struct RecipeReader {
    input: BufReader<zstd::stream::read::Decoder<'static, BufReader<File>>>,
}

impl RecipeReader {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut input = BufReader::new(zstd::stream::read::Decoder::new(File::open(path)?)?);
        let mut magic = [0; MAGIC.len()];
        input.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(malformed());
        }
        Ok(Self { input })
    }

    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let mut tag = [0];
        self.input.read_exact(&mut tag)?;
        match tag[0] {
            b'R' => Ok(Step::Raw(self.bytes(u64::MAX)?)),
            b'C' => {
                let path = path_of(self.bytes(MAX_PATH)?);
                let count = self.number()?;
                let segments = (0..count)
                    .map(|_| Ok(Segment { offset: self.number()?, len: self.number()? }))
                    .collect::<io::Result<_>>()?;
                Ok(Step::Content(path, segments))
            }
            b'E' => Ok(Step::End(self.number()?)),
            _ => Err(malformed()),
        }
    }

    fn bytes(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        let len = self.number()?;
        let mut bytes = Vec::new();
        if len > limit || (&mut self.input).take(len).read_to_end(&mut bytes)? as u64 != len {
            return Err(malformed());
        }
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(malformed())
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the recipe is malformed")
}

/// Where a file is now that was placed as the `index`-th: in the layer's tree, unless it or a
/// directory above it was replaced by a later entry. Relative to the layer's directory.
pub(crate) fn whereabouts(path: &Path, index: u64, replaced: &[Replaced]) -> PathBuf {
    for event in replaced.iter().filter(|event| event.after > index) {
        let from = path_of(event.from.clone());
        if let Ok(rest) = path.strip_prefix(&from) {
            let kept = Path::new(super::draft::EXTRA).join(&event.name);
            return if rest.as_os_str().is_empty() { kept } else { kept.join(rest) };
        }
    }
    Path::new(super::draft::FS).join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_replaced_is_found() {
        let event = |after, from: &str, name: &str| Replaced {
            after,
            from: from.as_bytes().to_vec(),
            name: name.into(),
        };
        let replaced = [event(1, "a", "0"), event(3, "dir", "1")];
        let find = |path: &str, index| whereabouts(Path::new(path), index, &replaced);
        assert_eq!(find("a", 0), Path::new("extra/0"));
        assert_eq!(find("a", 1), Path::new("fs/a"));
        assert_eq!(find("dir/x/y", 2), Path::new("extra/1/x/y"));
        assert_eq!(find("dir/x/y", 3), Path::new("fs/dir/x/y"));
        assert_eq!(find("directory", 0), Path::new("fs/directory"));
    }

    #[test]
    fn a_recipe_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recipe");
        let mut writer = RecipeWriter::create(&path).unwrap();
        writer.raw(b"head").unwrap();
        let segments = [Segment { offset: 0, len: 300 }, Segment { offset: 1 << 40, len: 5 }];
        writer.content(Path::new("a/b"), &segments).unwrap();
        writer.raw(&vec![7; 200_000]).unwrap();
        let total = writer.finish().unwrap();
        assert_eq!(total, 4 + 305 + 200_000);

        let mut reader = RecipeReader::open(&path).unwrap();
        assert!(matches!(reader.step().unwrap(), Step::Raw(raw) if raw == b"head"));
        assert!(
            matches!(reader.step().unwrap(), Step::Content(p, s) if p == Path::new("a/b") && s == segments)
        );
        assert!(matches!(reader.step().unwrap(), Step::Raw(raw) if raw == vec![7; 200_000]));
        assert!(matches!(reader.step().unwrap(), Step::End(len) if len == total));
    }
}
