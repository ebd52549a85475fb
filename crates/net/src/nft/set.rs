//! Maps: from ports to containers, and from links to chains.

use std::net::Ipv4Addr;

use seacow_sys::netlink::Payload;

use super::{Transaction, Verdict, nl};

/// What a map leads from and to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapKind {
    /// `inet_proto . inet_service : ipv4_addr . inet_service`: a port of every address.
    Port,
    /// `inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service`: a port of one address.
    PortOfAddress,
    /// `ifname : verdict`.
    Link,
}

/// One element of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Element {
    /// Of a map of ports: protocol number, address, port; where it leads.
    Port {
        /// The protocol's number.
        protocol: u8,
        /// In a map of [`MapKind::PortOfAddress`] only.
        at: Option<Ipv4Addr>,
        /// The port outside.
        port: u16,
        /// The container's address and port.
        to: (Ipv4Addr, u16),
    },
    /// Of a map of links.
    Link {
        /// The interface's name.
        name: String,
        /// What its packets meet.
        verdict: Verdict,
    },
}

/// Numbers of data types as the `nft` program has them, for its lists; the kernel does not look at them.
mod kind {
    pub(super) const IPV4: u32 = 7;
    pub(super) const PROTOCOL: u32 = 12;
    pub(super) const PORT: u32 = 13;
    pub(super) const LINK: u32 = 41;
    pub(super) const VERDICT: u32 = 0xffff_ff00;

    /// Several in a row, six bits each.
    pub(super) fn row(parts: &[u32]) -> u32 {
        parts.iter().fold(0, |all, part| all << 6 | part)
    }
}

/// IFNAMSIZ: names are compared with all their zeros.
const NAME: usize = 16;

impl MapKind {
    /// Type and length of its keys.
    fn key(self) -> (u32, u32) {
        match self {
            Self::Port => (kind::row(&[kind::PROTOCOL, kind::PORT]), 8),
            Self::PortOfAddress => (kind::row(&[kind::PROTOCOL, kind::IPV4, kind::PORT]), 12),
            Self::Link => (kind::LINK, NAME as u32),
        }
    }

    /// As the `nft` program notes it for its lists: type 0, four bytes, 1 for the host's order, 2 for the
    /// network's.
    fn byte_order(self) -> [u8; 6] {
        let order: u32 = if self == Self::Link { 1 } else { 2 };
        let [a, b, c, d] = order.to_ne_bytes();
        [0, 4, a, b, c, d]
    }

    fn data(self) -> (u32, u32) {
        match self {
            Self::Port | Self::PortOfAddress => (kind::row(&[kind::IPV4, kind::PORT]), 8),
            Self::Link => (kind::VERDICT, NAME as u32),
        }
    }
}

impl Element {
    /// Parts of a row lie on four bytes each.
    fn key(&self) -> Vec<u8> {
        match self {
            Self::Port { protocol, at, port, .. } => {
                let mut key = vec![*protocol, 0, 0, 0];
                key.extend(at.iter().flat_map(|address| address.octets()));
                key.extend(padded(*port));
                key
            }
            Self::Link { name, .. } => link_name(name).to_vec(),
        }
    }

    fn write(&self, m: &mut Payload<'_>, with_data: bool) {
        m.nested(nl::LIST_ELEM, |m| {
            m.nested(nl::ELEMENT_KEY, |m| {
                m.attr(nl::DATA_VALUE, &self.key());
            });
            if with_data {
                m.nested(nl::ELEMENT_DATA, |m| self.write_data(m));
            }
        });
    }

    fn write_data(&self, m: &mut Payload<'_>) {
        match self {
            Self::Port { to: (address, port), .. } => {
                let data: Vec<u8> = address.octets().into_iter().chain(padded(*port)).collect();
                m.attr(nl::DATA_VALUE, &data);
            }
            Self::Link { verdict, .. } => verdict.write(m),
        }
    }
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// As the kernel compares it.
pub(super) fn link_name(name: &str) -> [u8; NAME] {
    let mut padded = [0; NAME];
    padded.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    padded
}

impl Transaction {
    /// Adds a map; one that exists keeps its elements.
    pub fn add_map(&mut self, table: &str, map: &str, kind: MapKind) {
        self.sets += 1;
        let number = self.sets;
        self.add(format!("add nftables map {table} {map}"), nl::NEWSET, nl::F_CREATE, |m| {
            const IS_MAP: u32 = 8;
            m.attr_text(nl::SET_TABLE, table).attr_text(nl::SET_NAME, map);
            m.attr_be32(nl::SET_ID, number).attr_be32(nl::SET_FLAGS, IS_MAP);
            let (key, key_len) = kind.key();
            m.attr_be32(nl::SET_KEY_TYPE, key).attr_be32(nl::SET_KEY_LEN, key_len);
            let (data, data_len) = kind.data();
            m.attr_be32(nl::SET_DATA_TYPE, data).attr_be32(nl::SET_DATA_LEN, data_len);
            m.attr(nl::SET_USERDATA, &kind.byte_order());
        });
    }

    /// Adds elements; one that is there already, leading to the same, stays.
    pub fn add_elements(&mut self, table: &str, map: &str, elements: &[Element]) {
        self.elements(nl::NEWSETELEM, nl::F_CREATE, table, map, elements, true);
    }

    /// Takes elements out; every one of them must be there.
    pub fn delete_elements(&mut self, table: &str, map: &str, elements: &[Element]) {
        self.elements(nl::DELSETELEM, 0, table, map, elements, false);
    }

    /// Empties a map.
    pub fn flush_map(&mut self, table: &str, map: &str) {
        self.add(format!("empty nftables map {table} {map}"), nl::DELSETELEM, 0, |m| {
            m.attr_text(nl::ELEMENTS_TABLE, table).attr_text(nl::ELEMENTS_SET, map);
        });
    }

    fn elements(
        &mut self,
        kind: u16,
        flags: u16,
        table: &str,
        map: &str,
        elements: &[Element],
        with_data: bool,
    ) {
        /// An attribute's length has 16 bits; an element takes up to 76 bytes.
        const AT_A_TIME: usize = 500;
        for some in elements.chunks(AT_A_TIME) {
            let step = format!("{} elements of nftables map {table} {map}", some.len());
            self.add(step, kind, flags, |m| {
                m.attr_text(nl::ELEMENTS_TABLE, table).attr_text(nl::ELEMENTS_SET, map);
                m.nested(nl::ELEMENTS_LIST, |m| {
                    some.iter().for_each(|element| element.write(m, with_data));
                });
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_long_as_their_maps_say() {
        let port = |at| Element::Port { protocol: 6, at, port: 8080, to: (Ipv4Addr::new(172, 17, 0, 2), 80) };
        assert_eq!(port(None).key(), [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(port(Some(Ipv4Addr::new(10, 1, 2, 3))).key(), [6, 0, 0, 0, 10, 1, 2, 3, 0x1f, 0x90, 0, 0]);
        assert_eq!((MapKind::Port.key().1, MapKind::PortOfAddress.key().1), (8, 12));
        let link = Element::Link { name: "seacow0".into(), verdict: Verdict::Accept };
        assert_eq!(link.key().len(), 16);
    }
}
