//! Images: a config blob, a stack of layers, names.
//!
//! Vocabulary
//! - *id*: digest of the config blob, which is kept byte for byte.
//! - *tag*: a name that points to an id. A name with a digest instead of a tag (`repo@sha256:…`)
//!   points to it just so.
//! - *parent*: the image a build step started from. Children without a name are the builder's
//!   cache, and go when their last descendant is removed.
//! - `host`: the image that is this machine's root file system ([`crate::host`]). It appears when
//!   it is first asked for; its name cannot be given to another image or taken away.

mod create;
mod history;
mod incoming;
mod layout;
mod load;
mod manifest;
mod members;
pub(crate) mod record;
mod remove;
mod save;

use std::sync::Arc;

use seacow_spec::docker::image::ImageDeleted;
use seacow_spec::oci::image::ImageConfig;
use seacow_spec::reference::InvalidReference;
use seacow_spec::{ChainId, Classified, Digest, ErrorClass, Reference, Timestamp};

pub use create::NewImage;
pub use incoming::{Arrived, Incoming};
pub use load::LoadedImage;
pub use manifest::{KeptManifest, NewManifest};
pub use remove::{ImageUser, RemoveOptions};

use crate::blob::Blobs;
use crate::error::IoFailure;
use crate::hash;
use crate::host::{Host, HostError};
use crate::layer::{LayerError, LayerInfo, LayerKind, Layers};
use crate::meta::{Durability, MetaError, Table, Write};
use crate::shared::{Catalog, Shared};
use crate::tar::TarError;
use record::{ImageRecord, TagRecord};

/// Why an image could not be found, made, named, removed, saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is none of that name.
    #[error("No such image: {0}")]
    NotFound(String),
    /// The beginning of an id that several images share.
    #[error("image id prefix {prefix:?} is ambiguous: {count} images begin with it")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many have it.
        count: usize,
    },
    /// It cannot be removed as things are; the text is Docker's.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The name means this machine.
    #[error("the image name {0:?} is reserved for the root file system of this machine")]
    Reserved(String),
    /// Not an image name.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// A config blob that does not fit its layers, or is none.
    #[error("invalid image config: {0}")]
    Config(String),
    /// A manifest that is none, or of another image.
    #[error("invalid manifest: {0}")]
    Manifest(String),
    /// An archive that is no image, or a hostile one.
    #[error("invalid image archive: {0}")]
    Archive(String),
    /// Its base is the root file system of this machine.
    #[error(
        "image {0} is built on the root file system of this machine and belongs to it: it cannot be saved; \
         export a container of it, or `seacow diff` what it changed"
    )]
    HostBound(String),
    /// A layer failed.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The host's view failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The archive is broken.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// Where the archive was to go does not take it.
    #[error("write the archive: {0}")]
    Output(#[source] std::io::Error),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The metadata failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl Classified for ImageError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::Conflict(_) => ErrorClass::Conflict,
            Self::Reserved(_) => ErrorClass::Forbidden,
            Self::Ambiguous { .. }
            | Self::Reference(_)
            | Self::Config(_)
            | Self::Manifest(_)
            | Self::Archive(_) => ErrorClass::InvalidArgument,
            Self::HostBound(_) => ErrorClass::NotImplemented,
            Self::Layer(error) => error.class(),
            Self::Host(error) => error.class(),
            Self::Tar(TarError::Read(_)) | Self::Output(_) => ErrorClass::Internal,
            Self::Tar(_) => ErrorClass::InvalidArgument,
            Self::Io(error) => error.class(),
            Self::Meta(error) => error.class(),
        }
    }
}

/// An image as it was when it was asked for.
#[derive(Clone, Debug)]
pub struct Image {
    /// Digest of the config blob as it was made.
    pub id: Digest,
    /// The config blob.
    pub raw: Arc<[u8]>,
    /// The same, parsed.
    pub config: Arc<ImageConfig>,
    /// Topmost layer; `None` for an image without files (`FROM scratch`).
    pub chain: Option<ChainId>,
    /// The image it was built on.
    pub parent: Option<Digest>,
    /// Its names, sorted; those with a digest instead of a tag among them.
    pub names: Vec<Reference>,
    /// Sum of its layers' sizes, as Docker counts.
    pub size: u64,
    /// When it came into this store.
    pub added: Timestamp,
    /// When it was last named.
    pub last_tagged: Option<Timestamp>,
    /// Whether its lowest layer is this machine's root file system.
    pub on_host: bool,
}

