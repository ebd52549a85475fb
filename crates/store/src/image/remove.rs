//! `docker rmi`, with dockerd's rules and words.

use std::sync::Arc;

use seacow_spec::docker::image::ImageDeleted;
use seacow_spec::{Digest, Reference};

use super::{ImageError, Images, KeptManifest};
use crate::blob::Blobs;
use crate::meta::{Table, Write};
use crate::shared::{Catalog, Change};

/// A container that was made from an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUser {
    /// The container's id.
    pub id: String,
    /// Whether it runs (paused and restarting count).
    pub running: bool,
}

/// How an image is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Also when it has several names, or a stopped container was made from it.
    pub force: bool,
    /// Leave nameless parents alone.
    pub no_prune: bool,
}

/// Which containers were made from an image; the engine knows.
type Users<'a> = dyn Fn(&Digest) -> Vec<ImageUser> + 'a;

impl Images {
    /// Takes a name away, and the image with it when that was its last one; by id, the image with
    /// its names. Parents that have no name and no other child go too.
    ///
    /// Everything or nothing: one transaction.
    ///
    /// # Errors
    /// There is no such image, or dockerd's conflicts: containers use it, it has children, several
    /// names in several repositories.
    pub fn remove(
        &self,
        text: &str,
        options: RemoveOptions,
        users: &Users<'_>,
    ) -> Result<Vec<ImageDeleted>, ImageError> {
        if text.parse::<Reference>().is_ok_and(|name| name.is_host()) {
            return Err(ImageError::Reserved(text.to_owned()));
        }
        let image = self.resolve(text)?;
        let mut removal = Removal {
            change: self.shared.change(),
            users,
            answer: Vec::new(),
            gone_names: Vec::new(),
            gone_images: Vec::new(),
        };
        let by_id = is_id_prefix(&image.id, text);
        let name = text.parse::<Reference>().ok().map(Reference::or_latest).filter(|_| !by_id);
        let goes_on = match name {
            Some(name) => removal.untag(&image.id, &name, options.force)?,
            None => removal.untag_single(&image.id, options.force)?,
        };
        if goes_on {
            removal.remove(&image.id, options, by_id)?;
        }
        removal.finish()
    }

    /// Removes an image that nothing refers to; anything that stands against it is no error.
    pub(super) fn forget_if_unused(&self, id: &Digest) {
        let options = RemoveOptions { force: false, no_prune: true };
        // Containers keep their snapshots' layers; the record alone they can do without.
        let _ = self.remove(id.as_str(), options, &|_| Vec::new());
    }
}

/// dockerd: an id, or the beginning of one, with or without the algorithm.
fn is_id_prefix(id: &Digest, text: &str) -> bool {
    id.as_str().starts_with(text) || id.hex().starts_with(text)
}

struct Removal<'a> {
    change: Change<'a>,
    users: &'a Users<'a>,
    answer: Vec<ImageDeleted>,
    gone_names: Vec<Reference>,
    gone_images: Vec<Digest>,
}

