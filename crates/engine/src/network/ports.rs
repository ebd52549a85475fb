//! Published ports: what a container asks for, and what it has while it runs.
//!
//! A published port is an element of a map in the nftables table, and a socket of this engine that is
//! bound to it and never used: so no program of the host takes it, and one that has it already is
//! found. Packets never come to the socket, because they are translated before.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use seacow_net::holder::{Holder, holder};
use seacow_net::nat::{self, Protocol, Published};
use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::docker::host_config::HostConfig;
use serde::{Deserialize, Serialize};

use super::{Mode, NetworkError};
use crate::container::{Container, ContainerError, Record};
use crate::error::EngineError;
use crate::{Engine, blocking};

/// A port that shall be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    port: u16,
    protocol: Protocol,
    /// Where; every address of the host without.
    at: Option<Ipv4Addr>,
    /// Any of these; any that is free without.
    host: Option<RangeInclusive<u16>>,
}

/// A port that is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The container's.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Address of the host; all of them without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Ipv4Addr>,
    /// Port of the host.
    pub host: u16,
}

impl Mapping {
    /// As `inspect` has it.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.at.unwrap_or(Ipv4Addr::UNSPECIFIED)
    }

    fn published(&self, address: Ipv4Addr) -> Option<Published> {
        Some(Published {
            protocol: protocol(&self.protocol)?,
            at: self.at,
            port: self.host,
            to: (address, self.port),
        })
    }
}

/// The sockets that keep a container's ports from others.
#[derive(Debug, Default)]
pub(crate) struct Held(#[expect(dead_code, reason = "they are there to be open")] Vec<OwnedFd>);

/// Why a port cannot be published, in Docker's words as far as it has some.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Neither number nor range, of a container's port.
    #[error("invalid port specification: {0:?}")]
    Container(String),
    /// Neither number nor range, of the host's.
    #[error(
        "invalid publish opts format (should be name=value but got {0:?}): a host's port is a number from 0 to 65535 or a range such as 8000-8010"
    )]
    Host(String),
    /// No address.
    #[error("invalid IP address {0:?} to publish a port at")]
    Address(String),
    /// IPv6.
    #[error(
        "publishing a port at the IPv6 address {0} is not implemented in seacow yet: containers have IPv4 addresses only"
    )]
    Ipv6(std::net::Ipv6Addr),
    /// The container has no network of its own.
    #[error("conflicting options: port publishing and the container type network mode")]
    SharedNetwork,
    /// Another container of ours has it.
    #[error("Bind for {at}:{port} failed: port is already allocated (by container {holder})")]
    Allocated {
        /// Where.
        at: Ipv4Addr,
        /// Which.
        port: u16,
        /// Whose it is.
        holder: String,
    },
    /// A program of the host has it.
    #[error("failed to bind host port {at}:{port}/{protocol}: address already in use{}", who(.holder.as_ref()))]
    InUse {
        /// Where.
        at: Ipv4Addr,
        /// Which.
        port: u16,
        /// Of what.
        protocol: String,
        /// Whose it is.
        holder: Option<Holder>,
    },
    /// All ports of a range are taken.
    #[error("Bind for {at} failed: all ports of {first}-{last} are allocated")]
    NoneFree {
        /// Where.
        at: Ipv4Addr,
        /// First of the range.
        first: u16,
        /// Last of the range.
        last: u16,
    },
    /// The kernel refuses.
    #[error("failed to bind host port {at}:{port}/{protocol}: {source}")]
    Bind {
        /// Where.
        at: Ipv4Addr,
        /// Which.
        port: u16,
        /// Of what.
        protocol: String,
        /// The kernel's answer.
        source: rustix::io::Errno,
    },
}

fn who(holder: Option<&Holder>) -> String {
    holder.map(|holder| format!(", {holder}")).unwrap_or_default()
}

