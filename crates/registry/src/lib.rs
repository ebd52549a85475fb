//! The OCI distribution protocol: images from registries and to them, and a registry of one's own ([`server`]).
//!
//! A [`Client`] speaks for one reference's registry: it finds the way (mirrors, TLS or not), authenticates,
//! and hands out verified content. Nothing a registry says is believed: documents have bounds, blobs are
//! hashed and counted while they come, redirects lead nowhere but to http and https and take no credentials
//! along.
#![forbid(unsafe_code)]

mod auth;
mod blob;
mod certificates;
mod endpoint;
mod error;
mod login;
mod manifest;
mod push;
mod search;
pub mod server;
mod session;
mod tags;
mod transport;

pub use auth::{Credentials, InvalidCredentials};
pub use blob::Blob;
pub use endpoint::{Endpoint, Settings};
pub use error::RegistryError;
pub use login::login;
pub use manifest::{Client, Described, Platform, Resolved, describe};
pub use push::{NextBytes, Pusher, Source};
pub use search::{Found, search};
pub use tags::tags;
