//! `docker search`: the old protocol's one verb that is still asked for.

use hyper::body::Incoming;
use hyper::{Method, Response};
use seacow_spec::reference::DEFAULT_DOMAIN;
use serde::Deserialize;

use crate::auth::{Credentials, escape};
use crate::endpoint::{Settings, Tries};
use crate::error::RegistryError;
use crate::session::{Ask, Failed, Scope, Session};
use crate::transport::whole;

/// Docker Hub's, which is another host than its registry.
const HUB_INDEX: &str = "index.docker.io";
/// A hundred results with long descriptions.
const MAX_ANSWER: usize = 4 << 20;

/// An image that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(deserialize_with = "seacow_spec::docker::null_default")]
    pub description: String,
    /// How many like it.
    pub star_count: i64,
    /// Whether Docker itself makes it.
    pub is_official: bool,
    /// Whether it was built by the registry.
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default, deserialize_with = "seacow_spec::docker::null_default")]
    results: Vec<Found>,
}

/// Asks the index of Docker Hub, or that of the registry before the term's first slash, for at most `limit` images.
///
/// # Errors
/// It cannot be reached, or does not search.
pub async fn search(
    term: &str,
    limit: usize,
    settings: &Settings,
    credentials: &Credentials,
) -> Result<Vec<Found>, RegistryError> {
    let (host, term) = index_of(term);
    let mut tries = Tries::default();
    for way in settings.ways(host) {
        let url = format!("{}/v1/search?q={}&n={limit}", way.base, escape(term));
        let session = Session::new(way.clone(), settings, credentials)?;
        match session.ask(&Ask::new(Method::GET, url, &Scope::none())).await {
            Ok(response) => return results(response, host).await,
            Err(Failed::Status { status, .. }) => {
                return Err(RegistryError::Refused(format!("Unexpected status code {}", status.as_u16())));
            }
            Err(Failed::Otherwise(error)) => tries.failed(&way, error)?,
        }
    }
    Err(tries.all_in_vain(host))
}

async fn results(response: Response<Incoming>, host: &str) -> Result<Vec<Found>, RegistryError> {
    let what = format!("the results of the search at {host}");
    let body = whole(response, &what, MAX_ANSWER).await?;
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|error| RegistryError::Malformed { what, reason: error.to_string() })?;
    Ok(answer.results)
}

/// Where to ask, and what for: `host:5000/term`, or a term for Docker Hub.
fn index_of(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
            let hub = host == DEFAULT_DOMAIN || host == HUB_INDEX;
            (if hub { HUB_INDEX } else { host }, rest)
        }
        // Official images are searched for without the name of their common owner.
        _ => (HUB_INDEX, term.strip_prefix("library/").unwrap_or(term)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_to_ask() {
        assert_eq!(index_of("bb"), (HUB_INDEX, "bb"));
        assert_eq!(index_of("library/bb"), (HUB_INDEX, "bb"));
        assert_eq!(index_of("user/bb"), (HUB_INDEX, "user/bb"));
        assert_eq!(index_of("docker.io/user/bb"), (HUB_INDEX, "user/bb"));
        assert_eq!(index_of("localhost:5000/a/b"), ("localhost:5000", "a/b"));
    }
}
