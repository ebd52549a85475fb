//! Choosing a subnet that collides with nothing the host knows: routes, addresses, resolvers.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use seacow_spec::error::{Classified, ErrorClass};

use crate::host::HostNetwork;

/// A route this short is a default route in pieces (OpenVPN's `0.0.0.0/1` and `128.0.0.0/1`): it
/// names no network, and counting it would leave no subnet at all.
const DEFAULT_IN_PIECES: u8 = 8;

/// What a subnet collides with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// A route of the host.
    Route {
        /// Its destination.
        destination: Ipv4Net,
        /// Its interface.
        interface: Option<String>,
    },
    /// An address of the host.
    Address {
        /// Address and prefix length.
        address: Ipv4Net,
        /// Its interface.
        interface: String,
    },
    /// A DNS server of the host.
    Resolver {
        /// Its address.
        address: Ipv4Addr,
    },
    /// A network of this engine.
    Network {
        /// Its name.
        name: String,
        /// Its subnet.
        subnet: Ipv4Net,
    },
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route { destination, interface: Some(name) } => {
                write!(f, "the host's route to {destination} through interface {name}")
            }
            Self::Route { destination, interface: None } => write!(f, "the host's route to {destination}"),
            Self::Address { address, interface } => write!(f, "address {address} of interface {interface}"),
            Self::Resolver { address } => write!(f, "the host's DNS server {address}"),
            Self::Network { name, subnet } => write!(f, "network {name} ({subnet})"),
        }
    }
}

/// No subnet.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SubnetError {
    /// The wanted one is not free.
    #[error("subnet {subnet} overlaps with {other}")]
    Overlap {
        /// The wanted subnet.
        subnet: Ipv4Net,
        /// What is there already.
        other: Other,
    },
    /// None of the pool is free.
    #[error(
        "no free subnet: all of 172.17.0.0/16 to 172.31.0.0/16 and 192.168.0.0/16 overlap with the host's networks (the last with {last}); choose one explicitly"
    )]
    NoneFree {
        /// What the last candidate collided with.
        last: Other,
    },
}

impl Classified for SubnetError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Conflict
    }
}

/// What must not be collided with.
#[derive(Clone, Debug, Default)]
pub struct Taken<'a> {
    /// The host's network; `own` is the bridge whose own address and route do not count.
    pub host: Option<&'a HostNetwork>,
    /// The bridge that the subnet is for.
    pub own: &'a str,
    /// The host's DNS servers.
    pub resolvers: &'a [Ipv4Addr],
    /// Subnets of the engine's other networks, whether their bridges exist now or not.
    pub networks: &'a [(String, Ipv4Net)],
}

impl Taken<'_> {
    /// The first thing that `subnet` overlaps with.
    pub fn overlap(&self, subnet: Ipv4Net) -> Option<Other> {
        self.with_network(subnet).or_else(|| self.with_host(subnet)).or_else(|| {
            let resolver = self.resolvers.iter().find(|r| subnet.contains(*r))?;
            Some(Other::Resolver { address: *resolver })
        })
    }

    fn with_network(&self, subnet: Ipv4Net) -> Option<Other> {
        let (name, subnet) = self.networks.iter().find(|(_, other)| overlap(*other, subnet))?;
        Some(Other::Network { name: name.clone(), subnet: *subnet })
    }

    fn with_host(&self, subnet: Ipv4Net) -> Option<Other> {
        let host = self.host?;
        let own = host.links.iter().find(|l| l.name == self.own).map(|l| l.index);
        let address = host.addresses.iter().find(|a| Some(a.link) != own && overlap(a.net, subnet));
        if let Some(found) = address {
            return Some(Other::Address { address: found.net, interface: host.link_name(found.link) });
        }
        let route = host.foreign_routes().find(|r| {
            r.destination.prefix_len() >= DEFAULT_IN_PIECES
                && (own.is_none() || r.link != own)
                && overlap(r.destination, subnet)
        })?;
        Some(Other::Route {
            destination: route.destination,
            interface: route.link.map(|index| host.link_name(index)),
        })
    }
}

/// Two networks overlap exactly when one contains the other's first address.
fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// The wanted (stored or configured) subnet when nothing collides with it, otherwise an error that
/// names the other; without a wish the first free one of [`pool`].
pub fn choose(wanted: Option<Ipv4Net>, taken: &Taken<'_>) -> Result<Ipv4Net, SubnetError> {
    if let Some(subnet) = wanted {
        return match taken.overlap(subnet) {
            Some(other) => Err(SubnetError::Overlap { subnet, other }),
            None => Ok(subnet.trunc()),
        };
    }
    let mut last = Other::Resolver { address: Ipv4Addr::UNSPECIFIED };
    for subnet in pool() {
        match taken.overlap(subnet) {
            Some(other) => last = other,
            None => return Ok(subnet),
        }
    }
    Err(SubnetError::NoneFree { last })
}

