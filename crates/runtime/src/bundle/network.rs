//! A network namespace that is made before the container.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use seacow_spec::shim::NetworkConfig;
use seacow_sys::ns::{self, Kinds};

use super::Ids;
use crate::error::{Error, Step};
use crate::network;

/// A network namespace, held by descriptor.
#[derive(Debug)]
pub struct Network {
    host: OwnedFd,
    own: OwnedFd,
    inside: bool,
}

impl Network {
    /// Makes one, which belongs to `ids` if there are some, and enters it: until [`Self::leave`] the
    /// caller's pid names it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter(ids: Option<&Ids>) -> Result<Self, Error> {
        let host = ns::open_own(Kinds::NETWORK).step(|| "open own network namespace".into())?;
        let own = match ids {
            None => {
                ns::unshare(Kinds::NETWORK).step(|| "make a network namespace".into())?;
                ns::open_own(Kinds::NETWORK).step(|| "open the new network namespace".into())?
            }
            Some(ids) => {
                let own = ids.network()?;
                ns::enter(own.as_fd(), Kinds::NETWORK).step(|| "enter the new network namespace".into())?;
                own
            }
        };
        network::raise_loopback()?;
        Ok(Self { host, own, inside: true })
    }

    /// Raises the link and gives it its address.
    ///
    /// # Errors
    /// There is no such link, the kernel refuses, or the namespace was left already.
    pub fn connect(&mut self, link: &NetworkConfig) -> Result<(), Error> {
        if !self.inside {
            return Err(Error::Invalid { what: "a link for a network that was left already".into() });
        }
        network::raise(link)
    }

    /// Goes back to the host's namespace: a runtime refuses sysctls of a namespace that it lives in
    /// itself.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn leave(&mut self) -> Result<(), Error> {
        if self.inside {
            ns::enter(self.host.as_fd(), Kinds::NETWORK).step(|| "return to the host's network".into())?;
            self.inside = false;
        }
        Ok(())
    }

    /// A path that names it for as long as this value lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", seacow_sys::process::own_pid(), self.own.as_raw_fd())
    }
}
