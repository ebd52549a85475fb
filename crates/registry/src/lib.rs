//! The OCI distribution protocol: images from registries.
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
mod manifest;
mod session;
mod transport;

pub use auth::{Credentials, InvalidCredentials};
pub use blob::Blob;
pub use endpoint::{Endpoint, Settings};
pub use error::RegistryError;
pub use manifest::{Client, Platform, Resolved};
