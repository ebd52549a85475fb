//! Containers that are made before they are asked for.
//!
//! What is run is mostly what was run before: a test, a function, a tool. So the pool remembers what
//! the last containers were like (a [`Likeness`]) and makes two of its slots into such containers,
//! with root file system, limits and filter, up to the word to start. A create that asks for exactly
//! that takes one; what it executes, with which environment and as whom, is told afterwards. A
//! create that asks for anything else takes an ordinary slot, as if there were no guess.
//!
//! A guess has its image's layers in use: whoever removes images calls [`super::Pool::forget`].

use std::sync::Arc;

use seacow_spec::shim::{Create, Program, Request};
use seacow_spec::{ChainId, Digest};

use super::Slot;
use crate::Engine;
use crate::container::spec_build::Template;
use crate::container::{Record, settle_hostname};
use crate::error::EngineError;
use crate::network::files::{self, Names};
use crate::storage::BaseImage;

/// What a container was like, without what it executed.
#[derive(Debug)]
pub(crate) struct Likeness {
    record: Record,
    pub(super) template: Template,
    chain: ChainId,
}

/// A container that was made for nobody yet.
pub(crate) struct Guess {
    pub(super) likeness: Arc<Likeness>,
    /// What its shim was told.
    create: Box<Create>,
}

impl Likeness {
    /// Of a container whose id is not settled; `None` for one that is not to be guessed: its mounts
    /// would keep the user's directories busy, the host's root file system is not an image, a step of a
    /// build does not come again, and a limit is of the files, about which the shim is told nothing.
    pub(crate) fn of(record: &Record, template: &Template, image: &BaseImage) -> Option<Self> {
        let chain = image.chain.as_ref().filter(|_| image.named && !image.host)?.clone();
        let has_tmpfs = record.host_config.tmpfs.as_ref().is_some_and(|all| !all.is_empty());
        if !record.mounts.is_empty() || has_tmpfs || is_limited(record) {
            return None;
        }
        let mut record = record.clone();
        // Not kept, since it may be a secret, and never waited for.
        let config = &mut record.config;
        (config.cmd, config.entrypoint, config.env, config.labels) = (None, None, None, None);
        config.user.clear();
        config.image.clear();
        record.name.clear();
        // Another id has others.
        record.labels = None;
        Some(Self { record, template: template.clone(), chain })
    }

    pub(super) fn is_of(&self, image: &Digest) -> bool {
        self.record.image_id == *image
    }

    pub(super) fn is_like(&self, other: &Self) -> bool {
        let Record { id, created, .. } = &self.record;
        let other_record = Record { id: id.clone(), created: *created, ..other.record.clone() };
        (&self.template, &self.chain) == (&other.template, &other.chain) && self.record == other_record
    }
}

/// Whether its files are to be limited.
fn is_limited(record: &Record) -> bool {
    record.host_config.storage_opt.as_ref().is_some_and(|options| !options.is_empty())
}

impl Slot {
    /// Makes the slot into a container. After a failure it is good for nothing.
    ///
    /// # Errors
    /// The image is gone, or the shim refuses.
    pub(super) async fn guess(
        &mut self,
        likeness: &Arc<Likeness>,
        engine: &Engine,
    ) -> Result<(), EngineError> {
        let mut record = Record { id: self.id.clone(), ..likeness.record.clone() };
        record.endpoint.clone_from(&self.endpoint);
        settle_hostname(&mut record);
        let names = Names::of(&record);
        if names != self.names {
            let dir = engine.config().exec_dir(&self.id);
            names.write(&dir, self.endpoint.as_ref(), engine.config())?;
            files::give(&dir, self.template.owner, &self.template.mount_label(&self.id)?)?;
            self.names = names;
        }
        let rootfs = engine.make_root(&record, Some(&likeness.chain), None).await?;
        let mut create = Box::new(engine.create_request(&record, &self.template, rootfs)?);
        create.take_program();
        self.shim.send(Request::Create(create.clone()), None)?.made().await?;
        self.guess = Some(Guess { likeness: Arc::clone(likeness), create });
        Ok(())
    }
}

impl Guess {
    /// Whether it stands on this image.
    pub(crate) fn is_of(&self, image: &Digest) -> bool {
        self.likeness.is_of(image)
    }

    /// What a container of the same image executes that is otherwise this one; the record has the
    /// slot's id. `None` if it is not.
    pub(crate) fn fits(&self, record: &Record, slot: &Slot, engine: &Engine) -> Option<Program> {
        if Names::of(record) != slot.names || is_limited(record) {
            return None;
        }
        let rootfs = self.create.rootfs.clone();
        let mut wanted = engine.create_request(record, &slot.template, rootfs).ok()?;
        let program = wanted.take_program();
        // The root file system of this id is volatile or not as the container is.
        let same = wanted == *self.create && record.auto_remove() == self.likeness.record.auto_remove();
        same.then_some(program)
    }

    /// What it is like.
    pub(crate) fn likeness(&self) -> &Arc<Likeness> {
        &self.likeness
    }
}
