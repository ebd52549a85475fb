//! Metadata: a few tables of small documents in one file, written by groups.
//!
//! Vocabulary: a [`Write`] puts or deletes one document; a batch of writes is atomic. Batches of
//! several callers that meet while the file is busy are committed together, and with one sync.

mod queue;

use std::path::Path;

use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use seacow_spec::{Classified, ErrorClass};

use crate::disk::Disk;
use queue::Queue;

/// Version of the tables' contents. Newer ones are refused, never guessed at.
const SCHEMA: &str = "1";
/// Not a key that the engine would choose for its own documents.
const SCHEMA_KEY: &str = "store/schema";
/// In front of the keys of the store's own documents.
const OWN: &str = "store/";
/// redb's page cache. A container has two pages or so; with a thousand of them what is not here is in the
/// kernel's page cache, where a read costs a microsecond.
const CACHE_BYTES: usize = 2 << 20;

/// Why metadata could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MetaError {
    /// The database failed.
    #[error("{step} the metadata: {reason}")]
    Database {
        /// What was tried.
        step: &'static str,
        /// What the database said.
        reason: String,
    },
    /// A document cannot be read.
    #[error("the metadata of {table} {key:?} is not readable: {reason}")]
    Document {
        /// Where.
        table: &'static str,
        /// Which.
        key: String,
        /// Why.
        reason: String,
    },
    /// Written by a newer seacow.
    #[error("the data root was written by a newer seacow (schema {0}, this one knows {SCHEMA})")]
    Newer(String),
}

impl Classified for MetaError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Newer(_) => ErrorClass::InvalidArgument,
            Self::Database { .. } | Self::Document { .. } => ErrorClass::Internal,
        }
    }
}

/// How long a write must last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Beyond a crash of the machine, as soon as the call returns.
    Durable,
    /// Beyond the call, which waits for nobody's sync; it reaches the disk with the next durable write, or
    /// when the store is closed. If the daemon is killed before, it is gone.
    Unsynced,
}

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Layers,
    Images,
    Configs,
    Tags,
    Volumes,
    Containers,
    Networks,
    Engine,
    Points,
    Quotas,
    Manifests,
}

impl Table {
    const ALL: [Self; 11] = [
        Self::Layers,
        Self::Images,
        Self::Configs,
        Self::Tags,
        Self::Volumes,
        Self::Containers,
        Self::Networks,
        Self::Engine,
        Self::Points,
        Self::Quotas,
        Self::Manifests,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Layers => "layers",
            Self::Images => "images",
            Self::Configs => "configs",
            Self::Tags => "tags",
            Self::Volumes => "volumes",
            Self::Containers => "containers",
            Self::Networks => "networks",
            Self::Engine => "engine",
            Self::Points => "points",
            Self::Quotas => "quotas",
            Self::Manifests => "manifests",
        }
    }

    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Put(Table, String, Vec<u8>),
    Delete(Table, String),
}

impl Write {
    /// A document as JSON.
    pub(crate) fn json<T: serde::Serialize>(table: Table, key: &str, value: &T) -> Result<Self, MetaError> {
        let bytes = serde_json::to_vec(value).map_err(|error| MetaError::Document {
            table: table.name(),
            key: key.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self::Put(table, key.to_owned(), bytes))
    }
}

/// The database.
#[derive(Debug)]
pub(crate) struct Meta {
    db: redb::Database,
    queue: Queue,
    disk: Disk,
}

impl Meta {
    pub(crate) fn open(path: &Path, disk: Disk) -> Result<Self, MetaError> {
        let db = redb::Builder::new().set_cache_size(CACHE_BYTES).create(path).map_err(failed("open"))?;
        let meta = Self { db, queue: Queue::default(), disk };
        meta.check_schema()?;
        Ok(meta)
    }

