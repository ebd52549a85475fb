//! The inside of a network namespace.

use std::net::IpAddr;

use seacow_spec::shim::NetworkConfig;
use seacow_sys::netlink::route;

use crate::error::Error;

/// Raises loopback.
pub(crate) fn raise_loopback() -> Result<(), Error> {
    Ok(route::raise_loopback()?)
}

/// Raises the link and gives it its address and the default route.
pub(crate) fn raise(link: &NetworkConfig) -> Result<(), Error> {
    let gateway = link.gateway.map(IpAddr::V4);
    Ok(route::raise(&link.ifname, IpAddr::V4(link.address), link.prefix, gateway)?)
}
