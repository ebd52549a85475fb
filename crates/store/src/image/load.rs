//! `docker load`: image archives of Docker and OCI layouts.
//!
//! An archive tells at its end what is in it, so it is first spooled to a private directory; every
//! image is then checked as a whole before anything of it becomes visible, and becomes visible with
//! one transaction. Nothing in the archive is a path here: names only find spooled members.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use seacow_spec::oci::image::{self as oci, Descriptor, Index, Manifest};
use seacow_spec::{Digest, Reference};

use super::layout::{ArchiveItem, BLOBS, FULL_NAME, INDEX, MANIFEST, REF_NAME, blob};
use super::{ImageError, Images, NewImage};
use crate::error::At;
use crate::hash;
use crate::layer::Layer;
use crate::meta::Durability;
use crate::shared::Shared;
use crate::tar::{Bounds, Kind, TarError, TarReader, clean, compress};

/// Members of an archive: layers and documents of some hundred images.
const MAX_MEMBERS: u64 = 100_000;
/// Links from one member to another, one after the other.
const MAX_LINKS: usize = 8;
/// Indexes in indexes.
const MAX_NESTING: usize = 3;

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its id.
    pub id: Digest,
    /// The names it got.
    pub names: Vec<Reference>,
}

/// One image of an archive, checked as far as its documents go.
struct Candidate {
    config: Vec<u8>,
    diff_ids: Vec<Digest>,
    /// Members, lowest layer first.
    layers: Vec<String>,
    names: Vec<Reference>,
}

impl Images {
    /// Loads every image of an archive (plain, or packed with gzip, bzip2, xz or zstd), and tells `loaded` of each.
    ///
    /// # Errors
    /// The archive is refused: then nothing of the offending image is there, images before it are.
    pub fn load(
        &self,
        archive: impl Read + Send,
        mut loaded: impl FnMut(&LoadedImage),
    ) -> Result<Vec<LoadedImage>, ImageError> {
        let spool = Spool::fill(&self.shared, archive)?;
        let candidates = match spool.document::<Vec<ArchiveItem>>(MANIFEST)? {
            Some(items) => {
                items.into_iter().map(|item| docker_candidate(&spool, item)).collect::<Result<_, _>>()?
            }
            None => oci_candidates(&spool)?,
        };
        if candidates.is_empty() {
            return Err(ImageError::Archive("there is no image in it".into()));
        }
        let mut out = Vec::new();
        for candidate in candidates {
            let image = self.load_one(&spool, candidate)?;
            loaded(&image);
            out.push(image);
        }
        Ok(out)
    }

    fn load_one(&self, spool: &Spool<'_>, candidate: Candidate) -> Result<LoadedImage, ImageError> {
        if let Some(known) = self.known_as(&hash::digest(&candidate.config)) {
            for name in &candidate.names {
                self.tag(&known.id, name)?;
            }
            return Ok(LoadedImage { id: known.id, names: candidate.names });
        }
        let mut top: Option<Layer> = None;
        for (member, diff_id) in candidate.layers.iter().zip(&candidate.diff_ids) {
            let parent = top.as_ref().map(|layer| layer.chain_id().clone());
            let chain = hash::chain_id(parent.as_ref(), diff_id);
            top = Some(match self.layers.pin(&chain) {
                Ok(known) => known,
                Err(_) => {
                    let tar = spool.open(member)?;
                    self.layers.begin(parent.as_ref())?.apply_tar(tar)?.commit(Some(diff_id))?
                }
            });
        }
        let chain = top.as_ref().map(|layer| layer.chain_id().clone());
        let new = NewImage { config: candidate.config, chain, parent: None };
        let image = self.create_named(new, &candidate.names, Durability::Durable)?;
        Ok(LoadedImage { id: image.id, names: candidate.names })
    }
}

fn docker_candidate(spool: &Spool<'_>, item: ArchiveItem) -> Result<Candidate, ImageError> {
    let config = spool.read(&item.config)?;
    // `blobs/sha256/<hex>` and the older `<hex>.json` both name the digest.
    let stem = item.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if let Ok(expected) = format!("sha256:{stem}").parse::<Digest>() {
        check_digest(&item.config, &expected, &config)?;
    }
    let names = item.repo_tags.iter().map(|name| usable_name(name)).collect::<Result<_, _>>()?;
    candidate(config, item.layers, names)
}

