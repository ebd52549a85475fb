//! The members of an image archive, as they come: documents in files with numbers for names, layers
//! unpacked into drafts.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Cursor, Read, Write};
use std::path::{Path, PathBuf};

use seacow_spec::oci::image::Descriptor;
use seacow_spec::{ChainId, Digest};

use super::ImageError;
use super::layout::{BLOBS, blob};
use super::load::{check_digest, check_size};
use crate::blob::{Blobs, Part};
use crate::error::At;
use crate::hash::Hashing;
use crate::layer::{Layer, LayerError, Layers, Loose};
use crate::tar::{Bounds, Kind, TarError, TarReader, clean, compress};

/// Members of an archive: layers and documents of some hundred images.
const MAX_MEMBERS: u64 = 100_000;
/// Members that are unpacked where they come: eight images of as many layers as there may be. Others wait
/// in a file until an image wants them.
const MAX_UNPACKED: usize = 1016;
/// Links from one member to another, one after the other.
const MAX_LINKS: usize = 8;
/// Enough of a member to see what it is.
const START: usize = 512;

/// A member.
#[derive(Debug)]
pub(super) struct Kept {
    content: Content,
    /// Bytes in the archive.
    pub(super) size: u64,
}

#[derive(Debug)]
enum Content {
    /// A file of this number.
    File(u64),
    /// What was made of it, by its number.
    Layer(usize),
    /// By its name it is what a layer has that is here: not read at all.
    Known(ChainId),
}

/// What became of something that looked like a layer.
#[derive(Debug)]
enum Unpacked {
    Loose(Box<Loose>),
    Placed(ChainId),
    Refused(Box<LayerError>),
    /// It was told already why it is refused.
    Told,
}

/// The members of an archive. Dropping it leaves nothing.
pub(super) struct Members<'a> {
    layers: &'a Layers,
    /// Packed layers by their digest are kept there.
    blobs: Blobs,
    dir: PathBuf,
    members: HashMap<String, Kept>,
    /// How many files there have been.
    files: u64,
    unpacked: RefCell<Vec<Unpacked>>,
    /// Keeps what was placed until the image does.
    pinned: RefCell<Vec<Layer>>,
    links: HashMap<String, String>,
}

impl<'a> Members<'a> {
    /// Reads an archive to its end.
    pub(super) fn read(
        layers: &'a Layers,
        blobs: Blobs,
        archive: impl Read + Send,
    ) -> Result<Self, ImageError> {
        let mut this = Self {
            layers,
            blobs,
            dir: layers.shared().layout.new_draft()?,
            members: HashMap::new(),
            files: 0,
            unpacked: RefCell::default(),
            pinned: RefCell::default(),
            links: HashMap::new(),
        };
        let unpacked = compress::unpack(archive).map_err(TarError::from)?;
        let bounds = Bounds { entries: MAX_MEMBERS, bytes: layers.shared().limits.max_bytes };
        let mut tar = TarReader::new(unpacked, bounds);
        while let Some(member) = tar.next_member()? {
            tar.take_raw();
            let name = clean(&member.name).and_then(|name| String::from_utf8(name).ok());
            let name = name.ok_or_else(|| ImageError::Archive(format!("bad name {:?}", member.display())))?;
            match member.kind {
                Kind::File if member.sparse.is_none() => this.take(&mut tar, name, member.stored)?,
                Kind::HardLink | Kind::Symlink => {
                    this.link(&name, &member.link, member.kind);
                }
                _ => {}
            }
        }
        Ok(this)
    }

    fn take<R: Read + Send>(
        &mut self,
        tar: &mut TarReader<R>,
        name: String,
        size: u64,
    ) -> Result<(), ImageError> {
        let content = match self.known(&name) {
            Some(chain) => Content::Known(chain),
            None => {
                let mut member = Reading { tar, failed: None };
                let mut start = Vec::new();
                let begun = (&mut member).take(START as u64).read_to_end(&mut start);
                member.check(begun)?;
                if looks_like_a_layer(&start) && self.unpacked.get_mut().len() < MAX_UNPACKED {
                    self.unpack(&name, size, start, member)?
                } else {
                    Content::File(self.keep(&name, size, start, member)?)
                }
            }
        };
        // Of two of one name the later one counts, as it would on a disk.
        if let Some(Kept { content: Content::File(old), .. }) =
            self.members.insert(name, Kept { content, size })
        {
            let old = self.dir.join(old.to_string());
            std::fs::remove_file(&old).at("remove", old)?;
        }
        Ok(())
    }

