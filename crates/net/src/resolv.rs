//! resolv.conf: the host's as found, and a container's made of it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use seacow_spec::error::{Classified, ErrorClass};

/// The host's file.
pub const HOST_FILE: &str = "/etc/resolv.conf";
/// Where systemd-resolved names the servers behind its stub 127.0.0.53.
pub const RESOLVED_FILE: &str = "/run/systemd/resolve/resolv.conf";
/// What a container asks when the host has no server that it could reach; Docker's choice.
pub const FALLBACK: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];
/// Larger files are no resolv.conf.
const MAX_BYTES: u64 = 1 << 20;

/// The host's file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("read {}", path.display())]
pub struct ResolvError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl Classified for ResolvError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Internal
    }
}

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvConf {
    /// DNS servers, in order.
    pub nameservers: Vec<IpAddr>,
    /// Search domains.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// The user's `--dns`, `--dns-search`, `--dns-option`; an empty list leaves the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// DNS servers.
    pub dns: Vec<IpAddr>,
    /// Search domains; a single `.` means none.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

/// A container's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The file's content.
    pub text: String,
    /// What the user should know: servers left out, a fallback taken.
    pub warnings: Vec<String>,
}

impl ResolvConf {
    /// Reads what the resolver reads; other lines are passed over, as it does.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.nameservers.extend(words.next().and_then(parse_server)),
                // The last of these lines counts.
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => conf.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        conf
    }

    /// The file's content.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for server in &self.nameservers {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "nameserver {server}");
        }
        for (key, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                let _ = writeln!(text, "{key} {}", words.join(" "));
            }
        }
        text
    }

    fn is_resolved_stub(&self) -> bool {
        !self.nameservers.is_empty()
            && self
                .nameservers
                .iter()
                .all(|s| matches!(s, IpAddr::V4(a) if matches!(a.octets(), [127, 0, 0, 53 | 54])))
    }
}

/// A scope (`fe80::1%eth0`) names an interface of the host: no use in a container.
fn parse_server(word: &str) -> Option<IpAddr> {
    word.parse().ok()
}

/// The host's own servers: from `host`, or behind systemd-resolved's stub. A host without the file
/// has no servers.
pub fn read_host(host: &Path, resolved: &Path) -> Result<ResolvConf, ResolvError> {
    let conf = read(host)?.unwrap_or_default();
    if conf.is_resolved_stub()
        && let Some(behind) = read(resolved)?
    {
        return Ok(behind);
    }
    Ok(conf)
}