    fn check_schema(&self) -> Result<(), MetaError> {
        if self.tables()? < Table::ALL.len() {
            let write = self.db.begin_write().map_err(failed("open"))?;
            for table in Table::ALL {
                write.open_table(table.definition()).map_err(failed("open"))?;
            }
            write.commit().map_err(failed("open"))?;
        }
        match self.get(Table::Engine, SCHEMA_KEY)? {
            None => self.commit(
                vec![Write::Put(Table::Engine, SCHEMA_KEY.into(), SCHEMA.into())],
                Durability::Durable,
            ),
            Some(found) if found == SCHEMA.as_bytes() => Ok(()),
            Some(found) => Err(MetaError::Newer(String::from_utf8_lossy(&found).into_owned())),
        }
    }

    fn tables(&self) -> Result<usize, MetaError> {
        let read = self.db.begin_read().map_err(failed("open"))?;
        Ok(read.list_tables().map_err(failed("open"))?.count())
    }

    pub(crate) fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, MetaError> {
        self.settle()?;
        let read = self.db.begin_read().map_err(failed("read"))?;
        let open = read.open_table(table.definition()).map_err(failed("read"))?;
        let found = open.get(key).map_err(failed("read"))?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    /// All documents of a table, sorted by key.
    pub(crate) fn all(&self, table: Table) -> Result<Vec<(String, Vec<u8>)>, MetaError> {
        self.settle()?;
        let read = self.db.begin_read().map_err(failed("read"))?;
        let open = read.open_table(table.definition()).map_err(failed("read"))?;
        let mut out = Vec::new();
        for item in open.iter().map_err(failed("read"))? {
            let (key, value) = item.map_err(failed("read"))?;
            if !(table == Table::Engine && key.value().starts_with(OWN)) {
                out.push((key.value().to_owned(), value.value().to_vec()));
            }
        }
        Ok(out)
    }

    /// Has everything in the database that was committed by a call that has returned.
    fn settle(&self) -> Result<(), MetaError> {
        self.queue.settle(|writes, durability| self.apply(writes, durability))
    }

    /// Makes all these changes or none. What need not be durable may reach the database after the call.
    pub(crate) fn commit(&self, writes: Vec<Write>, durability: Durability) -> Result<(), MetaError> {
        self.queue.submit(writes, durability, |writes, durability| self.apply(writes, durability))
    }

    fn apply(&self, writes: &[Write], durability: Durability) -> Result<(), MetaError> {
        if durability == Durability::Durable {
            self.disk.sync_owed().map_err(failed("write"))?;
        }
        self.disk.step("commit metadata").map_err(failed("write"))?;
        let mut transaction = self.db.begin_write().map_err(failed("write"))?;
        if durability == Durability::Unsynced {
            transaction.set_durability(redb::Durability::None).map_err(failed("write"))?;
        }
        for table in Table::ALL {
            let mut mine = writes.iter().filter(|write| write.table() == table).peekable();
            if mine.peek().is_none() {
                continue;
            }
            let mut open = transaction.open_table(table.definition()).map_err(failed("write"))?;
            for write in mine {
                match write {
                    Write::Put(_, key, value) => {
                        open.insert(key.as_str(), value.as_slice()).map_err(failed("write"))?;
                    }
                    Write::Delete(_, key) => {
                        open.remove(key.as_str()).map_err(failed("write"))?;
                    }
                }
            }
        }
        transaction.commit().map_err(failed("write"))?;
        self.disk.step("metadata committed").map_err(failed("write"))
    }
}

impl Write {
    fn table(&self) -> Table {
        match self {
            Self::Put(table, ..) | Self::Delete(table, _) => *table,
        }
    }
}

fn failed<E: std::fmt::Display>(step: &'static str) -> impl Fn(E) -> MetaError {
    move |error| MetaError::Database { step, reason: error.to_string() }
}

/// A document as JSON.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(
    table: Table,
    key: &str,
    value: &[u8],
) -> Result<T, MetaError> {
    serde_json::from_slice(value).map_err(|error| MetaError::Document {
        table: table.name(),
        key: key.to_owned(),
        reason: error.to_string(),
    })
}
