//! Which engine to talk to, and how to reach it.
//!
//! In this order: `-H`, `SEACOW_HOST`, `--context`/`SEACOW_CONTEXT`, the context chosen with
//! `context use`, a `DOCKER_HOST` that answers as seacow, and seacow's own socket. Only on that
//! last one a daemon is started when none is listening ([`autostart`]).

pub(crate) mod access;
pub(crate) mod autostart;
pub(crate) mod context;

use std::io;
use std::path::{Path, PathBuf};

use crate::globals::Globals;
use crate::http::{Conn, Dial, Payload, Request, Socket};

/// The default daemon's socket.
pub(crate) const DEFAULT_SOCKET: &str = "/run/seacow/seacow.sock";

/// Who chose the endpoint; decides hints and whether a daemon may be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    SeacowHost,
    Context(String),
    DockerHost,
    Default,
}

/// An engine's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) dial: Dial,
    /// As the user would write it: `unix:///run/seacow/seacow.sock`.
    pub(crate) url: String,
    pub(crate) source: Source,
}

/// The engine cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("unable to parse docker host `{0}`")]
    BadHost(String),
    #[error("NotImplemented: {0}:// hosts are not supported by seacow (unix://, tcp:// and ssh:// are)")]
    Scheme(String),
    #[error("NotImplemented: TLS is not supported by this client yet; use unix://, ssh:// or plain tcp://")]
    Tls,
    #[error("context {0:?}: context not found: open {1}: no such file or directory")]
    NoContext(String, String),
    #[error("context {name:?}: {path}: {source}", path = path.display())]
    BadContext { name: String, path: PathBuf, source: io::Error },
    #[error(
        "permission denied while trying to connect to the seacow daemon at {url}: {source}\nRun it with sudo, or become a member of the socket's group: {mend}."
    )]
    Denied { url: String, source: io::Error, mend: String },
    #[error(
        "Cannot connect to the seacow daemon at {url}. Is seacowd running? (Start it with sudo: `sudo seacow daemon start`, or run this command with sudo.)"
    )]
    NoDaemon { url: String },
    #[error("Cannot connect to the engine at {url}: {source}. Is it running?")]
    Unreachable { url: String, source: io::Error },
    #[error(transparent)]
    Start(#[from] autostart::StartError),
}

impl Endpoint {
    /// Parses `unix://…`, `tcp://…`, `ssh://…`, or a bare path.
    pub(crate) fn parse(url: &str, source: Source) -> Result<Self, ConnectError> {
        let dial = match url.split_once("://") {
            Some(("unix", path)) => Dial::Unix(PathBuf::from(path)),
            Some(("tcp" | "http", address)) => Dial::Tcp(tcp_address(address, url)?),
            Some(("ssh", target)) => Dial::Process(ssh_command(target)),
            Some(("https", _)) => return Err(ConnectError::Tls),
            Some((scheme, _)) => return Err(ConnectError::Scheme(scheme.to_owned())),
            None if url.starts_with('/') => Dial::Unix(PathBuf::from(url)),
            None => Dial::Tcp(tcp_address(url, url)?),
        };
        let url = if url.contains("://") {
            url.to_owned()
        } else if url.starts_with('/') {
            format!("unix://{url}")
        } else {
            format!("tcp://{url}")
        };
        Ok(Self { dial, url, source })
    }

    fn default_socket() -> Self {
        let socket = format!("unix://{DEFAULT_SOCKET}");
        Self { dial: Dial::Unix(PathBuf::from(DEFAULT_SOCKET)), url: socket, source: Source::Default }
    }

    /// Opens a connection; on seacow's own socket a daemon is started if none listens.
    pub(crate) fn connect(&self) -> Result<Socket, ConnectError> {
        match self.dial.connect() {
            Ok(socket) => Ok(socket),
            Err(e) if self.source == Source::Default && nobody_listens(&e) => {
                autostart::start(Path::new(DEFAULT_SOCKET))?;
                self.dial.connect().map_err(|e| self.unreachable(e))
            }
            Err(e) => Err(self.unreachable(e)),
        }
    }