/// Docker's default pools in Docker's order: 172.17–31.0.0/16, then 192.168.0.0/16 in pieces of /20.
pub fn pool() -> impl Iterator<Item = Ipv4Net> {
    let large = (17..=31u8).map(|b| (Ipv4Addr::new(172, b, 0, 0), 16));
    let small = (0..16u8).map(|c| (Ipv4Addr::new(192, 168, c * 16, 0), 20));
    large.chain(small).map(|(address, prefix)| Ipv4Net::new_assert(address, prefix))
}

/// The address that the bridge gets when nothing else is said: the subnet's first.
pub fn default_gateway(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Address, Link, Route};

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            kind: None,
            up: true,
            running: true,
            mtu: 1500,
            mac: None,
            master: None,
            alias: None,
            port_state: None,
        }
    }

    fn route(destination: &str, link: u32) -> Route {
        Route {
            destination: net(destination),
            gateway: None,
            link: Some(link),
            table: 254,
            metric: 0,
            unicast: true,
        }
    }

    fn laptop() -> HostNetwork {
        HostNetwork {
            links: vec![link(2, "eth0"), link(3, "docker0"), link(4, "tun0"), link(5, "seacow0")],
            addresses: vec![
                Address { link: 2, net: net("192.168.1.7/24") },
                Address { link: 3, net: net("172.17.0.1/16") },
            ],
            routes: vec![
                route("0.0.0.0/0", 2),
                route("0.0.0.0/1", 4),
                route("128.0.0.0/1", 4),
                route("172.18.128.0/20", 4),
                route("172.17.0.0/16", 3),
            ],
        }
    }

    #[test]
    fn avoids_docker_a_vpn_and_the_resolver() {
        let host = laptop();
        let resolvers = [Ipv4Addr::new(172, 19, 4, 4)];
        let networks = [("other".to_owned(), net("172.20.0.0/16"))];
        let taken = Taken { host: Some(&host), own: "seacow0", resolvers: &resolvers, networks: &networks };
        assert_eq!(choose(None, &taken), Ok(net("172.21.0.0/16")));
        let text = |wanted: &str| choose(Some(net(wanted)), &taken).unwrap_err().to_string();
        assert_eq!(
            text("172.17.0.0/16"),
            "subnet 172.17.0.0/16 overlaps with address 172.17.0.1/16 of interface docker0"
        );
        assert_eq!(
            text("172.18.0.0/16"),
            "subnet 172.18.0.0/16 overlaps with the host's route to 172.18.128.0/20 through interface tun0"
        );
        assert_eq!(
            text("172.19.4.0/24"),
            "subnet 172.19.4.0/24 overlaps with the host's DNS server 172.19.4.4"
        );
        assert_eq!(text("172.20.1.0/24"), "subnet 172.20.1.0/24 overlaps with network other (172.20.0.0/16)");
    }

    #[test]
    fn the_own_bridge_is_no_collision() {
        let mut host = laptop();
        host.addresses.push(Address { link: 5, net: net("172.21.0.1/16") });
        host.routes.push(route("172.21.0.0/16", 5));
        let taken = Taken { host: Some(&host), own: "seacow0", ..Taken::default() };
        assert_eq!(choose(Some(net("172.21.0.0/16")), &taken), Ok(net("172.21.0.0/16")));
        let other = Taken { own: "seacow1", ..taken };
        assert!(choose(Some(net("172.21.0.0/16")), &other).is_err());
    }

    #[test]
    fn a_full_house_says_so_and_the_small_pool_comes_second() {
        let mut host = HostNetwork { links: vec![link(2, "eth0")], ..HostNetwork::default() };
        host.routes.push(route("172.16.0.0/12", 2));
        host.routes.push(route("192.168.0.0/20", 2));
        let resolvers = [Ipv4Addr::new(192, 168, 17, 1)];
        let taken = Taken { host: Some(&host), own: "seacow0", resolvers: &resolvers, networks: &[] };
        assert_eq!(choose(None, &taken), Ok(net("192.168.32.0/20")));
        let mut full = host.clone();
        full.routes.push(route("192.168.0.0/16", 2));
        let taken = Taken { host: Some(&full), ..taken };
        assert!(matches!(choose(None, &taken), Err(SubnetError::NoneFree { .. })));
    }

    #[test]
    fn pool_is_disjoint() {
        let all: Vec<_> = pool().collect();
        assert_eq!(all.len(), 31);
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| !overlap(*a, *b)));
        }
        assert_eq!(default_gateway(all[0]), Ipv4Addr::new(172, 17, 0, 1));
    }
}
