//! `POST /build/prune`, and the build cache of `system df`.
//!
//! What builds keep besides images are the directories of `RUN --mount=type=cache` and the contexts of
//! our own client. The images of steps are the cache proper, and `image prune` removes those that nothing
//! stands on.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use seacow_spec::Timestamp;
use seacow_spec::docker::build::BuildPruned;
use seacow_spec::docker::system::BuildCacheRecord;

use crate::error::EngineError;
use crate::filter::Filters;
use crate::{Engine, blocking};

const KEYS: &[&str] =
    &["description", "id", "inuse", "parent", "private", "shared", "type", "unused-for", "until"];

/// Kinds of records, with BuildKit's names.
const MOUNT: &str = "exec.cachemount";
const CONTEXT: &str = "source.local";

impl Engine {
    /// Everything that builds keep besides images.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub(crate) async fn build_cache(&self) -> Result<Vec<BuildCacheRecord>, EngineError> {
        let engine = self.clone();
        let records = blocking::run("count what builds keep", move || engine.build_records()).await?;
        Ok(records.map_err(super::BuildFailure::Directory)?)
    }

    fn build_records(&self) -> std::io::Result<Vec<BuildCacheRecord>> {
        let root = &self.config().data_root;
        let mounts = self.0.caches.list(root)?.into_iter().map(|kept| BuildCacheRecord {
            description: format!("cached mount {}", kept.id),
            ..record(MOUNT, kept.name, kept.size, kept.created, kept.used, kept.in_use)
        });
        let mut records: Vec<BuildCacheRecord> = mounts.collect();
        for (id, size, used, in_use) in self.0.contexts.list(root)? {
            records.push(BuildCacheRecord {
                description: "build context".into(),
                ..record(CONTEXT, id, size, used, used, in_use)
            });
        }
        Ok(records)
    }

    /// Removes what builds keep besides images and nobody uses now. Without `all`, contexts only: what a
    /// cache holds may have taken hours.
    ///
    /// # Errors
    /// A filter is unknown or malformed, or the disk failed.
    pub async fn build_prune(&self, filters: Filters, all: bool) -> Result<BuildPruned, EngineError> {
        filters.only(KEYS)?;
        let wanted = Wanted::parse(&filters)?;
        let engine = self.clone();
        let pruned = blocking::run("remove what builds keep", move || engine.prune_records(&wanted, all));
        Ok(pruned.await?.map_err(super::BuildFailure::Directory)?)
    }

    fn prune_records(&self, wanted: &Wanted, all: bool) -> std::io::Result<BuildPruned> {
        let root = &self.config().data_root;
        let (mut deleted, mut space) = (Vec::new(), 0);
        for record in self.build_records()? {
            if !wanted.takes(&record, all) {
                continue;
            }
            let removed = match record.kind.as_str() {
                MOUNT => self.0.caches.remove(root, &record.id)?,
                _ => self.0.contexts.remove(root, &record.id)?,
            };
            if removed {
                space += u64::try_from(record.size).unwrap_or(0);
                deleted.push(record.id);
            }
        }
        self.0.contexts.remove_unused_blobs(root)?;
        Ok(BuildPruned { caches_deleted: (!deleted.is_empty()).then_some(deleted), space_reclaimed: space })
    }
}

fn record(
    kind: &str,
    id: String,
    size: u64,
    created: SystemTime,
    used: SystemTime,
    in_use: bool,
) -> BuildCacheRecord {
    BuildCacheRecord {
        id,
        kind: kind.to_owned(),
        in_use,
        size: i64::try_from(size).unwrap_or(i64::MAX),
        created_at: Some(timestamp(created)),
        last_used_at: Some(timestamp(used)),
        usage_count: 1,
        ..BuildCacheRecord::default()
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix(i64::try_from(since.as_secs()).unwrap_or(0), since.subsec_nanos())
}

/// What the filters leave.
#[derive(Debug, Default)]
struct Wanted {
    exact: BTreeMap<&'static str, Vec<String>>,
    /// Not used since.
    before: Option<Timestamp>,
}

impl Wanted {
    fn parse(filters: &Filters) -> Result<Self, EngineError> {
        let mut wanted = Self::default();
        for key in ["id", "type", "inuse", "description"] {
            wanted.exact.insert(key, filters.values(key).map(str::to_owned).collect());
        }
        wanted.before = filters.until()?;
        for text in filters.values("unused-for") {
            let age =
                seacow_build::dockerfile::parse_duration(text).and_then(|nanos| u64::try_from(nanos).ok());
            let Some(age) = age else {
                let text = format!("invalid filter 'unused-for={text}': not a duration");
                return Err(super::BuildFailure::Offer(text).into());
            };
            wanted.before = Some(timestamp(SystemTime::now() - Duration::from_nanos(age)));
        }
        Ok(wanted)
    }

    fn takes(&self, record: &BuildCacheRecord, all: bool) -> bool {
        let fits = |key: &str, own: &str| {
            self.exact
                .get(key)
                .is_none_or(|values| values.is_empty() || values.iter().any(|value| value == own))
        };
        let old = self.before.is_none_or(|before| record.last_used_at.is_none_or(|used| used < before));
        let kind =
            all || record.kind != MOUNT || self.exact.get("type").is_some_and(|types| !types.is_empty());
        let in_use = if record.in_use { "true" } else { "false" };
        kind && old
            && !record.in_use
            && fits("id", &record.id)
            && fits("type", &record.kind)
            && fits("inuse", in_use)
            && fits("description", &record.description)
    }
}