    fn unreachable(&self, source: io::Error) -> ConnectError {
        let url = self.url.clone();
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                let socket = match &self.dial {
                    Dial::Unix(path) => path.as_path(),
                    Dial::Tcp(_) | Dial::Process(_) => Path::new(DEFAULT_SOCKET),
                };
                ConnectError::Denied { url, source, mend: access::mend(socket) }
            }
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                if matches!(self.dial, Dial::Unix(_)) =>
            {
                ConnectError::NoDaemon { url }
            }
            _ => ConnectError::Unreachable { url, source },
        }
    }

    /// Whether the engine at this address says that it is a seacow.
    fn is_seacow(&self) -> bool {
        let Ok(socket) = self.dial.connect() else { return false };
        let mut ping =
            Request { method: "GET", target: "/_ping", fields: &[], hijack: false, payload: Payload::None };
        ping.exchange(Conn::new(socket)).is_ok_and(|answer| answer.head.field("Seacow-Api").is_some())
    }
}

/// Chooses the endpoint for this invocation.
pub(crate) fn resolve(globals: &Globals) -> Result<Endpoint, ConnectError> {
    if globals.tls {
        return Err(ConnectError::Tls);
    }
    if let Some(host) = &globals.host {
        return Endpoint::parse(host, Source::Flag);
    }
    let environment = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let chosen = globals.context.clone();
    if chosen.is_none()
        && let Some(host) = environment("SEACOW_HOST")
    {
        return Endpoint::parse(&host, Source::SeacowHost);
    }
    let name = chosen.or_else(|| environment("SEACOW_CONTEXT")).or_else(|| globals.config.current_context());
    if let Some(name) = name.filter(|n| n != context::DEFAULT) {
        let host = context::host(&globals.config, &name)?;
        return Endpoint::parse(&host, Source::Context(name));
    }
    if let Some(host) = environment("DOCKER_HOST") {
        return Ok(docker_host(&host));
    }
    Ok(Endpoint::default_socket())
}

/// A `DOCKER_HOST` is obeyed only when a seacow answers there: whoever types `seacow` does not
/// mean to drive another engine's containers.
fn docker_host(host: &str) -> Endpoint {
    match Endpoint::parse(host, Source::DockerHost) {
        Ok(endpoint) if endpoint.is_seacow() => endpoint,
        _ => {
            let default = Endpoint::default_socket();
            eprintln!(
                "seacow: DOCKER_HOST={host} is not a seacow; using {} (say -H {host} to mean it)",
                default.url
            );
            default
        }
    }
}

fn nobody_listens(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Docker's port for plain TCP.
const DEFAULT_TCP_PORT: u16 = 2375;

fn tcp_address(address: &str, url: &str) -> Result<String, ConnectError> {
    let address = address.split('/').next().unwrap_or("");
    let host_end = address.rfind(']').map_or(0, |i| i + 1);
    match address[host_end..].rsplit_once(':') {
        _ if address.is_empty() => Ok(format!("127.0.0.1:{DEFAULT_TCP_PORT}")),
        Some((_, port)) if port.parse::<u16>().is_ok() => Ok(match address.strip_prefix(':') {
            Some(port) => format!("127.0.0.1:{port}"),
            None => address.to_owned(),
        }),
        Some(_) => Err(ConnectError::BadHost(url.to_owned())),
        None => Ok(format!("{address}:{DEFAULT_TCP_PORT}")),
    }
}

/// `ssh://[user@]host[:port]`: the far side's own client joins the two streams.
fn ssh_command(target: &str) -> Vec<String> {
    let target = target.trim_end_matches('/');
    let mut argv: Vec<String> = ["ssh", "-o", "ConnectTimeout=30", "-T"].map(str::to_owned).to_vec();
    let (host, port) = match target.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, Some(port)),
        _ => (target, None),
    };
    if let Some(port) = port {
        argv.extend(["-p".to_owned(), port.to_owned()]);
    }
    argv.extend(["--", host, "seacow", "system", "dial-stdio"].map(str::to_owned));
    argv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dial(url: &str) -> Dial {
        Endpoint::parse(url, Source::Flag).unwrap().dial
    }

    #[test]
    fn addresses() {
        assert_eq!(dial("unix:///a/b"), Dial::Unix("/a/b".into()));
        assert_eq!(dial("/a/b"), Dial::Unix("/a/b".into()));
        assert_eq!(dial("tcp://h"), Dial::Tcp("h:2375".into()));
        assert_eq!(dial("tcp://[::1]:9"), Dial::Tcp("[::1]:9".into()));
        assert_eq!(dial(":80"), Dial::Tcp("127.0.0.1:80".into()));
        assert!(matches!(dial("ssh://u@h:22"), Dial::Process(argv) if argv.contains(&"u@h".to_owned())));
        assert!(Endpoint::parse("npipe://x", Source::Flag).is_err());
        assert!(Endpoint::parse("tcp://h:x", Source::Flag).is_err());
    }
}
