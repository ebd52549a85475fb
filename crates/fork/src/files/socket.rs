//! Sockets: listening ones, unconnected ones, pairs within the process.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use seacow_sys::netlink::{self, Protocol};
use seacow_sys::ns::{self, Kinds};
use seacow_sys::socket::{self, End};

use super::{Looked, What};
use crate::error::{Error, Result};
use crate::procfs::open_link;
use crate::reason::Descriptor;

/// A socket that is not connected.
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    pub(crate) domain: i32,
    pub(crate) kind: i32,
    pub(crate) protocol: i32,
    /// What it is bound to.
    pub(crate) bound: Option<Address>,
    /// It listens, with a queue of this length.
    pub(crate) backlog: Option<u32>,
    /// Options that differ from a new socket's: level, name, value.
    pub(crate) options: Vec<(i32, i32, i32)>,
}

/// An own address.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// As bind takes it.
    pub(crate) raw: Vec<u8>,
    /// The file of a Unix socket with a path.
    pub(crate) file: Option<Bound>,
}

/// The file of a Unix socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) group: u32,
}

/// One of two Unix sockets that are connected to each other.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) inode: u64,
    pub(crate) peer: u64,
    pub(crate) kind: i32,
    /// What this one has yet to read.
    pub(crate) data: Vec<u8>,
}