impl Image {
    /// Names with a tag, as people type them.
    pub fn repo_tags(&self) -> Vec<String> {
        self.names.iter().filter(|name| name.digest().is_none()).map(Reference::familiar).collect()
    }

    /// Names with a digest, as people type them.
    pub fn repo_digests(&self) -> Vec<String> {
        self.names.iter().filter(|name| name.digest().is_some()).map(Reference::familiar).collect()
    }
}

/// The images of a store.
#[derive(Clone, Debug)]
pub struct Images {
    shared: Arc<Shared>,
    layers: Layers,
    host: Host,
}

impl Images {
    pub(crate) fn new(shared: Arc<Shared>, layers: Layers, host: Host) -> Self {
        Self { shared, layers, host }
    }

    fn blobs(&self) -> Blobs {
        Blobs::new(self.shared.clone())
    }

    /// All images, in the order of their ids, the builder's nameless ones included.
    pub fn list(&self) -> Vec<Image> {
        let catalog = self.shared.catalog();
        catalog.images.values().map(|record| image(&catalog, record)).collect()
    }

    /// The image of an id.
    pub fn get(&self, id: &Digest) -> Option<Image> {
        let catalog = self.shared.catalog();
        catalog.images.get(id).map(|record| image(&catalog, record))
    }

    /// The image of an id with the true diff ids of all its layers, which are computed where they
    /// never were.
    ///
    /// # Errors
    /// There is no such image, or the disk failed.
    pub fn sealed(&self, id: &Digest) -> Result<Image, ImageError> {
        let not_found = || ImageError::NotFound(id.to_string());
        let image = self.get(id).ok_or_else(not_found)?;
        let Some(chain) = &image.chain else { return Ok(image) };
        let seal = || {
            let stack = self.layers.stack(chain)?;
            stack
                .iter()
                .filter(|layer| layer.is_unsealed())
                .try_for_each(|one| self.layers.seal(&one.chain_id))
        };
        self.layers.with_pinned(chain, |_| seal())?;
        self.get(id).ok_or_else(not_found)
    }

    /// The image whose config is this one since its frozen layers have their diff ids.
    fn known_as(&self, config: &Digest) -> Option<Image> {
        let records: Vec<_> = self.shared.catalog().images.values().cloned().collect();
        let images = records.iter().filter_map(|record| self.get(&record.id));
        let changed = images.filter(|image| hash::digest(&image.raw) != image.id);
        let mut found = changed.filter(|image| hash::digest(&image.raw) == *config);
        found.next()
    }

    /// Images built directly on this one: where the classic builder looks for a cached step.
    pub fn children(&self, id: &Digest) -> Vec<Image> {
        let catalog = self.shared.catalog();
        catalog.children(id).map(|record| image(&catalog, record)).collect()
    }

    /// The image of a name (`latest` when there is no tag), as it is in the store: unlike
    /// [`Images::resolve`] this never makes the host image, nor looks at the machine's state.
    pub fn named(&self, name: &Reference) -> Option<Image> {
        let catalog = self.shared.catalog();
        let tag = catalog.tags.get(&name.clone().or_latest())?;
        catalog.images.get(&tag.id).map(|record| image(&catalog, record))
    }

    /// Finds an image by name (`latest` when there is no tag), id, or the unique beginning of an
    /// id, with or without `sha256:`. A name goes before the beginning of an id.
    ///
    /// # Errors
    /// There is none, several begin so, or it can be no image's name.
    pub fn resolve(&self, text: &str) -> Result<Image, ImageError> {
        let reference = text.parse::<Reference>();
        if let Ok(reference) = &reference {
            if reference.is_host() {
                return self.host_image();
            }
            let catalog = self.shared.catalog();
            if let Some(tag) = catalog.tags.get(&reference.clone().or_latest())
                && let Some(record) = catalog.images.get(&tag.id)
            {
                return Ok(image(&catalog, record));
            }
        }
        match (self.by_prefix(text)?, reference) {
            (Some(image), _) => Ok(image),
            (None, Ok(name)) => Err(ImageError::NotFound(name.or_latest().familiar())),
            (None, Err(error)) => Err(error.into()),
        }
    }

