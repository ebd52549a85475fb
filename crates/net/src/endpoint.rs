//! A container's veth pair: one message makes both ends, the inner one born in the container's
//! namespace; a second one in the same send raises the host's end.
//!
//! Traps, each measured: *moving* a device between namespaces or *deleting* one waits for an RCU
//! grace period (31 to 37 ms), so neither happens here; the kernel removes the pair with the
//! namespace. IFF_UP on the inner end inside the create message fails with ENOTCONN, so the
//! container's init raises it.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use seacow_spec::error::{Classified, ErrorClass};
use seacow_spec::id::ContainerId;
use seacow_sys::Errno;
use seacow_sys::netlink::route::link_header;
use seacow_sys::netlink::{self, Batch, Payload, Protocol, Socket};

use crate::link::{self, CREATE, IFF_UP, ifla};
use crate::mac::Mac;

/// Linux's limit: IFNAMSIZ with its terminating zero.
pub const MAX_IFNAME: usize = 15;
/// What every host end's name starts with.
pub const HOST_PREFIX: &str = "sc";

/// Containers that one bridge can have: the kernel numbers its ports with 10 bits, from 1
/// (`BR_MAX_PORTS` in net/bridge).
pub const MAX_PORTS: usize = 1023;

/// How a container is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Name inside the container, `eth0`.
    pub ifname: String,
    /// Name of the host's end, see [`host_ifname`].
    pub host_ifname: String,
    /// Link-layer address inside the container.
    pub mac: Mac,
    /// Largest packet; `None` takes the bridge's.
    pub mtu: Option<u32>,
}

/// The namespace that gets the inner end.
#[derive(Clone, Copy, Debug)]
pub enum Netns<'a> {
    /// That of a process. The caller knows that it is not reaped (its shim waits for the start).
    Pid(u32),
    /// A descriptor of `/proc/PID/ns/net`.
    Fd(BorrowedFd<'a>),
}

/// A container could not be connected.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// A name that the kernel would not take, or that would hide another.
    #[error("invalid interface name {name:?}: 1 to 15 characters without '/', ':' and white space")]
    Name {
        /// The name.
        name: String,
    },
    /// The host end exists already.
    #[error("host interface {name} exists already")]
    Exists {
        /// The host end's name.
        name: String,
        /// The kernel's answer.
        source: netlink::Error,
    },
    /// The process, its namespace or the bridge is gone.
    #[error("connect {name}: the container's process or the bridge is gone")]
    Gone {
        /// The host end's name.
        name: String,
        /// The kernel's answer.
        source: netlink::Error,
    },
    /// All ports of the bridge are taken.
    #[error(
        "connect {name}: the bridge has no port left: Linux gives a bridge {MAX_PORTS}, and every container \
         on it takes one, prepared ones too; connect containers to another network"
    )]
    Full {
        /// The host end's name.
        name: String,
        /// The kernel's answer.
        source: netlink::Error,
    },
    /// Anything else that the kernel refuses.
    #[error("connect {name}")]
    Link {
        /// The host end's name.
        name: String,
        /// The kernel's answer.
        source: netlink::Error,
    },
    /// The bridge does not forward for it.
    #[error("bridge port {name} is not forwarding after {waited:?}: its other end is down")]
    NotForwarding {
        /// The host end's name.
        name: String,
        /// How long it was given.
        waited: Duration,
    },
}

impl Classified for EndpointError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Name { .. } => ErrorClass::InvalidArgument,
            Self::Exists { .. } | Self::Gone { .. } => ErrorClass::Conflict,
            Self::Full { .. } | Self::NotForwarding { .. } => ErrorClass::Unavailable,
            Self::Link { .. } => ErrorClass::Internal,
        }
    }
}

/// A connected container, seen from the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the host's end.
    pub host_ifname: String,
    /// Index of its bridge.
    pub bridge: u32,
}

/// The host end's name: `sc` and the id's first 12 digits, 14 characters.
pub fn host_ifname(id: &ContainerId) -> String {
    format!("{HOST_PREFIX}{}", id.short())
}

/// A name that the kernel takes for an interface (`dev_valid_name`) and that needs no escaping.
pub fn valid_ifname(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_IFNAME
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%' | b'"' | b'*' | b'+'))
}

