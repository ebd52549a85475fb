//! Container networking: one bridge per network, one veth pair per container, addresses, NAT.
//!
//! Everything blocks, and everything acts in the *calling thread's* network namespace. Links,
//! addresses and firewall rules are made by netlink messages that this crate writes itself; no
//! program is started to start a container. The only programs ever run are other firewalls' own
//! front ends, once per daemon start, to pass through the door they document ([`doors`]).
//!
//! Life of a network: [`subnet::choose`] finds a range → [`Bridge::ensure`] makes or adopts the
//! bridge, its address and its part of the nftables table → [`Ipam`] hands out addresses → [`Bridge::connect`]
//! gives a container's namespace its `eth0`; the kernel takes it away together with the namespace
//! → [`Bridge::remove`] undoes the bridge and its part of the table.
//!
//! What it does *not* do: configure the inside of a namespace (the container's init does, see
//! `seacow_spec::shim::NetworkConfig`), serve names, speak IPv6 to containers.
//!
//! | module | what |
//! |---|---|
//! | [`subnet`] | choosing a range that collides with nothing the host knows |
//! | [`bridge`] | the bridge: create, adopt, remove |
//! | [`endpoint`] | a container's veth pair |
//! | [`ipam`] | which address is whose |
//! | [`mac`] | link-layer addresses |
//! | [`nat`] | the nftables table of all networks, and published ports |
//! | [`conntrack`] | connections that the kernel shall forget |
//! | [`holder`] | who has a port of the host |
//! | [`netns`] | network namespaces that are ready before there is a process |
//! | [`nft`] | nftables messages: write and read |
//! | [`host`] | the host's links, addresses and routes |
//! | [`sysctl`] | the few kernel switches |
//! | [`diagnose`] | what would keep containers from reaching the outside |
//! | [`doors`] | passing other firewalls the way they document |
//! | [`resolv`] | a container's resolv.conf |
//! | [`hosts`] | a container's hosts and hostname files |
#![forbid(unsafe_code)]

pub mod bridge;
pub mod conntrack;
pub mod diagnose;
pub mod doors;
pub mod endpoint;
pub mod holder;
pub mod host;
pub mod hosts;
pub mod ipam;
mod link;
pub mod mac;
pub mod nat;
pub mod netns;
pub mod nft;
pub mod resolv;
pub mod subnet;
pub mod sysctl;

pub use bridge::{Bridge, BridgeConfig};
pub use endpoint::{Endpoint, EndpointConfig, host_ifname};
pub use host::HostNetwork;
pub use ipam::Ipam;
pub use mac::Mac;
