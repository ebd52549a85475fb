//! What differs between Unix sockets and TCP.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::http::reply::Client;

/// A connection that can leave HTTP.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send + Sized + 'static {
    /// A second descriptor of the socket on which the end of both directions can be seen, or `None`
    /// where the kernel does not tell it from the end of one.
    ///
    /// # Errors
    /// No descriptor left.
    fn hangup_watch(&self) -> io::Result<Option<OwnedFd>>;

    /// Gives the socket to whoever speaks on it next; `initial` was read already.
    ///
    /// # Errors
    /// The socket cannot be taken out of the event loop.
    fn into_client(self, initial: Vec<u8>) -> io::Result<Client>;
}

impl Transport for UnixStream {
    fn hangup_watch(&self) -> io::Result<Option<OwnedFd>> {
        Ok(Some(rustix::io::fcntl_dupfd_cloexec(self, 0)?))
    }

    fn into_client(self, initial: Vec<u8>) -> io::Result<Client> {
        Ok(Client { fd: self.into_std()?.into(), initial })
    }
}

impl Transport for TcpStream {
    fn hangup_watch(&self) -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }

    /// The shim is given one end of a socketpair, because a TCP connection may later be TLS, which
    /// only the daemon can speak.
    fn into_client(self, initial: Vec<u8>) -> io::Result<Client> {
        let (ours, theirs) = UnixStream::pair()?;
        let client = Client { fd: theirs.into_std()?.into(), initial };
        tokio::spawn(async move {
            if let Err(error) = pump(self, ours).await {
                tracing::debug!("a hijacked TCP connection ended: {error}");
            }
        });
        Ok(client)
    }
}

/// Copies both ways; the end of one direction is passed on and does not end the other.
async fn pump(mut client: TcpStream, mut shim: UnixStream) -> io::Result<()> {
    tokio::io::copy_bidirectional(&mut client, &mut shim).await?;
    client.shutdown().await
}
