//! The bridge of a network: made or adopted, given its address, its switches and its table.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use seacow_spec::error::{Classified, ErrorClass};
use seacow_sys::Errno;
use seacow_sys::netlink::route::{address_add, link_header};
use seacow_sys::netlink::{self, Batch, Protocol, Socket};

use crate::endpoint::{
    self, Endpoint, EndpointConfig, EndpointError, HOST_PREFIX, Netns, Port, valid_ifname,
};
use crate::host::{HostNetwork, ReadError};
use crate::ipam::{Ipam, IpamError};
use crate::link::{self, CREATE, IFF_UP, Link};
use crate::mac::Mac;
use crate::nat::{self, NatError};
use crate::resolv;
use crate::subnet::{self, SubnetError, Taken};
use crate::sysctl::{self, Change, SysctlError};

/// What a bridge should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    /// Interface name; `seacow0` for the default network.
    pub name: String,
    /// Stored or configured subnet; `None` chooses a free one (or takes that of an existing bridge).
    pub subnet: Option<Ipv4Net>,
    /// The bridge's own address; `None` takes the subnet's first.
    pub gateway: Option<Ipv4Addr>,
    /// Largest packet in bytes; `None` leaves the kernel's 1500.
    pub mtu: Option<u32>,
    /// Name of the nftables table (family ip), which all networks of an engine share.
    pub table: String,
    /// Whether containers reach the outside under the host's address.
    pub masquerade: bool,
    /// Whether nothing leaves and nothing comes from beyond the bridge.
    pub internal: bool,
    /// Whether containers on it reach each other.
    pub icc: bool,
    /// Names and subnets of the engine's other networks.
    pub networks: Vec<(String, Ipv4Net)>,
}

impl BridgeConfig {
    /// A masquerading bridge of this name that chooses everything else by itself.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            name,
            subnet: None,
            gateway: None,
            mtu: None,
            table: DEFAULT_TABLE.to_owned(),
            masquerade: true,
            internal: false,
            icc: true,
            networks: Vec::new(),
        }
    }
}

/// Where nobody says otherwise.
pub const DEFAULT_TABLE: &str = "seacow";

/// The kernel keeps this text with every bridge that we made: what lacks it is not ours to delete.
const ALIAS: &str = "seacow bridge";

/// A bridge could not be made as wanted.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The name.
    #[error("invalid bridge name {name:?}: 1 to 15 characters without '/', ':' and white space")]
    Name {
        /// The name.
        name: String,
    },
    /// Something else has the name.
    #[error("interface {name} exists and is not a bridge ({kind}); choose another bridge name")]
    NotABridge {
        /// The name.
        name: String,
        /// What it is.
        kind: String,
    },
    /// The existing bridge has another address.
    #[error(
        "bridge {name} exists with address {found}, not {wanted}; delete it (ip link delete {name}) or choose another bridge name"
    )]
    AddressConflict {
        /// The bridge.
        name: String,
        /// What it has.
        found: Ipv4Net,
        /// What it should have.
        wanted: Ipv4Net,
    },
    /// No subnet.
    #[error(transparent)]
    Subnet(#[from] SubnetError),
    /// Subnet and gateway do not go together.
    #[error(transparent)]
    Range(#[from] IpamError),
    /// The host's network could not be read.
    #[error(transparent)]
    Host(#[from] ReadError),
    /// The kernel refuses a step.
    #[error("set up bridge {name}")]
    Link {
        /// The bridge.
        name: String,
        /// The kernel's answer, with the step.
        source: netlink::Error,
    },
    /// The firewall table.
    #[error(transparent)]
    Nat(#[from] NatError),
    /// A step failed, and undoing the earlier ones failed too.
    #[error("{first}; taking back bridge {name} failed too: {undo}")]
    Undo {
        /// The bridge.
        name: String,
        /// Why undoing failed.
        undo: netlink::Error,
        /// The failed step.
        #[source]
        first: Box<BridgeError>,
    },
}

impl Classified for BridgeError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Name { .. } => ErrorClass::InvalidArgument,
            Self::NotABridge { .. } | Self::AddressConflict { .. } => ErrorClass::Conflict,
            Self::Subnet(error) => error.class(),
            Self::Range(error) => error.class(),
            Self::Host(error) => error.class(),
            Self::Nat(error) => error.class(),
            Self::Link { source, .. } if source.errno() == Some(Errno::PERM) => ErrorClass::Forbidden,
            Self::Link { .. } => ErrorClass::Internal,
            Self::Undo { first, .. } => first.class(),
        }
    }
}

/// A bridge that is up, with address and table.
#[derive(Debug)]
pub struct Bridge {
    name: String,
    table: String,
    port: Port,
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
    changes: Vec<Change>,
    problems: Vec<SysctlError>,
}

