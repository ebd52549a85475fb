//! `docker pull`; `host` needs none.
//!
//! Layers are fetched, verified, unpacked and written at the same time, [`AT_ONCE`] of them; each is put in
//! its place when those below it are.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use seacow_registry::{Client, Credentials, Platform, RegistryError, Resolved};
use seacow_spec::docker::build::{JsonMessage, ProgressDetail};
use seacow_spec::oci::image::Descriptor;
use seacow_spec::{Digest, Reference};
use seacow_store::image::{Arrived, Incoming, NewManifest};
use tokio::runtime::Handle;

use super::ImageError;
use super::kept::{Keeping, Kept};
use super::names::new_name;
use crate::error::EngineError;
use crate::pipe::{self, Progress, ProgressSender};
use crate::system::host;
use crate::{Caller, Engine, blocking};

/// Layers on their way at a time, as Docker's default.
const AT_ONCE: usize = 3;
/// How often a layer's progress is told.
const TOLD_EVERY: Duration = Duration::from_millis(100);

/// What is to be pulled.
#[derive(Clone, Debug, Default)]
pub struct PullOptions {
    /// The name, maybe with tag or digest.
    pub image: String,
    /// Tag or digest; empty for the name's own.
    pub tag: String,
    /// `linux/amd64`.
    pub platform: Option<String>,
    /// For the registry.
    pub credentials: Credentials,
}

impl Engine {
    /// Fetches an image.
    ///
    /// # Errors
    /// The name is malformed or `host` and the caller may not have it, or its registry does not have it, cannot
    /// be reached, or does not let us in. What goes wrong with the layers comes with the progress.
    pub async fn image_pull(&self, options: PullOptions, caller: Caller) -> Result<Progress, EngineError> {
        let name = if options.tag.starts_with("sha256:") {
            format!("{}@{}", options.image, options.tag).parse::<Reference>().map_err(ImageError::from)?
        } else if options.tag.is_empty() {
            options.image.parse::<Reference>().map_err(ImageError::from)?
        } else {
            new_name(&options.image, &options.tag)?
        };
        if name.is_host() {
            return self.pull_host(&name, caller).await;
        }
        let platform = platform(options.platform.as_deref())?;
        let settings = &self.config().registries;
        if name.tag().is_none() && name.digest().is_none() {
            let tags = seacow_registry::tags(&name, settings, &options.credentials);
            let tags = tags.await.map_err(ImageError::from)?;
            let (engine, handle, credentials) = (self.clone(), Handle::current(), options.credentials);
            let all = AllTags { engine, name, tags, platform, credentials, handle };
            return Ok(pipe::progress(move |progress| all.run(progress)));
        }
        let (client, resolved) = Client::resolve(&name, &platform, settings, &options.credentials)
            .await
            .map_err(ImageError::from)?;
        let (engine, handle) = (self.clone(), Handle::current());
        let pull = Pull { engine, name, client, resolved, handle };
        Ok(pipe::progress(move |progress| pull.run(progress)))
    }

    async fn pull_host(&self, name: &Reference, caller: Caller) -> Result<Progress, EngineError> {
        if !caller.may_use_host_image() {
            return Err(ImageError::HostForbidden.into());
        }
        let image = self.find_image(&name.familiar()).await?;
        Ok(Box::pin(stream::iter([
            status("host is the root file system of this machine: there is nothing to pull".into()),
            status(format!("Digest: {}", image.id)),
            status(format!("Status: Image is up to date for {}", name.clone().or_latest().familiar())),
        ])))
    }

    /// Fetches an image for somebody on a thread that may block, who shows its progress as text.
    ///
    /// # Errors
    /// As [`Engine::image_pull`].
    pub(crate) fn pull_here(&self, name: &Reference) -> Result<(), ImageError> {
        let handle = Handle::current();
        let name = name.clone().or_latest();
        let settings = &self.config().registries;
        let (client, resolved) =
            handle.block_on(Client::resolve(&name, &platform(None)?, settings, &Credentials::default()))?;
        let pull = Pull { engine: self.clone(), name, client, resolved, handle };
        pull.fetch(&|_| Ok(())).map(drop)
    }
}

