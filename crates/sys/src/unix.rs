//! Unix sockets: by directory and name, and with descriptors as cargo.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::Errno;

/// How many descriptors one message may carry here (the kernel allows 253).
pub const MAX_FDS: usize = 64;

/// Two connected stream sockets.
pub fn stream_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

/// Two connected sockets that keep message borders.
pub fn seqpacket_pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Listens on `name` in a directory. The address goes through `/proc/self/fd`, so the directory's
/// path may be longer than the 108 bytes of a socket address.
pub fn listen(dir: BorrowedFd<'_>, name: &str, backlog: i32) -> Result<OwnedFd, Errno> {
    let socket = stream_socket()?;
    rustix::net::bind(&socket, &address(dir, name)?)?;
    rustix::net::listen(&socket, backlog)?;
    Ok(socket)
}

/// Connects to `name` in a directory, see [`listen`].
pub fn connect(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let socket = stream_socket()?;
    rustix::net::connect(&socket, &address(dir, name)?)?;
    Ok(socket)
}

/// Connects to a socket by a path of any length.
pub fn connect_path(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    connect_path_with(path, None)
}

/// As [`connect_path`], but neither the connection nor any later [`send`] waits longer: `EAGAIN`.
pub fn connect_path_within(path: &std::path::Path, patience: Duration) -> Result<OwnedFd, Errno> {
    connect_path_with(path, Some(patience))
}

fn connect_path_with(path: &std::path::Path, patience: Option<Duration>) -> Result<OwnedFd, Errno> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(std::path::Path::new("."));
    let name = path.file_name().and_then(|n| n.to_str()).ok_or(Errno::INVAL)?;
    let dir = rustix::fs::open(
        parent,
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let socket = stream_socket()?;
    if patience.is_some() {
        rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, patience)?;
    }
    rustix::net::connect(&socket, &address(dir.as_fd(), name)?)?;
    Ok(socket)
}

/// Takes the next connection.
pub fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    rustix::io::retry_on_intr(|| rustix::net::accept_with(listener, SocketFlags::CLOEXEC))
}

fn stream_socket() -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

fn address(dir: BorrowedFd<'_>, name: &str) -> Result<SocketAddrUnix, Errno> {
    if name.is_empty() || name.contains('/') {
        return Err(Errno::INVAL);
    }
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

/// Sends bytes with descriptors attached to the first of them; gives how many bytes went. Never
/// raises SIGPIPE.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    send_with(socket, bytes, fds, SendFlags::NOSIGNAL)
}

/// As [`send`], but `EAGAIN` instead of waiting.
pub fn try_send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    send_with(socket, bytes, fds, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
}

fn send_with(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG);
    }
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags))
}

/// What [`receive`] got.
#[derive(Debug, Default)]
pub struct Received {
    /// How many bytes; 0 is the end of the stream.
    pub len: usize,
    /// Descriptors that came along.
    pub fds: Vec<OwnedFd>,
}

/// Receives bytes and descriptors. A message whose descriptors or bytes were cut off is refused
/// with `EMSGSIZE`.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, Errno> {
    receive_with(socket, buffer, RecvFlags::CMSG_CLOEXEC)
}

/// As [`receive`], but `EAGAIN` instead of waiting.
pub fn try_receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Received, Errno> {
    receive_with(socket, buffer, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
}

fn receive_with(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: RecvFlags) -> Result<Received, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)
    })?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got.flags.intersects(ReturnFlags::CTRUNC | ReturnFlags::TRUNC) {
        return Err(Errno::MSGSIZE);
    }
    Ok(Received { len: got.bytes, fds })
}

/// Who made the connection, as the kernel recorded it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Process.
    pub pid: i32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
}

/// The peer's credentials.
pub fn peer(socket: BorrowedFd<'_>) -> Result<Peer, Errno> {
    let cred = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(Peer { pid: cred.pid.as_raw_nonzero().get(), uid: cred.uid.as_raw(), gid: cred.gid.as_raw() })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_long_directory_and_a_descriptor_as_cargo() {
        let dir = tempfile::Builder::new().prefix("seacow-unix-").tempdir().unwrap();
        let long = dir.path().join("d".repeat(200));
        std::fs::create_dir(&long).unwrap();
        let handle = std::fs::File::open(&long).unwrap();
        let listener = listen(handle.as_fd(), "s", 1).unwrap();
        let client = connect_path(&long.join("s")).unwrap();
        let server = accept(listener.as_fd()).unwrap();
        assert_eq!(peer(server.as_fd()).unwrap().pid, std::process::id() as i32);
        let (a, _b) = stream_pair().unwrap();
        assert_eq!(send(client.as_fd(), b"hello", &[a.as_fd(), a.as_fd()]).unwrap(), 5);
        let mut buffer = [0; 16];
        let got = receive(server.as_fd(), &mut buffer).unwrap();
        assert_eq!((got.len, got.fds.len()), (5, 2));
        let flags = rustix::io::fcntl_getfd(&got.fds[0]).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        assert_eq!(try_receive(server.as_fd(), &mut buffer).unwrap_err(), Errno::AGAIN);
        drop(client);
        assert_eq!(receive(server.as_fd(), &mut buffer).unwrap().len, 0);
    }
}
