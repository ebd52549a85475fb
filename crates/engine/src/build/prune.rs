//! `POST /build/prune`.

use seacow_spec::docker::build::BuildPruned;

use crate::Engine;
use crate::error::EngineError;
use crate::filter::Filters;

const KEYS: &[&str] =
    &["description", "id", "inuse", "parent", "private", "shared", "type", "unused-for", "until"];

impl Engine {
    /// Removes what builds keep besides images, which is nothing: the classic builder's cache are
    /// the images of its steps, and `image prune` removes those that nothing stands on.
    ///
    /// # Errors
    /// A filter is unknown.
    pub async fn build_prune(&self, filters: Filters) -> Result<BuildPruned, EngineError> {
        filters.only(KEYS)?;
        Ok(BuildPruned { caches_deleted: None, space_reclaimed: 0 })
    }
}
