//! A container's `/etc/hosts` and `/etc/hostname`, byte for byte as Docker writes them.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use seacow_spec::error::{Classified, ErrorClass};

/// What every hosts file begins with.
const LOCAL: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    ff00::0\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

/// An `--add-host` that says nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HostEntryError {
    /// No colon, or no name.
    #[error("bad format for add-host: \"{0}\"")]
    Format(String),
    /// The part behind the name is no address.
    #[error("invalid IP address in add-host: \"{0}\"")]
    Address(String),
    /// `host-gateway` without a network that has one.
    #[error("unable to derive the IP value for host-gateway: the container has no gateway")]
    NoGateway,
}

impl Classified for HostEntryError {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

/// Reads `NAME:ADDRESS` (the address may be IPv6, in brackets or not) or `NAME:host-gateway`.
pub fn parse_entry(text: &str, gateway: Option<Ipv4Addr>) -> Result<(String, IpAddr), HostEntryError> {
    let format = || HostEntryError::Format(text.to_owned());
    let (name, address) = text.split_once(':').ok_or_else(format)?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format());
    }
    if address == "host-gateway" {
        let gateway = gateway.ok_or(HostEntryError::NoGateway)?;
        return Ok((name.to_owned(), gateway.into()));
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    match bare.parse() {
        Ok(ip) => Ok((name.to_owned(), ip)),
        Err(_) => Err(HostEntryError::Address(address.to_owned())),
    }
}

/// The hosts file: the local names, the user's entries, then the container's own address with
/// `hostname.domain`, hostname and aliases. Without an address (network none) the last is left out.
pub fn hosts(
    ip: Option<Ipv4Addr>,
    hostname: &str,
    domain: &str,
    aliases: &[String],
    extra: &[(String, IpAddr)],
) -> String {
    let mut text = LOCAL.to_owned();
    for (name, address) in extra {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    if let Some(ip) = ip {
        let full = (!domain.is_empty()).then(|| format!("{hostname}.{domain}"));
        let names: Vec<&str> =
            full.as_deref().into_iter().chain([hostname]).chain(aliases.iter().map(String::as_str)).collect();
        let _ = writeln!(text, "{ip}\t{}", names.join(" "));
    }
    text
}

/// The hostname file.
pub fn hostname_file(hostname: &str) -> String {
    format!("{hostname}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_writes_it() {
        let ip = Some(Ipv4Addr::new(172, 17, 0, 2));
        let own =
            |domain: &str, aliases: &[String]| hosts(ip, "web", domain, aliases, &[]).split_off(LOCAL.len());
        assert_eq!(own("", &[]), "172.17.0.2\tweb\n");
        assert_eq!(own("lan.example", &["www".into()]), "172.17.0.2\tweb.lan.example web www\n");
        let extra = [("db".to_owned(), "10.0.0.9".parse().unwrap())];
        assert_eq!(hosts(None, "web", "", &[], &extra), format!("{LOCAL}10.0.0.9\tdb\n"));
        assert_eq!(hostname_file("web"), "web\n");
    }

    #[test]
    fn entries() {
        let gateway = Ipv4Addr::new(172, 17, 0, 1);
        let parse = |text: &str| parse_entry(text, Some(gateway));
        assert_eq!(parse("db:10.0.0.9"), Ok(("db".into(), "10.0.0.9".parse().unwrap())));
        assert_eq!(parse("db:[::1]"), parse("db:::1"));
        assert_eq!(parse("host.docker.internal:host-gateway").unwrap().1, gateway);
        assert_eq!(parse_entry("a:host-gateway", None), Err(HostEntryError::NoGateway));
        assert_eq!(parse("db:10.0.0").unwrap_err().to_string(), "invalid IP address in add-host: \"10.0.0\"");
        for bad in ["db", ":10.0.0.9", "a\nb:10.0.0.9", "a b:10.0.0.9"] {
            assert_eq!(parse(bad).unwrap_err(), HostEntryError::Format(bad.into()));
        }
    }
}
