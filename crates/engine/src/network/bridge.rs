//! The default bridge, as the start path uses it: addresses from memory, one netlink message per
//! container on a blocking thread.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use seacow_net::bridge::BridgeError;
use seacow_net::endpoint::HOST_PREFIX;
use seacow_net::netns::{self, Inside};
use seacow_net::{Bridge as NetBridge, BridgeConfig, EndpointConfig, Ipam, Mac};

use super::{Endpoint, IFNAME, NetworkError};
use crate::blocking;
use crate::config::Config;

/// A container's link as the kernel has it.
pub(crate) use seacow_net::Endpoint as Link;

/// How long a start waits for the bridge; it takes some 40 µs.
const FORWARDING_LIMIT: Duration = Duration::from_millis(500);

/// The default bridge and who has which of its addresses.
pub(crate) struct Bridge {
    bridge: Arc<NetBridge>,
    ipam: Ipam,
}

impl Bridge {
    /// Makes or adopts the bridge. Blocks. `stored` is the subnet it had before; where somebody else
    /// has taken that meanwhile, another one is found, unless it was asked for.
    pub(crate) fn open(config: &Config, stored: Option<ipnet::Ipv4Net>) -> Result<Self, NetworkError> {
        match Self::with_subnet(config, config.subnet.or(stored)) {
            Err(NetworkError::Bridge(BridgeError::Subnet(error)))
                if config.subnet.is_none() && stored.is_some() =>
            {
                tracing::warn!(%error, "the bridge cannot have its subnet again");
                Self::with_subnet(config, None)
            }
            opened => opened,
        }
    }

    fn with_subnet(config: &Config, wanted: Option<ipnet::Ipv4Net>) -> Result<Self, NetworkError> {
        let mut settings = BridgeConfig::new(config.bridge.clone());
        settings.subnet = wanted.map(|subnet| subnet.trunc());
        // An address that is not the network's own is the gateway that was asked for.
        settings.gateway =
            wanted.filter(|subnet| subnet.addr() != subnet.network()).map(|subnet| subnet.addr());
        settings.table.clone_from(&config.nft_table);
        let bridge = NetBridge::ensure(&settings)?;
        for change in bridge.changes() {
            tracing::info!(?change, "a kernel setting was changed for containers");
        }
        for problem in bridge.problems() {
            tracing::warn!(%problem, "containers may not reach the outside");
        }
        let ipam = bridge.ipam()?;
        Ok(Self { bridge: Arc::new(bridge), ipam })
    }

    /// Removes the link and the firewall table, when nobody uses them any more.
    pub(crate) async fn remove(&self) {
        let bridge = Arc::clone(&self.bridge);
        let removed = blocking::run("remove the bridge", move || bridge.remove()).await;
        for error in removed.map(Result::err).ok().flatten().into_iter().flatten() {
            tracing::warn!(%error, "the bridge is left behind");
        }
    }

    /// Its subnet with the gateway's address, to be stored.
    pub(crate) fn subnet(&self) -> ipnet::Ipv4Net {
        self.bridge.subnet()
    }

    /// Its own address.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.bridge.gateway()
    }

    /// Largest packet.
    pub(crate) fn mtu(&self) -> u32 {
        self.bridge.mtu()
    }

    /// Its interface's name.
    pub(crate) fn name(&self) -> &str {
        self.bridge.name()
    }

    /// An address for a new container.
    pub(crate) fn lease(&self, mac: Option<[u8; 6]>) -> Result<Endpoint, NetworkError> {
        let address = self.ipam.allocate()?;
        let id = seacow_spec::id::random_hex().map_err(NetworkError::Random)?;
        let mac = mac.unwrap_or_else(|| Mac::from_ipv4(address).octets());
        let prefix = self.bridge.subnet().prefix_len();
        Ok(Endpoint { id, address, prefix, gateway: self.bridge.gateway(), mac, ports: Vec::new() })
    }

    /// Says that a container has this address already.
    pub(crate) fn reserve(&self, address: Ipv4Addr) -> Result<(), NetworkError> {
        Ok(self.ipam.reserve(address)?)
    }

    /// Gives an address back.
    pub(crate) fn release(&self, address: Ipv4Addr) {
        self.ipam.release(address);
    }

    /// Makes a network namespace that nobody lives in yet, with its link up and packets passing. Blocks.
    pub(crate) fn namespace(&self, endpoint: &Endpoint) -> Result<OwnedFd, NetworkError> {
        let link = (link_of(endpoint), endpoint.address, endpoint.prefix, Some(endpoint.gateway));
        let (made, link) = netns::make(Some(&self.bridge), &Inside { link: Some(link) })?;
        if let Some(link) = link
            && let Err(error) = link.wait_forwarding(FORWARDING_LIMIT)
        {
            // An adopted bridge with spanning tree takes its 30 s; the container need not.
            tracing::warn!(%error, "a container starts before its bridge forwards");
        }
        Ok(made)
    }

    /// Makes the link of a prepared container. The kernel takes it away with the namespace.
    pub(crate) async fn connect(&self, pid: i32, endpoint: &Endpoint) -> Result<Link, NetworkError> {
        let bridge = Arc::clone(&self.bridge);
        let link = link_of(endpoint);
        let pid = pid.unsigned_abs();
        Ok(blocking::run("connect a container", move || bridge.connect(pid, &link)).await??)
    }
}

/// A connected container's link.
pub(crate) fn link(endpoint: &Endpoint, bridge: &Bridge) -> Link {
    Link { host_ifname: host_ifname(endpoint), bridge: bridge.bridge.index() }
}

/// By endpoint, not by container: the link of the last run lives on for some 40 ms.
fn host_ifname(endpoint: &Endpoint) -> String {
    format!("{HOST_PREFIX}{}", endpoint.id.get(..12).unwrap_or(&endpoint.id))
}

fn link_of(endpoint: &Endpoint) -> EndpointConfig {
    EndpointConfig {
        ifname: IFNAME.into(),
        host_ifname: host_ifname(endpoint),
        mac: Mac::new(endpoint.mac),
        mtu: None,
    }
}

/// Waits until packets pass between a container, whose end of the link is up, and its bridge. A
/// program that sent one earlier would lose it and wait a full second for the repetition.
pub(crate) async fn await_forwarding(link: Link) {
    let waited = blocking::run("wait for the bridge", move || link.wait_forwarding(FORWARDING_LIMIT)).await;
    match waited {
        Ok(Ok(())) => {}
        // An adopted bridge with spanning tree takes its 30 s; the container need not.
        Ok(Err(error)) => tracing::warn!(%error, "a container starts before its bridge forwards"),
        Err(error) => tracing::warn!(%error, "wait for the bridge"),
    }
}
