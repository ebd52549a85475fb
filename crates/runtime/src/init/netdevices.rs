//! Network devices of the host that move into the container (`linux.netDevices`).
//!
//! Each keeps its lasting global addresses, may get another name, and is up in the end. Until the
//! container runs they are on loan: whatever fails, they go back as they were found. After that they
//! are the container's: with its network namespace the kernel removes virtual devices and gives
//! physical ones back to the host, and a namespace that was joined keeps what is in it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use seacow_spec::oci::runtime::NetDevice;
use seacow_sys::netlink::moving::{self, Found};
use seacow_sys::netlink::{self, Batch, Protocol, Socket, route};
use seacow_sys::ns::{self, Kinds};

use super::namespaces::Network;
use crate::error::{Error, Step};
use crate::validate;

/// Devices on loan. Dropped, they are given back.
#[derive(Debug, Default)]
pub(super) struct Lent(Option<Loan>);

impl Lent {
    /// The container keeps them.
    pub(super) fn keep(&mut self) {
        if let Some(loan) = &mut self.0 {
            loan.devices.clear();
        }
    }
}

#[derive(Debug)]
struct Loan {
    host: Side,
    container: Side,
    devices: Vec<Device>,
}

/// A network namespace and a socket in there. Both keep it alive.
#[derive(Debug)]
struct Side {
    namespace: OwnedFd,
    socket: Socket,
}

#[derive(Debug)]
struct Device {
    /// On the host.
    name: String,
    found: Found,
    /// Its number in the container.
    index: u32,
}

/// Moves the devices into the network of init, which is process `pid`.
pub(super) fn lend(network: &Network, pid: i32, wanted: &BTreeMap<String, NetDevice>) -> Result<Lent, Error> {
    if wanted.is_empty() {
        return Ok(Lent::default());
    }
    let host = ns::open_own(Kinds::NETWORK).step(|| "open own network namespace".into())?;
    let container = match network {
        Network::New => ns::open(pid, Kinds::NETWORK),
        Network::Joined(namespace) => rustix::io::fcntl_dupfd_cloexec(namespace, 3),
        Network::Same => {
            let why = "the container's network is the host's, where its devices are already";
            return Err(validate::Error::field("linux.netDevices", why).into());
        }
    };
    let container = container.step(|| "open the container's network namespace".into())?;
    let inside = socket_in(&container, &host)?;
    let mut loan = Loan {
        host: Side { namespace: host, socket: Socket::open(Protocol::Route)? },
        container: Side { namespace: container, socket: inside },
        devices: Vec::new(),
    };
    for (name, device) in wanted {
        // Those before it are given back.
        loan.add(name, if device.name.is_empty() { name } else { &device.name })?;
    }
    Ok(Lent(Some(loan)))
}

/// A socket stays in the namespace that it was opened in.
fn socket_in(namespace: &OwnedFd, own: &OwnedFd) -> Result<Socket, Error> {
    ns::enter(namespace.as_fd(), Kinds::NETWORK).step(|| "enter the container's network namespace".into())?;
    let socket = Socket::open(Protocol::Route);
    ns::enter(own.as_fd(), Kinds::NETWORK).step(|| "return to own network namespace".into())?;
    Ok(socket?)
}

impl Loan {
    fn add(&mut self, name: &str, inside: &str) -> Result<(), Error> {
        let wrong = |what: String| validate::Error::field(format!("linux.netDevices.{name}"), what);
        let look = |socket: &Socket, name: &str| {
            moving::index_of(socket, name).step(|| format!("look for network device {name}"))
        };
        let Some(index) = look(&self.host.socket, name)? else {
            return Err(wrong("there is no such network device".into()).into());
        };
        if look(&self.container.socket, inside)?.is_some() {
            return Err(wrong(format!("the container has a network device {inside} already")).into());
        }
        let found = moving::find(&mut self.host.socket, index)?;
        let mut batch = Batch::new();
        moving::move_link(&mut batch, index, inside, self.container.namespace.as_fd());
        self.host.socket.transact(&batch).map_err(|error| wrong(refusal(&error)))?;
        let Some(index) = look(&self.container.socket, inside)? else {
            return Err(wrong("it is not where it was moved to".into()).into());
        };
        let device = Device { name: name.to_owned(), found, index };
        let ready = ready(&mut self.container.socket, index, true, &device.found);
        self.devices.push(device);
        Ok(ready?)
    }

    /// Each as it was found, and as far as that goes.
    fn give_back(&mut self) {
        for device in self.devices.drain(..).rev() {
            let mut batch = Batch::new();
            moving::move_link(&mut batch, device.index, &device.name, self.host.namespace.as_fd());
            // Whoever failed to use them tells why; a device that does not come back goes where the
            // kernel puts it when the namespace ends.
            let _ = self.container.socket.transact(&batch);
            if let Ok(Some(index)) = moving::index_of(&self.host.socket, &device.name) {
                let _ = ready(&mut self.host.socket, index, device.found.up, &device.found);
            }
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Raises a link that has moved, if it shall be, and gives it its addresses again.
fn ready(socket: &mut Socket, index: u32, up: bool, found: &Found) -> Result<(), netlink::Error> {
    let mut batch = Batch::new();
    if up {
        route::link_up(&mut batch, index);
    }
    found.addresses.iter().for_each(|address| address.add(&mut batch, index));
    if batch.is_empty() { Ok(()) } else { socket.transact(&batch).map(drop) }
}

/// The kernel's reason, in its own words if it has some.
fn refusal(error: &netlink::Error) -> String {
    match error {
        netlink::Error::Refused { text: Some(text), errno, .. } => {
            format!("cannot be moved: {text}: {errno}")
        }
        other => match other.errno() {
            Some(errno) => format!("cannot be moved: {errno}"),
            None => format!("cannot be moved: {other}"),
        },
    }
}