    /// A layer with the digest that a blob has for a name. Whoever wants it gets that one's content.
    fn known(&self, name: &str) -> Option<ChainId> {
        let digest: Digest = format!("sha256:{}", name.strip_prefix(BLOBS)?).parse().ok()?;
        let layers = self.layers.list();
        layers.iter().find(|layer| layer.diff_id == digest).map(|layer| layer.chain_id.clone())
    }

    fn unpack<R: Read + Send>(
        &mut self,
        name: &str,
        size: u64,
        start: Vec<u8>,
        mut member: Reading<'_, R>,
    ) -> Result<Content, ImageError> {
        let kept = if compress::is_packed(&start) { self.blob_to_be(name, size)? } else { None };
        let mut keeping =
            Keeping { inner: Cursor::new(start).chain(&mut member), hash: Hashing::new(io::sink()), kept };
        let unpacked = self.layers.unpack_loose(&mut keeping);
        let finished = keeping.finish(unpacked.is_ok());
        // What is wrong with the archive is not the layer's fault.
        member.check(finished)?;
        let unpacked = match unpacked {
            Ok(loose) => Unpacked::Loose(Box::new(loose)),
            // It may be no layer, or one that nobody wants.
            Err(error) => Unpacked::Refused(Box::new(error)),
        };
        let all = self.unpacked.get_mut();
        all.push(unpacked);
        Ok(Content::Layer(all.len() - 1))
    }

    /// Where a packed layer is kept while it is unpacked, if its name says what it is.
    fn blob_to_be(&self, name: &str, size: u64) -> Result<Option<(Part, Digest)>, ImageError> {
        let hex = name.strip_prefix(BLOBS).unwrap_or_default();
        let Ok(digest) = format!("sha256:{hex}").parse::<Digest>() else { return Ok(None) };
        if self.blobs.find(&digest).is_some() {
            return Ok(None);
        }
        let Some(part) = self.blobs.begin(&digest, size)? else { return Ok(None) };
        // It comes whole, whatever is there of it.
        part.empty()?;
        Ok(Some((part, digest)))
    }

    /// Whether a blob is kept.
    pub(super) fn keeps(&self, digest: &Digest) -> bool {
        self.blobs.find(digest).is_some()
    }