/// The bridge's side of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    /// The bridge's index.
    pub(crate) bridge: u32,
    /// The bridge's largest packet.
    pub(crate) mtu: u32,
    /// Whether the kernel has IPv6, which must then be told to keep off the host's end.
    pub(crate) ipv6: bool,
    /// Whether its ports reach the bridge only, not each other.
    pub(crate) isolated: bool,
}

/// Makes the pair: host end up and a port of the bridge, inner end down in `netns`.
pub(crate) fn connect(
    netns: Netns<'_>,
    config: &EndpointConfig,
    port: Port,
) -> Result<Endpoint, EndpointError> {
    for name in [&config.ifname, &config.host_ifname] {
        if !valid_ifname(name) {
            return Err(EndpointError::Name { name: name.clone() });
        }
    }
    let name = config.host_ifname.clone();
    let raise = format!("raise veth {name}");
    let mut batch = Batch::new();
    batch.request(format!("create veth {name}"), libc::RTM_NEWLINK, CREATE, |m| {
        write_pair(m, netns, config, port);
    });
    batch.request(raise.clone(), libc::RTM_NEWLINK, 0, |m| {
        write_raise(m, &name, port);
    });
    let mut socket =
        Socket::open(Protocol::Route).map_err(|source| EndpointError::Link { name: name.clone(), source })?;
    match socket.transact(&batch) {
        Ok(_) => Ok(Endpoint { host_ifname: name, bridge: port.bridge }),
        Err(source) => {
            // The kernel executes the second request even when the first was refused: only when
            // raising is what failed first is the pair there, and ours.
            if matches!(&source, netlink::Error::Refused { step, .. } if *step == raise) {
                let _ = link::delete(&mut socket, &name);
            }
            Err(refused(name, source))
        }
    }
}

fn refused(name: String, source: netlink::Error) -> EndpointError {
    match source.errno() {
        Some(Errno::EXIST) => EndpointError::Exists { name, source },
        Some(Errno::SRCH | Errno::NODEV | Errno::NXIO) => EndpointError::Gone { name, source },
        Some(Errno::XFULL) => EndpointError::Full { name, source },
        _ => EndpointError::Link { name, source },
    }
}

/// Up, and without an IPv6 link-local address: it would be announced into the container, whose
/// start it costs a duplicate address detection and multicast reports.
fn write_raise(m: &mut Payload<'_>, name: &str, port: Port) {
    link_header(m, 0, IFF_UP, IFF_UP).attr_text(libc::IFLA_IFNAME, name);
    if port.isolated {
        write_port_switch(m, ifla::BRPORT_ISOLATED);
    }
    if port.ipv6 {
        m.nested(libc::IFLA_AF_SPEC, |m| {
            m.nested(ifla::AF_INET6, |m| {
                m.attr_u8(ifla::INET6_ADDR_GEN_MODE, ifla::IN6_ADDR_GEN_MODE_NONE);
            });
        });
    }
}

/// Turns a switch of a bridge's port on.
fn write_port_switch(m: &mut Payload<'_>, switch: u16) {
    m.nested(libc::IFLA_LINKINFO, |m| {
        m.attr_text(ifla::INFO_SLAVE_KIND, "bridge").nested(ifla::INFO_SLAVE_DATA, |m| {
            m.attr_u8(switch, 1);
        });
    });
}

fn write_pair(m: &mut Payload<'_>, netns: Netns<'_>, config: &EndpointConfig, port: Port) {
    link_header(m, 0, 0, 0).attr_text(libc::IFLA_IFNAME, &config.host_ifname);
    let mtu = config.mtu.unwrap_or(port.mtu);
    m.attr_u32(libc::IFLA_MASTER, port.bridge);
    common(m, mtu);
    m.nested_plain(libc::IFLA_LINKINFO, |m| {
        m.attr_text(libc::IFLA_INFO_KIND, "veth").nested_plain(libc::IFLA_INFO_DATA, |m| {
            m.nested_plain(ifla::VETH_INFO_PEER, |m| {
                link_header(m, 0, 0, 0).attr_text(libc::IFLA_IFNAME, &config.ifname);
                m.attr(libc::IFLA_ADDRESS, &config.mac.octets());
                common(m, mtu);
                match netns {
                    Netns::Pid(pid) => m.attr_u32(libc::IFLA_NET_NS_PID, pid),
                    Netns::Fd(fd) => m.attr(libc::IFLA_NET_NS_FD, &fd.as_raw_fd().to_ne_bytes()),
                };
            });
        });
    });
}

