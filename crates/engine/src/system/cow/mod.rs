//! `GET /system/cow`: the copy-on-write ledger. What is shared with whom, what was copied and why.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use seacow_spec::ChainId;
use seacow_spec::docker::snapshot::Snapshot;
use seacow_spec::docker::system::{CowContainer, CowFile, CowImage, CowLedger};
use seacow_store::Point;
use seacow_store::image::Image;
use seacow_store::layer::LayerInfo;
use seacow_store::snapshot::{SnapshotKey, Usage};

use crate::container::Record;
use crate::error::EngineError;
use crate::{Engine, blocking};

/// A container and what stands below it.
struct Standing {
    record: Record,
    stack: Vec<Arc<LayerInfo>>,
    on_host: bool,
}

/// A snapshot and what it holds.
struct Moment {
    /// `container@snapshot`.
    name: String,
    /// The container's name.
    owner: String,
    point: Arc<Point>,
    stack: Vec<Arc<LayerInfo>>,
}

impl Engine {
    /// The ledger. Walks every writable layer, so it takes as long as there are changed files.
    ///
    /// # Errors
    /// A writable layer cannot be read.
    pub async fn cow(&self) -> Result<CowLedger, EngineError> {
        let engine = self.clone();
        blocking::run("count what is shared", move || engine.ledger()).await?
    }

    /// Names of everything that stands on each layer.
    pub(crate) fn layer_users(&self) -> HashMap<ChainId, BTreeSet<String>> {
        let (images, standing, points) = (self.image_stacks(), self.standing(), self.point_stacks());
        Users::of(&images, &standing, &points).0
    }

    fn stack_of(&self, chain: Option<&ChainId>) -> Vec<Arc<LayerInfo>> {
        chain.and_then(|chain| self.store().layers().stack(chain).ok()).unwrap_or_default()
    }

    fn image_stacks(&self) -> Vec<(Image, Vec<Arc<LayerInfo>>)> {
        let store = self.store();
        store
            .images()
            .list()
            .into_iter()
            .filter(|image| !image.names.is_empty() || store.images().children(&image.id).is_empty())
            .map(|image| {
                let stack = self.stack_of(image.chain.as_ref());
                (image, stack)
            })
            .collect()
    }

    fn standing(&self) -> Vec<Standing> {
        let mut standing = Vec::new();
        for container in self.0.containers.all() {
            let record = container.record();
            // One that is being removed has no files any more.
            let Ok(info) = self.store().snapshots().info(&SnapshotKey::from(&record.id)) else { continue };
            let stack = self.stack_of(info.parent.as_ref());
            let on_host = stack.last().is_some_and(|layer| is_host(layer));
            standing.push(Standing { record, stack, on_host });
        }
        standing
    }

    fn point_stacks(&self) -> Vec<Moment> {
        let points = self.store().points().list(None).into_iter();
        let moment = |point: Arc<Point>| {
            let container = point.container.parse().ok().and_then(|id| self.0.containers.get(&id))?;
            let owner = container.cell().record.name.clone();
            let stack = self.stack_of(Some(&point.layer));
            Some(Moment { name: format!("{owner}@{}", point.name), owner, point, stack })
        };
        points.filter_map(moment).collect()
    }

