//! Own and shared bytes of everything that users know, out of a census.
//!
//! Bytes are *shared* when something else has them too, unless that belongs to the first: an image's
//! containers read its layers, and yet these are the image's own.

use std::collections::{BTreeSet, HashMap, HashSet};

use seacow_spec::{ChainId, ContainerId, Digest};
use seacow_store::{Census, Holder};

/// Something that has bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Thing(String);

impl Thing {
    pub(super) fn image(id: &Digest) -> Self {
        Self(format!("image {id}"))
    }

    pub(super) fn container(id: &ContainerId) -> Self {
        Self(format!("container {id}"))
    }

    pub(super) fn point(id: &str) -> Self {
        Self(format!("snapshot {id}"))
    }

    pub(super) fn volume(name: &str) -> Self {
        Self(format!("volume {name}"))
    }

    /// No name has a slash.
    pub(super) fn saved(volume: &str, name: &str) -> Self {
        Self(format!("saved {volume}/{name}"))
    }
}

/// A thing and what it is made of.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) thing: Thing,
    /// For those who share with it.
    pub(super) name: String,
    pub(super) holders: Vec<Holder>,
    /// What these have too is still its own.
    pub(super) family: Vec<Thing>,
}

/// Bytes of one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) own: u64,
    pub(super) shared: u64,
    /// Everybody else who has any of its bytes, sorted.
    pub(super) with: Vec<String>,
}

/// Everybody's bytes.
#[derive(Debug)]
pub(super) struct Accounts {
    objects: Vec<Object>,
    index: HashMap<Thing, usize>,
    families: Vec<HashSet<usize>>,
    /// Bytes, whose directories have them, which objects do.
    parts: Vec<(u64, Vec<usize>, BTreeSet<usize>)>,
    holders: HashMap<Holder, usize>,
}

impl Accounts {
    pub(super) fn new(census: &Census, objects: Vec<Object>) -> Self {
        let holders: HashMap<Holder, usize> =
            census.holders.iter().cloned().enumerate().map(|(number, holder)| (holder, number)).collect();
        let index: HashMap<Thing, usize> =
            objects.iter().enumerate().map(|(number, object)| (object.thing.clone(), number)).collect();
        let families =
            objects.iter().map(|object| object.family.iter().filter_map(|thing| index.get(thing)).copied());
        let families = families.map(Iterator::collect).collect();
        let mut reached: Vec<Vec<usize>> = vec![Vec::new(); census.holders.len()];
        for (number, object) in objects.iter().enumerate() {
            for holder in object.holders.iter().filter_map(|holder| holders.get(holder)) {
                if let Some(reached) = reached.get_mut(*holder) {
                    reached.push(number);
                }
            }
        }
        let by_whom = |part: &seacow_store::Part| {
            let objects = part.holders.iter().filter_map(|holder| reached.get(*holder)).flatten().copied();
            (part.bytes, part.holders.clone(), objects.collect())
        };
        let parts = census.parts.iter().map(by_whom).collect();
        Self { objects, index, families, parts, holders }
    }

    /// Of something.
    pub(super) fn of(&self, thing: &Thing) -> Account {
        let Some(number) = self.index.get(thing) else { return Account::default() };
        let nobody = HashSet::new();
        let family = self.families.get(*number).unwrap_or(&nobody);
        let mine = self.parts.iter().filter(|(_, _, objects)| objects.contains(number));
        self.account(
            mine.map(|(bytes, _, objects)| (*bytes, objects)),
            |other| other == *number || family.contains(&other),
            Some(*number),
        )
    }

    /// Of a layer: it is its own while one thing alone, with what belongs to it, stands on it.
    pub(super) fn of_layer(&self, chain: &ChainId) -> Account {
        let Some(holder) = self.holders.get(&Holder::Layer(chain.clone())) else { return Account::default() };
        let users: Vec<usize> = (0..self.objects.len())
            .filter(|number| self.objects.get(*number).is_some_and(|object| has_layer(object, chain)))
            .collect();
        let leads = |lead: &usize| {
            let family = self.families.get(*lead);
            users.iter().all(|user| user == lead || family.is_some_and(|family| family.contains(user)))
        };
        let lead = users.iter().copied().find(leads);
        let kin = |other: usize| {
            lead.is_some_and(|lead| {
                other == lead || self.families.get(lead).is_some_and(|family| family.contains(&other))
            })
        };
        let mine = self.parts.iter().filter(|(_, holders, _)| holders.contains(holder));
        self.account(mine.map(|(bytes, _, objects)| (*bytes, objects)), kin, None)
    }

    fn account<'a>(
        &self,
        parts: impl Iterator<Item = (u64, &'a BTreeSet<usize>)>,
        kin: impl Fn(usize) -> bool,
        own: Option<usize>,
    ) -> Account {
        let (mut account, mut with) = (Account::default(), BTreeSet::new());
        for (bytes, objects) in parts {
            if objects.iter().all(|other| kin(*other)) {
                account.own += bytes;
            } else {
                account.shared += bytes;
            }
            with.extend(objects.iter().copied().filter(|other| Some(*other) != own));
        }
        let name = |number: usize| self.objects.get(number).map(|object| object.name.clone());
        account.with = with.into_iter().filter_map(name).collect();
        account.with.sort();
        account
    }
}

fn has_layer(object: &Object, chain: &ChainId) -> bool {
    object.holders.iter().any(|holder| matches!(holder, Holder::Layer(layer) if layer == chain))
}

#[cfg(test)]
mod tests {
    use seacow_store::Part;

    use super::*;

    fn volume(name: &str) -> Holder {
        Holder::Volume(name.to_owned())
    }

    #[test]
    fn shared_own_and_with_whom() {
        let names = ["a", "b", "c"];
        let census = Census {
            holders: names.map(volume).to_vec(),
            parts: vec![
                Part { bytes: 1, holders: vec![0] },
                Part { bytes: 10, holders: vec![0, 1] },
                Part { bytes: 100, holders: vec![1, 2] },
            ],
        };
        let object = |name: &str, family: &[&str]| Object {
            thing: Thing::volume(name),
            name: name.to_owned(),
            holders: vec![volume(name)],
            family: family.iter().map(|name| Thing::volume(name)).collect(),
        };
        let accounts = Accounts::new(&census, vec![object("a", &[]), object("b", &["c"]), object("c", &[])]);
        let of = |name: &str| {
            let account = accounts.of(&Thing::volume(name));
            (account.own, account.shared, account.with.join(","))
        };
        assert_eq!(of("a"), (1, 10, "b".into()));
        // What belongs to it does not make its bytes shared, but is named.
        assert_eq!(of("b"), (100, 10, "a,c".into()));
        assert_eq!(of("c"), (0, 100, "b".into()));
    }
}
