//! A link that moves to another network namespace. The kernel takes it down on the way and forgets
//! its addresses; what it shall have there again is asked for before.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::route::link_header;
use super::{Batch, Error, Payload, Socket, attributes};
use crate::Errno;

/// A link as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its number in the namespace of the socket.
    pub index: u32,
    /// Whether it was up.
    pub up: bool,
    /// Its lasting addresses of global scope.
    pub addresses: Vec<Address>,
}

/// An address as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    family: u8,
    prefix: u8,
    flags: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// Bytes of an `ifaddrmsg`.
const IFADDRMSG: usize = 8;
/// The flags as an attribute, since the header has room for eight only.
const IFA_FLAGS: u16 = 8;
const IFF_UP: u32 = 1;
/// Times an interrupted list is asked for again: whoever changes addresses all the time is told so.
const TRIES: usize = 5;

/// The number of the link of that name in the socket's namespace, if there is one.
pub fn index_of(socket: &Socket, name: &str) -> Result<Option<u32>, Errno> {
    match rustix::net::netdevice::name_to_index(socket.as_fd(), name) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::NODEV) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// What has to be known of a link before it moves.
pub fn find(socket: &mut Socket, index: u32) -> Result<Found, Error> {
    let mut batch = Batch::new();
    batch.request(format!("look at link {index}"), libc::RTM_GETLINK, 0, |m| {
        link_header(m, index, 0, 0);
    });
    let replies = socket.transact(&batch)?;
    let flags = replies.iter().find_map(|r| Some(u32::from_ne_bytes(r.payload.get(8..12)?.try_into().ok()?)));
    let mut tries = TRIES;
    let addresses = loop {
        match addresses(socket, index) {
            Err(Error::DumpInterrupted { .. }) if tries > 1 => tries -= 1,
            listed => break listed?,
        }
    };
    Ok(Found { index, up: flags.is_some_and(|flags| flags & IFF_UP != 0), addresses })
}

fn addresses(socket: &mut Socket, link: u32) -> Result<Vec<Address>, Error> {
    let mut found = Vec::new();
    let header = |m: &mut Payload<'_>| {
        m.header(&[0; IFADDRMSG]);
    };
    socket.dump("list addresses", libc::RTM_GETADDR, header, |_, payload| {
        found.extend(Address::parse(payload, link));
    })?;
    Ok(found)
}

impl Address {
    /// `None` for those of other links, and for what does not move: link-local ones, and those that
    /// somebody has to renew.
    fn parse(payload: &[u8], link: u32) -> Option<Self> {
        let &[family, prefix, flags, scope] = payload.first_chunk()?;
        let index = u32::from_ne_bytes(payload.get(4..IFADDRMSG)?.try_into().ok()?);
        let attributes = attributes(payload.get(IFADDRMSG..)?);
        let flags = attributes.clone().find_kind(IFA_FLAGS).and_then(|a| a.u32()).unwrap_or(flags.into());
        let lasts = flags & libc::IFA_F_PERMANENT != 0;
        if index != link || !lasts || scope != libc::RT_SCOPE_UNIVERSE {
            return None;
        }
        let given = [libc::IFA_LOCAL, libc::IFA_ADDRESS, libc::IFA_BROADCAST];
        let attributes = attributes.filter(|a| given.contains(&a.kind));
        Some(Self {
            family,
            prefix,
            // What the kernel has found out about it, it finds out again.
            flags: flags & !(libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED | libc::IFA_F_SECONDARY),
            attributes: attributes.map(|a| (a.kind, a.value.to_vec())).collect(),
        })
    }

    /// Gives it to a link.
    pub fn add(&self, batch: &mut Batch, link: u32) {
        const CREATE_OR_REPLACE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        batch.request("give the link its address again", libc::RTM_NEWADDR, CREATE_OR_REPLACE, |m| {
            let index = link.to_ne_bytes();
            let scope = libc::RT_SCOPE_UNIVERSE;
            m.header(&[self.family, self.prefix, 0, scope, index[0], index[1], index[2], index[3]]);
            for (kind, value) in &self.attributes {
                m.attr(*kind, value);
            }
            m.attr_u32(IFA_FLAGS, self.flags);
        });
    }
}

/// Moves a link into the namespace of the descriptor, by that name. Whether the name is free there
/// is better asked before: the kernel moves first, and leaves it there when it cannot rename it.
pub fn move_link(batch: &mut Batch, index: u32, name: &str, into: BorrowedFd<'_>) {
    batch.request(format!("move link {index}"), libc::RTM_NEWLINK, 0, |m| {
        link_header(m, index, 0, 0).attr_text(libc::IFLA_IFNAME, name);
        m.attr(libc::IFLA_NET_NS_FD, &into.as_raw_fd().to_ne_bytes());
    });
}