    fn keep<R: Read>(
        &mut self,
        name: &str,
        size: u64,
        start: Vec<u8>,
        mut member: Reading<'_, R>,
    ) -> Result<u64, ImageError> {
        let number = self.files;
        self.files += 1;
        self.check_room(name, size)?;
        let path = self.dir.join(number.to_string());
        let mut file = File::create_new(&path).at("create", &path)?;
        file.write_all(&start).at("write", &path)?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            let read = member.read(&mut buffer);
            match member.check(read)? {
                0 => return Ok(number),
                len => file.write_all(&buffer[..len]).at("write", &path)?,
            }
        }
    }

    fn check_room(&self, name: &str, size: u64) -> Result<(), ImageError> {
        let stat = rustix::fs::statvfs(&self.dir).at("look at", &self.dir)?;
        let reserve = self.layers.shared().limits.reserve;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(reserve);
        if size <= free {
            return Ok(());
        }
        let error = crate::layer::PlaceError::NoSpace { entry: name.to_owned(), need: size, free };
        Err(LayerError::from(error).into())
    }

    /// Old archives share layers by links.
    fn link(&mut self, name: &str, target: &[u8], kind: Kind) {
        let base = match kind {
            Kind::Symlink => Path::new(name).parent().unwrap_or(Path::new("")),
            _ => Path::new(""),
        };
        let target = base.join(String::from_utf8_lossy(target).as_ref());
        if let Some(target) = target.to_str().and_then(|t| clean(t.as_bytes()))
            && let Ok(target) = String::from_utf8(target)
        {
            self.links.insert(name.to_owned(), target);
        }
    }

    pub(super) fn find(&self, name: &str) -> Result<&Kept, ImageError> {
        let mut name = clean(name.as_bytes())
            .and_then(|name| String::from_utf8(name).ok())
            .ok_or_else(|| ImageError::Archive(format!("bad name {name:?}")))?;
        let mut seen = HashSet::new();
        while seen.len() < MAX_LINKS && seen.insert(name.clone()) {
            if let Some(kept) = self.members.get(&name) {
                return Ok(kept);
            }
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        Err(ImageError::Archive(format!("{name} is not in it")))
    }

    /// Makes a member a layer on top of `parent`.
    pub(super) fn layer(
        &self,
        name: &str,
        parent: Option<&ChainId>,
        diff_id: &Digest,
    ) -> Result<Layer, ImageError> {
        let number = match &self.find(name)?.content {
            Content::File(number) => {
                let path = self.dir.join(number.to_string());
                let tar = File::open(&path).at("open", &path)?;
                return Ok(self.layers.begin(parent)?.apply_tar(tar)?.commit(Some(diff_id))?);
            }
            Content::Known(chain) => return Ok(self.layers.again(chain, parent, diff_id)?),
            Content::Layer(number) => *number,
        };
        let mut all = self.unpacked.borrow_mut();
        let Some(slot) = all.get_mut(number) else {
            return Err(ImageError::Archive(format!("{name} is not in it")));
        };
        match std::mem::replace(slot, Unpacked::Told) {
            Unpacked::Loose(loose) => {
                let layer = loose.commit(parent, diff_id)?;
                *slot = Unpacked::Placed(layer.chain_id().clone());
                self.pinned.borrow_mut().push(layer.clone());
                Ok(layer)
            }
            Unpacked::Placed(chain) => {
                *slot = Unpacked::Placed(chain.clone());
                Ok(self.layers.again(&chain, parent, diff_id)?)
            }
            Unpacked::Refused(error) => Err((*error).into()),
            Unpacked::Told => Err(ImageError::Archive(format!("{name} was refused"))),
        }
    }

    /// A small member as a whole.
    pub(super) fn document_bytes(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let kept = self.find(name)?;
        let Content::File(number) = kept.content else {
            return Err(ImageError::Archive(format!("{name} is no document")));
        };
        let limit = self.layers.shared().limits.max_document;
        if kept.size > limit {
            return Err(ImageError::Archive(format!("{name} is larger than {limit} bytes")));
        }
        let path = self.dir.join(number.to_string());
        Ok(std::fs::read(&path).at("read", &path)?)
    }

    /// A document by its descriptor, verified.
    pub(super) fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        check_size(self, descriptor)?;
        let name = blob(&descriptor.digest);
        let content = self.document_bytes(&name)?;
        check_digest(name.trim_start_matches(BLOBS), &descriptor.digest, &content)?;
        Ok(content)
    }

    pub(super) fn document<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, ImageError> {
        if !self.members.contains_key(name) && !self.links.contains_key(name) {
            return Ok(None);
        }
        let content = self.document_bytes(name)?;
        serde_json::from_slice(&content)
            .map(Some)
            .map_err(|error| ImageError::Archive(format!("{name}: {error}")))
    }
}

impl Drop for Members<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next open.
        let _ = self.layers.shared().discard(&self.dir);
    }
}

/// A tar by the magic of its first header, or something packed; documents are neither.
fn looks_like_a_layer(start: &[u8]) -> bool {
    start.get(257..262) == Some(b"ustar") || compress::is_packed(start)
}

/// A packed layer that is kept while it is read.
struct Keeping<R> {
    inner: R,
    hash: Hashing<io::Sink>,
    kept: Option<(Part, Digest)>,
}

impl<R: Read> Keeping<R> {
    /// Reads what is behind the tar's end, and keeps the whole if it is what its name says.
    fn finish(mut self, good: bool) -> io::Result<()> {
        if self.kept.is_none() {
            return Ok(());
        }
        io::copy(&mut self, &mut io::sink())?;
        let actual = self.hash.into_digest();
        match self.kept {
            Some((part, digest)) if good && actual == digest => {
                part.finish(&digest).map_err(io::Error::other)
            }
            Some((part, _)) => {
                part.discard();
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl<R: Read> Read for Keeping<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        if let Some((part, _)) = &self.kept {
            self.hash.write_all(&buffer[..len])?;
            if part.append(&buffer[..len]).is_err()
                && let Some((part, _)) = self.kept.take()
            {
                // The image does not need it.
                part.discard();
            }
        }
        Ok(len)
    }
}

/// The content of the present member; keeps what is wrong with the archive.
struct Reading<'t, R> {
    tar: &'t mut TarReader<R>,
    failed: Option<TarError>,
}

impl<R> Reading<'_, R> {
    /// The archive's own error in place of what became of it.
    fn check<T>(&mut self, outcome: io::Result<T>) -> Result<T, ImageError> {
        match (self.failed.take(), outcome) {
            (Some(error), _) => Err(error.into()),
            (None, Ok(value)) => Ok(value),
            (None, Err(error)) => Err(TarError::from(error).into()),
        }
    }
}

impl<R: Read> Read for Reading<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tar.read_content(buffer).map_err(|error| {
            let told = io::Error::other(error.to_string());
            self.failed = Some(error);
            told
        })
    }
}
