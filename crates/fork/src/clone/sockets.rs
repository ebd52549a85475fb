//! Sockets of a clone.

use std::net::IpAddr;

use super::Spec;
use super::descriptors::Table;
use crate::files::{Address, File, Pair, Plain, What};

/// A socket that is not connected: made, set, bound, listening.
pub(super) fn plain(table: &mut Table<'_>, file: &File, plain: &Plain, spec: &Spec<'_>) {
    let kind = plain.kind as u64 | file.flags & libc::O_NONBLOCK as u64;
    let arguments = [plain.domain as u64, kind, plain.protocol as u64];
    table.batch.call("socket", libc::SYS_socket, &arguments);
    table.place(file);
    let number = file.number as u64;
    for (level, name, value) in &plain.options {
        let value = table.batch.data(&value.to_le_bytes());
        let arguments = [number, *level as u64, *name as u64, value, 4];
        table.batch.call("option of a socket", libc::SYS_setsockopt, &arguments);
    }
    if let Some(bound) = &plain.bound {
        bind(table, number, bound, spec);
    }
    if let Some(backlog) = plain.backlog {
        table.batch.call("listen", libc::SYS_listen, &[number, backlog.into()]);
    }
}

fn bind(table: &mut Table<'_>, number: u64, bound: &Address, spec: &Spec<'_>) {
    let raw = translated(&bound.raw, &spec.addresses);
    let address = table.batch.data(&raw);
    // The path of a Unix socket is right behind its family.
    let path = address + 2;
    if bound.file.is_some() {
        table.batch.attempt("remove a socket's file", libc::SYS_unlink, &[path]);
    }
    table.batch.call("bind", libc::SYS_bind, &[number, address, raw.len() as u64]);
    if let Some(file) = bound.file {
        table.batch.call(
            "owner of a socket's file",
            libc::SYS_chown,
            &[path, file.owner.into(), file.group.into()],
        );
        table.batch.call("mode of a socket's file", libc::SYS_chmod, &[path, file.mode.into()]);
    }
}

/// An address of the source becomes the clone's.
fn translated(raw: &[u8], addresses: &[(IpAddr, IpAddr)]) -> Vec<u8> {
    let mut raw = raw.to_vec();
    for (from, to) in addresses {
        let (at, from, to) = match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (4..8, from.octets().to_vec(), to.octets().to_vec()),
            (IpAddr::V6(from), IpAddr::V6(to)) => (8..24, from.octets().to_vec(), to.octets().to_vec()),
            _ => continue,
        };
        let family = if at.len() == 4 { libc::AF_INET } else { libc::AF_INET6 };
        if raw.first() == Some(&(family as u8)) && raw.get(at.clone()) == Some(from.as_slice()) {
            raw.splice(at, to);
            break;
        }
    }
    raw
}

/// Both sockets of a pair, and what waits in them.
pub(super) fn pair(table: &mut Table<'_>, files: &[File], file: &File, pair: &Pair) {
    let of = |inode: u64| {
        files.iter().find_map(|other| match &other.what {
            What::Pair(found) if found.inode == inode && other.same_as.is_none() => Some((other, found)),
            _ => None,
        })
    };
    let numbers = table.batch.room(8);
    let (first, second) = table.next_two();
    let arguments = [libc::AF_UNIX as u64, pair.kind as u64, 0, numbers];
    table.batch.call("pair of sockets", libc::SYS_socketpair, &arguments);
    let sides = [table.put_aside(first, 0), table.put_aside(second, 1)];
    let ends = [Some((file, pair)), of(pair.peer)];
    for (side, end) in ends.iter().enumerate() {
        if let Some((_, end)) = end
            && !end.data.is_empty()
        {
            let data = table.batch.data(&end.data);
            let arguments = [sides[1 - side], data, end.data.len() as u64];
            table.batch.call("fill a socket", libc::SYS_write, &arguments);
        }
    }
    for (aside, end) in sides.into_iter().zip(ends) {
        match end {
            Some((end, _)) => table.take_from(aside, end),
            None => table.drop_aside(aside),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_translated() {
        let raw = [2, 0, 0x1f, 0x90, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0];
        let to = |a: &str, b: &str| vec![(a.parse().unwrap(), b.parse().unwrap())];
        assert_eq!(translated(&raw, &to("10.0.0.2", "10.0.0.9"))[4..8], [10, 0, 0, 9]);
        assert_eq!(translated(&raw, &to("10.0.0.3", "10.0.0.9")), raw);
        assert_eq!(translated(&raw, &to("fe80::2", "fe80::9")), raw);
        assert_eq!(translated(&[1, 0, b'x'], &to("10.0.0.2", "10.0.0.9")), [1, 0, b'x']);
    }
}