fn candidate(config: Vec<u8>, layers: Vec<String>, names: Vec<Reference>) -> Result<Candidate, ImageError> {
    let parsed = super::create::parse_config(&config)?;
    let diff_ids = parsed.rootfs.diff_ids;
    if diff_ids.len() != layers.len() {
        return Err(ImageError::Archive(format!(
            "invalid manifest, layers length mismatch: expected {}, got {}",
            diff_ids.len(),
            layers.len()
        )));
    }
    if !parsed.os.is_empty() && parsed.os != "linux" {
        return Err(ImageError::Archive(format!("cannot load {} image on linux", parsed.os)));
    }
    Ok(Candidate { config, diff_ids, layers, names })
}

fn usable_name(name: &str) -> Result<Reference, ImageError> {
    let reference = name.parse::<Reference>()?.or_latest();
    if reference.is_host() {
        return Err(ImageError::Reserved(reference.familiar()));
    }
    Ok(reference)
}

fn oci_candidates(spool: &Spool<'_>) -> Result<Vec<Candidate>, ImageError> {
    let Some(index) = spool.document::<Index>(INDEX)? else {
        return Err(ImageError::Archive(format!("there is neither {MANIFEST} nor {INDEX} in it")));
    };
    let mut named: Vec<(Descriptor, Vec<Reference>)> = Vec::new();
    for descriptor in for_this_machine(index.manifests) {
        let names: Vec<_> = name_of(&descriptor)?.into_iter().collect();
        match named.iter_mut().find(|(known, _)| known.digest == descriptor.digest) {
            Some((_, known)) => known.extend(names),
            None => named.push((descriptor, names)),
        }
    }
    let mut out = Vec::new();
    for (descriptor, names) in named {
        let Some(manifest) = manifest(spool, descriptor, MAX_NESTING)? else { continue };
        let config = spool.blob(&manifest.config)?;
        for layer in &manifest.layers {
            check_size(spool, layer)?;
        }
        let layers = manifest.layers.iter().map(|layer| blob(&layer.digest)).collect();
        out.push(candidate(config, layers, names)?);
    }
    Ok(out)
}

/// The manifest a descriptor leads to, through indexes.
fn manifest(
    spool: &Spool<'_>,
    descriptor: Descriptor,
    nesting: usize,
) -> Result<Option<Manifest>, ImageError> {
    let document = spool.blob(&descriptor)?;
    let malformed = |error: serde_json::Error| ImageError::Archive(format!("{}: {error}", descriptor.digest));
    match descriptor.media_type.as_str() {
        oci::MANIFEST | oci::DOCKER_MANIFEST => {
            Ok(Some(serde_json::from_slice(&document).map_err(malformed)?))
        }
        oci::INDEX | oci::DOCKER_MANIFEST_LIST if nesting > 0 => {
            let index: Index = serde_json::from_slice(&document).map_err(malformed)?;
            match for_this_machine(index.manifests).into_iter().next() {
                Some(first) => manifest(spool, first, nesting - 1),
                None => {
                    let machine = crate::host::architecture();
                    Err(ImageError::Archive(format!("it has no image for linux/{machine}")))
                }
            }
        }
        // Attestations, charts and the like.
        _ => Ok(None),
    }
}

/// Those for this machine; those that say nothing when none does.
fn for_this_machine(manifests: Vec<Descriptor>) -> Vec<Descriptor> {
    let fits = |d: &Descriptor| {
        d.platform.as_ref().is_none_or(|p| p.os == "linux" && p.architecture == crate::host::architecture())
    };
    manifests.into_iter().filter(fits).collect()
}

fn name_of(descriptor: &Descriptor) -> Result<Option<Reference>, ImageError> {
    if let Some(name) = descriptor.annotations.get(FULL_NAME) {
        return usable_name(name).map(Some);
    }
    // Often a tag alone, which names nothing.
    match descriptor.annotations.get(REF_NAME) {
        Some(name) if name.contains(['/', ':']) => usable_name(name).map(Some),
        _ => Ok(None),
    }
}

fn check_digest(name: &str, expected: &Digest, content: &[u8]) -> Result<(), ImageError> {
    let actual = hash::digest(content);
    if actual == *expected {
        return Ok(());
    }
    Err(ImageError::Archive(format!("{name}: digest does not match: expected {expected}, got {actual}")))
}

fn check_size(spool: &Spool<'_>, descriptor: &Descriptor) -> Result<(), ImageError> {
    let name = blob(&descriptor.digest);
    let size = spool.find(&name)?.1;
    if size == descriptor.size {
        return Ok(());
    }
    Err(ImageError::Archive(format!("{name}: has {size} bytes, not {}", descriptor.size)))
}

