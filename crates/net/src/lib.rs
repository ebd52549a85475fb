//! Bridge, veth, address management, nftables