    fn ledger(&self) -> Result<CowLedger, EngineError> {
        let store = self.store();
        store.measure_frozen()?;
        let (images, standing, points) = (self.image_stacks(), self.standing(), self.point_stacks());
        let users = Users::of(&images, &standing, &points);
        let mut ledger = CowLedger {
            layers_bytes: store.layers().list().iter().map(|layer| layer.disk).sum(),
            ..CowLedger::default()
        };
        for one in &standing {
            let usage = match store.snapshots().usage(&SnapshotKey::from(&one.record.id)) {
                Ok(usage) => usage,
                Err(seacow_store::snapshot::SnapshotError::NotFound(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            ledger.containers_bytes += usage.bytes;
            ledger.containers.push(container_entry(one, usage, &users));
        }
        ledger.images = images
            .iter()
            .map(|(image, stack)| image_entry(image, stack, &users, &standing, &points))
            .collect();
        ledger.snapshots = points.iter().map(|one| self.snapshot_entry(one, &users)).collect();
        Ok(ledger)
    }
}

impl Engine {
    fn snapshot_entry(&self, moment: &Moment, users: &Users) -> Snapshot {
        let mut entry = self.snapshot_document(&moment.point, &users.0);
        entry.shared_with.retain(|name| *name != moment.name);
        entry
    }
}

fn is_host(layer: &LayerInfo) -> bool {
    layer.kind == seacow_store::layer::LayerKind::Host
}

/// Names of everything that stands on a layer.
struct Users(HashMap<ChainId, BTreeSet<String>>);

impl Users {
    fn of(images: &[(Image, Vec<Arc<LayerInfo>>)], containers: &[Standing], points: &[Moment]) -> Self {
        let mut users: HashMap<ChainId, BTreeSet<String>> = HashMap::new();
        let named = images.iter().map(|(image, stack)| (image_name(image), stack));
        let running = containers.iter().map(|one| (one.record.name.clone(), &one.stack));
        let kept = points.iter().map(|one| (one.name.clone(), &one.stack));
        for (name, stack) in named.chain(running).chain(kept) {
            for layer in stack {
                users.entry(layer.chain_id.clone()).or_default().insert(name.clone());
            }
        }
        Self(users)
    }

    /// Everybody but `own` who stands on one of these layers.
    fn others(&self, stack: &[Arc<LayerInfo>], own: &str) -> Vec<String> {
        let all: BTreeSet<&String> =
            stack.iter().filter_map(|layer| self.0.get(&layer.chain_id)).flatten().collect();
        all.into_iter().filter(|name| *name != own).cloned().collect()
    }

    fn count(&self, layer: &LayerInfo) -> usize {
        self.0.get(&layer.chain_id).map_or(0, BTreeSet::len)
    }
}

fn image_name(image: &Image) -> String {
    image.repo_tags().into_iter().next().unwrap_or_else(|| image.id.short().to_owned())
}

fn container_entry(one: &Standing, usage: Usage, users: &Users) -> CowContainer {
    let record = &one.record;
    CowContainer {
        id: record.id.to_string(),
        name: record.name.clone(),
        image: record.config.image.clone(),
        image_id: record.image_id.to_string(),
        shared_bytes: one.stack.iter().map(|layer| layer.disk).sum(),
        shared_with: users.others(&one.stack, &record.name),
        own_bytes: usage.bytes,
        copied_up: usage
            .copied_up
            .listed
            .into_iter()
            .map(|file| CowFile { path: file.path.to_string_lossy().into_owned(), bytes: file.bytes })
            .collect(),
        created: usage.new.count,
        deleted: usage.deleted.count,
        on_host: one.on_host,
    }
}

fn image_entry(
    image: &Image,
    stack: &[Arc<LayerInfo>],
    users: &Users,
    containers: &[Standing],
    points: &[Moment],
) -> CowImage {
    let mine: BTreeSet<String> = containers
        .iter()
        .filter(|one| one.record.image_id == image.id)
        .map(|one| one.record.name.clone())
        .collect();
    // A container of this very image, or a snapshot of one, does not make its layers shared between images.
    let own = mine.len() + points.iter().filter(|one| mine.contains(&one.owner)).count();
    let shared = |layer: &&Arc<LayerInfo>| users.count(layer) > 1 + own;
    let (shared, own): (Vec<_>, Vec<_>) = stack.iter().partition(shared);
    let bytes = |layers: Vec<&Arc<LayerInfo>>| layers.into_iter().map(|layer| layer.disk).sum();
    CowImage {
        id: image.id.to_string(),
        tags: image.repo_tags(),
        shared_bytes: bytes(shared),
        own_bytes: bytes(own),
        containers: mine.into_iter().collect(),
    }
}
