//! What can go wrong with networks.

use seacow_net::bridge::BridgeError;
use seacow_net::endpoint::EndpointError;
use seacow_net::ipam::IpamError;
use seacow_net::netns::NetnsError;
use seacow_spec::{Classified, ErrorClass};

use crate::blocking::Interrupted;

/// A failed network verb or connection.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Nothing has that id or name.
    #[error("network {0} not found")]
    NotFound(String),
    /// The prefix fits more than one id.
    #[error("network {0} is ambiguous: more than one id begins so")]
    Ambiguous(String),
    /// One of the three that are always there.
    #[error("{0} is a pre-defined network and cannot be removed")]
    Predefined(&'static str),
    /// What is not built yet.
    #[error("{0} is not implemented in seacow yet")]
    Unsupported(&'static str),
    /// The bridge.
    #[error(transparent)]
    Bridge(#[from] BridgeError),
    /// The firewall's table.
    #[error(transparent)]
    Nat(#[from] seacow_net::nat::NatError),
    /// An address.
    #[error(transparent)]
    Address(#[from] IpamError),
    /// A container's link.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A network namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The kernel's random numbers failed.
    #[error("draw a random id: {0}")]
    Random(#[source] std::io::Error),
    /// A blocking task.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
}

impl Classified for NetworkError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) => ErrorClass::NotFound,
            Self::Ambiguous(_) => ErrorClass::InvalidArgument,
            Self::Predefined(_) => ErrorClass::Forbidden,
            Self::Unsupported(_) => ErrorClass::NotImplemented,
            Self::Bridge(error) => error.class(),
            Self::Nat(error) => error.class(),
            Self::Address(error) => error.class(),
            Self::Endpoint(error) => error.class(),
            Self::Netns(error) => error.class(),
            Self::Random(_) => ErrorClass::Internal,
            Self::Interrupted(error) => error.class(),
        }
    }
}