/// The members of an archive, in files with numbers for names.
struct Spool<'a> {
    shared: &'a Shared,
    dir: PathBuf,
    /// Number and size.
    members: HashMap<String, (u64, u64)>,
    /// How many files there have been.
    files: u64,
    links: HashMap<String, String>,
}

impl<'a> Spool<'a> {
    fn fill(shared: &'a Shared, archive: impl Read + Send) -> Result<Self, ImageError> {
        let mut spool = Self {
            shared,
            dir: shared.layout.new_draft()?,
            members: HashMap::new(),
            files: 0,
            links: HashMap::new(),
        };
        let unpacked = compress::unpack(archive).map_err(TarError::from)?;
        let bounds = Bounds { entries: MAX_MEMBERS, bytes: shared.limits.max_bytes };
        let mut tar = TarReader::new(unpacked, bounds);
        while let Some(member) = tar.next_member()? {
            tar.take_raw();
            let name = clean(&member.name).and_then(|name| String::from_utf8(name).ok());
            let name = name.ok_or_else(|| ImageError::Archive(format!("bad name {:?}", member.display())))?;
            match member.kind {
                Kind::File if member.sparse.is_none() => spool.keep(&mut tar, name, member.stored)?,
                Kind::HardLink | Kind::Symlink => {
                    spool.link(&name, &member.link, member.kind);
                }
                _ => {}
            }
        }
        Ok(spool)
    }

    fn keep<R: Read>(&mut self, tar: &mut TarReader<R>, name: String, size: u64) -> Result<(), ImageError> {
        let number = self.files;
        self.files += 1;
        self.check_room(&name, size)?;
        let path = self.dir.join(number.to_string());
        let mut file = File::create_new(&path).at("create", &path)?;
        let mut buffer = vec![0; 128 << 10];
        loop {
            match tar.read_content(&mut buffer)? {
                0 => break,
                len => file.write_all(&buffer[..len]).at("write", &path)?,
            }
        }
        // Of two of one name the later one counts, as it would on a disk.
        if let Some((old, _)) = self.members.insert(name, (number, size)) {
            let old = self.dir.join(old.to_string());
            std::fs::remove_file(&old).at("remove", old)?;
        }
        Ok(())
    }

    fn check_room(&self, name: &str, size: u64) -> Result<(), ImageError> {
        let stat = rustix::fs::statvfs(&self.dir).at("look at", &self.dir)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(self.shared.limits.reserve);
        if size <= free {
            return Ok(());
        }
        let error = crate::layer::PlaceError::NoSpace { entry: name.to_owned(), need: size, free };
        Err(crate::layer::LayerError::from(error).into())
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

    fn find(&self, name: &str) -> Result<(PathBuf, u64), ImageError> {
        let mut name = clean(name.as_bytes())
            .and_then(|name| String::from_utf8(name).ok())
            .ok_or_else(|| ImageError::Archive(format!("bad name {name:?}")))?;
        let mut seen = HashSet::new();
        while seen.len() < MAX_LINKS && seen.insert(name.clone()) {
            if let Some((number, size)) = self.members.get(&name) {
                return Ok((self.dir.join(number.to_string()), *size));
            }
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        Err(ImageError::Archive(format!("{name} is not in it")))
    }

    fn open(&self, name: &str) -> Result<File, ImageError> {
        let (path, _) = self.find(name)?;
        Ok(File::open(&path).at("open", &path)?)
    }

    /// A small member as a whole.
    fn read(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (path, size) = self.find(name)?;
        let limit = self.shared.limits.max_document;
        if size > limit {
            return Err(ImageError::Archive(format!("{name} is larger than {limit} bytes")));
        }
        Ok(std::fs::read(&path).at("read", &path)?)
    }

    /// A document by its descriptor, verified.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        check_size(self, descriptor)?;
        let name = blob(&descriptor.digest);
        let content = self.read(&name)?;
        check_digest(name.trim_start_matches(BLOBS), &descriptor.digest, &content)?;
        Ok(content)
    }

    fn document<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ImageError> {
        if !self.members.contains_key(name) && !self.links.contains_key(name) {
            return Ok(None);
        }
        let content = self.read(name)?;
        serde_json::from_slice(&content)
            .map(Some)
            .map_err(|error| ImageError::Archive(format!("{name}: {error}")))
    }
}

impl Drop for Spool<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next open.
        let _ = self.shared.discard(&self.dir);
    }
}
