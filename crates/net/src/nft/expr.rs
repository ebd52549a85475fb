//! The expressions that our rules are made of.

use ipnet::Ipv4Net;
use seacow_sys::netlink::Payload;

use super::nl;
use super::set::link_name;

/// Incoming or outgoing interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// `iifname`
    In,
    /// `oifname`
    Out,
}

/// What connection tracking knows of a packet's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtState {
    /// `ct state established,related`: an answer.
    Answer,
    /// `ct status dnat`: to a published port.
    DestinationTranslated,
}

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This chain lets it pass.
    Accept,
    /// Gone.
    Drop,
    /// This chain judges, and what it leaves undecided comes back.
    Jump(String),
}

impl Verdict {
    /// As data of an expression or of a map's element.
    pub(super) fn write(&self, m: &mut Payload<'_>) {
        m.nested(nl::DATA_VERDICT, |m| {
            let code = match self {
                Self::Accept => nl::NF_ACCEPT,
                Self::Drop => nl::NF_DROP,
                Self::Jump(_) => nl::NFT_JUMP.cast_unsigned(),
            };
            m.attr_be32(nl::VERDICT_CODE, code);
            if let Self::Jump(chain) = self {
                m.attr_text(nl::VERDICT_CHAIN, chain);
            }
        });
    }
}

/// One statement of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// The interface has this name (`true`) or another (`false`).
    Name(Interface, bool, String),
    /// The IPv4 source lies in this network.
    Source(Ipv4Net),
    /// The IPv4 destination lies in this network.
    Destination(Ipv4Net),
    /// The destination is an address of this host.
    ToThisHost,
    /// What the map of links says of the link.
    LinkMap(Interface, &'static str),
    /// Where the map of ports leads, there the packet goes. It says whether addresses are part of the key.
    PortMap(&'static str, bool),
    /// The connection is so.
    Ct(CtState),
    /// The end.
    Verdict(Verdict),
    /// Source becomes the outgoing interface's address.
    Masquerade,
}

/// 16-byte register 1, and the verdict register.
const REG_1: u32 = 1;
const REG_VERDICT: u32 = 0;
/// The 4-byte registers that rows of values are made in.
const REG_ROW: [u32; 3] = [8, 9, 10];
const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;

impl Expr {
    pub(super) fn write(&self, m: &mut Payload<'_>) {
        match self {
            Self::Name(side, same, name) => {
                load_name(m, *side);
                // The register holds IFNAMSIZ bytes, zero-filled; comparing all of them makes it
                // an exact match, not a prefix.
                compare(m, if *same { CMP_EQ } else { CMP_NEQ }, &link_name(name));
            }
            Self::Source(net) => in_network(m, SOURCE_OFFSET, *net),
            Self::Destination(net) => in_network(m, DESTINATION_OFFSET, *net),
            Self::ToThisHost => {
                expression(m, "fib", |m| {
                    const RESULT_ADDRESS_TYPE: u32 = 3;
                    const OF_DESTINATION: u32 = 2;
                    m.attr_be32(1, REG_1).attr_be32(2, RESULT_ADDRESS_TYPE).attr_be32(3, OF_DESTINATION);
                });
                compare(m, CMP_EQ, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
            }
            Self::LinkMap(side, map) => {
                load_name(m, *side);
                lookup(m, map, REG_1, REG_VERDICT);
            }
            Self::PortMap(map, with_address) => translate(m, map, *with_address),
            Self::Ct(CtState::Answer) => ct(m, 0, 2 | 4),
            Self::Ct(CtState::DestinationTranslated) => ct(m, 2, 1 << 5),
            Self::Verdict(verdict) => expression(m, "immediate", |m| {
                m.attr_be32(1, REG_VERDICT).nested(2, |m| verdict.write(m));
            }),
            Self::Masquerade => expression(m, "masq", |_| {}),
        }
    }
}

fn expression(m: &mut Payload<'_>, name: &str, fill: impl FnOnce(&mut Payload<'_>)) {
    m.nested(nl::LIST_ELEM, |m| {
        m.attr_text(1, name).nested(2, fill);
    });
}

fn data(m: &mut Payload<'_>, kind: u16, value: &[u8]) {
    m.nested(kind, |m| {
        m.attr(1, value);
    });
}

fn compare(m: &mut Payload<'_>, op: u32, value: &[u8]) {
    expression(m, "cmp", |m| {
        m.attr_be32(1, REG_1).attr_be32(2, op);
        data(m, 3, value);
    });
}

fn mask(m: &mut Payload<'_>, mask: [u8; 4]) {
    expression(m, "bitwise", |m| {
        m.attr_be32(1, REG_1).attr_be32(2, REG_1).attr_be32(3, 4);
        data(m, 4, &mask);
        data(m, 5, &[0; 4]);
    });
}

fn load_name(m: &mut Payload<'_>, side: Interface) {
    let key = match side {
        Interface::In => 6,
        Interface::Out => 7,
    };
    expression(m, "meta", |m| {
        m.attr_be32(1, REG_1).attr_be32(2, key);
    });
}

fn lookup(m: &mut Payload<'_>, map: &str, key: u32, to: u32) {
    expression(m, "lookup", |m| {
        m.attr_text(1, map).attr_be32(2, key).attr_be32(3, to);
    });
}

const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const SOURCE_OFFSET: u32 = 12;
const DESTINATION_OFFSET: u32 = 16;
/// Of TCP, UDP and SCTP alike.
const DESTINATION_PORT_OFFSET: u32 = 2;

fn load(m: &mut Payload<'_>, to: u32, header: u32, offset: u32, len: u32) {
    expression(m, "payload", |m| {
        m.attr_be32(1, to).attr_be32(2, header).attr_be32(3, offset).attr_be32(4, len);
    });
}

/// Loads an address of the IPv4 header, masks it, compares.
fn in_network(m: &mut Payload<'_>, offset: u32, net: Ipv4Net) {
    load(m, REG_1, NETWORK_HEADER, offset, 4);
    mask(m, net.netmask().octets());
    compare(m, CMP_EQ, &net.network().octets());
}

/// Loads protocol, address if wanted, and port; the map's answer, an address and a port, is the destination.
fn translate(m: &mut Payload<'_>, map: &str, with_address: bool) {
    const PROTOCOL: u32 = 16;
    const DESTINATION: u32 = 1;
    let [first, second, third] = REG_ROW;
    expression(m, "meta", |m| {
        m.attr_be32(1, first).attr_be32(2, PROTOCOL);
    });
    let port = if with_address {
        load(m, second, NETWORK_HEADER, DESTINATION_OFFSET, 4);
        third
    } else {
        second
    };
    load(m, port, TRANSPORT_HEADER, DESTINATION_PORT_OFFSET, 2);
    lookup(m, map, first, first);
    expression(m, "nat", |m| {
        m.attr_be32(1, DESTINATION).attr_be32(2, libc::NFPROTO_IPV4.cast_unsigned());
        m.attr_be32(3, first).attr_be32(5, second);
    });
}

/// Some of these bits of a connection tracking word (host order) are set.
fn ct(m: &mut Payload<'_>, key: u32, bits: u32) {
    expression(m, "ct", |m| {
        m.attr_be32(1, REG_1).attr_be32(2, key);
    });
    mask(m, bits.to_ne_bytes());
    compare(m, CMP_NEQ, &[0; 4]);
}
