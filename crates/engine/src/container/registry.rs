//! All containers, by id and by name.
//!
//! One lock over two maps, held for lookups only and never across an await.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use seacow_spec::ContainerId;

use super::Container;
use super::error::ContainerError;

/// Attempts to invent a name nobody has.
const NAME_ATTEMPTS: u32 = 20;

/// All containers. A name may be held by a container that is still being made.
#[derive(Default)]
pub(crate) struct Registry(RwLock<Maps>);

#[derive(Default)]
struct Maps {
    by_id: BTreeMap<ContainerId, Arc<Container>>,
    names: HashMap<String, ContainerId>,
}

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Maps> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Maps> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// By full id, then name (with or without a leading slash), then unique id prefix.
    pub(crate) fn find(&self, reference: &str) -> Result<Arc<Container>, ContainerError> {
        let maps = self.read();
        let missing = || ContainerError::NotFound(reference.to_owned());
        let name = reference.strip_prefix('/').unwrap_or(reference);
        if let Some(id) = maps.names.get(name) {
            // A full id as a name is possible; the id comes first.
            let by_id = reference.parse::<ContainerId>().ok().and_then(|id| maps.by_id.get(&id));
            return by_id.or_else(|| maps.by_id.get(id)).cloned().ok_or_else(missing);
        }
        if reference.is_empty() || !reference.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(missing());
        }
        // The smallest id that could begin so; ids are ordered as texts.
        let lowest = format!("{reference:0<64}").parse::<ContainerId>().map_err(|_| missing())?;
        let range = (Bound::Included(&lowest), Bound::Unbounded);
        let mut found = maps
            .by_id
            .range::<ContainerId, _>(range)
            .map(|(_, container)| container)
            .take_while(|container| container.id.as_str().starts_with(reference));
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(Arc::clone(only)),
            (Some(_), Some(_)) => Err(ContainerError::Ambiguous(reference.to_owned())),
            (None, _) => Err(missing()),
        }
    }

    /// The container of this id.
    pub(crate) fn get(&self, id: &ContainerId) -> Option<Arc<Container>> {
        self.read().by_id.get(id).cloned()
    }

    /// All of them, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<Arc<Container>> {
        self.read().by_id.values().cloned().collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// Gives the name to the id, if it is free.
    pub(crate) fn reserve(&self, name: &str, id: &ContainerId) -> Result<(), ContainerError> {
        let mut maps = self.write();
        if let Some(holder) = maps.names.get(name) {
            return Err(ContainerError::NameTaken { name: name.to_owned(), holder: holder.to_string() });
        }
        maps.names.insert(name.to_owned(), id.clone());
        Ok(())
    }

    /// Gives the id an invented name.
    pub(crate) fn invent_name(&self, id: &ContainerId) -> Result<String, ContainerError> {
        for attempt in 0..NAME_ATTEMPTS {
            let name = seacow_spec::names::invent(attempt).map_err(ContainerError::Random)?;
            if self.reserve(&name, id).is_ok() {
                return Ok(name);
            }
        }
        Err(ContainerError::NoFreeName)
    }

    /// Takes the name back, if it is the id's.
    pub(crate) fn release(&self, name: &str, id: &ContainerId) {
        let mut maps = self.write();
        if maps.names.get(name) == Some(id) {
            maps.names.remove(name);
        }
    }

    /// Makes a container known; its name was reserved before.
    pub(crate) fn insert(&self, container: Arc<Container>) {
        self.write().by_id.insert(container.id.clone(), container);
    }

    /// Forgets a container and its name.
    pub(crate) fn remove(&self, id: &ContainerId, name: &str) {
        let mut maps = self.write();
        maps.by_id.remove(id);
        if maps.names.get(name) == Some(id) {
            maps.names.remove(name);
        }
    }
}
