//! `docker push`.
//!
//! Of every layer is asked first whether the registry has it, under any digest that is known for it; then whether it
//! can be taken over from a repository beside. Else it is sent: as it was pulled, if that is kept, or packed anew
//! while it is sent. An image of which every layer is there as it was pulled gets the very manifest that it came with.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use seacow_registry::{Credentials, Pusher};
use seacow_spec::docker::build::{JsonMessage, ProgressDetail};
use seacow_spec::oci::image::{self as oci, Descriptor, Manifest};
use seacow_spec::{Digest, Reference};
use seacow_store::Packing;
use seacow_store::image::{Image, KeptManifest, NewManifest};
use seacow_store::layer::LayerInfo;
use serde::Serialize;
use tokio::runtime::Handle;

use super::ImageError;
use super::outgoing::{Sending, sent_from};
use super::pull::{platform, short, status};
use crate::error::EngineError;
use crate::pipe::{self, Progress, ProgressSender};
use crate::{Engine, blocking};

/// Layers on their way at a time, as Docker's default.
const AT_ONCE: usize = 5;

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// The name; a tag in it counts where none is given.
    pub image: String,
    /// The tag; empty for the name's own, else all tags of the repository.
    pub tag: String,
    /// The platform that it has to be of.
    pub platform: Option<String>,
    /// How layers are packed that the registry does not have, and that are not kept as they were pulled.
    pub packing: Option<Packing>,
    /// For the registry.
    pub credentials: Credentials,
}

impl Engine {
    /// Sends images of a repository to its registry. What goes wrong comes with the progress, as from dockerd.
    ///
    /// # Errors
    /// The name is malformed, or `host`.
    pub async fn image_push(&self, options: PushOptions) -> Result<Progress, EngineError> {
        let mut name = options.image.parse::<Reference>().map_err(ImageError::from)?;
        if name.digest().is_some() {
            return Err(ImageError::PushDigest.into());
        }
        if !options.tag.is_empty() {
            name = name.with_tag(&options.tag).map_err(ImageError::from)?;
        }
        if name.is_host() {
            return Err(ImageError::PushHost(name.familiar()).into());
        }
        if let Some(wanted) = &options.platform {
            self.check_platform(&name, wanted)?;
        }
        let (engine, handle) = (self.clone(), Handle::current());
        Ok(pipe::progress(move |progress| {
            let push = Push {
                engine: &engine,
                name,
                options: &options,
                handle: &handle,
                progress,
                packed: Mutex::default(),
            };
            push.run()
        }))
    }

    /// There is one platform to an image here: the one that is asked for, or the wrong one.
    fn check_platform(&self, name: &Reference, wanted: &str) -> Result<(), ImageError> {
        let wanted = platform(Some(wanted))?;
        let Some(image) = self.store().images().named(name) else { return Ok(()) };
        let (os, architecture) = (&image.config.os, &image.config.architecture);
        if *os == wanted.os && *architecture == wanted.architecture {
            return Ok(());
        }
        Err(ImageError::OtherPlatform {
            name: name.clone().or_latest().familiar(),
            wanted: wanted.to_string(),
            actual: format!("{os}/{architecture}"),
        })
    }
}

/// A push.
struct Push<'a> {
    engine: &'a Engine,
    name: Reference,
    options: &'a PushOptions,
    handle: &'a Handle,
    progress: &'a ProgressSender,
    /// Blobs that were packed here.
    packed: Mutex<Vec<Digest>>,
}

