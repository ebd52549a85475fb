//! Network namespaces that nobody lives in yet: ready to be used before there is a process.
//!
//! A namespace is the calling thread's, so that each is made by a thread of its own. It goes with the last
//! descriptor of it, and its end of a link with it.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};

use seacow_spec::error::{Classified, ErrorClass};
use seacow_sys::Errno;
use seacow_sys::netlink::{self, route};
use seacow_sys::ns::{self, Kinds};

use crate::bridge::Bridge;
use crate::endpoint::{Endpoint, EndpointConfig, EndpointError, Netns};

/// A namespace that was not made.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The kernel refused.
    #[error("{step}")]
    Step {
        /// What was done.
        step: &'static str,
        /// Its answer.
        source: Errno,
    },
    /// Its inside could not be configured.
    #[error("configure a network namespace")]
    Inside(#[from] netlink::Error),
    /// Its link could not be made.
    #[error(transparent)]
    Link(#[from] EndpointError),
    /// The thread that was to make it did not.
    #[error("the thread that makes a network namespace has ended")]
    Thread,
}

impl Classified for NetnsError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Link(error) => error.class(),
            Self::Step { .. } | Self::Inside(_) | Self::Thread => ErrorClass::Internal,
        }
    }
}

/// What it gets.
#[derive(Clone, Debug, Default)]
pub struct Inside {
    /// Its link, with address, prefix length and gateway.
    pub link: Option<(EndpointConfig, Ipv4Addr, u8, Option<Ipv4Addr>)>,
}

/// Makes one, with loopback up and the link, if there is one, raised. Blocks for about a millisecond.
///
/// # Errors
/// The kernel refused; nothing is left then.
pub fn make(bridge: Option<&Bridge>, inside: &Inside) -> Result<(OwnedFd, Option<Endpoint>), NetnsError> {
    // A scoped thread: no later work may find itself in there.
    std::thread::scope(|scope| {
        scope.spawn(|| make_here(bridge, inside)).join().unwrap_or(Err(NetnsError::Thread))
    })
}

fn make_here(bridge: Option<&Bridge>, inside: &Inside) -> Result<(OwnedFd, Option<Endpoint>), NetnsError> {
    let failed = |step| move |source| NetnsError::Step { step, source };
    let host = ns::open_own(Kinds::NETWORK).map_err(failed("open own network namespace"))?;
    ns::unshare(Kinds::NETWORK).map_err(failed("make a network namespace"))?;
    let made = ns::open_own(Kinds::NETWORK).map_err(failed("open a new network namespace"))?;
    route::raise_loopback()?;
    let (Some(bridge), Some((config, address, prefix, gateway))) = (bridge, &inside.link) else {
        return Ok((made, None));
    };
    ns::enter(host.as_fd(), Kinds::NETWORK).map_err(failed("return to own network namespace"))?;
    let link = bridge.connect_netns(Netns::Fd(made.as_fd()), config)?;
    ns::enter(made.as_fd(), Kinds::NETWORK).map_err(failed("enter a new network namespace"))?;
    route::raise(&config.ifname, IpAddr::V4(*address), *prefix, gateway.map(IpAddr::V4))?;
    Ok((made, Some(link)))
}
