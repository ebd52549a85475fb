//! `GET /system/cow`: the copy-on-write ledger. What is shared with whom, what was copied and why.
//!
//! The store's census says which directories have which bytes of the disk; here are the things that users
//! know, made of such directories.

mod accounts;
mod memory;
mod totals;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use seacow_spec::ChainId;
use seacow_spec::docker::system::{CowContainer, CowFile, CowImage, CowLedger, CowObject, DiskTotals};
use seacow_store::Point;
use seacow_store::image::Image;
use seacow_store::layer::LayerInfo;
use seacow_store::snapshot::{SnapshotKey, Usage};
use seacow_store::{Census, DriverKind, Holder};

use crate::container::Record;
use crate::error::EngineError;
use crate::{Engine, blocking};
use accounts::{Account, Accounts, Thing};

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
    point: Arc<Point>,
    stack: Vec<Arc<LayerInfo>>,
}

/// Everything that users know, as it was at one time.
struct Known {
    images: Vec<(Image, Vec<Arc<LayerInfo>>)>,
    standing: Vec<Standing>,
    moments: Vec<Moment>,
    layers: Vec<Arc<LayerInfo>>,
    volumes: Vec<seacow_store::Volume>,
}

impl Engine {
    /// The ledger. Looks at every file of the store, so it takes as long as there are files.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub async fn cow(&self) -> Result<CowLedger, EngineError> {
        let engine = self.clone();
        let memory = self.memory().await;
        let mut ledger = blocking::run("count what is shared", move || engine.ledger()).await??;
        for entry in &mut ledger.containers {
            entry.memory = entry.id.parse().ok().and_then(|id| memory.get(&id).copied());
        }
        Ok(ledger)
    }

    /// Names of everything that stands on each layer.
    pub(crate) fn layer_users(&self) -> HashMap<ChainId, BTreeSet<String>> {
        let known = self.known();
        let mut users: HashMap<ChainId, BTreeSet<String>> = HashMap::new();
        let images = known.images.iter().map(|(image, stack)| (image_name(image), stack));
        let containers = known.standing.iter().map(|one| (one.record.name.clone(), &one.stack));
        let kept = known.moments.iter().map(|one| (one.name.clone(), &one.stack));
        for (name, stack) in images.chain(containers).chain(kept) {
            for layer in stack {
                users.entry(layer.chain_id.clone()).or_default().insert(name.clone());
            }
        }
        users
    }

    fn stack_of(&self, chain: Option<&ChainId>) -> Vec<Arc<LayerInfo>> {
        chain.and_then(|chain| self.store().layers().stack(chain).ok()).unwrap_or_default()
    }

    /// What everything takes, and every snapshot.
    pub(super) fn disk(&self) -> Result<(DiskTotals, Vec<CowObject>), EngineError> {
        let (known, census) = (self.known(), self.census()?);
        let totals = totals::of(&census, &known, self.file_system()?);
        let accounts = Accounts::new(&census, known.things(self.store().snapshots().kind()));
        let mut snapshots: Vec<CowObject> = known
            .moments
            .iter()
            .map(|one| {
                let account = accounts.of(&Thing::point(&one.point.id));
                object("snapshot", &one.point.id, &one.name, account)
            })
            .collect();
        snapshots.extend(known.volumes.iter().flat_map(|volume| saved_entries(volume, &accounts)));
        Ok((totals, snapshots))
    }

    fn known(&self) -> Known {
        let store = self.store();
        Known {
            images: self.image_stacks(),
            standing: self.standing(),
            moments: self.moments(),
            layers: store.layers().list(),
            volumes: store.volumes().list(),
        }
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

    fn moments(&self) -> Vec<Moment> {
        let points = self.store().points().list(None).into_iter();
        let moment = |point: Arc<Point>| {
            let container = point.container.parse().ok().and_then(|id| self.0.containers.get(&id))?;
            let name = format!("{}@{}", container.cell().record.name, point.name);
            let stack = self.stack_of(Some(&point.layer));
            Some(Moment { name, point, stack })
        };
        points.filter_map(moment).collect()
    }

    fn ledger(&self) -> Result<CowLedger, EngineError> {
        let store = self.store();
        store.measure_frozen()?;
        let known = self.known();
        let census = self.census()?;
        let disk = totals::of(&census, &known, self.file_system()?);
        let accounts = Accounts::new(&census, known.things(store.snapshots().kind()));
        let mut ledger = CowLedger {
            layers_bytes: disk.images_bytes + disk.snapshots_bytes,
            containers_bytes: disk.containers_bytes,
            disk,
            ..CowLedger::default()
        };
        for one in &known.standing {
            let usage = match store.snapshots().usage(&SnapshotKey::from(&one.record.id)) {
                Ok(usage) => usage,
                Err(seacow_store::snapshot::SnapshotError::NotFound(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            ledger.containers.push(container_entry(
                one,
                usage,
                accounts.of(&Thing::container(&one.record.id)),
            ));
        }
        for (image, _) in &known.images {
            ledger.images.push(known.image_entry(image, accounts.of(&Thing::image(&image.id))));
        }
        for moment in &known.moments {
            let account = accounts.of(&Thing::point(&moment.point.id));
            let mut entry = self.snapshot_document(&moment.point, &HashMap::new());
            entry.own_bytes = account.own;
            entry.shared_bytes = Some(account.shared);
            entry.shared_with = account.with;
            ledger.snapshots.push(entry);
        }
        ledger.layers = known.layers.iter().map(|layer| layer_entry(layer, &accounts)).collect();
        ledger.layers.sort_by(|a, b| a.name.cmp(&b.name));
        for volume in &known.volumes {
            let account = accounts.of(&Thing::volume(&volume.name));
            ledger.volumes.push(object("volume", &volume.name, &volume.name, account));
            ledger.volume_snapshots.extend(saved_entries(volume, &accounts));
        }
        Ok(ledger)
    }

    fn census(&self) -> Result<Census, EngineError> {
        Ok(self.store().census().map_err(seacow_store::SnapshotError::from)?)
    }

    fn file_system(&self) -> Result<seacow_store::census::FileSystem, EngineError> {
        Ok(self.store().file_system().map_err(seacow_store::SnapshotError::from)?)
    }
}

impl Known {
    /// Everything with the directories that it is made of, and who belongs to it: what these have too is
    /// still its own.
    fn things(&self, driver: DriverKind) -> Vec<accounts::Object> {
        let layers = |stack: &[Arc<LayerInfo>]| -> Vec<Holder> {
            stack.iter().map(|layer| Holder::Layer(layer.chain_id.clone())).collect()
        };
        let mut things = Vec::new();
        for (image, stack) in &self.images {
            let family = self.family(image).map(|one| Thing::container(&one.record.id));
            let moments = self.family(image).flat_map(|one| {
                let id = one.record.id.as_str();
                self.moments.iter().filter(move |moment| moment.point.container == id)
            });
            let family = family.chain(moments.map(|moment| Thing::point(&moment.point.id))).collect();
            things.push(accounts::Object {
                thing: Thing::image(&image.id),
                name: image_name(image),
                holders: layers(stack),
                family,
            });
        }
        for one in &self.standing {
            let mut holders = vec![Holder::Snapshot(SnapshotKey::from(&one.record.id))];
            // Other drivers' containers have all files themselves.
            if matches!(driver, DriverKind::Overlay | DriverKind::Reflink) {
                holders.extend(layers(&one.stack));
            }
            things.push(accounts::Object {
                thing: Thing::container(&one.record.id),
                name: one.record.name.clone(),
                holders,
                family: Vec::new(),
            });
        }
        for moment in &self.moments {
            let owner = self.standing.iter().filter(|one| one.record.id.as_str() == moment.point.container);
            things.push(accounts::Object {
                thing: Thing::point(&moment.point.id),
                name: moment.name.clone(),
                holders: layers(&moment.stack),
                family: owner.map(|one| Thing::container(&one.record.id)).collect(),
            });
        }
        for volume in &self.volumes {
            let alone = |thing, name, holder| accounts::Object {
                thing,
                name,
                holders: vec![holder],
                family: Vec::new(),
            };
            let holder = Holder::Volume(volume.name.clone());
            things.push(alone(Thing::volume(&volume.name), format!("volume {}", volume.name), holder));
            for saved in &volume.saved {
                let name = format!("volume {}@{}", volume.name, saved.name);
                let holder = Holder::Saved { volume: volume.name.clone(), name: saved.name.clone() };
                things.push(alone(Thing::saved(&volume.name, &saved.name), name, holder));
            }
        }
        things
    }

    /// Containers of an image.
    fn family<'a>(&'a self, image: &'a Image) -> impl Iterator<Item = &'a Standing> {
        self.standing.iter().filter(|one| one.record.image_id == image.id)
    }

    fn image_entry(&self, image: &Image, account: Account) -> CowImage {
        let names: BTreeSet<String> = self.family(image).map(|one| one.record.name.clone()).collect();
        CowImage {
            id: image.id.to_string(),
            tags: image.repo_tags(),
            shared_bytes: account.shared,
            own_bytes: account.own,
            containers: names.into_iter().collect(),
            shared_with: account.with,
        }
    }
}

fn is_host(layer: &LayerInfo) -> bool {
    layer.kind == seacow_store::layer::LayerKind::Host
}

fn image_name(image: &Image) -> String {
    image.repo_tags().into_iter().next().unwrap_or_else(|| image.id.short().to_owned())
}

fn object(kind: &str, id: &str, name: &str, account: Account) -> CowObject {
    CowObject {
        kind: kind.to_owned(),
        id: id.to_owned(),
        name: name.to_owned(),
        shared_bytes: account.shared,
        own_bytes: account.own,
        shared_with: account.with,
    }
}

fn saved_entries(volume: &seacow_store::Volume, accounts: &Accounts) -> Vec<CowObject> {
    let entry = |saved: &seacow_store::volume::Saved| {
        let name = format!("{}@{}", volume.name, saved.name);
        let account = accounts.of(&Thing::saved(&volume.name, &saved.name));
        object("volume snapshot", &name, &name, account)
    };
    volume.saved.iter().map(entry).collect()
}

fn layer_entry(layer: &LayerInfo, accounts: &Accounts) -> CowObject {
    let chain = &layer.chain_id;
    object("layer", &chain.0.to_string(), chain.0.short(), accounts.of_layer(chain))
}

fn container_entry(one: &Standing, usage: Usage, account: Account) -> CowContainer {
    let record = &one.record;
    CowContainer {
        id: record.id.to_string(),
        name: record.name.clone(),
        image: record.config.image.clone(),
        image_id: record.image_id.to_string(),
        shared_bytes: account.shared,
        shared_with: account.with,
        own_bytes: account.own,
        copied_up: usage
            .copied_up
            .listed
            .into_iter()
            .map(|file| CowFile { path: file.path.to_string_lossy().into_owned(), bytes: file.bytes })
            .collect(),
        created: usage.new.count,
        deleted: usage.deleted.count,
        on_host: one.on_host,
        memory: None,
    }
}