impl Bridge {
    /// Makes the bridge, or adopts the existing one of this name. Repeating it changes nothing.
    pub fn ensure(config: &BridgeConfig) -> Result<Self, BridgeError> {
        if !valid_ifname(&config.name) {
            return Err(BridgeError::Name { name: config.name.clone() });
        }
        let host = HostNetwork::read()?;
        let existing = host.links.iter().find(|l| l.name == config.name);
        if let Some(link) = existing.filter(|l| l.kind.as_deref() != Some("bridge")) {
            let kind = link.kind.clone().unwrap_or_else(|| "device".to_owned());
            return Err(BridgeError::NotABridge { name: config.name.clone(), kind });
        }
        let plan = Plan::of(config, &host, existing)?;
        match existing {
            Some(link) => plan.finish(link),
            None => plan.create(),
        }
    }

    /// Interface name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its subnet: store it, and pass it as [`BridgeConfig::subnet`] next time.
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// Its own address, the containers' default route.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// The kernel's number of it.
    pub fn index(&self) -> u32 {
        self.port.bridge
    }

    /// Largest packet, in bytes.
    pub fn mtu(&self) -> u32 {
        self.port.mtu
    }

    /// Its nftables table.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Kernel switches of the host that were changed, to be told to the user.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Switches that could not be set (`/proc/sys` is read-only in many containers). Without
    /// forwarding, containers reach this host and each other only; [`crate::diagnose`] says so.
    pub fn problems(&self) -> &[SysctlError] {
        &self.problems
    }

    /// An empty address map of the subnet.
    pub fn ipam(&self) -> Result<Ipam, IpamError> {
        Ipam::new(self.subnet, self.gateway)
    }

    /// Gives the namespace of process `pid` an interface on this bridge. About 0.4 ms.
    pub fn connect(&self, pid: u32, config: &EndpointConfig) -> Result<Endpoint, EndpointError> {
        endpoint::connect(Netns::Pid(pid), config, self.port)
    }

    /// The same for a namespace given by descriptor.
    pub fn connect_netns(
        &self,
        netns: Netns<'_>,
        config: &EndpointConfig,
    ) -> Result<Endpoint, EndpointError> {
        endpoint::connect(netns, config, self.port)
    }

    /// Our host ends that are ports now, to compare with the containers that should have one.
    pub fn ports(&self) -> Result<Vec<Endpoint>, ReadError> {
        let ours = |l: &Link| l.master == Some(self.port.bridge) && l.name.starts_with(HOST_PREFIX);
        let links = link::links()?;
        Ok(links
            .into_iter()
            .filter(ours)
            .map(|l| Endpoint { host_ifname: l.name, bridge: self.port.bridge })
            .collect())
    }

    /// Removes its part of the table (the table with its last network), and the bridge when we made it. Forwarding stays on: others may need it.
    pub fn remove(&self) -> Result<(), Vec<BridgeError>> {
        remove(&self.name, &self.table)
    }
}

/// Removes a bridge that we made and its part of the table, whether they are there or not; goes on after a
/// failure and returns all of them.
pub fn remove(name: &str, table: &str) -> Result<(), Vec<BridgeError>> {
    let mut errors: Vec<BridgeError> =
        nat::Rules::remove(table, name).err().map(BridgeError::from).into_iter().collect();
    errors.extend(remove_link(name).err().map(|source| BridgeError::Link { name: name.to_owned(), source }));
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn remove_link(name: &str) -> Result<(), netlink::Error> {
    let mut socket = Socket::open(Protocol::Route)?;
    match link::find(&mut socket, name)? {
        Some(link) if link.alias.as_deref() == Some(ALIAS) => link::delete(&mut socket, name),
        _ => Ok(()),
    }
}

/// Whether the kernel has IPv6 at all (it may be booted with ipv6.disable=1).
fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6/conf").exists()
}

/// What was decided before anything is changed.
struct Plan<'a> {
    config: &'a BridgeConfig,
    /// The bridge's address with the subnet's prefix length.
    address: Ipv4Net,
    has_address: bool,
}

impl<'a> Plan<'a> {
    fn of(config: &'a BridgeConfig, host: &HostNetwork, link: Option<&Link>) -> Result<Self, BridgeError> {
        let found: Vec<Ipv4Net> = link
            .map(|l| host.addresses.iter().filter(|a| a.link == l.index).map(|a| a.net).collect())
            .unwrap_or_default();
        let adopted = found.first().copied();
        let resolvers = resolv::host_nameservers();
        let taken =
            Taken { host: Some(host), own: &config.name, resolvers: &resolvers, networks: &config.networks };
        let subnet = subnet::choose(config.subnet.or(adopted.map(|a| a.trunc())), &taken)?;
        let gateway = config.gateway.or_else(|| {
            // An adopted bridge keeps its address, be it the first of its subnet or not.
            adopted.filter(|a| a.trunc() == subnet).map(|a| a.addr())
        });
        let gateway = gateway.unwrap_or_else(|| subnet::default_gateway(subnet));
        Ipam::new(subnet, gateway)?;
        let address = Ipv4Net::new_assert(gateway, subnet.prefix_len());
        if let Some(other) = found.iter().find(|a| **a != address) {
            return Err(BridgeError::AddressConflict {
                name: config.name.clone(),
                found: *other,
                wanted: address,
            });
        }
        Ok(Self { config, address, has_address: !found.is_empty() })
    }

