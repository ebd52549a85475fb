//! What a socket is, whoever made it.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::Errno;

/// An option whose value is an int.
pub fn option(socket: BorrowedFd<'_>, level: i32, name: i32) -> Result<i32, Errno> {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: value and length live across the call; the kernel writes at most `length` bytes to value.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    crate::raw::check(done.into()).map(|_| value)
}

/// Which end of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The own address.
    Own,
    /// The other's.
    Peer,
}

/// The address of a socket, as the kernel's `sockaddr` of its family.
pub fn address(socket: BorrowedFd<'_>, end: End) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0u8; size_of::<libc::sockaddr_storage>()];
    let mut length = bytes.len() as libc::socklen_t;
    let (fd, place) = (socket.as_raw_fd(), bytes.as_mut_ptr().cast());
    let done = match end {
        // SAFETY: bytes has room for any address and length says how much.
        End::Own => unsafe { libc::getsockname(fd, place, &raw mut length) },
        // SAFETY: as above.
        End::Peer => unsafe { libc::getpeername(fd, place, &raw mut length) },
    };
    crate::raw::check(done.into())?;
    bytes.truncate(length as usize);
    Ok(bytes)
}

/// A new, close-on-exec socket.
pub fn open(domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: socket takes integers only.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    crate::raw::check(fd.into())?;
    // SAFETY: the descriptor is new, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The longest queue of connections that a listening TCP socket was given.
pub fn tcp_backlog(socket: BorrowedFd<'_>) -> Result<u32, Errno> {
    // tcpi_sacked is the backlog of a listening socket.
    let info = tcp_info(socket)?;
    Ok(u32::from_le_bytes([info[28], info[29], info[30], info[31]]))
}

/// The state of a TCP socket: 1 established, 7 closed, 10 listening (`tcpi_state`).
pub fn tcp_state(socket: BorrowedFd<'_>) -> Result<u8, Errno> {
    tcp_info(socket).map(|info| info[0])
}

/// The part of `struct tcp_info` that all kernels have.
fn tcp_info(socket: BorrowedFd<'_>) -> Result<[u8; 104], Errno> {
    let mut info = [0u8; 104];
    let mut length = info.len() as libc::socklen_t;
    let place = info.as_mut_ptr().cast();
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: info and length live across the call; the kernel writes at most `length` bytes.
    let done = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, place, &raw mut length) };
    crate::raw::check(done.into()).map(|_| info)
}

/// Bytes that wait to be read from a pipe or stream socket.
pub fn unread(fd: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut count: libc::c_int = 0;
    // SAFETY: the ioctl writes one int.
    crate::raw::check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut count) }.into())?;
    usize::try_from(count).map_err(|_| Errno::INVAL)
}

/// What waits to be read from a stream socket, left there. `EOPNOTSUPP` when there are descriptors or
/// credentials among it.
pub fn peek(socket: BorrowedFd<'_>, at_most: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0u8; at_most];
    let mut place = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: at_most };
    // SAFETY: all zeroes is a value of this plain structure: no name, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut place, 1);
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: message describes bytes, which has room for at_most and lives across the call.
    let done = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    match crate::raw::check(done as libc::c_long) {
        // Control data had no room.
        Ok(_) if message.msg_flags & libc::MSG_CTRUNC != 0 => Err(Errno::OPNOTSUPP),
        Ok(got) => {
            bytes.truncate(got as usize);
            Ok(bytes)
        }
        Err(Errno::AGAIN) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}