impl PortError {
    /// Whether the request itself is wrong.
    pub(crate) fn class(&self) -> seacow_spec::ErrorClass {
        use seacow_spec::ErrorClass;
        match self {
            Self::Container(_) | Self::Host(_) | Self::Address(_) | Self::SharedNetwork => {
                ErrorClass::InvalidArgument
            }
            Self::Ipv6(_) => ErrorClass::NotImplemented,
            // As dockerd has it: a failed start, for which a client's exit status is 125.
            Self::Allocated { .. } | Self::InUse { .. } | Self::NoneFree { .. } | Self::Bind { .. } => {
                ErrorClass::Internal
            }
        }
    }
}

fn protocol(text: &str) -> Option<Protocol> {
    match text {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// `80/tcp`, `80`, `8000-8010/udp`.
fn container_ports(text: &str) -> Result<(RangeInclusive<u16>, Protocol), PortError> {
    let wrong = || PortError::Container(text.to_owned());
    let (ports, kind) = text.split_once('/').unwrap_or((text, "tcp"));
    let ports = range(ports).filter(|ports| *ports.start() > 0).ok_or_else(wrong)?;
    Ok((ports, protocol(&kind.to_ascii_lowercase()).ok_or_else(wrong)?))
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

/// What a container wants published. `anywhere` is the address where it does not name one.
pub(crate) fn wishes(
    config: &ContainerConfig,
    host: &HostConfig,
    anywhere: Option<Ipv4Addr>,
) -> Result<Vec<Wish>, PortError> {
    let mut wishes = Vec::new();
    for (spec, bindings) in &host.port_bindings {
        let (ports, protocol) = container_ports(spec)?;
        for binding in bindings.iter().flatten() {
            let at = address(&binding.host_ip, anywhere)?;
            let wanted = host_ports(&binding.host_port)?;
            for (index, port) in ports.clone().enumerate() {
                wishes.push(Wish { port, protocol, at, host: nth(wanted.as_ref(), &ports, index) });
            }
        }
    }
    if host.publish_all_ports {
        for spec in config.exposed_ports.iter().flatten().map(|(spec, _)| spec) {
            let (ports, protocol) = container_ports(spec)?;
            for port in ports {
                if !wishes.iter().any(|wish| wish.port == port && wish.protocol == protocol) {
                    wishes.push(Wish { port, protocol, at: anywhere, host: None });
                }
            }
        }
    }
    Ok(wishes)
}

/// A range of the host's for as large a range of the container's goes one by one, any other is a choice.
fn nth(
    host: Option<&RangeInclusive<u16>>,
    ports: &RangeInclusive<u16>,
    index: usize,
) -> Option<RangeInclusive<u16>> {
    let host = host?;
    if host.len() == ports.len() {
        let port = host.clone().nth(index)?;
        return Some(port..=port);
    }
    Some(host.clone())
}

fn address(text: &str, anywhere: Option<Ipv4Addr>) -> Result<Option<Ipv4Addr>, PortError> {
    if text.is_empty() {
        return Ok(anywhere);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match bare.parse() {
        Ok(IpAddr::V4(address)) => Ok(Some(address).filter(|address| !address.is_unspecified())),
        Ok(IpAddr::V6(address)) => Err(PortError::Ipv6(address)),
        Err(_) => Err(PortError::Address(text.to_owned())),
    }
}

/// Nothing and `0` mean any port.
fn host_ports(text: &str) -> Result<Option<RangeInclusive<u16>>, PortError> {
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let ports = range(text).filter(|ports| *ports.start() > 0);
    ports.map(Some).ok_or_else(|| PortError::Host(text.to_owned()))
}

impl Wish {
    /// Takes a port of the host.
    fn take(&self, containers: &[Arc<Container>]) -> Result<(Mapping, Option<OwnedFd>), PortError> {
        let at = self.at.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let kind = name(self.protocol);
        let mapping = |host| Mapping { port: self.port, protocol: kind.into(), at: self.at, host };
        if self.protocol == Protocol::Sctp {
            // Few kernels have it; the map's element alone says whose it is.
            return self.take_unheld(at, containers).map(|host| (mapping(host), None));
        }
        let Some(wanted) = &self.host else {
            let (socket, port) = self.bind(at, 0).map_err(|source| self.failed(at, 0, source, containers))?;
            return Ok((mapping(port), Some(socket)));
        };
        let one = wanted.start() == wanted.end();
        for port in wanted.clone() {
            match self.bind(at, port) {
                Ok((socket, port)) => return Ok((mapping(port), Some(socket))),
                Err(rustix::io::Errno::ADDRINUSE) if !one => {}
                Err(source) => return Err(self.failed(at, port, source, containers)),
            }
        }
        Err(PortError::NoneFree { at, first: *wanted.start(), last: *wanted.end() })
    }

    fn take_unheld(&self, at: Ipv4Addr, containers: &[Arc<Container>]) -> Result<u16, PortError> {
        const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;
        let wanted = self.host.clone().unwrap_or(EPHEMERAL);
        let (first, last) = (*wanted.start(), *wanted.end());
        let mut taken = None;
        for port in wanted {
            match self.our_holder(port, containers) {
                None => return Ok(port),
                holder => taken = holder,
            }
        }
        Err(match taken {
            Some(holder) if first == last => PortError::Allocated { at, port: first, holder },
            _ => PortError::NoneFree { at, first, last },
        })
    }

    /// A socket that has the port, and which it is.
    fn bind(&self, at: Ipv4Addr, port: u16) -> Result<(OwnedFd, u16), rustix::io::Errno> {
        match self.bound(at, port, false) {
            // Connections of a server that has just ended.
            Err(rustix::io::Errno::ADDRINUSE)
                if holder(self.protocol, self.at, port) == Some(Holder::Closing) =>
            {
                self.bound(at, port, true)
            }
            bound => bound,
        }
    }

    fn bound(&self, at: Ipv4Addr, port: u16, again: bool) -> Result<(OwnedFd, u16), rustix::io::Errno> {
        let (kind, protocol) = match self.protocol {
            Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
            Protocol::Tcp | Protocol::Sctp => (SocketType::STREAM, ipproto::TCP),
        };
        let socket =
            rustix::net::socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, Some(protocol))?;
        if again {
            rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        rustix::net::bind(&socket, &SocketAddrV4::new(at, port))?;
        let bound: SocketAddrV4 = rustix::net::getsockname(&socket)?.try_into()?;
        Ok((socket, bound.port()))
    }

    fn failed(
        &self,
        at: Ipv4Addr,
        port: u16,
        source: rustix::io::Errno,
        containers: &[Arc<Container>],
    ) -> PortError {
        let protocol = name(self.protocol).to_owned();
        if source != rustix::io::Errno::ADDRINUSE {
            return PortError::Bind { at, port, protocol, source };
        }
        match self.our_holder(port, containers) {
            Some(holder) => PortError::Allocated { at, port, holder },
            None => PortError::InUse { at, port, protocol, holder: holder(self.protocol, self.at, port) },
        }
    }

    /// Name of our container that has this port.
    fn our_holder(&self, port: u16, containers: &[Arc<Container>]) -> Option<String> {
        let meets = |mapping: &Mapping| {
            mapping.host == port
                && mapping.protocol == name(self.protocol)
                && (mapping.at.is_none() || self.at.is_none() || mapping.at == self.at)
        };
        containers.iter().find_map(|container| {
            let cell = container.cell();
            let endpoint = cell.record.endpoint.as_ref()?;
            endpoint.ports.iter().any(meets).then(|| cell.record.name.clone())
        })
    }
}

fn not_published(container: &Container, source: ContainerError) -> ContainerError {
    let cell = container.cell();
    let endpoint = cell.record.endpoint.as_ref().map(|endpoint| endpoint.id.clone());
    ContainerError::Publish {
        name: cell.record.name.clone(),
        endpoint: endpoint.unwrap_or_default(),
        source: Box::new(source),
    }
}

impl Engine {
    /// Refuses at create what would be refused at each start.
    pub(crate) fn check_ports(&self, record: &Record) -> Result<(), ContainerError> {
        let wishes = wishes(&record.config, &record.host_config, self.config().publish_at)?;
        match record.network {
            Mode::Container(_) if !wishes.is_empty() => Err(PortError::SharedNetwork.into()),
            _ => Ok(()),
        }
    }

    /// Publishes a container's ports; it is connected, and its program does not run yet.
    pub(crate) async fn publish(&self, container: &Arc<Container>) -> Result<(), EngineError> {
        let wishes = self.wishes_of(container)?;
        if wishes.is_empty() {
            return Ok(());
        }
        let (engine, subject) = (self.clone(), Arc::clone(container));
        let published = blocking::run("publish ports", move || engine.publish_now(&subject, &wishes)).await?;
        published.map_err(|source| not_published(container, source).into())
    }

    /// Publishes the ports of a clone that runs, somewhere where it is free. Blocks for some 0.1 ms where
    /// there are any.
    pub(crate) fn publish_clone(&self, container: &Container) -> Result<(), EngineError> {
        let wishes = self.wishes_of(container)?;
        if wishes.is_empty() {
            return Ok(());
        }
        self.publish_now(container, &wishes).map_err(|source| not_published(container, source).into())
    }

    fn wishes_of(&self, container: &Container) -> Result<Vec<Wish>, ContainerError> {
        let cell = container.cell();
        let record = &cell.record;
        if record.endpoint.is_none() {
            return Ok(Vec::new());
        }
        Ok(wishes(&record.config, &record.host_config, self.config().publish_at)?)
    }

    fn publish_now(&self, container: &Container, wishes: &[Wish]) -> Result<(), ContainerError> {
        let containers = self.0.containers.all();
        let mut taken = Vec::with_capacity(wishes.len());
        for wish in wishes {
            taken.push(wish.take(&containers)?);
        }
        let (mappings, sockets): (Vec<Mapping>, Vec<Option<OwnedFd>>) = taken.into_iter().unzip();
        let (address, link) = {
            let cell = container.cell();
            let Some(endpoint) = &cell.record.endpoint else { return Ok(()) };
            (endpoint.address, super::bridge::link(endpoint, self.bridge()))
        };
        let published: Vec<Published> = mappings.iter().filter_map(|m| m.published(address)).collect();
        nat::publish(&self.config().nft_table, &published).map_err(NetworkError::from)?;
        if let Err(error) = link.reflect() {
            tracing::warn!(id = container.id.short(), %error, "a container may not reach its own published port");
        }
        let mut cell = container.cell();
        if let Some(endpoint) = &mut cell.record.endpoint {
            endpoint.ports = mappings;
        }
        cell.held_ports = Held(sockets.into_iter().flatten().collect());
        Ok(())
    }

    /// Gives address and ports back, so that the next may have them when this returns. Some 0.1 ms where
    /// there are ports: nobody who starts the same again may find them taken.
    pub(crate) fn disconnect(&self, endpoint: &super::Endpoint, held: Held) {
        let published: Vec<Published> =
            endpoint.ports.iter().filter_map(|mapping| mapping.published(endpoint.address)).collect();
        if let Err(error) = nat::unpublish(&self.config().nft_table, &published) {
            tracing::warn!(%error, address = %endpoint.address, "ports stay published");
        }
        drop(held);
        self.bridge().release(endpoint.address);
    }

    /// After an earlier engine: what runs has its ports, and nobody else has any.
    pub(crate) async fn publish_again(&self) -> Result<(), EngineError> {
        let engine = self.clone();
        blocking::run("publish ports again", move || engine.publish_again_now()).await??;
        Ok(())
    }

    fn publish_again_now(&self) -> Result<(), NetworkError> {
        let mut all = Vec::new();
        for container in self.0.containers.all() {
            let mut cell = container.cell();
            let Some(endpoint) = &cell.record.endpoint else { continue };
            let (address, mappings) = (endpoint.address, endpoint.ports.clone());
            let mut held = Vec::new();
            for mapping in &mappings {
                let Some(protocol) = protocol(&mapping.protocol) else { continue };
                let wish = Wish {
                    port: mapping.port,
                    protocol,
                    at: mapping.at,
                    host: Some(mapping.host..=mapping.host),
                };
                match wish.bind(mapping.address(), mapping.host) {
                    Ok((socket, _)) => held.push(socket),
                    Err(error) if protocol != Protocol::Sctp => {
                        tracing::warn!(
                            id = container.id.short(), port = mapping.host, %error,
                            "a published port is not kept from programs of the host"
                        );
                    }
                    Err(_) => {}
                }
                all.extend(mapping.published(address));
            }
            cell.held_ports = Held(held);
        }
        Ok(nat::publish_only(&self.config().nft_table, &all)?)
    }
}

#[cfg(test)]
mod tests {
    use seacow_spec::docker::network::PortBinding;

    use super::*;

    fn asked(spec: &str, ip: &str, port: &str) -> Result<Vec<Wish>, PortError> {
        let binding = PortBinding { host_ip: ip.into(), host_port: port.into() };
        let host = HostConfig {
            port_bindings: [(spec.to_owned(), Some(vec![binding]))].into(),
            ..HostConfig::default()
        };
        wishes(&ContainerConfig::default(), &host, None)
    }

    #[test]
    fn forms_of_bindings() {
        let wish = |port, at, host| Wish { port, protocol: Protocol::Tcp, at, host };
        assert_eq!(asked("80/tcp", "", "8080").unwrap(), [wish(80, None, Some(8080..=8080))]);
        assert_eq!(asked("80", "0.0.0.0", "").unwrap(), [wish(80, None, None)]);
        assert_eq!(asked("80", "", "0").unwrap(), [wish(80, None, None)]);
        let local = Some(Ipv4Addr::LOCALHOST);
        assert_eq!(asked("80/tcp", "127.0.0.1", "8000-8010").unwrap(), [wish(80, local, Some(8000..=8010))]);
        assert_eq!(
            asked("80-81/tcp", "", "8080-8081").unwrap(),
            [wish(80, None, Some(8080..=8080)), wish(81, None, Some(8081..=8081))]
        );
    }

    #[test]
    fn what_cannot_be_read() {
        for (spec, ip, port) in [
            ("0/tcp", "", "1"),
            ("70000/tcp", "", "1"),
            ("80/icmp", "", "1"),
            ("80/tcp", "host", "1"),
            ("80/tcp", "", "70000"),
            ("80/tcp", "", "9-8"),
            ("80/tcp", "::1", "80"),
        ] {
            asked(spec, ip, port).unwrap_err();
        }
    }

    #[test]
    fn all_that_is_exposed() {
        let config = ContainerConfig {
            exposed_ports: Some(
                ["80/tcp", "53/udp"].map(|port| (port.to_owned(), Default::default())).into(),
            ),
            ..ContainerConfig::default()
        };
        let mut host = HostConfig { publish_all_ports: true, ..HostConfig::default() };
        assert_eq!(wishes(&config, &host, None).unwrap().len(), 2);
        let binding = PortBinding { host_ip: String::new(), host_port: "8080".into() };
        host.port_bindings = [("80/tcp".to_owned(), Some(vec![binding]))].into();
        let wishes = wishes(&config, &host, Some(Ipv4Addr::LOCALHOST)).unwrap();
        assert_eq!(wishes.len(), 2, "{wishes:?}");
        assert!(wishes.iter().all(|wish| wish.at == Some(Ipv4Addr::LOCALHOST)));
    }
}
