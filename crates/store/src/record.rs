//! Documents that the engine keeps here without the store knowing what is in them.

use std::sync::Arc;

use crate::meta::{Durability, MetaError, Table, Write};
use crate::shared::Shared;

/// Which collection of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Containers, by id.
    Container,
    /// Networks, by id.
    Network,
    /// The engine's own settings, by name.
    Engine,
}

impl RecordKind {
    fn table(self) -> Table {
        match self {
            Self::Container => Table::Containers,
            Self::Network => Table::Networks,
            Self::Engine => Table::Engine,
        }
    }
}

/// Opaque documents by key.
///
/// Durable writes of callers that come at the same time share one sync.
#[derive(Clone, Debug)]
pub struct Records {
    shared: Arc<Shared>,
}

impl Records {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Puts a document in place of the one under that key.
    ///
    /// # Errors
    /// The database failed.
    pub fn put(
        &self,
        kind: RecordKind,
        key: &str,
        value: Vec<u8>,
        durability: Durability,
    ) -> Result<(), MetaError> {
        self.shared.meta.commit(vec![Write::Put(kind.table(), key.to_owned(), value)], durability)
    }

    /// The document under a key.
    ///
    /// # Errors
    /// The database failed.
    pub fn get(&self, kind: RecordKind, key: &str) -> Result<Option<Vec<u8>>, MetaError> {
        self.shared.meta.get(kind.table(), key)
    }

    /// Deletes a document; not there is fine.
    ///
    /// # Errors
    /// The database failed.
    pub fn delete(&self, kind: RecordKind, key: &str, durability: Durability) -> Result<(), MetaError> {
        self.shared.meta.commit(vec![Write::Delete(kind.table(), key.to_owned())], durability)
    }

    /// All documents of a kind, sorted by key.
    ///
    /// # Errors
    /// The database failed.
    pub fn all(&self, kind: RecordKind) -> Result<Vec<(String, Vec<u8>)>, MetaError> {
        self.shared.meta.all(kind.table())
    }
}
