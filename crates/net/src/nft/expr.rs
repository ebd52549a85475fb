//! The expressions that our rules are made of.

use ipnet::Ipv4Net;
use seacow_sys::netlink::Payload;

use super::nl;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This chain lets it pass.
    Accept,
    /// Gone.
    Drop,
}

/// One statement of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// The interface has this name (`true`) or another (`false`).
    Name(Interface, bool, String),
    /// The IPv4 source lies in this network.
    Source(Ipv4Net),
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
const CMP_EQ: u32 = 0;
const CMP_NEQ: u32 = 1;

impl Expr {
    pub(super) fn write(&self, m: &mut Payload<'_>) {
        match self {
            Self::Name(side, same, name) => {
                let key = match side {
                    Interface::In => 6,
                    Interface::Out => 7,
                };
                expression(m, "meta", |m| {
                    m.attr_be32(1, REG_1).attr_be32(2, key);
                });
                // The register holds IFNAMSIZ bytes, zero-filled; comparing all of them makes it
                // an exact match, not a prefix.
                let mut padded = [0; 16];
                padded.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
                compare(m, if *same { CMP_EQ } else { CMP_NEQ }, &padded);
            }
            Self::Source(net) => source(m, *net),
            Self::Ct(CtState::Answer) => ct(m, 0, 2 | 4),
            Self::Ct(CtState::DestinationTranslated) => ct(m, 2, 1 << 5),
            Self::Verdict(verdict) => {
                let code = match verdict {
                    Verdict::Accept => nl::NF_ACCEPT,
                    Verdict::Drop => nl::NF_DROP,
                };
                expression(m, "immediate", |m| {
                    m.attr_be32(1, REG_VERDICT).nested(2, |m| {
                        m.nested(2, |m| {
                            m.attr_be32(1, code);
                        });
                    });
                });
            }
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

/// Loads the IPv4 header's source, masks it, compares.
fn source(m: &mut Payload<'_>, net: Ipv4Net) {
    const NETWORK_HEADER: u32 = 1;
    const SOURCE_OFFSET: u32 = 12;
    expression(m, "payload", |m| {
        m.attr_be32(1, REG_1).attr_be32(2, NETWORK_HEADER).attr_be32(3, SOURCE_OFFSET).attr_be32(4, 4);
    });
    mask(m, net.netmask().octets());
    compare(m, CMP_EQ, &net.network().octets());
}

/// Some of these bits of a connection tracking word (host order) are set.
fn ct(m: &mut Payload<'_>, key: u32, bits: u32) {
    expression(m, "ct", |m| {
        m.attr_be32(1, REG_1).attr_be32(2, key);
    });
    mask(m, bits.to_ne_bytes());
    compare(m, CMP_NEQ, &[0; 4]);
}