fn read(path: &Path) -> Result<Option<ResolvConf>, ResolvError> {
    use io::Read as _;
    let mut text = String::new();
    match fs::File::open(path).and_then(|f| f.take(MAX_BYTES).read_to_string(&mut text)) {
        Ok(_) => Ok(Some(ResolvConf::parse(&text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ResolvError { path: path.to_owned(), source }),
    }
}

/// The host's IPv4 servers that a subnet must not cover; unreadable means none known.
pub(crate) fn host_nameservers() -> Vec<Ipv4Addr> {
    let conf = read_host(Path::new(HOST_FILE), Path::new(RESOLVED_FILE)).unwrap_or_default();
    let v4 = |server: &IpAddr| match server {
        IpAddr::V4(address) if !address.is_loopback() => Some(*address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    conf.nameservers.iter().filter_map(v4).collect()
}

/// The file of a container with a network namespace of its own: loopback servers are somebody
/// else's there, IPv6 ones out of reach. Explicit servers are taken as they are.
pub fn for_container(host: &ResolvConf, overrides: &Overrides) -> Made {
    let mut warnings = Vec::new();
    let nameservers = if overrides.dns.is_empty() {
        reachable(&host.nameservers, &mut warnings)
    } else {
        overrides.dns.clone()
    };
    let search = pick(&overrides.search, &host.search).into_iter().filter(|d| d != ".").collect();
    let options = pick(&overrides.options, &host.options);
    Made { text: ResolvConf { nameservers, search, options }.render(), warnings }
}

/// The file of a container in the host's own network namespace: every server of the host is
/// reachable there.
pub fn for_host_network(host: &ResolvConf, overrides: &Overrides) -> Made {
    let search = pick(&overrides.search, &host.search).into_iter().filter(|d| d != ".").collect();
    let nameservers = if overrides.dns.is_empty() { host.nameservers.clone() } else { overrides.dns.clone() };
    let conf = ResolvConf { nameservers, search, options: pick(&overrides.options, &host.options) };
    Made { text: conf.render(), warnings: Vec::new() }
}

fn pick(own: &[String], host: &[String]) -> Vec<String> {
    if own.is_empty() { host.to_vec() } else { own.to_vec() }
}

fn reachable(servers: &[IpAddr], warnings: &mut Vec<String>) -> Vec<IpAddr> {
    let (kept, left): (Vec<IpAddr>, Vec<IpAddr>) =
        servers.iter().partition(|s| s.is_ipv4() && !s.is_loopback() && !s.is_unspecified());
    if !kept.is_empty() {
        return kept;
    }
    let list = |all: &[IpAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let fallback: Vec<IpAddr> = FALLBACK.map(IpAddr::from).to_vec();
    warnings.push(if left.is_empty() {
        format!("the host names no DNS server; containers ask {} (choose others with --dns)", list(&fallback))
    } else {
        format!(
            "containers cannot reach the host's DNS servers ({}); they ask {} (choose others with --dns)",
            list(&left),
            list(&fallback)
        )
    });
    fallback
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(host: &str, overrides: Overrides) -> Made {
        for_container(&ResolvConf::parse(host), &overrides)
    }

    #[test]
    fn the_hosts_file_comes_through() {
        let made = made(
            "# by hand\nnameserver 10.0.0.1\nnameserver fe80::1%eth0\ndomain a.example\nsearch b.example c.example\noptions ndots:2\noptions edns0\n",
            Overrides::default(),
        );
        assert_eq!(made.text, "nameserver 10.0.0.1\nsearch b.example c.example\noptions ndots:2 edns0\n");
        assert!(made.warnings.is_empty());
    }

    #[test]
    fn loopback_and_ipv6_servers_are_dropped() {
        let kept = made(
            "nameserver 127.0.0.1\nnameserver ::1\nnameserver 2001:db8::1\nnameserver 9.9.9.9\n",
            Overrides::default(),
        );
        assert_eq!((kept.text.as_str(), kept.warnings.len()), ("nameserver 9.9.9.9\n", 0));
        let none = made("nameserver 127.0.0.1\n", Overrides::default());
        assert_eq!(none.text, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
        assert!(none.warnings[0].contains("127.0.0.1"), "{:?}", none.warnings);
        assert_eq!(made("", Overrides::default()).warnings.len(), 1);
    }

    #[test]
    fn the_users_words_win() {
        let overrides = Overrides {
            dns: vec!["127.0.0.1".parse().unwrap()],
            search: vec![".".into()],
            options: vec!["ndots:0".into()],
        };
        let host = "nameserver 10.0.0.1\nsearch corp.example\noptions edns0\n";
        assert_eq!(made(host, overrides).text, "nameserver 127.0.0.1\noptions ndots:0\n");
        let host_network =
            for_host_network(&ResolvConf::parse("nameserver 127.0.0.53\n"), &Overrides::default());
        assert_eq!(host_network.text, "nameserver 127.0.0.53\n");
    }

    #[test]
    fn the_stub_is_looked_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (host, resolved) = (dir.path().join("host"), dir.path().join("resolved"));
        assert_eq!(read_host(&host, &resolved).unwrap(), ResolvConf::default());
        fs::write(&host, "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n").unwrap();
        let stub = read_host(&host, &resolved).unwrap();
        assert_eq!(for_container(&stub, &Overrides::default()).warnings.len(), 1);
        fs::write(&resolved, "nameserver 192.168.1.1\nsearch lan\n").unwrap();
        assert_eq!(read_host(&host, &resolved).unwrap().render(), "nameserver 192.168.1.1\nsearch lan\n");
        fs::write(&host, "nameserver 127.0.0.53\nnameserver 1.1.1.1\n").unwrap();
        assert_eq!(read_host(&host, &resolved).unwrap().nameservers.len(), 2, "not the stub alone");
    }
}
