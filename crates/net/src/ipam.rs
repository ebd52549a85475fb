//! Which address of a subnet is whose: a bitmap in memory.
//!
//! The truth about running containers is the engine's; after a restart it tells this map what is
//! taken ([`Ipam::reserve`]). Addresses are handed out lowest first, but one that was just released
//! rests until [`RESTING`] others were released after it: the namespace that had it may take 40 ms
//! to die, and clients may still talk to it. Lowest first (and not round the whole subnet) keeps
//! the host's neighbour table small on a machine that starts hundreds of containers a second.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;
use seacow_spec::error::{Classified, ErrorClass};

/// How many released addresses rest at most. The kernel keeps up to 512 neighbours without
/// looking for old ones to drop; half of that.
pub const RESTING: usize = 256;
/// The largest subnet: its bitmap is 2 MiB.
const MIN_PREFIX: u8 = 8;

/// No address could be given.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IpamError {
    /// The subnet has no room for a gateway and one container.
    #[error("subnet {subnet} cannot hold containers: its prefix length must be between 8 and 30")]
    Size {
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// The gateway is not an address for a host in the subnet.
    #[error("gateway {gateway} is not a host address of subnet {subnet}")]
    Gateway {
        /// The gateway.
        gateway: Ipv4Addr,
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// All are taken.
    #[error("no available IPv4 addresses on this network's address pool: {subnet}")]
    Exhausted {
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// Somebody has it.
    #[error("Address already in use: {address}")]
    InUse {
        /// The address asked for.
        address: Ipv4Addr,
    },
    /// Network, broadcast or gateway address.
    #[error("address {address} is reserved in subnet {subnet}")]
    Reserved {
        /// The address asked for.
        address: Ipv4Addr,
        /// The subnet.
        subnet: Ipv4Net,
    },
    /// Not of this subnet.
    #[error("address {address} does not lie in subnet {subnet}")]
    Outside {
        /// The address asked for.
        address: Ipv4Addr,
        /// The subnet.
        subnet: Ipv4Net,
    },
}

impl Classified for IpamError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Size { .. } | Self::Gateway { .. } | Self::Reserved { .. } | Self::Outside { .. } => {
                ErrorClass::InvalidArgument
            }
            Self::Exhausted { .. } => ErrorClass::Unavailable,
            Self::InUse { .. } => ErrorClass::Conflict,
        }
    }
}

/// The addresses of one subnet; shared by threads.
#[derive(Debug)]
pub struct Ipam {
    subnet: Ipv4Net,
    gateway: Ipv4Addr,
    map: Mutex<Map>,
}

#[derive(Debug)]
struct Map {
    /// One bit per address, taken for good (network, gateway, broadcast) or by a container.
    used: Vec<u64>,
    /// One bit per address released lately; the queue has them oldest first.
    resting: Vec<u64>,
    queue: VecDeque<usize>,
    room: usize,
}

impl Ipam {
    /// An empty map; network, gateway and broadcast address are never given out.
    pub fn new(subnet: Ipv4Net, gateway: Ipv4Addr) -> Result<Self, IpamError> {
        let subnet = subnet.trunc();
        if !(MIN_PREFIX..=30).contains(&subnet.prefix_len()) {
            return Err(IpamError::Size { subnet });
        }
        if !is_host_address(subnet, gateway) {
            return Err(IpamError::Gateway { gateway, subnet });
        }
        let size = 1usize << (32 - subnet.prefix_len());
        let words = size.div_ceil(64);
        let mut map =
            Map { used: vec![0; words], resting: vec![0; words], queue: VecDeque::new(), room: size - 3 };
        for slot in [0, offset(subnet, gateway), size - 1].into_iter().chain(size..words * 64) {
            set(&mut map.used, slot);
        }
        Ok(Self { subnet, gateway, map: Mutex::new(map) })
    }

    /// The subnet.
    pub fn subnet(&self) -> Ipv4Net {
        self.subnet
    }

    /// The bridge's own address.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// The lowest free address that does not rest; failing that, the one that rests longest.
    pub fn allocate(&self) -> Result<Ipv4Addr, IpamError> {
        let mut map = self.lock();
        let slot = map.take_lowest().ok_or(IpamError::Exhausted { subnet: self.subnet })?;
        Ok(self.address(slot))
    }

    /// Exactly this address, resting or not.
    pub fn allocate_specific(&self, address: Ipv4Addr) -> Result<(), IpamError> {
        let subnet = self.subnet;
        if !subnet.contains(&address) {
            return Err(IpamError::Outside { address, subnet });
        }
        if address == self.gateway || !is_host_address(subnet, address) {
            return Err(IpamError::Reserved { address, subnet });
        }
        if self.lock().take(offset(subnet, address)) { Ok(()) } else { Err(IpamError::InUse { address }) }
    }

    /// Says that a container has this address already (after a restart of the daemon).
    pub fn reserve(&self, address: Ipv4Addr) -> Result<(), IpamError> {
        self.allocate_specific(address)
    }

    /// Gives an address back. What was not taken, or is not ours to give back, stays as it is:
    /// `false`.
    pub fn release(&self, address: Ipv4Addr) -> bool {
        if address == self.gateway || !is_host_address(self.subnet, address) {
            return false;
        }
        self.lock().give_back(offset(self.subnet, address))
    }

    /// How many addresses can still be given out.
    pub fn available(&self) -> usize {
        self.lock().room
    }

