//! The nftables table of all networks of one engine: who may reach containers, published ports, masquerading.
//!
//! ```text
//! table ip seacow {
//!   map to    { type ifname : verdict; }              # seacow0 : jump to-seacow0
//!   map from  { type ifname : verdict; }
//!   map leave { type ifname : verdict; }
//!   map back  { type ifname : verdict; }
//!   map ports       { type inet_proto . inet_service : ipv4_addr . inet_service; }
//!   map ports_of_ip { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
//!
//!   chain guard       { type filter hook prerouting priority raw;     # nobody beyond says to be this host
//!     iifname != "lo" ip daddr 127.0.0.0/8 drop }
//!   chain prerouting  { type nat hook prerouting priority dstnat;     # published ports
//!     fib daddr type local dnat to meta l4proto . ip daddr . th dport map @ports_of_ip
//!     fib daddr type local dnat to meta l4proto . th dport map @ports }
//!   chain output      { type nat hook output priority dstnat; …the same }
//!   chain forward     { type filter hook forward priority filter;
//!     oifname vmap @to
//!     iifname vmap @from }
//!   chain postrouting { type nat hook postrouting priority srcnat;
//!     ip saddr 127.0.0.0/8 ct status dnat masquerade                  # this host, through its loopback
//!     iifname vmap @leave
//!     oifname vmap @back }
//!
//!   chain to-seacow0    { ct state established,related accept; iifname "seacow0" accept;
//!                         ct status dnat accept; drop }               # nobody else starts a connection
//!   chain from-seacow0  { accept }                                    # of an internal network: drop
//!   chain leave-seacow0 { ip saddr 172.17.0.0/16 oifname != "seacow0" masquerade }
//!   chain back-seacow0  { ip saddr 172.17.0.0/16 ct status dnat masquerade }  # to a neighbour's published port
//! }
//! ```
//!
//! Networks are isolated from each other because each refuses what it did not ask for. One more costs
//! four chains and four elements, one more published port one element. An `accept` here ends only
//! this table's chain: a drop in somebody else's table still wins, which is what [`crate::diagnose`]
//! looks for.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use seacow_spec::error::{Classified, ErrorClass};
use seacow_sys::Errno;
use seacow_sys::netlink;

use crate::conntrack;
use crate::nft::{
    self, ChainKind, CtState, Element, Expr, Family, Hook, Interface, MapKind, Transaction, Verdict,
};

/// The firewall could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum NatError {
    /// A network's part.
    #[error("set up nftables table ip {table} for bridge {bridge}")]
    Apply {
        /// The table.
        table: String,
        /// The bridge.
        bridge: String,
        /// The kernel's answer.
        source: netlink::Error,
    },
    /// Published ports.
    #[error("publish ports in nftables table ip {table}")]
    Publish {
        /// The table.
        table: String,
        /// The kernel's answer.
        source: netlink::Error,
    },
    /// Removing.
    #[error("remove nftables table ip {table}, or a network's part of it")]
    Remove {
        /// The table.
        table: String,
        /// The kernel's answer.
        source: netlink::Error,
    },
}

impl Classified for NatError {
    fn class(&self) -> ErrorClass {
        let (Self::Apply { source, .. } | Self::Publish { source, .. } | Self::Remove { source, .. }) = self;
        match source.errno() {
            Some(Errno::PERM | Errno::ACCESS) => ErrorClass::Forbidden,
            // A kernel without nf_tables, or without one of its expressions.
            Some(Errno::PROTONOSUPPORT | Errno::OPNOTSUPP | Errno::NOENT) => ErrorClass::Unavailable,
            _ => ErrorClass::Internal,
        }
    }
}

/// What the table says of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The table's name.
    pub table: String,
    /// The bridge.
    pub bridge: String,
    /// Its subnet.
    pub subnet: Ipv4Net,
    /// Whether containers' packets leave with the host's address.
    pub masquerade: bool,
    /// Whether nothing leaves and nothing comes from beyond the bridge.
    pub internal: bool,
    /// Whether containers on it reach each other.
    pub icc: bool,
}

/// The maps that lead from a link's name to a network's chains, and what the chains begin with.
const LINK_MAPS: [&str; 4] = ["to", "from", "leave", "back"];
const PORTS: &str = "ports";
const PORTS_OF_ADDRESS: &str = "ports_of_ip";

