//! `docker save`: images as an archive that is an OCI layout and Docker's own format at once. An image that was
//! pulled, and whose blobs are all kept, is saved as it came; others with their layers unpacked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write};
use std::sync::Arc;

use seacow_spec::oci::image::{self as oci, Descriptor, Index, Manifest};
use seacow_spec::{Digest, Reference};

use super::layout::{
    ArchiveItem, FULL_NAME, INDEX, LayerSource, MANIFEST, OCI_LAYOUT, OCI_LAYOUT_CONTENT, REF_NAME,
    REPOSITORIES, blob,
};
use super::{Image, ImageError, Images, KeptManifest};
use crate::hash;
use crate::layer::LayerInfo;
use crate::tar::{Head, Kind, TarWriter};

/// An image and the names it is saved under.
struct Item {
    image: Image,
    names: Vec<Reference>,
    /// Lowest first, with what they are called in the archive.
    layers: Layers,
    manifest: Vec<u8>,
    /// What the manifest is.
    kind: String,
    /// Digest of the config: the image's id, unless layers have got their diff ids since.
    config: Digest,
}

type Layers = Vec<(Descriptor, Content)>;

/// Where the blob of a layer comes from.
enum Content {
    /// Its tar, which is made of its files.
    Tar(Arc<LayerInfo>),
    /// As a registry has it.
    Kept(File),
}

impl Images {
    /// Writes the images as one archive. A name without tag means all tags of its repository; an
    /// id saves the image without names. Blobs that images share are written once.
    ///
    /// # Errors
    /// An image is unknown, is built on the host's root (which has no archive), or is damaged;
    /// nothing was written in the first two cases.
    pub fn save(&self, names: &[&str], out: &mut dyn Write) -> Result<(), ImageError> {
        let items = self.selection(names)?;
        let mut tar = Archive { tar: TarWriter::new(out), written: BTreeSet::new() };
        tar.directories()?;
        for item in &items {
            let created = item.image.config.created.map_or(0, |at| at.unix_seconds());
            tar.blob(&item.config, &item.image.raw, created)?;
            for (descriptor, content) in &item.layers {
                match content {
                    Content::Tar(layer) => tar.layer(self, layer, created)?,
                    Content::Kept(file) => tar.kept(descriptor, file, created)?,
                }
            }
            tar.blob(&hash::digest(&item.manifest), &item.manifest, created)?;
        }
        tar.file(INDEX, &json(&index(&items))?)?;
        tar.file(MANIFEST, &json(&docker_manifest(&items))?)?;
        tar.file(OCI_LAYOUT, OCI_LAYOUT_CONTENT.as_bytes())?;
        let repositories = repositories(&items);
        if !repositories.is_empty() {
            tar.file(REPOSITORIES, &json(&repositories)?)?;
        }
        tar.tar.finish().and_then(|out| out.flush()).map_err(ImageError::Output)
    }

    /// Each image once, with all names that were asked for.
    fn selection(&self, names: &[&str]) -> Result<Vec<Item>, ImageError> {
        let mut items: Vec<Item> = Vec::new();
        for name in names {
            for (image, name) in self.selected(name)? {
                if image.on_host {
                    let shown = name.map_or_else(|| image.id.short().to_owned(), |name| name.familiar());
                    return Err(ImageError::HostBound(shown));
                }
                let at = match items.iter().position(|item| item.image.id == image.id) {
                    Some(at) => at,
                    None => {
                        items.push(self.item(image)?);
                        items.len() - 1
                    }
                };
                if let Some(name) = name
                    && !items[at].names.contains(&name)
                {
                    items[at].names.push(name);
                }
            }
        }
        Ok(items)
    }

    fn selected(&self, text: &str) -> Result<Vec<(Image, Option<Reference>)>, ImageError> {
        let reference = text.parse::<Reference>().ok();
        if let Some(reference) = reference.filter(|name| name.tag().is_none() && name.digest().is_none()) {
            let tags: Vec<_> = {
                let catalog = self.shared.catalog();
                let same = |name: &&Reference| {
                    name.repository() == reference.repository() && name.digest().is_none()
                };
                catalog.tags.keys().filter(same).cloned().collect()
            };
            if !tags.is_empty() {
                return tags
                    .into_iter()
                    .map(|tag| Ok((self.resolve(&tag.to_string())?, Some(tag))))
                    .collect();
            }
        }
        let image = self.resolve(text)?;
        let name = text.parse::<Reference>().ok().map(Reference::or_latest);
        let name = name.filter(|name| name.digest().is_none() && image.names.contains(name));
        Ok(vec![(image, name)])
    }

    fn item(&self, image: Image) -> Result<Item, ImageError> {
        let image = self.sealed(&image.id)?;
        let config = hash::digest(&image.raw);
        if let Some((kept, layers)) = self.as_it_came(&image, &config) {
            let (manifest, kind) = (kept.raw.clone(), kept.media_type.clone());
            return Ok(Item { image, names: Vec::new(), layers, manifest, kind, config });
        }
        let mut layers = match &image.chain {
            Some(chain) => self.layers.stack(chain)?,
            None => Vec::new(),
        };
        layers.reverse();
        let descriptor = |media_type: &str, digest: &Digest, size| Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.clone(),
            size,
            platform: None,
            annotations: BTreeMap::new(),
        };
        let manifest = json(&Manifest {
            schema_version: 2,
            media_type: Some(oci::MANIFEST.to_owned()),
            config: descriptor(oci::CONFIG, &config, image.raw.len() as u64),
            layers: layers.iter().map(|l| descriptor(oci::LAYER, &l.diff_id, l.tar_size)).collect(),
        })?;
        let layers = layers
            .into_iter()
            .map(|layer| (descriptor(oci::LAYER, &layer.diff_id, layer.tar_size), Content::Tar(layer)))
            .collect();
        let kind = oci::MANIFEST.to_owned();
        Ok(Item { image, names: Vec::new(), layers, manifest, kind, config })
    }

    /// The manifest and the blobs that an image came with, if all of them are kept and whole.
    fn as_it_came(&self, image: &Image, config: &Digest) -> Option<(Arc<KeptManifest>, Layers)> {
        let blobs = self.blobs();
        let whole = |layer: &Descriptor| {
            let file = blobs.open(&layer.digest)?;
            let right = hash::of_file(&file).is_ok_and(|digest| digest == layer.digest);
            right.then(|| (layer.clone(), Content::Kept(file)))
        };
        let manifests = self.manifests(&image.id);
        let mut own = manifests.iter().filter(|kept| kept.manifest.config.digest == *config);
        own.find_map(|kept| {
            let layers = kept.manifest.layers.iter().map(whole).collect::<Option<_>>()?;
            Some((kept.clone(), layers))
        })
    }
}