/// A repository whose images all come.
struct AllTags {
    engine: Engine,
    name: Reference,
    tags: Vec<String>,
    platform: Platform,
    credentials: Credentials,
    handle: Handle,
}

impl AllTags {
    fn run(self, progress: &ProgressSender) -> Result<(), ImageError> {
        let mut newer = false;
        for tag in &self.tags {
            let name = self.name.with_tag(tag)?;
            let settings = &self.engine.config().registries;
            let resolving = Client::resolve(&name, &self.platform, settings, &self.credentials);
            let (client, resolved) = self.handle.block_on(resolving)?;
            let (engine, handle) = (self.engine.clone(), self.handle.clone());
            newer |= Pull { engine, name, client, resolved, handle }.told(progress)?;
        }
        say_end(progress, newer, &self.name);
        Ok(())
    }
}

/// An image on its way.
struct Pull {
    engine: Engine,
    name: Reference,
    client: Client,
    resolved: Resolved,
    handle: Handle,
}

/// Tells somebody; fails when nobody listens any more.
type Tell<'a> = &'a (dyn Fn(JsonMessage) -> Result<(), pipe::Disconnected> + Sync);

impl Pull {
    fn run(self, progress: &ProgressSender) -> Result<(), ImageError> {
        let name = self.name.clone();
        let newer = self.told(progress)?;
        say_end(progress, newer, &name);
        Ok(())
    }

    fn told(self, progress: &ProgressSender) -> Result<bool, ImageError> {
        let from = self.name.tag().map_or_else(|| self.resolved.digest.to_string(), str::to_owned);
        let tell = |message| progress.send(message);
        let begun = JsonMessage { id: Some(from), ..status(format!("Pulling from {}", self.name.path())) };
        tell(begun).map_err(ImageError::Disconnected)?;
        let digest = self.resolved.digest.clone();
        let newer = self.fetch(&tell)?;
        // The client is gone: the image stays all the same.
        let _ = progress.status(format!("Digest: {digest}"));
        Ok(newer)
    }

    /// Tells whether the name stands for something else than before.
    fn fetch(self, tell: Tell<'_>) -> Result<bool, ImageError> {
        let images = self.engine.store().images();
        let layers = &self.resolved.manifest.layers;
        let mut incoming = images.incoming(self.resolved.config.clone(), layers.len())?;
        let before = images.named(&self.name).map(|image| image.id);
        let seen = match incoming.present() {
            Some(_) => Vec::new(),
            None => self.layers(&mut incoming, tell)?,
        };
        let by_digest =
            format!("{}@{}", self.name.repository(), self.resolved.digest).parse::<Reference>()?;
        let names =
            if self.name.digest().is_some() { vec![by_digest] } else { vec![self.name.clone(), by_digest] };
        let manifest = NewManifest {
            raw: self.resolved.manifest_bytes.clone(),
            media_type: self.resolved.media_type.clone(),
            seen,
        };
        let image = match incoming.present() {
            Some(known) => {
                images.keep_manifest(&known.id, manifest)?;
                for name in &names {
                    images.tag(&known.id, name)?;
                }
                known
            }
            None => incoming.finish(&names, manifest)?,
        };
        self.engine.image_event("pull", &image, &self.name.familiar());
        Ok(before != Some(image.id))
    }