/// Options that are carried over where they are not what a new socket has.
const OPTIONS: [(i32, i32); 14] = [
    (libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (libc::SOL_SOCKET, libc::SO_BROADCAST),
    (libc::SOL_SOCKET, libc::SO_PASSCRED),
    (libc::SOL_SOCKET, libc::SO_PRIORITY),
    (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (libc::IPPROTO_TCP, libc::TCP_FASTOPEN),
];

/// TCP_CLOSE and TCP_LISTEN of `tcp_info.tcpi_state`.
const UNCONNECTED: [u8; 2] = [7, 10];

pub(super) fn look_at(pid: i32, socket: &OwnedFd, inode: u64, peers: &BTreeMap<u64, u64>) -> Result<Looked> {
    let ask =
        |name| socket::option(socket.as_fd(), libc::SOL_SOCKET, name).map_err(Error::own("look at a socket"));
    let (domain, kind, protocol) = (ask(libc::SO_DOMAIN)?, ask(libc::SO_TYPE)?, ask(libc::SO_PROTOCOL)?);
    let listens = ask(libc::SO_ACCEPTCONN)? != 0;
    let peer = socket::address(socket.as_fd(), End::Peer).ok();
    match (domain, kind) {
        (libc::AF_UNIX, _) if listens => {}
        (libc::AF_UNIX, _) => {
            if let Some(peer) = peers.get(&inode) {
                return pair(socket, inode, *peer, kind);
            }
            if peer.is_some() {
                return Ok(Err(Descriptor::UnixConnection));
            }
            if unread(socket)? > 0 {
                return Ok(Err(Descriptor::QueuedMessages));
            }
        }
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_STREAM) if protocol == libc::IPPROTO_TCP => {
            let state = socket::tcp_state(socket.as_fd()).map_err(Error::own("look at a socket"))?;
            if !UNCONNECTED.contains(&state) {
                return Ok(Err(Descriptor::Connection { to: shown("tcp", peer.as_deref()) }));
            }
        }
        (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM) if protocol == libc::IPPROTO_UDP => {
            if peer.is_some() {
                return Ok(Err(Descriptor::Connection { to: shown("udp", peer.as_deref()) }));
            }
        }
        _ => return Ok(Err(Descriptor::Socket { kind: format!("family {domain}, type {kind}") })),
    }
    let bound = own_address(pid, socket, domain)?;
    let backlog = if listens { Some(backlog(socket, domain)?) } else { None };
    let options = options(socket, domain, kind, protocol)?;
    Ok(Ok(What::Socket(Plain { domain, kind, protocol, bound, backlog, options })))
}

fn unread(socket: &OwnedFd) -> Result<usize> {
    socket::unread(socket.as_fd()).map_err(Error::own("look into a socket"))
}

fn pair(socket: &OwnedFd, inode: u64, peer: u64, kind: i32) -> Result<Looked> {
    let waiting = unread(socket)?;
    if waiting == 0 {
        return Ok(Ok(What::Pair(Pair { inode, peer, kind, data: Vec::new() })));
    }
    if kind != libc::SOCK_STREAM {
        return Ok(Err(Descriptor::QueuedMessages));
    }
    match socket::peek(socket.as_fd(), waiting) {
        Ok(data) if data.len() == waiting => Ok(Ok(What::Pair(Pair { inode, peer, kind, data }))),
        // Descriptors or credentials are in it.
        Ok(_) | Err(seacow_sys::Errno::OPNOTSUPP) => Ok(Err(Descriptor::QueuedMessages)),
        Err(errno) => Err(Error::own("look into a socket")(errno)),
    }
}

fn backlog(socket: &OwnedFd, domain: i32) -> Result<u32> {
    /// A Unix socket does not tell; this is what most programs ask for.
    const UNKNOWN: u32 = 4096;
    if domain == libc::AF_UNIX {
        return Ok(UNKNOWN);
    }
    socket::tcp_backlog(socket.as_fd()).map_err(Error::own("look at a socket"))
}

/// The own address, unless there is none: port 0, no name.
fn own_address(pid: i32, socket: &OwnedFd, domain: i32) -> Result<Option<Address>> {
    let raw = socket::address(socket.as_fd(), End::Own).map_err(Error::own("address of a socket"))?;
    if domain != libc::AF_UNIX {
        let port = raw.get(2..4).is_some_and(|port| port != [0, 0]);
        return Ok(port.then_some(Address { raw, file: None }));
    }
    let name = raw.get(2..).unwrap_or_default();
    Ok(match name.first() {
        None => None,
        // Abstract: a name of the network namespace.
        Some(0) => Some(Address { raw, file: None }),
        Some(_) => {
            let path = name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            let file = socket_file(pid, &path)?;
            Some(Address { raw, file })
        }
    })
}

/// Mode and owner of a Unix socket's file, if it is still there.
fn socket_file(pid: i32, path: &[u8]) -> Result<Option<Bound>> {
    let root = open_link(
        pid,
        if path.starts_with(b"/") { "root" } else { "cwd" },
        OFlags::PATH | OFlags::DIRECTORY,
    )?;
    let relative = path.strip_prefix(b"/").unwrap_or(path);
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::openat2(&root, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let Ok(found) = opened.and_then(rustix::fs::fstat) else { return Ok(None) };
    Ok(Some(Bound { mode: found.st_mode & 0o7777, owner: found.st_uid, group: found.st_gid }))
}

fn options(socket: &OwnedFd, domain: i32, kind: i32, protocol: i32) -> Result<Vec<(i32, i32, i32)>> {
    let fresh = seacow_sys::socket::open(domain, kind, protocol).map_err(Error::own("make a socket"))?;
    let mut different = Vec::new();
    for (level, name) in OPTIONS {
        let ask = |socket: &OwnedFd| socket::option(socket.as_fd(), level, name).ok();
        // An option that this kind of socket does not have is none.
        if let (Some(value), Some(usual)) = (ask(socket), ask(&fresh))
            && value != usual
        {
            different.push((level, name, value));
        }
    }
    Ok(different)
}

fn shown(protocol: &str, address: Option<&[u8]>) -> String {
    let port = |raw: &[u8]| raw.get(2..4).map(|port| u16::from_be_bytes([port[0], port[1]]));
    match address {
        Some(raw) if raw.first() == Some(&(libc::AF_INET as u8)) && raw.len() >= 8 => {
            let ip = std::net::Ipv4Addr::new(raw[4], raw[5], raw[6], raw[7]);
            format!("{protocol} {ip}:{}", port(raw).unwrap_or_default())
        }
        Some(raw) if raw.len() >= 24 => {
            let mut ip = [0; 16];
            ip.copy_from_slice(&raw[8..24]);
            format!("{protocol} [{}]:{}", std::net::Ipv6Addr::from(ip), port(raw).unwrap_or_default())
        }
        Some(_) | None => protocol.to_owned(),
    }
}

/// Inodes of the peers of all connected Unix sockets in the process's network namespace.
pub(super) fn unix_peers(pid: i32) -> Result<BTreeMap<u64, u64>> {
    /// A list that changes while it is read is read again.
    const ATTEMPTS: usize = 5;
    let mut last = None;
    for _ in 0..ATTEMPTS {
        match dump_peers(&mut open_diag(pid)?) {
            Ok(peers) => return Ok(peers),
            Err(error) => last = error.errno(),
        }
    }
    Err(Error::own("list Unix sockets")(last.unwrap_or(seacow_sys::Errno::AGAIN)))
}

fn open_diag(pid: i32) -> Result<netlink::Socket> {
    let own = ns::open_own(Kinds::NETWORK).map_err(Error::own("open own network namespace"))?;
    let its = ns::open(pid, Kinds::NETWORK).map_err(Error::own("open the source's network namespace"))?;
    ns::enter(its.as_fd(), Kinds::NETWORK).map_err(Error::own("enter the source's network namespace"))?;
    let socket = netlink::Socket::open(Protocol::SockDiag);
    ns::enter(own.as_fd(), Kinds::NETWORK).map_err(Error::own("return to own network namespace"))?;
    socket.map_err(|error| Error::own("open netlink socket")(error.errno().unwrap_or(seacow_sys::Errno::IO)))
}

fn dump_peers(socket: &mut netlink::Socket) -> std::result::Result<BTreeMap<u64, u64>, netlink::Error> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const UDIAG_SHOW_PEER: u32 = 4;
    const UNIX_DIAG_PEER: u16 = 2;
    /// `struct unix_diag_msg`.
    const HEAD: usize = 16;
    // struct unix_diag_req: family, protocol, states, inode, what to show, cookie.
    let mut request = vec![libc::AF_UNIX as u8, 0, 0, 0];
    for word in [u32::MAX, 0, UDIAG_SHOW_PEER, u32::MAX, u32::MAX] {
        request.extend_from_slice(&word.to_le_bytes());
    }
    let mut peers = BTreeMap::new();
    socket.dump(
        "list Unix sockets",
        SOCK_DIAG_BY_FAMILY,
        |payload| {
            payload.header(&request);
        },
        |_, payload| {
            let inode = payload.get(4..8).and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)));
            let rest = netlink::attributes(payload.get(HEAD..).unwrap_or_default());
            let peer = rest.find_kind(UNIX_DIAG_PEER).and_then(|attribute| attribute.u32());
            if let (Some(inode), Some(peer)) = (inode, peer) {
                peers.insert(inode.into(), peer.into());
            }
        },
    )?;
    Ok(peers)
}