/// One queue each way: the kernel's default is one per processor, which a veth without qdisc does
/// not use and which costs a kobject each.
fn common(m: &mut Payload<'_>, mtu: u32) {
    m.attr_u32(libc::IFLA_NUM_TX_QUEUES, 1).attr_u32(libc::IFLA_NUM_RX_QUEUES, 1);
    m.attr_u32(libc::IFLA_MTU, mtu);
}

impl Endpoint {
    /// Whether packets pass between the container and its bridge. They do a moment after the inner
    /// end went up, when the kernel's link watch (a work queue) has set the port forwarding and, if
    /// it is the bridge's first, has raised the bridge's own carrier. A packet sent before is lost
    /// and, being an ARP request or a SYN, is repeated a full second later.
    pub fn is_forwarding(&self) -> Result<bool, EndpointError> {
        const BR_STATE_FORWARDING: u8 = 3;
        let mut questions = Batch::new();
        link::get_by_name(&mut questions, &self.host_ifname);
        link::get_by_index(&mut questions, self.bridge);
        let found = Socket::open(Protocol::Route)
            .and_then(|mut s| link::get(&mut s, &questions))
            .map_err(|source| EndpointError::Link { name: self.host_ifname.clone(), source })?;
        let [port, bridge] = &found[..] else { return Ok(false) };
        Ok(port.running && port.port_state == Some(BR_STATE_FORWARDING) && bridge.running)
    }

    /// Waits until the bridge forwards, at most this long.
    pub fn wait_forwarding(&self, limit: Duration) -> Result<(), EndpointError> {
        const STEP: Duration = Duration::from_micros(100);
        let begin = Instant::now();
        while !self.is_forwarding()? {
            if begin.elapsed() >= limit {
                return Err(EndpointError::NotForwarding { name: self.host_ifname.clone(), waited: limit });
            }
            thread::sleep(STEP);
        }
        Ok(())
    }

    /// Lets the bridge send a packet back to the port that it came from, which a container needs that
    /// calls its own published port, where nftables see what bridges pass (`br_netfilter`): elsewhere
    /// such a packet is routed and needs nothing.
    pub fn reflect(&self) -> Result<(), EndpointError> {
        let seen = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
        if !seen.is_ok_and(|value| value.trim() == "1") {
            return Ok(());
        }
        let name = &self.host_ifname;
        let mut batch = Batch::new();
        batch.request(format!("let the bridge reflect to {name}"), libc::RTM_NEWLINK, 0, |m| {
            link_header(m, 0, 0, 0).attr_text(libc::IFLA_IFNAME, name);
            write_port_switch(m, ifla::BRPORT_MODE);
        });
        let sent = Socket::open(Protocol::Route).and_then(|mut socket| socket.transact(&batch));
        sent.map(drop).map_err(|source| EndpointError::Link { name: name.clone(), source })
    }

    /// Takes the pair away from a living container (`network disconnect`). Costs 30 to 40 ms; a
    /// container that ends needs no such call. A pair that is gone already is no error.
    pub fn disconnect(&self) -> Result<(), EndpointError> {
        let name = &self.host_ifname;
        match Socket::open(Protocol::Route).and_then(|mut s| link::delete(&mut s, name)) {
            Err(source) if source.errno() != Some(Errno::NODEV) => {
                Err(EndpointError::Link { name: name.clone(), source })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let id: ContainerId = "3f2a".repeat(16).parse().unwrap();
        assert_eq!(host_ifname(&id), "sc3f2a3f2a3f2a");
        assert!(valid_ifname(&host_ifname(&id)));
        for bad in ["", ".", "..", "a/b", "eth0:1", "a b", "eth%d", "0123456789abcdef", "é", "a\0b"] {
            assert!(!valid_ifname(bad), "{bad:?}");
        }
    }
}
