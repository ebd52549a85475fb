//! Who has a port of this host: for the message that says so.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::nat::Protocol;

/// A socket that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Socket {
    /// It is of no process any more: TIME_WAIT.
    Waiting,
    /// With this inode.
    Open(u64),
}

/// What keeps a port from being had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process, by id and name.
    Process(u32, String),
    /// A socket that is open, in a process that was not found (another namespace's, or gone meanwhile).
    Unknown,
    /// Only what the kernel remembers of closed connections.
    Closing,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process(pid, name) => write!(f, "held by {name} (process {pid})"),
            Self::Unknown => f.write_str("held by a process that is not to be seen from here"),
            Self::Closing => f.write_str("held by connections that were closed a moment ago"),
        }
    }
}

/// Who has the port at this address, at all addresses, or, asked for all of them, at any.
pub fn holder(protocol: Protocol, at: Option<Ipv4Addr>, port: u16) -> Option<Holder> {
    let mut sockets = Vec::new();
    let files: &[&str] = match protocol {
        Protocol::Tcp => &["tcp", "tcp6"],
        Protocol::Udp => &["udp", "udp6"],
        Protocol::Sctp => &[],
    };
    for file in files {
        let text = fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
        sockets.extend(text.lines().skip(1).filter_map(|line| socket(line, at, port)));
    }
    let open = sockets.iter().find_map(|socket| match socket {
        Socket::Open(inode) => Some(*inode),
        Socket::Waiting => None,
    });
    match open {
        Some(inode) => Some(process_of(inode).unwrap_or(Holder::Unknown)),
        None if sockets.is_empty() => None,
        None => Some(Holder::Closing),
    }
}

/// `  0: 0100007F:1F90 00000000:0000 0A … uid timeout inode …`
fn socket(line: &str, at: Option<Ipv4Addr>, port: u16) -> Option<Socket> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode: u64 = fields.nth(5)?.parse().ok()?;
    let (address, local_port) = local.split_once(':')?;
    if u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    let everywhere = address.bytes().all(|digit| digit == b'0');
    // An IPv6 socket's address ends with the IPv4 one where it is mapped.
    let own = address.get(address.len().checked_sub(8)?..)?;
    let own = Ipv4Addr::from(u32::from_str_radix(own, 16).ok()?.to_ne_bytes());
    if at.is_some_and(|at| !everywhere && own != at) {
        return None;
    }
    const ESTABLISHED: &str = "01";
    const TIME_WAIT: &str = "06";
    match state {
        // Connections of this host to elsewhere have ports too, which are no obstacle.
        ESTABLISHED if at.is_some() => None,
        TIME_WAIT => Some(Socket::Waiting),
        _ if inode == 0 => Some(Socket::Waiting),
        _ => Some(Socket::Open(inode)),
    }
}

fn process_of(inode: u64) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    let has = |dir: &Path| {
        fs::read_dir(dir.join("fd")).is_ok_and(|mut fds| {
            fds.any(|fd| {
                fd.is_ok_and(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == &*wanted))
            })
        })
    };
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        has(&entry.path()).then(|| {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            Holder::Process(pid, name.trim_end().to_owned())
        })
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn this_very_test_has_a_port() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let me = std::process::id();
        let is_me = |holder: Option<Holder>| matches!(holder, Some(Holder::Process(pid, _)) if pid == me);
        assert!(is_me(holder(Protocol::Tcp, Some(Ipv4Addr::LOCALHOST), port)));
        assert!(is_me(holder(Protocol::Tcp, None, port)));
        assert_eq!(holder(Protocol::Tcp, Some(Ipv4Addr::new(127, 0, 0, 9)), port), None);
        drop(listener);
        assert!(!is_me(holder(Protocol::Tcp, None, port)));
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(is_me(holder(Protocol::Udp, Some(Ipv4Addr::LOCALHOST), port)));
    }

    #[test]
    fn lines_of_any_kind() {
        for line in ["", "a b c", "0: 0:0 0:0 0A 0 0 0 0 0 x", "0: FF:1F90 0:0 0A 1:1 2:2 3 4 5 6"] {
            assert_eq!(socket(line, None, 8080), None, "{line}");
        }
    }
}
