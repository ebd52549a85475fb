//! Forgetting connections that the kernel still translates as they were.
//!
//! A "connection" of UDP is remembered for half a minute to two minutes after its last packet, and as
//! long as it is, its packets go where the first one went: to a container that is gone, or, when the
//! first came before the port was published, to nobody.

use seacow_sys::Errno;
use seacow_sys::netlink::{self, Attribute, Batch, Payload, Protocol, Socket, attributes};

/// nfnetlink_conntrack.h.
mod ct {
    pub(super) const SUBSYS: u16 = 1 << 8;
    pub(super) const GET: u16 = 1;
    pub(super) const DELETE: u16 = 2;
    pub(super) const TUPLE_ORIG: u16 = 1;
    pub(super) const TUPLE_PROTO: u16 = 2;
    pub(super) const PROTO_NUM: u16 = 1;
    pub(super) const PROTO_DST_PORT: u16 = 3;
}

const UDP: u8 = 17;

/// nfgenmsg of IPv4.
fn header(m: &mut Payload<'_>) {
    const AF_INET: u8 = 2;
    m.header(&[AF_INET, 0, 0, 0]);
}

/// Forgets the UDP connections to these ports of this host. Their next packets are looked at anew.
pub fn forget_udp(ports: &[u16]) -> Result<(), netlink::Error> {
    if ports.is_empty() {
        return Ok(());
    }
    let mut tuples: Vec<Vec<u8>> = Vec::new();
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let listed = socket.dump("list connections", ct::SUBSYS | ct::GET, header, |_, payload| {
        tuples.extend(tuple_to(payload, ports));
    });
    match listed {
        // What came meanwhile came after the change.
        Ok(()) | Err(netlink::Error::DumpInterrupted { .. }) => {}
        Err(error) => return Err(error),
    }
    for tuple in &tuples {
        let mut batch = Batch::new();
        batch.request("forget a connection", ct::SUBSYS | ct::DELETE, 0, |m| {
            header(m);
            m.nested(ct::TUPLE_ORIG, |m| {
                for part in attributes(tuple) {
                    // The flag is not kept by the reader; the kernel wants it of what is nested.
                    m.attr(part.kind | 0x8000, part.value);
                }
            });
        });
        match socket.transact(&batch) {
            // It ended by itself.
            Err(error) if error.errno() == Some(Errno::NOENT) => {}
            done => drop(done?),
        }
    }
    Ok(())
}

/// The original tuple of a UDP connection to one of the ports.
fn tuple_to(payload: &[u8], ports: &[u16]) -> Option<Vec<u8>> {
    let original = attributes(payload.get(4..)?).find_kind(ct::TUPLE_ORIG)?;
    let protocol = original.nested().find_kind(ct::TUPLE_PROTO)?;
    let of = |kind| protocol.nested().find_kind(kind);
    let number: Attribute<'_> = of(ct::PROTO_NUM)?;
    let port = <[u8; 2]>::try_from(of(ct::PROTO_DST_PORT)?.value).ok().map(u16::from_be_bytes)?;
    (number.value.first() == Some(&UDP) && ports.contains(&port)).then(|| original.value.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_take_any_bytes() {
        for len in 0..64 {
            for fill in [0u8, 1, 4, 8, 17, 255] {
                assert_eq!(tuple_to(&vec![fill; len], &[53]), None);
            }
        }
    }
}