    fn address(&self, slot: usize) -> Ipv4Addr {
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        Ipv4Addr::from(u32::from(self.subnet.network()) | slot)
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        // Every change below is complete before it could panic; the map stays right.
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Map {
    fn take_lowest(&mut self) -> Option<usize> {
        let busy = self.used.iter().zip(&self.resting).map(|(used, resting)| used | resting);
        let fresh = busy.enumerate().find(|(_, word)| *word != u64::MAX);
        let slot = match fresh {
            Some((index, word)) => index * 64 + word.trailing_ones() as usize,
            None => *self.queue.front()?,
        };
        self.take(slot).then_some(slot)
    }

    fn take(&mut self, slot: usize) -> bool {
        if get(&self.used, slot) {
            return false;
        }
        set(&mut self.used, slot);
        self.room -= 1;
        if get(&self.resting, slot) {
            clear(&mut self.resting, slot);
            self.queue.retain(|s| *s != slot);
        }
        true
    }

    fn give_back(&mut self, slot: usize) -> bool {
        if !get(&self.used, slot) {
            return false;
        }
        clear(&mut self.used, slot);
        self.room += 1;
        set(&mut self.resting, slot);
        self.queue.push_back(slot);
        if self.queue.len() > RESTING
            && let Some(rested) = self.queue.pop_front()
        {
            clear(&mut self.resting, rested);
        }
        true
    }
}

fn is_host_address(subnet: Ipv4Net, address: Ipv4Addr) -> bool {
    subnet.contains(&address) && address != subnet.network() && address != subnet.broadcast()
}

fn offset(subnet: Ipv4Net, address: Ipv4Addr) -> usize {
    (u32::from(address) & u32::from(subnet.hostmask())) as usize
}

fn get(bits: &[u64], slot: usize) -> bool {
    bits.get(slot / 64).is_none_or(|word| word >> (slot % 64) & 1 == 1)
}

fn set(bits: &mut [u64], slot: usize) {
    if let Some(word) = bits.get_mut(slot / 64) {
        *word |= 1 << (slot % 64);
    }
}

fn clear(bits: &mut [u64], slot: usize) {
    if let Some(word) = bits.get_mut(slot / 64) {
        *word &= !(1 << (slot % 64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn pool(subnet: &str, gateway: &str) -> Ipam {
        Ipam::new(subnet.parse().unwrap(), ip(gateway)).unwrap()
    }

    #[test]
    fn lowest_first_and_nothing_reserved_is_given() {
        let pool = pool("10.9.0.0/29", "10.9.0.3");
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate().ok()).collect();
        assert_eq!(all, ["10.9.0.1", "10.9.0.2", "10.9.0.4", "10.9.0.5", "10.9.0.6"].map(ip));
        assert_eq!(pool.available(), 0);
        assert!(matches!(pool.allocate(), Err(IpamError::Exhausted { .. })));
    }

    #[test]
    fn a_released_address_rests_until_there_is_no_other() {
        let pool = pool("10.9.0.0/29", "10.9.0.1");
        assert_eq!(pool.allocate(), Ok(ip("10.9.0.2")));
        assert!(pool.release(ip("10.9.0.2")));
        assert!(!pool.release(ip("10.9.0.2")));
        for last in 3..=6 {
            assert_eq!(pool.allocate(), Ok(Ipv4Addr::new(10, 9, 0, last)));
        }
        assert_eq!(pool.allocate(), Ok(ip("10.9.0.2")));
    }

    #[test]
    fn in_a_large_subnet_it_comes_back_after_the_others_rested() {
        let pool = pool("172.20.0.0/16", "172.20.0.1");
        let mut seen = std::collections::BTreeMap::new();
        for round in 0..RESTING * 3 {
            let address = pool.allocate().unwrap();
            if let Some(before) = seen.insert(address, round) {
                assert!(round - before > RESTING, "{address} came back after {} rounds", round - before);
            }
            assert!(pool.release(address));
        }
        assert_eq!(seen.len(), RESTING + 1);
    }

    #[test]
    fn exactly_this_address() {
        let pool = pool("172.20.0.0/16", "172.20.0.1");
        assert_eq!(pool.allocate_specific(ip("172.20.0.2")), Ok(()));
        assert_eq!(pool.reserve(ip("172.20.0.2")), Err(IpamError::InUse { address: ip("172.20.0.2") }));
        assert_eq!(pool.allocate(), Ok(ip("172.20.0.3")));
        for reserved in ["172.20.0.0", "172.20.0.1", "172.20.255.255"] {
            assert!(matches!(pool.allocate_specific(ip(reserved)), Err(IpamError::Reserved { .. })));
            assert!(!pool.release(ip(reserved)));
        }
        assert!(matches!(pool.allocate_specific(ip("172.21.0.5")), Err(IpamError::Outside { .. })));
        assert!(!pool.release(ip("172.21.0.2")), "an address of another subnet frees nothing here");
        pool.release(ip("172.20.0.2"));
        assert_eq!(pool.allocate_specific(ip("172.20.0.2")), Ok(()), "asked for by name, it need not rest");
    }

    #[test]
    fn sizes_and_gateways_that_cannot_work() {
        for subnet in ["10.0.0.0/31", "10.0.0.0/32", "0.0.0.0/0"] {
            assert!(matches!(
                Ipam::new(subnet.parse().unwrap(), ip("10.0.0.1")),
                Err(IpamError::Size { .. })
            ));
        }
        for gateway in ["10.0.1.1", "10.0.0.0", "10.0.0.255"] {
            let made = Ipam::new("10.0.0.0/24".parse().unwrap(), ip(gateway));
            assert!(matches!(made, Err(IpamError::Gateway { .. })), "{gateway}");
        }
    }

    #[test]
    fn eight_threads_never_share_an_address() {
        let pool = pool("10.9.0.0/20", "10.9.0.1");
        let mut all: Vec<Ipv4Addr> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..400).map(|_| pool.allocate().unwrap()).collect::<Vec<_>>()))
                .collect();
            workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
        });
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 3200);
        assert_eq!(pool.available(), 4096 - 3 - 3200);
    }
}
