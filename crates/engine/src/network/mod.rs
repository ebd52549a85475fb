//! How containers are connected: the default bridge, `none`, `host`, or another container's
//! network.

pub(crate) mod bridge;
pub(crate) mod doors;
mod error;
pub(crate) mod files;
pub mod inspect;
pub mod ports;

use std::net::Ipv4Addr;
use std::path::Path;

use seacow_spec::ContainerId;
use serde::{Deserialize, Serialize};

pub use error::NetworkError;
pub use ports::{Mapping, PortError};

use crate::Engine;
use crate::container::{Container, ContainerError};

/// Name of a container's link, inside.
pub(crate) const IFNAME: &str = "eth0";

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
    /// What of it is published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ports::Mapping>,
}

impl Endpoint {
    /// As the container's init configures it.
    pub(crate) fn config(&self) -> seacow_spec::shim::NetworkConfig {
        seacow_spec::shim::NetworkConfig {
            ifname: IFNAME.into(),
            address: self.address,
            prefix: self.prefix,
            gateway: Some(self.gateway),
        }
    }
}

impl Mode {
    /// As `HostConfig.NetworkMode` has it.
    pub fn text(&self) -> String {
        match self {
            Self::Bridge => "bridge".into(),
            Self::None => "none".into(),
            Self::Host => "host".into(),
            Self::Container(id) => format!("container:{id}"),
        }
    }

    /// Name and driver of the network, if it is one.
    pub(crate) fn network(&self) -> Option<Predefined> {
        match self {
            Self::Bridge => Some(Predefined::Bridge),
            Self::None => Some(Predefined::None),
            Self::Host => Some(Predefined::Host),
            Self::Container(_) => None,
        }
    }
}

/// The networks that are always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Predefined {
    Bridge,
    Host,
    None,
}

impl Predefined {
    pub(crate) const ALL: [Self; 3] = [Self::Bridge, Self::Host, Self::None];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "none",
        }
    }

    pub(crate) fn driver(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Host => "host",
            Self::None => "null",
        }
    }
}

/// Ids of the predefined networks, drawn once, and what is kept of the bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) bridge: String,
    pub(crate) host: String,
    pub(crate) none: String,
    pub(crate) created: seacow_spec::Timestamp,
    /// The bridge's subnet, so that it is the same next time.
    #[serde(default)]
    pub(crate) subnet: Option<ipnet::Ipv4Net>,
    /// What was opened for it in other firewalls, and is ours to close.
    #[serde(default)]
    pub(crate) doors: Vec<seacow_net::doors::Door>,
}

impl Identity {
    pub(crate) fn draw() -> std::io::Result<Self> {
        let id = seacow_spec::id::random_hex;
        let created = seacow_spec::Timestamp::now();
        Ok(Self { bridge: id()?, host: id()?, none: id()?, created, subnet: None, doors: Vec::new() })
    }

    pub(crate) fn id(&self, network: Predefined) -> &str {
        match network {
            Predefined::Bridge => &self.bridge,
            Predefined::Host => &self.host,
            Predefined::None => &self.none,
        }
    }
}

impl Engine {
    /// Reads `HostConfig.NetworkMode`.
    pub(crate) fn network_mode(&self, text: &str, disabled: bool) -> Result<Mode, ContainerError> {
        if disabled {
            return Ok(Mode::None);
        }
        match text {
            "" | "default" | "bridge" => Ok(Mode::Bridge),
            "none" => Ok(Mode::None),
            "host" => Ok(Mode::Host),
            other => match other.strip_prefix("container:") {
                Some(peer) => Ok(Mode::Container(self.0.containers.find(peer)?.id.clone())),
                None => match Predefined::ALL.iter().find(|network| self.0.networks.id(**network) == other) {
                    Some(Predefined::Bridge) => Ok(Mode::Bridge),
                    Some(Predefined::Host) => Ok(Mode::Host),
                    Some(Predefined::None) => Ok(Mode::None),
                    None => Err(ContainerError::NoSuchNetwork(other.to_owned())),
                },
            },
        }
    }

    /// Says that a container that is about to run is connected and its volumes are mounted.
    pub(crate) fn emit_connected(&self, container: &Container) {
        self.emit_network(container, "connect");
        let mounts = container.cell().record.mounts.clone();
        for mount in mounts.iter().filter(|mount| mount.point.kind == "volume") {
            let attributes = [
                ("container", container.id.to_string()),
                ("destination", mount.point.destination.clone()),
                ("driver", mount.point.driver.clone()),
                ("propagation", mount.point.propagation.clone()),
                ("read/write", mount.point.rw.to_string()),
            ];
            self.emit(crate::event::event("volume", "mount", &mount.point.name, owned(attributes)));
        }
    }

    /// The opposite, at a run's end.
    pub(crate) fn emit_disconnected(&self, container: &Container) {
        self.emit_network(container, "disconnect");
        let mounts = container.cell().record.mounts.clone();
        for mount in mounts.iter().filter(|mount| mount.point.kind == "volume") {
            let attributes =
                [("container", container.id.to_string()), ("driver", mount.point.driver.clone())];
            self.emit(crate::event::event("volume", "unmount", &mount.point.name, owned(attributes)));
        }
    }

    fn emit_network(&self, container: &Container, action: &str) {
        let Some(network) = container.cell().record.network.network() else { return };
        let attributes = [
            ("container", container.id.to_string()),
            ("name", network.name().to_owned()),
            ("type", network.driver().to_owned()),
        ];
        self.emit(crate::event::event("network", action, self.0.networks.id(network), owned(attributes)));
    }
}

fn owned<const N: usize>(pairs: [(&str, String); N]) -> std::collections::BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// Name of the file in the exec directory that tells a later engine the address, if this one dies
/// before the record was written.
const ENDPOINT_NAME: &str = "endpoint.json";

/// Writes the endpoint into a container's exec directory.
pub(crate) fn keep(endpoint: &Endpoint, dir: &Path) -> Result<(), ContainerError> {
    let path = dir.join(ENDPOINT_NAME);
    let bytes = serde_json::to_vec(endpoint).map_err(|error| ContainerError::io("write", &path, error))?;
    std::fs::write(&path, bytes).map_err(|error| ContainerError::io("write", &path, error))
}

/// Reads it back.
pub(crate) fn kept(dir: &Path) -> Option<Endpoint> {
    serde_json::from_slice(&std::fs::read(dir.join(ENDPOINT_NAME)).ok()?).ok()
}

/// `02:42:ac:11:00:02`.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    seacow_net::Mac::new(mac).to_string()
}
