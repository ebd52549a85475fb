//! `docker load`: image archives of Docker and OCI layouts.
//!
//! An archive tells at its end what is in it: documents are kept in a private directory, and what looks
//! like a layer is unpacked where it comes, into a draft that nobody sees ([`Members`]). Every image is
//! then checked as a whole before anything of it becomes visible, and becomes visible with one transaction.
//! Nothing in the archive is a path here: names only find members.

use std::io::Read;

use seacow_spec::oci::image::{self as oci, Descriptor, Index, Manifest};
use seacow_spec::{Digest, Reference};

use super::layout::{ArchiveItem, BLOBS, FULL_NAME, INDEX, MANIFEST, REF_NAME, blob};
use super::members::Members;
use super::{ImageError, Images, NewImage, NewManifest};
use crate::hash;
use crate::layer::Layer;
use crate::meta::Durability;

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
    /// The manifest that it came with, if what that lists is kept.
    manifest: Option<NewManifest>,
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
        let members = Members::read(&self.layers, self.blobs(), archive)?;
        let candidates = match members.document::<Vec<ArchiveItem>>(MANIFEST)? {
            Some(items) => {
                items.into_iter().map(|item| docker_candidate(&members, item)).collect::<Result<_, _>>()?
            }
            None => oci_candidates(&members)?,
        };
        if candidates.is_empty() {
            return Err(ImageError::Archive("there is no image in it".into()));
        }
        let mut out = Vec::new();
        for candidate in candidates {
            let image = self.load_one(&members, candidate)?;
            loaded(&image);
            out.push(image);
        }
        Ok(out)
    }

    fn load_one(&self, members: &Members<'_>, candidate: Candidate) -> Result<LoadedImage, ImageError> {
        if let Some(known) = self.known_as(&hash::digest(&candidate.config)) {
            for name in &candidate.names {
                self.tag(&known.id, name)?;
            }
            if let Some(manifest) = candidate.manifest {
                self.keep_manifest(&known.id, manifest)?;
            }
            return Ok(LoadedImage { id: known.id, names: candidate.names });
        }
        let mut top: Option<Layer> = None;
        let mut seen = Vec::new();
        for (member, diff_id) in candidate.layers.iter().zip(&candidate.diff_ids) {
            let parent = top.as_ref().map(|layer| layer.chain_id().clone());
            let chain = hash::chain_id(parent.as_ref(), diff_id);
            top = Some(match self.layers.pin(&chain) {
                Ok(known) => known,
                Err(_) => {
                    let hex = member.strip_prefix(BLOBS).unwrap_or_default();
                    seen.extend(format!("sha256:{hex}").parse::<Digest>());
                    members.layer(member, parent.as_ref(), diff_id)?
                }
            });
        }
        let chain = top.as_ref().map(|layer| layer.chain_id().clone());
        let new = NewImage { config: candidate.config, chain, parent: None };
        let image = match candidate.manifest {
            Some(manifest) => {
                let manifest = NewManifest { seen, ..manifest };
                self.create_from_registry(new, &candidate.names, manifest)?
            }
            None => self.create_named(new, &candidate.names, Durability::Durable)?,
        };
        Ok(LoadedImage { id: image.id, names: candidate.names })
    }
}

fn docker_candidate(members: &Members<'_>, item: ArchiveItem) -> Result<Candidate, ImageError> {
    let config = members.document_bytes(&item.config)?;
    // `blobs/sha256/<hex>` and the older `<hex>.json` both name the digest.
    let stem = item.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if let Ok(expected) = format!("sha256:{stem}").parse::<Digest>() {
        check_digest(&item.config, &expected, &config)?;
    }
    let names = item.repo_tags.iter().map(|name| usable_name(name)).collect::<Result<_, _>>()?;
    let manifest = manifest_beside(members, &config, &item.layers);
    candidate(config, item.layers, names, manifest)
}

