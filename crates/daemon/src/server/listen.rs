//! The sockets that `--host` names.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::activation;

/// Port of `tcp://` addresses without one, as dockerd has it.
const DEFAULT_PORT: u16 = 2375;
/// Access to the socket is root on this machine; nobody outside its group has it.
const SOCKET_MODE: u32 = 0o660;

/// Where to listen, as `--host` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `unix:///path`
    Unix(PathBuf),
    /// `tcp://host:port`
    Tcp(SocketAddr),
    /// `fd://`: sockets handed over by systemd.
    Activated,
}

/// An open socket.
pub(crate) enum Listener {
    /// A Unix socket.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
}

/// Why there is nowhere to listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("invalid bind address ({0}): expected unix:///path, tcp://address:port or fd://")]
    Syntax(String),
    #[error("{path} is the socket of a running daemon; stop it, or choose another socket with --host")]
    Busy { path: PathBuf },
    #[error("{path} is not a socket; refusing to remove it")]
    NotASocket { path: PathBuf },
    #[error("group {0} does not exist")]
    NoGroup(String),
    #[error("{step} {path}: {source}")]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("listen on tcp://{address}: {source}")]
    Tcp { address: SocketAddr, source: io::Error },
    #[error("fd://: {0}")]
    Activation(#[from] activation::ActivationError),
}

impl Address {
    /// Reads one `--host`.
    ///
    /// # Errors
    /// Not an address, or a name that would need a resolver.
    pub(crate) fn parse(text: &str) -> Result<Self, ListenError> {
        let wrong = || ListenError::Syntax(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            let absolute = path.starts_with('/') && path.len() > 1;
            return if absolute { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        if let Some(rest) = text.strip_prefix("tcp://") {
            let rest = rest.trim_end_matches('/');
            let parsed = rest.parse().or_else(|_| {
                let host = if rest.is_empty() { "127.0.0.1" } else { rest };
                host.parse().map(|ip| SocketAddr::new(ip, DEFAULT_PORT))
            });
            return parsed.map(Self::Tcp).map_err(|_| wrong());
        }
        if text == "fd://" { Ok(Self::Activated) } else { Err(wrong()) }
    }
}

/// Opens the sockets of `addresses`.
///
/// # Errors
/// One of them cannot be had; nothing is served then.
pub(crate) fn open(addresses: &[Address], group: Option<&str>) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    for address in addresses {
        match address {
            Address::Unix(path) => listeners.push(Listener::Unix(open_unix(path, group)?)),
            Address::Tcp(address) => listeners.push(Listener::Tcp(open_tcp(*address)?)),
            Address::Activated => listeners.extend(activation::take()?),
        }
    }
    Ok(listeners)
}

fn open_tcp(address: SocketAddr) -> Result<TcpListener, ListenError> {
    tracing::warn!(
        "listening on tcp://{address} without TLS: whoever can reach this port is root on this machine"
    );
    let refused = |source| ListenError::Tcp { address, source };
    let socket = std::net::TcpListener::bind(address).map_err(refused)?;
    socket.set_nonblocking(true).map_err(refused)?;
    TcpListener::from_std(socket).map_err(refused)
}

/// Binds under a temporary name and renames: nobody ever meets a socket that does not answer yet,
/// or one with the wrong owner.
fn open_unix(path: &Path, group: Option<&str>) -> Result<UnixListener, ListenError> {
    let step = |step: &'static str| move |source| ListenError::Io { step, path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(step("create the directory of"))?;
    }
    refuse_if_served(path)?;
    let temporary = path.with_extension("sock.new");
    remove_if_there(&temporary).map_err(step("remove the leftover beside"))?;
    let socket = UnixListener::bind(&temporary).map_err(step("bind"))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(SOCKET_MODE))
        .map_err(step("set the mode of"))?;
    if let Some(gid) = group_id(group)? {
        chown(&temporary, Some(0), Some(gid)).map_err(step("set the group of"))?;
    }
    fs::rename(&temporary, path).map_err(step("put in place"))?;
    Ok(socket)
}

fn refuse_if_served(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(ListenError::Io { step: "look at", path: path.into(), source }),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::NotASocket { path: path.into() });
        }
        Ok(_) => {}
    }
    // A socket that nobody serves refuses; it is left over from a daemon that was killed.
    if UnixStream::connect(path).is_ok() {
        return Err(ListenError::Busy { path: path.into() });
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The group that gets access: the one asked for, which must exist, else `seacow` if it does.
fn group_id(asked: Option<&str>) -> Result<Option<u32>, ListenError> {
    let name = asked.unwrap_or("seacow");
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let path = PathBuf::from("/etc/group");
    let groups = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other.map_err(|source| ListenError::Io { step: "read", path, source })?,
    };
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    if found.is_none() && asked.is_some_and(|asked| !asked.is_empty()) {
        return Err(ListenError::NoGroup(name.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(Address::parse("unix:///run/x.sock").unwrap(), Address::Unix("/run/x.sock".into()));
        assert_eq!(
            Address::parse("tcp://127.0.0.1:2375").unwrap(),
            Address::Tcp(([127, 0, 0, 1], 2375).into())
        );
        assert_eq!(Address::parse("tcp://").unwrap(), Address::Tcp(([127, 0, 0, 1], 2375).into()));
        assert_eq!(Address::parse("fd://").unwrap(), Address::Activated);
        for bad in ["", "unix://", "unix://x", "/run/x.sock", "http://x", "tcp://nowhere:x"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_served_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seacow.sock");
        // Bound and dropped: the file stays, nobody serves it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let served = open_unix(&path, None).unwrap();
        assert!(matches!(open_unix(&path, None), Err(ListenError::Busy { .. })));
        drop(served);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(open_unix(&path, None), Err(ListenError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_group_that_was_asked_for_must_exist() {
        assert!(matches!(group_id(Some("seacow-no-such-group")), Err(ListenError::NoGroup(_))));
        assert_eq!(group_id(Some("1234")).unwrap(), Some(1234));
        assert_eq!(group_id(Some("root")).unwrap(), Some(0));
    }
}