impl Push<'_> {
    fn run(&self) -> Result<(), ImageError> {
        self.say(status(format!("The push refers to repository [{}]", self.name.repository())))?;
        let images = self.images()?;
        let settings = &self.engine.config().registries;
        let connecting = Pusher::connect(&self.name, settings, &self.options.credentials);
        let mut pusher = self.handle.block_on(connecting)?;
        if let Some(own) = self.engine.0.registry.at(pusher.host()) {
            pusher = pusher.beside(own);
        }
        for (name, image) in images {
            self.image(&pusher, &name, &image)?;
        }
        Ok(())
    }

    /// The images that are meant, by the names that they get there.
    fn images(&self) -> Result<Vec<(Reference, Image)>, ImageError> {
        let images = self.engine.store().images();
        let in_repository = |name: &&Reference| {
            name.repository() == self.name.repository() && name.tag().is_some() && name.digest().is_none()
        };
        let all = images.list();
        let mut here: Vec<(Reference, Image)> = Vec::new();
        for image in all {
            here.extend(image.names.iter().filter(in_repository).map(|name| (name.clone(), image.clone())));
        }
        if here.is_empty() {
            return Err(ImageError::NothingToPush(self.name.familiar_name()));
        }
        if self.name.tag().is_some() {
            here.retain(|(name, _)| *name == self.name);
            if here.is_empty() {
                return Err(ImageError::NoSuchTag(self.name.familiar()));
            }
        }
        here.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(here)
    }

    fn image(&self, pusher: &Pusher, name: &Reference, image: &Image) -> Result<(), ImageError> {
        if image.on_host {
            return Err(ImageError::PushHost(name.familiar()));
        }
        let images = self.engine.store().images();
        let image = images.sealed(&image.id)?;
        // What it stands on must not go while it is sent.
        let layers = self.engine.store().layers();
        let _pin = image.chain.as_ref().map(|chain| layers.pin(chain)).transpose();
        let mut stack = match &image.chain {
            Some(chain) => layers.stack(chain).map_err(seacow_store::ImageError::from)?,
            None => Vec::new(),
        };
        for layer in &stack {
            self.of_layer(&layer.diff_id, "Preparing")?;
        }
        stack.reverse();
        let kept = images.manifests(&image.id);
        let sent = self.layers(pusher, &stack, &kept)?;
        let manifest = self.manifest(&image, &kept, sent)?;
        let config = &manifest.1;
        if !self.handle.block_on(pusher.has(config))? {
            self.handle.block_on(pusher.small(image.raw.to_vec(), config))?;
        }
        self.conclude(pusher, name, &image, manifest.0)
    }

    /// Brings all layers there; gives what they are called there, lowest first.
    fn layers(
        &self,
        pusher: &Pusher,
        stack: &[std::sync::Arc<LayerInfo>],
        kept: &[std::sync::Arc<KeptManifest>],
    ) -> Result<Vec<Descriptor>, ImageError> {
        let queue = Mutex::new(stack.iter().enumerate());
        let sent: Mutex<Vec<Option<Descriptor>>> = Mutex::new(vec![None; stack.len()]);
        let failed = AtomicBool::new(false);
        let work = || -> Result<(), ImageError> {
            while !failed.load(Ordering::Relaxed) {
                let Some((number, layer)) = blocking::lock(&queue).next() else { break };
                let as_pulled = kept.iter().filter_map(|kept| kept.manifest.layers.get(number).cloned());
                let descriptor = self.layer(pusher, layer, as_pulled.collect()).inspect_err(|_| {
                    // After a failure the others need not go on.
                    failed.store(true, Ordering::Relaxed);
                })?;
                if let Some(slot) = blocking::lock(&sent).get_mut(number) {
                    *slot = Some(descriptor);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE.min(stack.len())).map(|_| scope.spawn(work)).collect();
            let panicked = || ImageError::Broken(std::io::Error::other("a thread panicked"));
            let ended = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| Err(panicked())));
            ended.fold(Ok(()), Result::and)
        })?;
        let sent = sent.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(sent.into_iter().flatten().collect())
    }

    /// Brings one layer there.
    fn layer(
        &self,
        pusher: &Pusher,
        layer: &LayerInfo,
        as_pulled: Vec<Descriptor>,
    ) -> Result<Descriptor, ImageError> {
        let images = self.engine.store().images();
        let mut known = as_pulled;
        for other in images.packed(&layer.diff_id) {
            if !known.iter().any(|known| known.digest == other.digest) {
                known.push(other);
            }
        }
        if let Some(packing) = self.options.packing {
            known.retain(|known| is_zstd(&known.media_type) == matches!(packing, Packing::Zstd(_)));
        }
        for known in &known {
            if self.handle.block_on(pusher.has(&known.digest))? {
                self.of_layer(&layer.diff_id, "Layer already exists")?;
                return Ok(known.clone());
            }
        }
        for known in &known {
            for from in images.repositories_with(&known.digest, self.name.domain()) {
                let beside = from != self.name.path();
                if beside && self.handle.block_on(pusher.mount(&known.digest, &from))? {
                    self.of_layer(&layer.diff_id, &format!("Mounted from {from}"))?;
                    return Ok(known.clone());
                }
            }
        }
        let tell = |current: u64, total: u64| {
            let detail = ProgressDetail { current: Some(current), total: Some(total) };
            let id = Some(short(&layer.diff_id));
            let pushing = status("Pushing".into());
            self.progress.offer(JsonMessage { progress_detail: Some(detail), id, ..pushing });
        };
        let sending = Sending {
            store: self.engine.store(),
            pusher,
            handle: self.handle,
            progress: self.progress,
            tell: &tell,
        };
        for known in &known {
            if let Some(()) = sending.as_it_was(known)? {
                self.of_layer(&layer.diff_id, "Pushed")?;
                return Ok(known.clone());
            }
        }
        let (digest, size, packing) = sent_from(&sending, layer, self.options.packing)?;
        blocking::lock(&self.packed).push(digest.clone());
        self.of_layer(&layer.diff_id, "Pushed")?;
        let media_type = if packing { oci::LAYER_ZSTD } else { oci::LAYER_GZIP };
        Ok(Descriptor { media_type: media_type.into(), ..descriptor(digest, size) })
    }

    /// The manifest with these layers, as it came or a new one; and the config's digest.
    fn manifest(
        &self,
        image: &Image,
        kept: &[std::sync::Arc<KeptManifest>],
        layers: Vec<Descriptor>,
    ) -> Result<(NewManifest, Digest), ImageError> {
        let config = seacow_store::digest(&image.raw);
        let same = |kept: &&std::sync::Arc<KeptManifest>| {
            let listed = kept.manifest.layers.iter().map(|layer| &layer.digest);
            kept.manifest.config.digest == config && listed.eq(layers.iter().map(|layer| &layer.digest))
        };
        if let Some(kept) = kept.iter().find(same) {
            let (raw, media_type) = (kept.raw.clone(), kept.media_type.clone());
            return Ok((NewManifest { raw, media_type, seen: Vec::new() }, config));
        }
        // As the image was; Docker's own kind knows no zstd.
        let was_oci = kept.iter().any(|kept| kept.media_type == oci::MANIFEST);
        let is_oci = was_oci || layers.iter().any(|layer| is_zstd(&layer.media_type));
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(if is_oci { oci::MANIFEST } else { oci::DOCKER_MANIFEST }.to_owned()),
            config: Descriptor {
                media_type: if is_oci { oci::CONFIG } else { oci::DOCKER_CONFIG }.to_owned(),
                ..descriptor(config.clone(), image.raw.len() as u64)
            },
            layers: layers.into_iter().map(|layer| in_kind(layer, is_oci)).collect(),
        };
        let media_type = if is_oci { oci::MANIFEST } else { oci::DOCKER_MANIFEST }.to_owned();
        let images = self.engine.store().images();
        let mut seen = blocking::lock(&self.packed).clone();
        for (diff_id, layer) in image.config.rootfs.diff_ids.iter().zip(&manifest.layers) {
            let known = images.packed(diff_id).iter().any(|known| known.digest == layer.digest);
            seen.extend(known.then(|| layer.digest.clone()));
        }
        seen.retain(|blob| manifest.layers.iter().any(|layer| layer.digest == *blob));
        Ok((NewManifest { raw: pretty(&manifest)?, media_type, seen }, config))
    }

    /// Sends the manifest, remembers it, and says so.
    fn conclude(
        &self,
        pusher: &Pusher,
        name: &Reference,
        image: &Image,
        manifest: NewManifest,
    ) -> Result<(), ImageError> {
        let tag = name.tag().unwrap_or(seacow_spec::reference::DEFAULT_TAG);
        self.handle.block_on(pusher.manifest(tag, &manifest.media_type, &manifest.raw))?;
        let size = manifest.raw.len();
        let images = self.engine.store().images();
        let digest = images.keep_manifest(&image.id, manifest)?;
        images.tag(&image.id, &format!("{}@{digest}", name.repository()).parse::<Reference>()?)?;
        self.engine.image_event("push", image, &name.familiar());
        self.say(status(format!("{tag}: digest: {digest} size: {size}")))?;
        let aux = serde_json::json!({"Tag": tag, "Digest": digest, "Size": size});
        let detail = Some(ProgressDetail::default());
        self.say(JsonMessage { progress_detail: detail, aux: Some(aux), ..JsonMessage::default() })
    }

    fn of_layer(&self, diff_id: &Digest, text: &str) -> Result<(), ImageError> {
        let (progress_detail, id) = (Some(ProgressDetail::default()), Some(short(diff_id)));
        self.say(JsonMessage { progress_detail, id, ..status(text.to_owned()) })
    }

    fn say(&self, message: JsonMessage) -> Result<(), ImageError> {
        self.progress.send(message).map_err(ImageError::Disconnected)
    }
}

pub(super) fn descriptor(digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: String::new(), digest, size, platform: None, annotations: Default::default() }
}

fn is_zstd(media_type: &str) -> bool {
    media_type.ends_with("+zstd")
}

/// The same layer by the name that OCI or Docker has for its kind.
fn in_kind(layer: Descriptor, is_oci: bool) -> Descriptor {
    let media_type = match (layer.media_type.as_str(), is_oci) {
        (oci::DOCKER_LAYER_GZIP, true) => oci::LAYER_GZIP,
        (oci::LAYER_GZIP, false) => oci::DOCKER_LAYER_GZIP,
        (oci::DOCKER_LAYER, true) => oci::LAYER,
        (oci::LAYER, false) => oci::DOCKER_LAYER,
        (other, _) => other,
    };
    Descriptor { media_type: media_type.to_owned(), ..layer }
}

/// As dockerd writes manifests: three spaces a step.
fn pretty(manifest: &Manifest) -> Result<Vec<u8>, ImageError> {
    let mut out = Vec::new();
    let format = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, format);
    manifest.serialize(&mut serializer).map_err(|error| ImageError::Broken(error.into()))?;
    Ok(out)
}
