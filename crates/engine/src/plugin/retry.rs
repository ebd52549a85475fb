//! A plug-in that is not there yet, or is being restarted, is called again: after 1, 2, 4, 8 seconds, as
//! Docker does. What it answered stands.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::call::Client;
use super::error::PluginError;

/// How long most calls may take; Docker's.
pub(super) const SHORT: Duration = Duration::from_secs(60);
/// How long making and mounting a volume may take; Docker's.
pub(super) const LONG: Duration = Duration::from_secs(120);
/// After this time nobody is called again.
const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);

impl Client {
    /// Calls until there is an answer, within the limit.
    ///
    /// # Errors
    /// There is none, it is a refusal, or it makes no sense.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        request: &(impl Serialize + Sync),
        limit: Duration,
    ) -> Result<T, PluginError> {
        let attempts = async {
            let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
            loop {
                match self.post(method, request).await {
                    Err(PluginError::Unreachable { source, .. }) if begun.elapsed() + pause < PATIENCE => {
                        let seconds = pause.as_secs();
                        tracing::warn!(plugin = self.name, method, error = %source, "again in {seconds} s");
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                    }
                    answer => return answer,
                }
            }
        };
        within(attempts, &self.name, method, limit).await
    }

    /// Calls once, within the limit.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(super) async fn once<T: DeserializeOwned>(
        &self,
        method: &'static str,
        request: &(impl Serialize + Sync),
        limit: Duration,
    ) -> Result<T, PluginError> {
        within(self.post(method, request), &self.name, method, limit).await
    }
}

async fn within<T>(
    answer: impl Future<Output = Result<T, PluginError>>,
    name: &str,
    method: &'static str,
    limit: Duration,
) -> Result<T, PluginError> {
    let late = |_| PluginError::TimedOut { name: name.to_owned(), method, seconds: limit.as_secs() };
    tokio::time::timeout(limit, answer).await.map_err(late)?
}