    fn name(&self) -> &str {
        &self.config.name
    }

    fn failed(&self, source: netlink::Error) -> BridgeError {
        BridgeError::Link { name: self.config.name.clone(), source }
    }

    /// Creates the link, then goes on as with an existing one; a failure deletes it again.
    fn create(&self) -> Result<Bridge, BridgeError> {
        let mut socket = Socket::open(Protocol::Route).map_err(|e| self.failed(e))?;
        let mut batch = Batch::new();
        batch.request(format!("create bridge {}", self.name()), libc::RTM_NEWLINK, CREATE, |m| {
            link_header(m, 0, 0, 0).attr_text(libc::IFLA_IFNAME, self.name());
            // Without an address of its own a bridge takes the lowest of its ports', which changes
            // as containers come and go, under everybody's ARP caches.
            m.attr(libc::IFLA_ADDRESS, &Mac::from_ipv4(self.address.addr()).octets());
            m.nested_plain(libc::IFLA_LINKINFO, |m| {
                m.attr_text(libc::IFLA_INFO_KIND, "bridge");
            });
        });
        batch.request(format!("mark bridge {}", self.name()), libc::RTM_NEWLINK, 0, |m| {
            link_header(m, 0, 0, 0).attr_text(libc::IFLA_IFNAME, self.name());
            m.attr(libc::IFLA_IFALIAS, ALIAS.as_bytes());
        });
        socket.transact(&batch).map_err(|e| self.failed(e))?;
        let found = link::find(&mut socket, self.name()).map_err(|e| self.failed(e));
        let made = found.and_then(|link| match link {
            Some(link) => self.finish(&link),
            None => Err(BridgeError::NotABridge { name: self.config.name.clone(), kind: "vanished".into() }),
        });
        made.map_err(|first| match link::delete(&mut socket, self.name()) {
            Ok(()) => first,
            Err(undo) => BridgeError::Undo { name: self.config.name.clone(), undo, first: Box::new(first) },
        })
    }

    /// IPv6 off, address, mtu, up, forwarding, table.
    fn finish(&self, link: &Link) -> Result<Bridge, BridgeError> {
        let mut problems: Vec<SysctlError> = self.no_ipv6().err().into_iter().collect();
        self.raise(link).map_err(|e| self.failed(e))?;
        let mut changes = Vec::new();
        match sysctl::ensure(sysctl::IP_FORWARD, "1") {
            Ok(change) => changes.extend(change),
            Err(error) => problems.push(error),
        }
        let subnet = self.address.trunc();
        if let Err(error) = self.route_localnet() {
            problems.push(error);
        }
        let rules = nat::Rules {
            table: self.config.table.clone(),
            bridge: self.config.name.clone(),
            subnet,
            masquerade: self.config.masquerade,
            internal: self.config.internal,
            icc: self.config.icc,
        };
        rules.apply()?;
        let mtu = self.config.mtu.unwrap_or(link.mtu);
        Ok(Bridge {
            name: self.config.name.clone(),
            table: self.config.table.clone(),
            port: Port { bridge: link.index, mtu, ipv6: has_ipv6(), isolated: !self.config.icc },
            subnet,
            gateway: self.address.addr(),
            changes,
            problems,
        })
    }

    /// No link-local address, and no router advertisement that a container might send to the
    /// host (CVE-2020-13401).
    fn no_ipv6(&self) -> Result<(), SysctlError> {
        if !has_ipv6() {
            return Ok(());
        }
        let key = format!("net.ipv6.conf.{}.disable_ipv6", self.name().replace('.', "/"));
        sysctl::ensure(&key, "1").map(drop)
    }

    /// Lets this host reach published ports by its loopback addresses; the table's chain `guard` keeps
    /// others from using it.
    fn route_localnet(&self) -> Result<(), SysctlError> {
        let key = format!("net.ipv4.conf.{}.route_localnet", self.name().replace('.', "/"));
        sysctl::ensure(&key, "1").map(drop)
    }

    fn raise(&self, link: &Link) -> Result<(), netlink::Error> {
        let mut batch = Batch::new();
        if !self.has_address {
            address_add(&mut batch, link.index, self.address.addr().into(), self.address.prefix_len());
        }
        batch.request(format!("raise bridge {}", self.name()), libc::RTM_NEWLINK, 0, |m| {
            link_header(m, link.index, IFF_UP, IFF_UP);
            if let Some(mtu) = self.config.mtu.filter(|mtu| *mtu != link.mtu) {
                m.attr_u32(libc::IFLA_MTU, mtu);
            }
        });
        Socket::open(Protocol::Route)?.transact(&batch).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_name_is_refused_before_anything_happens() {
        for bad in ["", "a/b", "seacow-with-a-long-name"] {
            assert!(matches!(Bridge::ensure(&BridgeConfig::new(bad)), Err(BridgeError::Name { .. })));
        }
    }
}
