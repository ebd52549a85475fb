//! Containers, images, networks, volumes, exec, events.
//!
//! [`Engine`] is what the daemon's routes call: async, cheap to clone, every verb of the Docker API
//! as one method, each in a file of its own (`container/start.rs`). It keeps the truth about
//! containers; bytes are the store's, links are net's, processes are the shims'. It knows no HTTP.
//!
//! | module | what |
//! |---|---|
//! | [`blocking`] | the one bridge to the crates that block |
//! | [`config`] | settings |
//! | [`error`] | one error over all parts' |
//! | [`event`] | event bus, replay, filters |
//! | [`filter`] | `filters=` |
//! | `shim` | connections to shims |
#![forbid(unsafe_code)]

pub mod apitime;
pub mod blocking;
pub mod config;
pub mod container;
pub mod error;
pub mod event;
pub mod filter;
pub mod network;
pub mod shim;

use std::sync::Arc;

pub use config::Config;
pub use error::EngineError;
pub use event::EventFilter;
pub use filter::Filters;

/// The engine. Clones share everything.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) events: event::EventBus,
}

impl Engine {
    /// The settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn events_bus(&self) -> &event::EventBus {
        &self.0.events
    }
}
