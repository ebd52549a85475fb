//! `docker search`, `docker login`, and what a registry says of a name.

use seacow_registry::{Credentials, Found, login, search};
use seacow_spec::Reference;

use super::ImageError;
use super::pull::platform;
use crate::Engine;
use crate::error::EngineError;
use crate::filter::{FilterError, Filters};

/// Results where nobody says how many, and at most, as Docker has it.
const DEFAULT_LIMIT: usize = 25;
const MAX_LIMIT: usize = 100;
const KEYS: &[&str] = &["is-automated", "is-official", "stars"];

impl Engine {
    /// Images of Docker Hub, or of the registry that the term begins with.
    ///
    /// # Errors
    /// A filter or the limit is none, or nobody answers there.
    pub async fn image_search(
        &self,
        term: &str,
        limit: Option<i64>,
        filters: &Filters,
        credentials: &Credentials,
    ) -> Result<Vec<Found>, EngineError> {
        filters.only(KEYS)?;
        let official = filters.boolean("is-official")?;
        let automated = filters.boolean("is-automated")?;
        let mut stars = 0;
        for text in filters.values("stars") {
            let number: i64 =
                text.parse().map_err(|_| FilterError::BadValue("stars".into(), text.to_owned()))?;
            stars = stars.max(number);
        }
        let limit = match limit.unwrap_or(0) {
            0 => DEFAULT_LIMIT,
            limit => usize::try_from(limit)
                .ok()
                .filter(|limit| *limit <= MAX_LIMIT)
                .ok_or(ImageError::SearchLimit(limit))?,
        };
        let settings = &self.config().registries;
        let mut found = search(term, limit, settings, credentials).await.map_err(ImageError::from)?;
        found.retain(|image| {
            image.star_count >= stars
                && official.is_none_or(|wanted| image.is_official == wanted)
                && automated.is_none_or(|wanted| image.is_automated == wanted)
        });
        Ok(found)
    }

    /// Shows credentials to a registry. Gives the token that stands for the password from now on, if there is
    /// one.
    ///
    /// # Errors
    /// The registry does not take them, or cannot be reached.
    pub async fn login(
        &self,
        server: &str,
        credentials: &Credentials,
    ) -> Result<Option<String>, EngineError> {
        let settings = &self.config().registries;
        Ok(login(server, settings, credentials).await.map_err(ImageError::from)?)
    }

    /// What a registry has under a name, without pulling it.
    ///
    /// # Errors
    /// The name is malformed, or its registry does not have it or cannot be asked.
    pub async fn distribution(
        &self,
        name: &str,
        credentials: &Credentials,
    ) -> Result<seacow_registry::Described, EngineError> {
        let name = name.parse::<Reference>().map_err(ImageError::from)?.or_latest();
        let ours = platform(None)?;
        let settings = &self.config().registries;
        let described = seacow_registry::describe(&name, &ours, settings, credentials).await;
        Ok(described.map_err(ImageError::from)?)
    }
}
