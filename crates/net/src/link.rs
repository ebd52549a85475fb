//! Link requests, and the readers of what rtnetlink lists.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use seacow_sys::netlink::route::link_header;
use seacow_sys::netlink::{self, Attribute, Batch, Protocol, Socket, attributes};

use crate::mac::Mac;

pub(crate) const IFF_UP: u32 = 1;
const IF_OPER_UP: u8 = 6;
pub(crate) const CREATE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

/// if_link.h: attributes that libc does not name.
pub(crate) mod ifla {
    pub(crate) const INFO_SLAVE_KIND: u16 = 4;
    pub(crate) const INFO_SLAVE_DATA: u16 = 5;
    pub(crate) const BRPORT_STATE: u16 = 1;
    pub(crate) const BRPORT_MODE: u16 = 4;
    pub(crate) const BRPORT_ISOLATED: u16 = 33;
    pub(crate) const VETH_INFO_PEER: u16 = 1;
    pub(crate) const AF_INET6: u16 = 10;
    pub(crate) const INET6_ADDR_GEN_MODE: u16 = 8;
    pub(crate) const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Kernel index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind (`bridge`, `veth`, …); physical devices and loopback have none.
    pub kind: Option<String>,
    /// Administratively up.
    pub up: bool,
    /// Has its carrier, and the kernel has acted on it (operstate UP): packets are sent, not dropped.
    /// Links that know no carrier, such as loopback, never say so.
    pub running: bool,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Ethernet address.
    pub mac: Option<Mac>,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Free text kept by the kernel.
    pub alias: Option<String>,
    /// Bridge port state (3: forwarding), when it is a port.
    pub port_state: Option<u8>,
}

/// An IPv4 address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface.
    pub link: u32,
    /// Address with its prefix length.
    pub net: Ipv4Net,
}

/// An IPv4 route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination; `0.0.0.0/0` is the default route.
    pub destination: Ipv4Net,
    /// Next hop.
    pub gateway: Option<Ipv4Addr>,
    /// Index of the outgoing interface.
    pub link: Option<u32>,
    /// Routing table.
    pub table: u32,
    /// Metric; the smallest wins.
    pub metric: u32,
    /// A route that packets can take (unicast), or one that refuses them (blackhole, …).
    pub unicast: bool,
}

/// How often a list that changed while being read is asked for again.
const DUMP_TRIES: u32 = 8;