    /// Gets all layers that are not here, and tells which blobs that were.
    fn layers(&self, incoming: &mut Incoming, tell: Tell<'_>) -> Result<Vec<Digest>, ImageError> {
        let layers = &self.resolved.manifest.layers;
        let known = incoming.take_known();
        let mut wanted: Vec<usize> = Vec::new();
        let mut seen = HashSet::new();
        for (number, layer) in layers.iter().enumerate() {
            // One that is in it twice comes once.
            let here = number < known || incoming.is_elsewhere(number) || !seen.insert(&layer.digest);
            layer_status(tell, layer, if here { "Already exists" } else { "Pulling fs layer" })?;
            if !here {
                wanted.push(number);
            }
        }
        let gone = AtomicBool::new(false);
        let queue = Mutex::new(wanted.iter().copied());
        let (arrivals, arrived) = mpsc::channel();
        let mut waiting: HashMap<usize, Arrived> = HashMap::new();
        let wanted: HashSet<usize> = wanted.iter().copied().collect();
        // The threads unpack with it as it is now; what is placed meanwhile is another's business.
        let unpacker = self.engine.store().images().incoming(self.resolved.config.clone(), layers.len())?;
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(wanted.len()) {
                let (arrivals, queue, gone, unpacker) = (arrivals.clone(), &queue, &gone, &unpacker);
                scope.spawn(move || {
                    while let Some(number) = blocking::lock(queue).next() {
                        let outcome = layers.get(number).map(|layer| self.layer(layer, unpacker, gone, tell));
                        let Some(outcome) = outcome else { return };
                        if arrivals.send((number, outcome)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(arrivals);
            let placed = (known..layers.len()).try_for_each(|number| {
                let layer = match wanted.contains(&number) {
                    true => Some(next(number, &mut waiting, &arrived)?),
                    false => None,
                };
                incoming.place(layer)?;
                match layers.get(number).filter(|_| wanted.contains(&number)) {
                    Some(layer) => layer_status(tell, layer, "Pull complete"),
                    None => Ok(()),
                }
            });
            // After a failure the others need not go on.
            gone.store(true, Ordering::Relaxed);
            placed
        })?;
        let fetched = layers.iter().enumerate().filter(|(number, _)| wanted.contains(number));
        Ok(fetched.map(|(_, layer)| layer.digest.clone()).collect())
    }

    /// Fetches and unpacks one layer. What is here of it, from a pull that did not come to its end, is not
    /// fetched; should it be to blame for a wrong digest, everything is.
    fn layer(
        &self,
        layer: &Descriptor,
        incoming: &Incoming,
        gone: &AtomicBool,
        tell: Tell<'_>,
    ) -> Result<Arrived, ImageError> {
        let blobs = self.engine.store().blobs();
        let kept = Kept::open(blobs, layer).map_err(ImageError::Broken)?;
        let had_some = kept.had() > 0;
        match self.unpack(layer, kept, incoming, gone, tell) {
            Err(ImageError::Registry(error @ RegistryError::WrongDigest { .. })) if had_some => {
                tracing::warn!(%error, "what was kept of a layer is damaged; it is fetched again");
                let kept = Kept::open(blobs, layer).map_err(ImageError::Broken)?;
                self.unpack(layer, kept, incoming, gone, tell)
            }
            outcome => outcome,
        }
    }

    fn unpack(
        &self,
        layer: &Descriptor,
        kept: Kept,
        incoming: &Incoming,
        gone: &AtomicBool,
        tell: Tell<'_>,
    ) -> Result<Arrived, ImageError> {
        let _runtime = self.handle.enter();
        let failure: std::sync::Arc<Mutex<Option<RegistryError>>> = std::sync::Arc::default();
        let noted = std::sync::Arc::clone(&failure);
        let mut blob = self.client.blob(layer);
        kept.each(|bytes| blob.already(bytes)).map_err(ImageError::Broken)?;
        let pieces = blob.pieces().map(move |piece| {
            piece.map_err(|error| {
                let text = error.to_string();
                *blocking::lock(&noted) = Some(error);
                io::Error::other(text)
            })
        });
        let inner = kept.then(pipe::upload(pieces));
        let mut reader = Told { inner, layer, got: 0, told: None, gone, tell };
        let outcome = incoming.unpack(&mut reader);
        // A tar may end before its blob does: only the whole of it has its digest.
        let drained = outcome.as_ref().ok().map(|_| io::copy(&mut reader, &mut io::sink()));
        if let Some(error) = blocking::lock(&failure).take() {
            if matches!(error, RegistryError::WrongDigest { .. } | RegistryError::WrongSize { .. }) {
                reader.inner.discard();
            }
            return Err(error.into());
        }
        let arrived = outcome?;
        if let Some(Err(error)) = drained {
            return Err(ImageError::Broken(error));
        }
        reader.inner.finish(&layer.digest);
        layer_status(tell, layer, "Download complete")?;
        Ok(arrived)
    }
}

/// Waits for a layer; others that arrive before it wait.
fn next(
    number: usize,
    waiting: &mut HashMap<usize, Arrived>,
    arrived: &mpsc::Receiver<(usize, Result<Arrived, ImageError>)>,
) -> Result<Arrived, ImageError> {
    loop {
        if let Some(layer) = waiting.remove(&number) {
            return Ok(layer);
        }
        match arrived.recv() {
            Ok((other, layer)) => waiting.insert(other, layer?),
            Err(mpsc::RecvError) => return Err(ImageError::Broken(io::ErrorKind::BrokenPipe.into())),
        };
    }
}

/// A blob whose way is told.
struct Told<'a> {
    inner: Keeping,
    layer: &'a Descriptor,
    got: u64,
    told: Option<Instant>,
    gone: &'a AtomicBool,
    tell: Tell<'a>,
}

impl Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(io::Error::other("the pull has ended"));
        }
        let read = self.inner.read(buffer)?;
        self.got += read as u64;
        if self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            self.told = Some(Instant::now());
            let detail = ProgressDetail { current: Some(self.got), total: Some(self.layer.size) };
            let message = JsonMessage {
                progress_detail: Some(detail),
                id: Some(short(&self.layer.digest)),
                ..status("Downloading".into())
            };
            (self.tell)(message).map_err(io::Error::other)?;
        }
        Ok(read)
    }
}