/// One entry per name; a nameless image has one all the same.
fn index(items: &[Item]) -> Index {
    let mut manifests = Vec::new();
    for item in items {
        let plain = Descriptor {
            media_type: item.kind.clone(),
            digest: hash::digest(&item.manifest),
            size: item.manifest.len() as u64,
            platform: None,
            annotations: BTreeMap::new(),
        };
        if item.names.is_empty() {
            manifests.push(plain);
            continue;
        }
        for name in &item.names {
            let mut named = plain.clone();
            named.annotations.insert(FULL_NAME.into(), name.to_string());
            named.annotations.insert(REF_NAME.into(), name.tag().unwrap_or_default().to_owned());
            manifests.push(named);
        }
    }
    Index { schema_version: 2, media_type: Some(oci::INDEX.to_owned()), manifests }
}

fn docker_manifest(items: &[Item]) -> Vec<ArchiveItem> {
    let item = |item: &Item| ArchiveItem {
        config: blob(&item.config),
        repo_tags: item.names.iter().map(Reference::familiar).collect(),
        layers: item.layers.iter().map(|(layer, _)| blob(&layer.digest)).collect(),
        layer_sources: item
            .image
            .config
            .rootfs
            .diff_ids
            .iter()
            .zip(&item.layers)
            .map(|(diff_id, (layer, _))| {
                let source = LayerSource {
                    media_type: layer.media_type.clone(),
                    size: layer.size,
                    digest: layer.digest.clone(),
                };
                (diff_id.to_string(), source)
            })
            .collect(),
    };
    items.iter().map(item).collect()
}

/// Repository → tag → topmost layer: what dockers before 1.10 read.
fn repositories(items: &[Item]) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut out: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for item in items {
        let Some((top, _)) = item.layers.last() else { continue };
        for name in &item.names {
            let tag = name.tag().unwrap_or_default().to_owned();
            out.entry(name.familiar_name()).or_default().insert(tag, top.digest.hex().to_owned());
        }
    }
    out
}

fn json<T: serde::Serialize>(document: &T) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(document).map_err(|error| ImageError::Output(error.into()))
}

struct Archive<'a> {
    tar: TarWriter<&'a mut dyn Write>,
    written: BTreeSet<Digest>,
}

impl Archive<'_> {
    fn directories(&mut self) -> Result<(), ImageError> {
        for name in ["blobs/", "blobs/sha256/"] {
            self.tar.head(&head(name, Kind::Directory, 0, 0)).map_err(ImageError::Output)?;
        }
        Ok(())
    }

    fn file(&mut self, name: &str, content: &[u8]) -> Result<(), ImageError> {
        let head = head(name, Kind::File, content.len() as u64, 0);
        self.tar.blob(&head, content).map_err(ImageError::Output)
    }

    fn blob(&mut self, digest: &Digest, content: &[u8], at: i64) -> Result<(), ImageError> {
        if !self.written.insert(digest.clone()) {
            return Ok(());
        }
        let head = head(&blob(digest), Kind::File, content.len() as u64, at);
        self.tar.blob(&head, content).map_err(ImageError::Output)
    }

    fn kept(&mut self, layer: &Descriptor, file: &File, at: i64) -> Result<(), ImageError> {
        if !self.written.insert(layer.digest.clone()) {
            return Ok(());
        }
        let head = head(&blob(&layer.digest), Kind::File, layer.size, at);
        let copied = self.tar.stream(&head, |out| {
            let mut file = file;
            file.rewind()?;
            io::copy(&mut file.take(layer.size), out).map(drop)
        });
        copied.map_err(ImageError::Output)
    }

    fn layer(&mut self, images: &Images, layer: &LayerInfo, at: i64) -> Result<(), ImageError> {
        if !self.written.insert(layer.diff_id.clone()) {
            return Ok(());
        }
        let head = head(&blob(&layer.diff_id), Kind::File, layer.tar_size, at);
        let mut failure = None;
        let streamed = self.tar.stream(&head, |out| {
            images.layers.export(&layer.chain_id, out).map_err(|error| {
                failure = Some(error);
                io::Error::other("the layer could not be read")
            })
        });
        match (failure, streamed) {
            (Some(error), _) => Err(error.into()),
            (None, streamed) => streamed.map_err(ImageError::Output),
        }
    }
}

fn head(name: &str, kind: Kind, size: u64, mtime: i64) -> Head {
    Head {
        name: name.as_bytes().to_vec(),
        kind,
        mode: if kind == Kind::Directory { 0o040_755 } else { 0o100_644 },
        uid: 0,
        gid: 0,
        size,
        mtime,
        link: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
    }
}