/// The manifest of an image in an archive that is an OCI layout besides. What is wrong with it is no reason not to
/// load the image.
fn manifest_beside(members: &Members<'_>, config: &[u8], layers: &[String]) -> Option<NewManifest> {
    let config = hash::digest(config);
    let index = members.document::<Index>(INDEX).ok()??;
    index.manifests.into_iter().find_map(|descriptor| {
        let (parsed, new) = manifest(members, descriptor, MAX_NESTING).ok()??;
        let listed = parsed.layers.iter().map(|layer| blob(&layer.digest));
        let same = parsed.config.digest == config && listed.eq(layers.iter().cloned());
        same.then(|| kept_whole(members, &parsed, new)).flatten()
    })
}

/// A manifest is worth keeping when what it lists is.
fn kept_whole(members: &Members<'_>, manifest: &Manifest, new: NewManifest) -> Option<NewManifest> {
    let any = !manifest.layers.is_empty();
    (any && manifest.layers.iter().all(|layer| members.keeps(&layer.digest))).then_some(new)
}

fn candidate(
    config: Vec<u8>,
    layers: Vec<String>,
    names: Vec<Reference>,
    manifest: Option<NewManifest>,
) -> Result<Candidate, ImageError> {
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
    Ok(Candidate { config, diff_ids, layers, names, manifest })
}

fn usable_name(name: &str) -> Result<Reference, ImageError> {
    let reference = name.parse::<Reference>()?.or_latest();
    if reference.is_host() {
        return Err(ImageError::Reserved(reference.familiar()));
    }
    Ok(reference)
}

fn oci_candidates(members: &Members<'_>) -> Result<Vec<Candidate>, ImageError> {
    let Some(index) = members.document::<Index>(INDEX)? else {
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
        let Some((manifest, new)) = manifest(members, descriptor, MAX_NESTING)? else { continue };
        let config = members.blob(&manifest.config)?;
        for layer in &manifest.layers {
            check_size(members, layer)?;
        }
        let layers = manifest.layers.iter().map(|layer| blob(&layer.digest)).collect();
        let new = kept_whole(members, &manifest, new);
        out.push(candidate(config, layers, names, new)?);
    }
    Ok(out)
}

/// The manifest a descriptor leads to, through indexes; parsed, and as it is.
fn manifest(
    members: &Members<'_>,
    descriptor: Descriptor,
    nesting: usize,
) -> Result<Option<(Manifest, NewManifest)>, ImageError> {
    let document = members.blob(&descriptor)?;
    let malformed = |error: serde_json::Error| ImageError::Archive(format!("{}: {error}", descriptor.digest));
    match descriptor.media_type.as_str() {
        oci::MANIFEST | oci::DOCKER_MANIFEST => {
            let parsed: Manifest = serde_json::from_slice(&document).map_err(malformed)?;
            // What it says of itself is what a registry will look at.
            let media_type = parsed.media_type.clone().unwrap_or(descriptor.media_type);
            Ok(Some((parsed, NewManifest { raw: document, media_type, seen: Vec::new() })))
        }
        oci::INDEX | oci::DOCKER_MANIFEST_LIST if nesting > 0 => {
            let index: Index = serde_json::from_slice(&document).map_err(malformed)?;
            match for_this_machine(index.manifests).into_iter().next() {
                Some(first) => manifest(members, first, nesting - 1),
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

pub(super) fn check_digest(name: &str, expected: &Digest, content: &[u8]) -> Result<(), ImageError> {
    let actual = hash::digest(content);
    if actual == *expected {
        return Ok(());
    }
    Err(ImageError::Archive(format!("{name}: digest does not match: expected {expected}, got {actual}")))
}

pub(super) fn check_size(members: &Members<'_>, descriptor: &Descriptor) -> Result<(), ImageError> {
    let name = blob(&descriptor.digest);
    let size = members.find(&name)?.size;
    if size == descriptor.size {
        return Ok(());
    }
    Err(ImageError::Archive(format!("{name}: has {size} bytes, not {}", descriptor.size)))
}