fn say_end(progress: &ProgressSender, newer: bool, name: &Reference) {
    let what = if newer { "Downloaded newer image for" } else { "Image is up to date for" };
    // The client is gone: the image stays all the same.
    let _ = progress.status(format!("Status: {what} {}", name.familiar()));
}

fn layer_status(tell: Tell<'_>, layer: &Descriptor, text: &str) -> Result<(), ImageError> {
    let message = JsonMessage {
        progress_detail: Some(ProgressDetail::default()),
        id: Some(short(&layer.digest)),
        ..status(text.to_owned())
    };
    tell(message).map_err(ImageError::Disconnected)
}

pub(super) fn short(digest: &Digest) -> String {
    digest.short().to_owned()
}

pub(super) fn status(text: String) -> JsonMessage {
    JsonMessage { status: Some(text), ..JsonMessage::default() }
}

/// The platform of a request; this machine's where it does not say.
pub(super) fn platform(wanted: Option<&str>) -> Result<Platform, ImageError> {
    let ours =
        || Platform { os: "linux".into(), architecture: host::go_arch().into(), variant: String::new() };
    let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return Ok(ours()) };
    let mut parts = wanted.split('/');
    let (os, architecture, variant) = (parts.next(), parts.next(), parts.next());
    let os = os.unwrap_or_default().to_lowercase();
    if os != "linux" || parts.next().is_some() {
        return Err(ImageError::Platform(format!(
            "{wanted} cannot be pulled here: expected linux[/ARCH[/VARIANT]]"
        )));
    }
    let named = architecture.map(str::to_lowercase);
    // Other names of the same, as Docker takes them.
    let (architecture, implied) = match named.as_deref() {
        None => return Ok(ours()),
        Some("x86_64" | "x86-64") => ("amd64".to_owned(), ""),
        Some("aarch64") => ("arm64".to_owned(), ""),
        Some("armhf") => ("arm".to_owned(), "v7"),
        Some("armel") => ("arm".to_owned(), "v6"),
        Some(other) => (other.to_owned(), ""),
    };
    Ok(Platform { os, architecture, variant: variant.unwrap_or(implied).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms() {
        let text = |wanted: &str| platform(Some(wanted)).map(|found| found.to_string()).ok();
        assert_eq!(text("linux/amd64").as_deref(), Some("linux/amd64"));
        assert_eq!(text("linux/x86_64").as_deref(), Some("linux/amd64"));
        assert_eq!(text("linux/arm64/v8").as_deref(), Some("linux/arm64/v8"));
        assert_eq!(text("linux/armhf").as_deref(), Some("linux/arm/v7"));
        assert_eq!(platform(None).unwrap(), platform(Some("linux")).unwrap());
        for bad in ["windows/amd64", "linux/a/b/c", "amd64"] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }
}