/// Lists something, again when it changed meanwhile. The last try takes what came: on a machine
/// that starts containers all the time a torn list is better than none.
pub(crate) fn dump<T>(
    step: &str,
    kind: u16,
    header: &[u8],
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, netlink::Error> {
    let mut socket = Socket::open(Protocol::Route)?;
    for attempt in 1.. {
        let mut found = Vec::new();
        let listed = socket.dump(
            step,
            kind,
            |m| {
                m.header(header);
            },
            |_, payload| found.extend(parse(payload)),
        );
        match listed {
            Err(netlink::Error::DumpInterrupted { .. }) if attempt < DUMP_TRIES => {}
            Err(netlink::Error::DumpInterrupted { .. }) | Ok(()) => return Ok(found),
            Err(error) => return Err(error),
        }
    }
    Ok(Vec::new())
}

pub(crate) fn links() -> Result<Vec<Link>, netlink::Error> {
    dump("list links", libc::RTM_GETLINK, &[0; 16], parse_link)
}

pub(crate) fn addresses() -> Result<Vec<Address>, netlink::Error> {
    dump("list addresses", libc::RTM_GETADDR, &[AF_INET, 0, 0, 0, 0, 0, 0, 0], parse_address)
}

pub(crate) fn routes() -> Result<Vec<Route>, netlink::Error> {
    dump("list routes", libc::RTM_GETROUTE, &[AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], parse_route)
}

/// The link of this name, or `None`.
pub(crate) fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>, netlink::Error> {
    let mut batch = Batch::new();
    get_by_name(&mut batch, name);
    Ok(get(socket, &batch)?.pop())
}

/// Adds the question for a link by name.
pub(crate) fn get_by_name(batch: &mut Batch, name: &str) {
    batch.request(format!("look up link {name}"), libc::RTM_GETLINK, 0, |m| {
        link_header(m, 0, 0, 0).attr_text(libc::IFLA_IFNAME, name);
    });
}

/// Adds the question for a link by index.
pub(crate) fn get_by_index(batch: &mut Batch, index: u32) {
    batch.request(format!("look up link {index}"), libc::RTM_GETLINK, 0, |m| {
        link_header(m, index, 0, 0);
    });
}

/// The links asked for; none at all when one of them does not exist.
pub(crate) fn get(socket: &mut Socket, questions: &Batch) -> Result<Vec<Link>, netlink::Error> {
    match socket.transact(questions) {
        Ok(replies) => Ok(replies.iter().filter_map(|r| parse_link(&r.payload)).collect()),
        Err(error) if error.errno() == Some(seacow_sys::Errno::NODEV) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Deletes a link. Waits 30 to 40 ms for the kernel: never on the way of a container's start or
/// exit.
pub(crate) fn delete(socket: &mut Socket, name: &str) -> Result<(), netlink::Error> {
    let mut batch = Batch::new();
    batch.request(format!("delete link {name}"), libc::RTM_DELLINK, 0, |m| {
        link_header(m, 0, 0, 0).attr_text(libc::IFLA_IFNAME, name);
    });
    socket.transact(&batch).map(drop)
}

const AF_INET: u8 = 2;

fn parse_link(payload: &[u8]) -> Option<Link> {
    let index = word(payload, 4)?;
    let up = word(payload, 8)? & IFF_UP != 0;
    let mut link = Link {
        index,
        name: String::new(),
        kind: None,
        up,
        running: false,
        mtu: 0,
        mac: None,
        master: None,
        alias: None,
        port_state: None,
    };
    for attribute in attributes(payload.get(16..)?) {
        match attribute.kind {
            libc::IFLA_IFNAME => link.name = attribute.text()?.to_owned(),
            libc::IFLA_OPERSTATE => link.running = attribute.value.first() == Some(&IF_OPER_UP),
            libc::IFLA_MTU => link.mtu = attribute.u32()?,
            libc::IFLA_ADDRESS => link.mac = attribute.value.try_into().ok().map(Mac::new),
            libc::IFLA_MASTER => link.master = attribute.u32(),
            libc::IFLA_IFALIAS => link.alias = attribute.text().map(str::to_owned),
            libc::IFLA_LINKINFO => parse_info(&mut link, &attribute),
            _ => {}
        }
    }
    Some(link)
}

fn parse_info(link: &mut Link, info: &Attribute<'_>) {
    for attribute in info.nested() {
        match attribute.kind {
            libc::IFLA_INFO_KIND => link.kind = attribute.text().map(str::to_owned),
            ifla::INFO_SLAVE_DATA => {
                link.port_state =
                    attribute.nested().find_kind(ifla::BRPORT_STATE).and_then(|a| a.value.first().copied());
            }
            _ => {}
        }
    }
}

fn parse_address(payload: &[u8]) -> Option<Address> {
    (*payload.first()? == AF_INET).then_some(())?;
    let prefix = *payload.get(1)?;
    let found = attributes(payload.get(8..)?);
    // LOCAL is the interface's own address; ADDRESS is the peer's on point-to-point links.
    let own = found.clone().find_kind(libc::IFA_LOCAL).or(found.find_kind(libc::IFA_ADDRESS))?;
    Some(Address { link: word(payload, 4)?, net: Ipv4Net::new(ipv4(&own)?, prefix).ok()? })
}

fn parse_route(payload: &[u8]) -> Option<Route> {
    (*payload.first()? == AF_INET).then_some(())?;
    let prefix = *payload.get(1)?;
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut route = Route {
        destination: Ipv4Net::default(),
        gateway: None,
        link: None,
        table: u32::from(*payload.get(4)?),
        metric: 0,
        unicast: *payload.get(7)? == libc::RTN_UNICAST,
    };
    for attribute in attributes(payload.get(12..)?) {
        match attribute.kind {
            libc::RTA_DST => destination = ipv4(&attribute)?,
            libc::RTA_GATEWAY => route.gateway = ipv4(&attribute),
            libc::RTA_OIF => route.link = attribute.u32(),
            libc::RTA_TABLE => route.table = attribute.u32()?,
            libc::RTA_PRIORITY => route.metric = attribute.u32()?,
            libc::RTA_MULTIPATH => first_hop(&mut route, attribute.value),
            _ => {}
        }
    }
    route.destination = Ipv4Net::new(destination, prefix).ok()?;
    Some(route)
}

/// The first next hop of a route over several (rtnexthop: length, flags, hops, index).
fn first_hop(route: &mut Route, hops: &[u8]) {
    route.link = word(hops, 4);
    let len = hops.get(..2).map_or(0, |b| usize::from(u16::from_ne_bytes([b[0], b[1]])));
    route.gateway =
        hops.get(8..len).and_then(|b| attributes(b).find_kind(libc::RTA_GATEWAY)).and_then(|a| ipv4(&a));
}

fn ipv4(attribute: &Attribute<'_>) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(attribute.value).ok().map(Ipv4Addr::from)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_take_any_bytes() {
        for len in 0..64 {
            for fill in [0u8, 2, 4, 12, 255] {
                let bytes = vec![fill; len];
                let _ = (parse_link(&bytes), parse_address(&bytes), parse_route(&bytes));
            }
        }
    }

    #[test]
    fn the_loopback_has_an_address_and_no_kind() {
        let links = links().unwrap();
        let lo = links.iter().find(|l| l.name == "lo").unwrap();
        assert_eq!((lo.index, lo.kind.as_deref()), (1, None));
        assert_eq!(find(&mut Socket::open(Protocol::Route).unwrap(), "lo").unwrap().as_ref(), Some(lo));
        assert_eq!(find(&mut Socket::open(Protocol::Route).unwrap(), "seacow-none").unwrap(), None);
        addresses().unwrap();
        routes().unwrap();
    }
}
