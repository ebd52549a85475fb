//! Netlink: build a batch of requests, send it once, collect every acknowledgement.
//!
//! Vocabulary: a *request* is one netlink message that the kernel shall answer with an
//! acknowledgement; a *batch* is several of them in one buffer, sent by one call; a *reply* is any
//! message that comes back and is not an acknowledgement (the answer of a GET, the echo of a NEW).
//!
//! rtnetlink, nfnetlink and generic netlink all process a message inside `sendmsg`, so everything
//! that a batch causes is queued on the socket when the send returns: collecting never blocks.
//!
//! ```no_run
//! use seacow_sys::netlink::{Batch, Protocol, Socket, route};
//! # fn main() -> Result<(), seacow_sys::netlink::Error> {
//! let mut batch = Batch::new();
//! route::link_up(&mut batch, 1);
//! Socket::open(Protocol::Route)?.transact(&batch)?;
//! # Ok(()) }
//! ```

mod attribute;
mod batch;
mod listener;
pub mod moving;
pub mod route;
mod socket;

pub use attribute::{Attribute, Attributes, attributes, text};
pub use batch::{Batch, Payload};
pub use listener::Listener;
pub use socket::{Protocol, Reply, Socket};

use crate::Errno;

/// Why a netlink exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be made.
    #[error("open netlink socket")]
    Open(#[source] Errno),
    /// The batch was not taken by the kernel.
    #[error("send netlink batch ({first})")]
    Send {
        /// What the first request of the batch is for.
        first: String,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// Reading answers failed.
    #[error("receive from netlink socket")]
    Receive(#[source] Errno),
    /// The kernel refused one request. The others of the batch may have been executed, except in
    /// an nftables transaction.
    #[error("{step}{}", .text.as_deref().map(|t| format!(" ({t})")).unwrap_or_default())]
    Refused {
        /// What the request was for, as named by the caller.
        step: String,
        /// The kernel's own words (NETLINK_EXT_ACK), when it gave some.
        text: Option<String>,
        /// The kernel's answer.
        #[source]
        errno: Errno,
    },
    /// A request got no answer.
    #[error("{step}: the kernel did not answer")]
    Unanswered {
        /// What the request was for.
        step: String,
    },
    /// An answer that is no netlink message.
    #[error("malformed netlink message at byte {offset} of {len}")]
    Malformed {
        /// Where in the datagram.
        offset: usize,
        /// The datagram's length.
        len: usize,
    },
    /// A dump was interrupted by a change of what it lists; ask again.
    #[error("{step}: the list changed while it was read")]
    DumpInterrupted {
        /// What was listed.
        step: String,
    },
}

impl Error {
    /// The kernel's errno, when the kernel refused something.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open(errno) | Self::Receive(errno) => Some(*errno),
            Self::Send { source, .. } => Some(*source),
            Self::Refused { errno, .. } => Some(*errno),
            Self::Unanswered { .. } | Self::Malformed { .. } | Self::DumpInterrupted { .. } => None,
        }
    }
}