impl Rules {
    /// Makes the network's part exactly so, whatever was in it, in one transaction, and the table around
    /// it where it is missing. Published ports stay.
    pub fn apply(&self) -> Result<(), NatError> {
        let mut transaction = Transaction::new(Family::Ip);
        base(&mut transaction, &self.table);
        for map in LINK_MAPS {
            let chain = self.chain(map);
            transaction.add_jump_chain(&self.table, &chain);
            transaction.flush_chain(&self.table, &chain);
            transaction.add_elements(&self.table, map, &[self.element(map)]);
        }
        let rules =
            [("to", self.to()), ("from", self.from()), ("leave", self.leave()), ("back", self.back())];
        for (map, rules) in rules {
            for (comment, rule) in rules {
                transaction.add_rule(&self.table, &self.chain(map), comment, &rule);
            }
        }
        transaction.commit().map_err(|source| NatError::Apply {
            table: self.table.clone(),
            bridge: self.bridge.clone(),
            source,
        })
    }

    fn chain(&self, map: &str) -> String {
        format!("{map}-{}", self.bridge)
    }

    fn element(&self, map: &str) -> Element {
        Element::Link { name: self.bridge.clone(), verdict: Verdict::Jump(self.chain(map)) }
    }

    fn to(&self) -> Vec<(&'static str, Vec<Expr>)> {
        let among = || Expr::Name(Interface::In, true, self.bridge.clone());
        let mut rules = Vec::new();
        if !self.internal {
            rules.push(("answers to containers", vec![Expr::Ct(CtState::Answer), accept()]));
        }
        // Between ports of one bridge packets are routed only on the way to a published port, and where
        // the host lets nftables see what bridges pass.
        if self.icc {
            rules.push(("among containers", vec![among(), accept()]));
        } else {
            rules.push(("not among containers", vec![among(), drop()]));
        }
        if !self.internal {
            let translated = Expr::Ct(CtState::DestinationTranslated);
            rules.push(("published ports", vec![translated, accept()]));
        }
        rules.push(("unasked", vec![drop()]));
        rules
    }

    fn from(&self) -> Vec<(&'static str, Vec<Expr>)> {
        if self.internal {
            vec![("an internal network", vec![drop()])]
        } else {
            vec![("from containers", vec![accept()])]
        }
    }

    fn leave(&self) -> Vec<(&'static str, Vec<Expr>)> {
        if !self.masquerade || self.internal {
            return Vec::new();
        }
        let outside = Expr::Name(Interface::Out, false, self.bridge.clone());
        vec![("containers to the outside", vec![Expr::Source(self.subnet), outside, Expr::Masquerade])]
    }

    /// Answers would go straight to the one who asked, from an address that it did not ask.
    fn back(&self) -> Vec<(&'static str, Vec<Expr>)> {
        let translated = Expr::Ct(CtState::DestinationTranslated);
        vec![(
            "to a neighbour's published port",
            vec![Expr::Source(self.subnet), translated, Expr::Masquerade],
        )]
    }

    /// Takes the network's part away; the table goes with its last network.
    pub fn remove(table: &str, bridge: &str) -> Result<(), NatError> {
        let failed = |source| NatError::Remove { table: table.to_owned(), source };
        let chains = nft::chains().map_err(failed)?;
        let ours: Vec<&str> = chains
            .iter()
            .filter(|chain| chain.family == Family::Ip && chain.table == table && chain.base.is_none())
            .map(|chain| chain.name.as_str())
            .collect();
        let of = |map: &str| format!("{map}-{bridge}");
        if !ours.iter().any(|chain| LINK_MAPS.iter().any(|map| *chain == of(map))) {
            // Somebody removed it, or the table is of a release that had one for each bridge.
            return if ours.is_empty() { remove(table) } else { Ok(()) };
        }
        if ours.len() <= LINK_MAPS.len() {
            return remove(table);
        }
        let mut transaction = Transaction::new(Family::Ip);
        for map in LINK_MAPS {
            let element = Element::Link { name: bridge.to_owned(), verdict: Verdict::Jump(of(map)) };
            transaction.delete_elements(table, map, &[element]);
            transaction.delete_chain(table, &of(map));
        }
        transaction.commit().map_err(failed)
    }
}

fn accept() -> Expr {
    Expr::Verdict(Verdict::Accept)
}

fn drop() -> Expr {
    Expr::Verdict(Verdict::Drop)
}

fn loopback() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)
}

