//! Bodies of the Docker Engine API, as clients of API 1.24 to 1.51 send and expect them.
//!
//! Our own types rather than generated ones: several API versions differ in which fields they
//! have and whether an absent value is `null`, missing or empty, and stock clients notice.
//! Unknown fields of requests are ignored, as dockerd ignores them.

pub mod build;
pub mod container;
pub mod event;
pub mod exec;
pub mod fork;
pub mod host_config;
pub mod image;
pub mod inspect;
pub mod network;
pub mod snapshot;
pub mod system;
pub mod volume;

use serde::{Deserialize, Deserializer};

/// Newest API version that is served.
pub const API_VERSION: &str = "1.51";
/// Oldest API version that is served.
pub const MIN_API_VERSION: &str = "1.24";

/// Accepts `null` as the default: Go writes nil slices and maps so.
///
/// # Errors
/// The value is neither null nor of the type.
pub fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Accepts a string or a list of strings, as `Cmd` and `Entrypoint` may be.
///
/// # Errors
/// The value is neither.
pub fn string_or_list<'de, D>(deserializer: D) -> Result<Option<Vec<String>>, D::Error>
where
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::<Either>::deserialize(deserializer)?.map(|either| match either {
        Either::One(word) => vec![word],
        Either::Many(words) => words,
    }))
}

/// The body of every error.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub message: String,
}

/// The body that answers a create with nothing but an id.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct IdBody {
    /// The new thing's id.
    #[serde(rename = "Id")]
    pub id: String,
}
