//! The values of flags: how docker's client reads them, refuses them, and what it sends.

pub(crate) mod container;
pub(crate) mod container_flags;
pub(crate) mod device;
pub(crate) mod env;
pub(crate) mod filter;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod resources;
pub(crate) mod security;
pub(crate) mod validate;
pub(crate) mod volume;