    /// Gives an image a name, taking it away from another image.
    ///
    /// # Errors
    /// There is no such image, or the name is reserved.
    pub fn tag(&self, id: &Digest, name: &Reference) -> Result<(), ImageError> {
        if name.is_host() {
            return Err(ImageError::Reserved(name.familiar()));
        }
        let name = name.clone().or_latest();
        let record = TagRecord { id: id.clone(), at: Timestamp::now() };
        let mut change = self.shared.change();
        if !self.shared.catalog().images.contains_key(id) {
            return Err(ImageError::NotFound(id.to_string()));
        }
        change.write(Write::json(Table::Tags, &name.to_string(), &record)?);
        Ok(change.commit(|catalog| {
            catalog.tags.insert(name, record);
        })?)
    }

    /// Takes a name away, and nothing else.
    ///
    /// # Errors
    /// There is no such name, or it is reserved.
    pub fn untag(&self, name: &Reference) -> Result<ImageDeleted, ImageError> {
        let name = name.clone().or_latest();
        if name.is_host() {
            return Err(ImageError::Reserved(name.familiar()));
        }
        let mut change = self.shared.change();
        if !self.shared.catalog().tags.contains_key(&name) {
            return Err(ImageError::NotFound(name.familiar()));
        }
        change.write(Write::Delete(Table::Tags, name.to_string()));
        change.commit(|catalog| {
            catalog.tags.remove(&name);
        })?;
        Ok(ImageDeleted::Untagged(name.familiar()))
    }

    /// The image of this machine's root file system, as the machine is now.
    fn host_image(&self) -> Result<Image, ImageError> {
        let state = self.host.state()?;
        let layer = self.layers.register_host(&state.diff_id)?;
        let config = state.config()?;
        let id = hash::digest(&config);
        let name = crate::host::reference()?;
        let known = self.shared.catalog().tags.get(&name).map(|tag| tag.id.clone());
        if known.as_ref() != Some(&id) {
            let new = NewImage { config, chain: Some(layer.chain_id().clone()), parent: None };
            self.create_any(new, std::slice::from_ref(&name), None, Durability::Durable)?;
            if let Some(old) = known {
                self.forget_if_unused(&old);
            }
        }
        self.get(&id).ok_or_else(|| ImageError::NotFound(name.familiar()))
    }

    fn by_prefix(&self, text: &str) -> Result<Option<Image>, ImageError> {
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Ok(None);
        }
        let catalog = self.shared.catalog();
        let mut found = catalog.images.values().filter(|record| record.id.hex().starts_with(prefix));
        let Some(first) = found.next() else { return Ok(None) };
        match found.count() {
            0 => Ok(Some(image(&catalog, first))),
            more => Err(ImageError::Ambiguous { prefix: prefix.to_owned(), count: more + 1 }),
        }
    }
}

fn image(catalog: &Catalog, record: &Arc<ImageRecord>) -> Image {
    let stack = record.chain.as_ref().and_then(|chain| catalog.stack(chain)).unwrap_or_default();
    let (raw, config) = present(record, &stack);
    let tags = || catalog.tags.iter().filter(|(_, tag)| tag.id == record.id);
    Image {
        id: record.id.clone(),
        raw,
        config,
        chain: record.chain.clone(),
        parent: record.parent.clone(),
        names: tags().map(|(name, _)| name.clone()).collect(),
        size: stack.iter().map(|layer| layer.size).sum(),
        added: record.added,
        last_tagged: tags().map(|(_, tag)| tag.at).max(),
        on_host: stack.last().is_some_and(|layer| layer.kind == LayerKind::Host),
    }
}

/// The config as it is now: layers that were frozen when it was made may have got their diff ids.
fn present(record: &ImageRecord, stack: &[Arc<LayerInfo>]) -> (Arc<[u8]>, Arc<ImageConfig>) {
    let unchanged = || (record.raw.clone(), record.config.clone());
    if !stack.iter().any(|layer| layer.frozen.as_ref().is_some_and(|frozen| frozen.sealed)) {
        return unchanged();
    }
    let mut config = (*record.config).clone();
    config.rootfs.diff_ids = stack.iter().rev().map(|layer| layer.diff_id.clone()).collect();
    match serde_json::to_vec(&config) {
        Ok(raw) => (raw.into(), Arc::new(config)),
        // It was read from JSON.
        Err(_) => unchanged(),
    }
}