impl Removal<'_> {
    fn catalog(&self) -> impl std::ops::Deref<Target = Catalog> + '_ {
        self.change.shared.catalog()
    }

    fn manifests(&self, id: &Digest) -> Vec<Arc<KeptManifest>> {
        self.catalog().manifests.values().filter(|kept| kept.image == *id).cloned().collect()
    }

    fn names(&self, id: &Digest) -> Vec<Reference> {
        let names = self.catalog().names(id);
        names.into_iter().filter(|name| !self.gone_names.contains(name)).collect()
    }

    fn has_children(&self, id: &Digest) -> bool {
        let catalog = self.catalog();
        catalog.children(id).any(|child| !self.gone_images.contains(&child.id))
    }

    /// By name. True when the image itself is to go too.
    fn untag(&mut self, id: &Digest, name: &Reference, force: bool) -> Result<bool, ImageError> {
        let names = self.names(id);
        if !force
            && is_single(&names)
            && let Some(user) = (self.users)(id).first()
        {
            let (familiar, container, image) = (name.familiar(), short(&user.id), id.short());
            return Err(ImageError::Conflict(format!(
                "unable to remove repository reference \"{familiar}\" (must force) - container {container} is \
                 using its referenced image {image}"
            )));
        }
        self.take_name(name);
        // Digests of a repository mean nothing when its last tag is gone.
        let left = self.names(id);
        let same_repository = |other: &Reference| other.repository() == name.repository();
        if !left.iter().any(|other| same_repository(other) && other.digest().is_none()) {
            for other in left.iter().filter(|other| same_repository(other)) {
                self.take_name(other);
            }
        }
        Ok(self.names(id).is_empty())
    }

    /// By id: all names go when they are of one repository and at most one of them is a tag.
    fn untag_single(&mut self, id: &Digest, force: bool) -> Result<bool, ImageError> {
        let names = self.names(id);
        if is_single(&names) {
            self.check(id, Check { names: false, stopped: !force })?;
            for name in &names {
                self.take_name(name);
            }
        }
        Ok(true)
    }

    /// With its last name gone, an image that is still needed just stays, nameless; asked for by
    /// id, it is a conflict.
    fn remove(&mut self, id: &Digest, options: RemoveOptions, by_id: bool) -> Result<(), ImageError> {
        match self.check(id, Check { names: !options.force, stopped: !options.force }) {
            Err(_) if !by_id => return Ok(()),
            checked => checked?,
        }
        let mut next = self.take_image(id);
        while let Some(parent) = next {
            // Only what nobody would miss.
            let dangling = self.names(&parent).is_empty();
            let unused = (self.users)(&parent).is_empty() && !self.has_children(&parent);
            if options.no_prune || !dangling || !unused {
                break;
            }
            next = self.take_image(&parent);
        }
        Ok(())
    }

    fn check(&self, id: &Digest, soft: Check) -> Result<(), ImageError> {
        let conflict = |how: &str, why: String| {
            Err(ImageError::Conflict(format!("unable to delete {} ({how} be forced) - {why}", id.short())))
        };
        if self.has_children(id) {
            return conflict("cannot", "image has dependent child images".into());
        }
        let users = (self.users)(id);
        if let Some(user) = users.iter().find(|user| user.running) {
            let why = format!("image is being used by running container {}", short(&user.id));
            return conflict("cannot", why);
        }
        if soft.names && !self.names(id).is_empty() {
            return conflict("must", "image is referenced in multiple repositories".into());
        }
        match users.first() {
            Some(user) if soft.stopped => {
                let why = format!("image is being used by stopped container {}", short(&user.id));
                conflict("must", why)
            }
            _ => Ok(()),
        }
    }

    fn take_name(&mut self, name: &Reference) {
        self.change.write(Write::Delete(Table::Tags, name.to_string()));
        self.answer.push(ImageDeleted::Untagged(name.familiar()));
        self.gone_names.push(name.clone());
    }

    /// Gives the image's parent.
    fn take_image(&mut self, id: &Digest) -> Option<Digest> {
        for name in self.names(id) {
            self.take_name(&name);
        }
        self.change.write(Write::Delete(Table::Images, id.hex().to_owned()));
        self.change.write(Write::Delete(Table::Configs, id.hex().to_owned()));
        for kept in self.manifests(id) {
            self.change.write(Write::Delete(Table::Manifests, kept.digest.hex().to_owned()));
        }
        self.answer.push(ImageDeleted::Deleted(id.to_string()));
        self.gone_images.push(id.clone());
        let catalog = self.catalog();
        catalog.images.get(id).and_then(|record| record.parent.clone())
    }

    /// Images and names first, then the layers that nobody needs any more: after a crash in
    /// between, the next open finds those.
    fn finish(mut self) -> Result<Vec<ImageDeleted>, ImageError> {
        let mut chains = Vec::new();
        let manifests: Vec<_> = self.gone_images.iter().flat_map(|id| self.manifests(id)).collect();
        let (names, images) = (std::mem::take(&mut self.gone_names), std::mem::take(&mut self.gone_images));
        self.change.commit(|catalog| {
            for name in &names {
                catalog.tags.remove(name);
            }
            for id in &images {
                if let Some(record) = catalog.images.remove(id) {
                    chains.extend(record.chain.clone());
                }
            }
            for kept in &manifests {
                catalog.manifests.remove(&kept.digest);
            }
        })?;
        let blobs = manifests.iter().flat_map(|kept| &kept.manifest.layers);
        Blobs::forget(self.change.shared, blobs.map(|layer| layer.digest.clone()));
        for chain in chains {
            let gone = self.change.release_layers(&chain)?;
            self.answer.extend(gone.iter().map(|chain| ImageDeleted::Deleted(chain.to_string())));
        }
        Ok(self.answer)
    }
}

/// Which of dockerd's soft conflicts count.
#[derive(Clone, Copy)]
struct Check {
    names: bool,
    stopped: bool,
}

/// dockerd's `isSingleReference`: at most one name, or digests of the repository of one tag.
fn is_single(names: &[Reference]) -> bool {
    if names.len() <= 1 {
        return true;
    }
    let tags = names.iter().filter(|name| name.digest().is_none()).count();
    let repository = names[0].repository();
    tags <= 1 && names.iter().all(|name| name.repository() == repository)
}

fn short(id: &str) -> &str {
    id.get(..seacow_spec::id::SHORT_LEN).unwrap_or(id)
}
