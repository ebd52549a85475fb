//! The socket: send once, collect acknowledgements and replies.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink};

use super::batch::Batch;
use super::{Error, attributes};
use crate::Errno;

/// The netlink family a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nftables and connection tracking.
    Netfilter,
    /// Socket statistics.
    SockDiag,
    /// Generic netlink (families by name).
    Generic,
}

impl Protocol {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Route => 0,
            Self::SockDiag => 4,
            Self::Netfilter => 12,
            Self::Generic => 16,
        }
    }
}

/// A message that came back and is no acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Message type.
    pub kind: u16,
    /// Header flags.
    pub flags: u16,
    /// Which message of the batch it answers, counted from 0; 0 for notifications.
    pub request: usize,
    /// Everything after the netlink header.
    pub payload: Vec<u8>,
}

/// A netlink socket of the calling thread's network namespace.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

/// Acknowledgements of a large batch wait in the receive buffer, about 800 bytes each.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
const HEADER: usize = 16;

struct Header {
    len: usize,
    kind: u16,
    flags: u16,
    sequence: u32,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace. It stays in that namespace even
    /// when the thread leaves it.
    pub fn open(protocol: Protocol) -> Result<Self, Error> {
        let number = std::num::NonZero::new(protocol.number()).map(rustix::net::Protocol::from_raw);
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, number)
                .map_err(Error::Open)?;
        Self::adopt(fd)
    }

    fn adopt(fd: OwnedFd) -> Result<Self, Error> {
        // Without these the answers only say less (old kernels): not an error.
        let _ = option(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        let _ = option(fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        if option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER).is_err() {
            let _ = option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER);
        }
        Ok(Self { fd, sequence: 1 })
    }

    /// Makes lists honour the filters of the request (addresses of one link only, …).
    pub fn set_strict(&self) -> Result<(), Errno> {
        option(self.fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, 1)
    }

    /// Joins a multicast group (`RTNLGRP_LINK`, …) to receive notifications.
    pub fn subscribe(&self, group: u32) -> Result<(), Errno> {
        let group = i32::try_from(group).map_err(|_| Errno::INVAL)?;
        option(self.fd.as_fd(), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)
    }

    /// Sends the batch and collects its acknowledgements; gives the replies that came with them.
    /// The first refusal becomes the error.
    pub fn transact(&mut self, batch: &Batch) -> Result<Vec<Reply>, Error> {
        let first = self.send(batch)?;
        let mut waiting: Vec<bool> = batch.steps().iter().map(|s| s.wants_ack).collect();
        let mut replies = Vec::new();
        let mut refused = None;
        while waiting.iter().any(|w| *w) || refused.is_none() {
            let Some(datagram) = self.receive_now()? else { break };
            each_message(&datagram, |header, payload| {
                let index = usize::try_from(header.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                if index >= batch.len() {
                    // An answer to an older, failed batch: stale.
                    return Ok(());
                }
                if header.kind != NLMSG_ERROR {
                    replies.push(Reply {
                        kind: header.kind,
                        flags: header.flags,
                        request: index,
                        payload: payload.to_vec(),
                    });
                    return Ok(());
                }
                if let Some(slot) = waiting.get_mut(index) {
                    *slot = false;
                }
                if let (None, Some((errno, text))) = (&refused, refusal(&header, payload)) {
                    let step = batch.steps().get(index).map(|s| s.name.clone()).unwrap_or_default();
                    refused = Some(Error::Refused { step, text, errno });
                }
                Ok(())
            })?;
            if refused.is_none() && waiting.iter().all(|w| !*w) {
                break;
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        match waiting.iter().position(|w| *w).and_then(|i| batch.steps().get(i)) {
            Some(step) => Err(Error::Unanswered { step: step.name.clone() }),
            None => Ok(replies),
        }
    }

    /// Sends a one-message batch as a DUMP request and gives every element of the list to `each`
    /// (message type, payload after the netlink header).
    pub fn dump(
        &mut self,
        step: &str,
        kind: u16,
        fill: impl FnOnce(&mut super::Payload<'_>),
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.message(step, kind, NLM_F_DUMP, fill);
        let sequence = self.send(&batch)?;
        let (mut done, mut interrupted, mut refused) = (false, false, None);
        while !done {
            let Some(datagram) = self.receive_now()? else {
                return Err(Error::Unanswered { step: step.to_owned() });
            };
            each_message(&datagram, |header, payload| {
                if header.sequence != sequence {
                    return Ok(());
                }
                interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
                match header.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        done = true;
                        refused = refusal(&header, payload);
                    }
                    kind => each(kind, payload),
                }
                Ok(())
            })?;
        }
        match refused {
            Some((errno, text)) => Err(Error::Refused { step: step.to_owned(), text, errno }),
            None if interrupted => Err(Error::DumpInterrupted { step: step.to_owned() }),
            None => Ok(()),
        }
    }

    /// Waits for the next datagram and gives its messages: for notifications after
    /// [`Socket::subscribe`].
    pub fn receive(&self) -> Result<Vec<Reply>, Error> {
        let datagram = receive(self.fd.as_fd(), RecvFlags::empty()).map_err(Error::Receive)?;
        let mut out = Vec::new();
        each_message(&datagram, |header, payload| {
            out.push(Reply { kind: header.kind, flags: header.flags, request: 0, payload: payload.to_vec() });
            Ok(())
        })?;
        Ok(out)
    }

    fn send(&mut self, batch: &Batch) -> Result<u32, Error> {
        let first = self.sequence;
        self.sequence = first.wrapping_add(u32::try_from(batch.len()).unwrap_or(1)).max(1);
        let bytes = batch.numbered(first);
        let named = |source| Error::Send {
            first: batch.steps().first().map(|s| s.name.clone()).unwrap_or_default(),
            source,
        };
        // The kernel's address is port 0: never rely on the connected peer, nobody else may answer.
        let kernel = SocketAddrNetlink::new(0, 0);
        let sent =
            rustix::io::retry_on_intr(|| rustix::net::sendto(&self.fd, &bytes, SendFlags::empty(), &kernel))
                .map_err(named)?;
        if sent == bytes.len() { Ok(first) } else { Err(named(Errno::MSGSIZE)) }
    }

    /// The next datagram, when one is queued.
    fn receive_now(&self) -> Result<Option<Vec<u8>>, Error> {
        match receive(self.fd.as_fd(), RecvFlags::DONTWAIT) {
            Ok(datagram) => Ok(Some(datagram)),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(Error::Receive(errno)),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn receive(fd: BorrowedFd<'_>, flags: RecvFlags) -> Result<Vec<u8>, Errno> {
    loop {
        // A step of a dump has up to 32 KiB and an acknowledgement 36 bytes: pages that a shim has
        // touched once stay its own.
        let mut nothing: [u8; 0] = [];
        let (_, length, _) = rustix::io::retry_on_intr(|| {
            rustix::net::recvfrom(fd, nothing.as_mut_slice(), flags | RecvFlags::TRUNC | RecvFlags::PEEK)
        })?;
        let mut buffer = vec![0; length];
        let (_, got, from) = rustix::io::retry_on_intr(|| {
            rustix::net::recvfrom(fd, buffer.as_mut_slice(), flags | RecvFlags::TRUNC)
        })?;
        let sender = from.and_then(|a| SocketAddrNetlink::try_from(a).ok());
        if sender.is_none_or(|a| a.pid() != 0) {
            // Any process may write to a netlink port; only the kernel (port 0) is believed.
            continue;
        }
        if got > buffer.len() {
            return Err(Errno::MSGSIZE);
        }
        buffer.truncate(got);
        return Ok(buffer);
    }
}

fn each_message(
    datagram: &[u8],
    mut each: impl FnMut(Header, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut offset = 0;
    while offset < datagram.len() {
        let malformed = || Error::Malformed { offset, len: datagram.len() };
        let rest = datagram.get(offset..).ok_or_else(malformed)?;
        let header = parse_header(rest).ok_or_else(malformed)?;
        let payload = rest.get(HEADER..header.len).ok_or_else(malformed)?;
        offset += header.len.next_multiple_of(4);
        each(header, payload)?;
    }
    Ok(())
}

fn parse_header(bytes: &[u8]) -> Option<Header> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let len = usize::try_from(word(0)?).ok()?;
    (len >= HEADER).then_some(())?;
    Some(Header { len, kind: half(4)?, flags: half(6)?, sequence: word(8)? })
}

/// The errno and the kernel's words in an ERROR or DONE message; `None` when it says success.
fn refusal(header: &Header, payload: &[u8]) -> Option<(Errno, Option<String>)> {
    let code = i32::from_ne_bytes(payload.get(..4)?.try_into().ok()?);
    if code >= 0 {
        return None;
    }
    let text = (header.flags & NLM_F_ACK_TLVS != 0)
        .then(|| {
            let skip = match header.kind {
                NLMSG_DONE => 4,
                // The failed request follows the code: only its header when CAPPED.
                _ if header.flags & NLM_F_CAPPED != 0 => 4 + HEADER,
                _ => {
                    4 + usize::try_from(u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?))
                        .ok()?
                        .next_multiple_of(4)
                }
            };
            attributes(payload.get(skip..)?).find_kind(NLMSGERR_ATTR_MSG)?.text().map(str::to_owned)
        })
        .flatten();
    Some((Errno::from_raw_os_error(-code), text))
}

fn option(fd: BorrowedFd<'_>, level: i32, name: i32, value: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the descriptor is borrowed for the call; value is a c_int that lives across it and
    // the length given is its size, which is what every option named here takes.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    crate::raw::check(done.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::super::route;
    use super::*;

    #[test]
    fn lists_the_loopback_device() {
        let mut names = Vec::new();
        Socket::open(Protocol::Route)
            .unwrap()
            .dump(
                "list links",
                libc::RTM_GETLINK,
                |m| {
                    m.header(&[0; 16]);
                },
                |_, payload| {
                    names.extend(
                        attributes(&payload[16..])
                            .find_kind(libc::IFLA_IFNAME)
                            .and_then(|a| a.text())
                            .map(str::to_owned),
                    );
                },
            )
            .unwrap();
        assert!(names.iter().any(|n| n == "lo"), "{names:?}");
    }

    #[test]
    fn a_refusal_names_its_step() {
        let mut batch = Batch::new();
        batch.request("get lo", libc::RTM_GETLINK, 0, |m| {
            route::link_header(m, 1, 0, 0);
        });
        batch.request("raise link 999999", libc::RTM_NEWLINK, 0, |m| {
            route::link_header(m, 999_999, 1, 1);
        });
        let error = Socket::open(Protocol::Route).unwrap().transact(&batch).unwrap_err();
        assert!(error.to_string().starts_with("raise link 999999"), "{error}");
        assert!(matches!(error.errno(), Some(Errno::NODEV | Errno::PERM)));
    }

    #[test]
    fn replies_come_with_their_request() {
        let mut batch = Batch::new();
        batch.request("get lo", libc::RTM_GETLINK, 0, |m| {
            route::link_header(m, 1, 0, 0);
        });
        let mut socket = Socket::open(Protocol::Route).unwrap();
        for _ in 0..2 {
            let replies = socket.transact(&batch).unwrap();
            assert_eq!(replies.len(), 1);
            assert_eq!((replies[0].kind, replies[0].request), (libc::RTM_NEWLINK, 0));
        }
    }
}
