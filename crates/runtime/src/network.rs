//! The inside of a network namespace.

use std::net::IpAddr;
use std::os::fd::AsFd;

use seacow_spec::shim::NetworkConfig;
use seacow_sys::netlink::{Batch, Protocol, Socket, route};

use crate::error::{Error, Step};

/// Index of the loopback device: always the first of a namespace.
const LOOPBACK: u32 = 1;

/// Raises loopback.
pub(crate) fn raise_loopback() -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Route)?;
    let mut batch = Batch::new();
    route::link_up(&mut batch, LOOPBACK);
    socket.transact(&batch)?;
    Ok(())
}

/// Raises the link and gives it its address and the default route: one message, one wait.
pub(crate) fn raise(link: &NetworkConfig) -> Result<(), Error> {
    let mut socket = Socket::open(Protocol::Route)?;
    let index = rustix::net::netdevice::name_to_index(socket.as_fd(), &link.ifname)
        .step(|| format!("find interface {}", link.ifname))?;
    let mut batch = Batch::new();
    route::link_up(&mut batch, index);
    route::address_add(&mut batch, index, IpAddr::V4(link.address), link.prefix);
    if let Some(gateway) = link.gateway {
        route::route_add(&mut batch, index, None, Some(IpAddr::V4(gateway)));
    }
    socket.transact(&batch)?;
    Ok(())
}
