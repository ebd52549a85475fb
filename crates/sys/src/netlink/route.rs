//! The few rtnetlink requests that a namespace needs from inside: links up, address, route.

use std::net::IpAddr;
use std::os::fd::AsFd;

use super::{Batch, Error, Payload, Protocol, Socket};

/// Writes an `ifinfomsg`.
pub fn link_header<'a, 'b>(
    m: &'a mut Payload<'b>,
    index: u32,
    flags: u32,
    change: u32,
) -> &'a mut Payload<'b> {
    let mut header = [0u8; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    m.header(&header)
}

const IFF_UP: u32 = 1;

/// Raises a link by index.
pub fn link_up(batch: &mut Batch, index: u32) {
    batch.request(format!("raise link {index}"), libc::RTM_NEWLINK, 0, |m| {
        link_header(m, index, IFF_UP, IFF_UP);
    });
}

/// Raises a link by name.
pub fn link_up_by_name(batch: &mut Batch, name: &str) {
    batch.request(format!("raise link {name}"), libc::RTM_NEWLINK, 0, |m| {
        link_header(m, 0, IFF_UP, IFF_UP).attr_text(libc::IFLA_IFNAME, name);
    });
}

/// Keeps the kernel from giving a link an IPv6 address of its own when it is raised. Refused by a
/// kernel without IPv6.
pub fn no_link_local(batch: &mut Batch, index: u32) {
    const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
    const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
    batch.request(format!("keep IPv6 off link {index}"), libc::RTM_NEWLINK, 0, |m| {
        link_header(m, index, 0, 0).nested(libc::IFLA_AF_SPEC, |m| {
            m.nested(u16::from(AF_INET6), |m| {
                m.attr_u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
            });
        });
    });
}

/// Adds an address with its prefix length to a link. An IPv6 address is usable at once (no
/// duplicate address detection: addresses come from our own pool).
pub fn address_add(batch: &mut Batch, link: u32, address: IpAddr, prefix: u8) {
    const IFA_F_NODAD: u8 = 2;
    let (family, flags) = match address {
        IpAddr::V4(_) => (AF_INET, 0),
        IpAddr::V6(_) => (AF_INET6, IFA_F_NODAD),
    };
    let what = format!("add address {address}/{prefix}");
    batch.request(what, libc::RTM_NEWADDR, CREATE_EXCLUSIVELY, |m| {
        let index = link.to_ne_bytes();
        m.header(&[family, prefix, flags, 0, index[0], index[1], index[2], index[3]]);
        octets(m, libc::IFA_LOCAL, address);
        octets(m, libc::IFA_ADDRESS, address);
        if let IpAddr::V4(v4) = address
            && prefix < 31
        {
            let broadcast = u32::from(v4) | u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            m.attr(libc::IFA_BROADCAST, &broadcast.to_be_bytes());
        }
    });
}

/// Adds a route to `destination` (`None`: default) by a gateway, or on the link when `gateway` is
/// `None`.
pub fn route_add(batch: &mut Batch, link: u32, destination: Option<(IpAddr, u8)>, gateway: Option<IpAddr>) {
    let what = match (destination, gateway) {
        (Some((net, prefix)), Some(via)) => format!("add route {net}/{prefix} via {via}"),
        (Some((net, prefix)), None) => format!("add route {net}/{prefix}"),
        (None, Some(via)) => format!("add default route via {via}"),
        (None, None) => "add default route".to_owned(),
    };
    let v6 = destination.map(|(net, _)| net).or(gateway).is_some_and(|a| a.is_ipv6());
    batch.request(what, libc::RTM_NEWROUTE, CREATE_EXCLUSIVELY, |m| {
        let scope = if gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
        let mut header = [0u8; 12];
        header[0] = if v6 { AF_INET6 } else { AF_INET };
        header[1] = destination.map_or(0, |(_, prefix)| prefix);
        header[4] = libc::RT_TABLE_MAIN;
        header[5] = libc::RTPROT_BOOT;
        header[6] = scope;
        header[7] = libc::RTN_UNICAST;
        m.header(&header);
        if let Some((net, _)) = destination {
            octets(m, libc::RTA_DST, net);
        }
        if let Some(via) = gateway {
            octets(m, libc::RTA_GATEWAY, via);
        }
        m.attr_u32(libc::RTA_OIF, link);
    });
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const CREATE_EXCLUSIVELY: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;

fn octets(m: &mut Payload<'_>, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(a) => m.attr(kind, &a.octets()),
        IpAddr::V6(a) => m.attr(kind, &a.octets()),
    };
}

/// Index of the loopback device: always the first of a namespace.
const LOOPBACK: u32 = 1;

/// Raises the loopback of the calling thread's network namespace.
pub fn raise_loopback() -> Result<(), Error> {
    let mut batch = Batch::new();
    link_up(&mut batch, LOOPBACK);
    Socket::open(Protocol::Route)?.transact(&batch).map(drop)
}

/// Raises a link of the calling thread's network namespace and gives it its address and the default
/// route: one message, one wait.
///
/// Without an IPv6 address that nobody asked for, as Docker has it: each would be announced by half a
/// dozen multicast packets, of which every other container on the bridge gets a copy: among a thousand
/// of them a start took 29 ms instead of 16.
pub fn raise(name: &str, address: IpAddr, prefix: u8, gateway: Option<IpAddr>) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Route)?;
    let index = rustix::net::netdevice::name_to_index(socket.as_fd(), name)
        .map_err(|errno| Error::Refused { step: format!("find interface {name}"), text: None, errno })?;
    let mut before = Batch::new();
    no_link_local(&mut before, index);
    // A kernel that refuses has no IPv6.
    let _ = socket.transact(&before);
    let mut batch = Batch::new();
    link_up(&mut batch, index);
    address_add(&mut batch, index, address, prefix);
    if let Some(gateway) = gateway {
        route_add(&mut batch, index, None, Some(gateway));
    }
    socket.transact(&batch).map(drop)
}
