//! Sockets handed over by systemd (`fd://`), and telling it that we are ready.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::AddressFamily;
use rustix::net::sockopt::{socket_acceptconn, socket_domain};
use tokio::net::{TcpListener, UnixListener};

use super::listen::Listener;

/// Why systemd's sockets cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActivationError {
    #[error("systemd handed over no sockets (LISTEN_FDS); start seacow.socket, or use --host unix://…")]
    None,
    #[error("LISTEN_PID or LISTEN_FDS is malformed")]
    Environment,
    #[error("the socket handed over as descriptor {number} does not listen, or is neither Unix nor TCP")]
    Kind { number: usize },
    #[error("take over descriptor {number}: {source}")]
    Io { number: usize, source: io::Error },
}

/// First descriptor that systemd hands over.
const FIRST: usize = 3;

/// Takes over systemd's sockets. Meant to be called once.
pub(crate) fn take() -> Result<Vec<Listener>, ActivationError> {
    let handed = sd_listen_fds::get().map_err(|_| ActivationError::Environment)?;
    if handed.is_empty() {
        return Err(ActivationError::None);
    }
    handed
        .into_iter()
        .enumerate()
        .map(|(index, (_name, fd))| take_one(FIRST + index, fd.into_std()))
        .collect()
}

fn take_one(number: usize, fd: OwnedFd) -> Result<Listener, ActivationError> {
    let io = |source: io::Error| ActivationError::Io { number, source };
    let kind = || ActivationError::Kind { number };
    // A descriptor that a shim inherited would keep the socket open for ever.
    fcntl_setfd(fd.as_fd(), FdFlags::CLOEXEC).map_err(|error| io(error.into()))?;
    if !socket_acceptconn(fd.as_fd()).map_err(|_| kind())? {
        return Err(kind());
    }
    match socket_domain(fd.as_fd()).map_err(|_| kind())? {
        AddressFamily::UNIX => {
            let socket = std::os::unix::net::UnixListener::from(fd);
            socket.set_nonblocking(true).map_err(io)?;
            UnixListener::from_std(socket).map(Listener::Unix).map_err(io)
        }
        AddressFamily::INET | AddressFamily::INET6 => {
            let socket = std::net::TcpListener::from(fd);
            socket.set_nonblocking(true).map_err(io)?;
            TcpListener::from_std(socket).map(Listener::Tcp).map_err(io)
        }
        _ => Err(kind()),
    }
}

/// Tells systemd what happens (`READY=1`, `RELOADING=1`, `STOPPING=1`); does nothing when it did not
/// start us. Failure is logged: the daemon serves all the same.
pub(crate) fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let path = path.to_string_lossy().into_owned();
    let sent = (|| {
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    })();
    if let Err(error) = sent {
        tracing::warn!("cannot tell systemd {state:?} on {path}: {error}");
    }
}
