//! How containers are connected: the default bridge, `none`, `host`, or another container's
//! network.

use std::net::Ipv4Addr;

use seacow_spec::ContainerId;
use serde::{Deserialize, Serialize};

/// A container's network mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A link of its own on the default bridge.
    Bridge,
    /// A network namespace with nothing but loopback.
    None,
    /// The host's namespace.
    Host,
    /// The namespace of another container.
    Container(ContainerId),
}

/// A container's link on the default bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Random, for `inspect`.
    pub id: String,
    /// Address in the bridge's subnet.
    pub address: Ipv4Addr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// Hardware address.
    pub mac: [u8; 6],
}