/// The table without networks.
fn base(transaction: &mut Transaction, table: &str) {
    transaction.add_table(table);
    for map in LINK_MAPS {
        transaction.add_map(table, map, MapKind::Link);
    }
    transaction.add_map(table, PORTS, MapKind::Port);
    transaction.add_map(table, PORTS_OF_ADDRESS, MapKind::PortOfAddress);
    let published = |comment: &'static str, map, with_address| {
        (comment, vec![Expr::ToThisHost, Expr::PortMap(map, with_address)])
    };
    let ports = || {
        vec![
            published("published at one address", PORTS_OF_ADDRESS, true),
            published("published at all addresses", PORTS, false),
        ]
    };
    let beyond = Expr::Name(Interface::In, false, "lo".to_owned());
    let chains = [
        (
            "guard",
            ChainKind::Raw,
            Hook::Prerouting,
            vec![("this host's own", vec![beyond, Expr::Destination(loopback()), drop()])],
        ),
        ("prerouting", ChainKind::DestinationNat, Hook::Prerouting, ports()),
        ("output", ChainKind::DestinationNat, Hook::Output, ports()),
        (
            "forward",
            ChainKind::Filter,
            Hook::Forward,
            vec![
                ("to containers", vec![Expr::LinkMap(Interface::Out, "to")]),
                ("from containers", vec![Expr::LinkMap(Interface::In, "from")]),
            ],
        ),
        (
            "postrouting",
            ChainKind::SourceNat,
            Hook::Postrouting,
            vec![
                (
                    "this host, through its loopback",
                    vec![
                        Expr::Source(loopback()),
                        Expr::Ct(CtState::DestinationTranslated),
                        Expr::Masquerade,
                    ],
                ),
                ("from containers", vec![Expr::LinkMap(Interface::In, "leave")]),
                ("to containers", vec![Expr::LinkMap(Interface::Out, "back")]),
            ],
        ),
    ];
    for (chain, kind, hook, rules) in chains {
        transaction.add_chain(table, chain, kind, hook);
        transaction.flush_chain(table, chain);
        for (comment, rule) in rules {
            transaction.add_rule(table, chain, comment, &rule);
        }
    }
}

/// Removes a table completely; one that is not there is no error.
pub fn remove(table: &str) -> Result<(), NatError> {
    nft::delete_table(Family::Ip, table)
        .map_err(|source| NatError::Remove { table: table.to_owned(), source })
}

/// Protocols whose ports can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `tcp`
    Tcp,
    /// `udp`
    Udp,
    /// `sctp`
    Sctp,
}

impl Protocol {
    fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// A port of this host that leads to a container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Of both.
    pub protocol: Protocol,
    /// Address of this host; `None` for all of them.
    pub at: Option<Ipv4Addr>,
    /// Port of this host.
    pub port: u16,
    /// The container's address and port.
    pub to: (Ipv4Addr, u16),
}

impl Published {
    fn element(&self) -> (&'static str, Element) {
        let map = if self.at.is_some() { PORTS_OF_ADDRESS } else { PORTS };
        let protocol = self.protocol.number();
        (map, Element::Port { protocol, at: self.at, port: self.port, to: self.to })
    }
}

/// Elements by the map that they belong to.
fn by_map(ports: &[Published]) -> [(&'static str, Vec<Element>); 2] {
    [PORTS, PORTS_OF_ADDRESS].map(|wanted| {
        let of_map = ports.iter().map(Published::element).filter(|(map, _)| *map == wanted);
        (wanted, of_map.map(|(_, element)| element).collect())
    })
}

/// Lets these ports lead to their containers, in one transaction.
pub fn publish(table: &str, ports: &[Published]) -> Result<(), NatError> {
    change(table, ports, |transaction, map, elements| transaction.add_elements(table, map, elements))
}

/// Ends it; every one of them must be published. Connections that are open stay so; what UDP has of
/// them is forgotten.
pub fn unpublish(table: &str, ports: &[Published]) -> Result<(), NatError> {
    change(table, ports, |transaction, map, elements| transaction.delete_elements(table, map, elements))
}

fn change(
    table: &str,
    ports: &[Published],
    step: impl Fn(&mut Transaction, &str, &[Element]),
) -> Result<(), NatError> {
    if ports.is_empty() {
        return Ok(());
    }
    let mut transaction = Transaction::new(Family::Ip);
    for (map, elements) in by_map(ports).iter().filter(|(_, elements)| !elements.is_empty()) {
        step(&mut transaction, map, elements);
    }
    let failed = |source| NatError::Publish { table: table.to_owned(), source };
    transaction.commit().map_err(failed)?;
    let datagrams = ports.iter().filter(|port| port.protocol == Protocol::Udp);
    conntrack::forget_udp(&datagrams.map(|port| port.port).collect::<Vec<_>>()).map_err(failed)
}

/// Publishes these and no others: what an engine that was killed left is gone, what runs stays
/// reachable without a gap.
pub fn publish_only(table: &str, ports: &[Published]) -> Result<(), NatError> {
    let mut transaction = Transaction::new(Family::Ip);
    for (map, elements) in by_map(ports) {
        transaction.flush_map(table, map);
        transaction.add_elements(table, map, &elements);
    }
    transaction.commit().map_err(|source| NatError::Publish { table: table.to_owned(), source })
}
