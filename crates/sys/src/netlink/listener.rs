//! Hearing that something changed.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink};

use super::{Error, Protocol};
use crate::Errno;

/// A member of one multicast group, told of every change of its kind in the network namespace of the
/// thread that opened it. What changed is better asked for: what is told may be incomplete, since
/// messages are lost when too many come at once.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl Listener {
    /// Joins a group, a number from 1 to 32. The descriptor does not block.
    pub fn open(protocol: Protocol, group: u32) -> Result<Self, Error> {
        let number = std::num::NonZero::new(protocol.number()).map(rustix::net::Protocol::from_raw);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, number)
            .map_err(Error::Open)?;
        let groups = 1u32.checked_shl(group.wrapping_sub(1)).ok_or(Error::Open(Errno::INVAL))?;
        rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups)).map_err(Error::Open)?;
        Ok(Self { fd })
    }

    /// Throws away what was heard so far; whether that was anything.
    pub fn drain(&self) -> Result<bool, Error> {
        let mut heard = false;
        // Only that there is a message matters, so that it is cut to nothing.
        let mut nothing = [0; 0];
        loop {
            match rustix::net::recv(&self.fd, &mut nothing, RecvFlags::TRUNC) {
                Ok(_) | Err(Errno::NOBUFS) => heard = true,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(heard),
                Err(errno) => return Err(Error::Receive(errno)),
            }
        }
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
