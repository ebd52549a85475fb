//! What the host already has: links, IPv4 addresses, routes.

use std::net::Ipv4Addr;

use seacow_spec::error::{Classified, ErrorClass};
use seacow_sys::netlink;

pub use crate::link::{Address, Link, Route};

/// The network of the calling thread's namespace, read at one moment.
#[derive(Clone, Debug, Default)]
pub struct HostNetwork {
    /// Interfaces.
    pub links: Vec<Link>,
    /// IPv4 addresses.
    pub addresses: Vec<Address>,
    /// IPv4 routes of all tables.
    pub routes: Vec<Route>,
}

/// The host's network could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read the host's network")]
pub struct ReadError(#[from] netlink::Error);

impl Classified for ReadError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Internal
    }
}

/// Where packets for the outside go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// Outgoing interface.
    pub interface: String,
    /// Next hop; none on point-to-point links.
    pub gateway: Option<Ipv4Addr>,
    /// The interface's own first address.
    pub source: Option<Ipv4Addr>,
    /// Largest packet of the interface, in bytes.
    pub mtu: u32,
    /// Metric of the route.
    pub metric: u32,
}

/// rtnetlink.h: routes to the host itself and to broadcast addresses.
const RT_TABLE_LOCAL: u32 = 255;
const RT_TABLE_MAIN: u32 = 254;

impl HostNetwork {
    /// Reads links, addresses and routes.
    pub fn read() -> Result<Self, ReadError> {
        Ok(Self {
            links: crate::link::links()?,
            addresses: crate::link::addresses()?,
            routes: crate::link::routes()?,
        })
    }

    /// The interface with this index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|l| l.index == index)
    }

    /// The interface's name, or its number when it is gone.
    pub fn link_name(&self, index: u32) -> String {
        self.link(index).map_or_else(|| format!("#{index}"), |l| l.name.clone())
    }

    /// Routes to other machines.
    pub fn foreign_routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().filter(|r| r.table != RT_TABLE_LOCAL)
    }

    /// Default routes of the main table, best first.
    pub fn default_routes(&self) -> Vec<DefaultRoute> {
        let mut routes: Vec<_> = self
            .routes
            .iter()
            .filter(|r| r.table == RT_TABLE_MAIN && r.unicast && r.destination.prefix_len() == 0)
            .filter_map(|r| {
                let link = self.link(r.link?)?;
                let source = self.addresses.iter().find(|a| a.link == link.index).map(|a| a.net.addr());
                Some(DefaultRoute {
                    interface: link.name.clone(),
                    gateway: r.gateway,
                    source,
                    mtu: link.mtu,
                    metric: r.metric,
                })
            })
            .collect();
        routes.sort_by_key(|r| r.metric);
        routes
    }

    /// The default route that packets take, when there is one.
    pub fn default_route(&self) -> Option<DefaultRoute> {
        self.default_routes().into_iter().next()
    }
}
