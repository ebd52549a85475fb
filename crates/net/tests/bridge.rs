//! Bridges and their containers, in namespaces of the test's own. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's way to fail")]

mod lab;

use std::net::Ipv4Addr;
use std::sync::Barrier;

use lab::{
    Container, HOST_OUTER, Outside, Peer, Server, endpoint_config, eventually, has, host, link_names, sh,
};
use seacow_net::bridge::BridgeError;
use seacow_net::endpoint::{EndpointError, MAX_PORTS};
use seacow_net::nft;
use seacow_net::{Bridge, BridgeConfig, EndpointConfig, HostNetwork};
use seacow_spec::{Classified, ErrorClass};

fn config(name: &str, subnet: Option<&str>) -> BridgeConfig {
    BridgeConfig { subnet: subnet.map(|s| s.parse().unwrap()), ..BridgeConfig::new(name) }
}

fn tables() -> Vec<String> {
    let mut tables: Vec<String> = nft::chains().unwrap().into_iter().map(|c| c.table).collect();
    tables.dedup();
    tables
}

#[test]
fn comes_up_twice_the_same_and_goes_without_trace() {
    host("bridge comes and goes", || {
        let before = link_names();
        let first = Bridge::ensure(&config("seacow0", None)).unwrap();
        assert_eq!(first.subnet().to_string(), "172.17.0.0/16");
        assert_eq!(first.gateway(), Ipv4Addr::new(172, 17, 0, 1));
        assert_eq!(first.changes().len(), 1, "forwarding was off: {:?}", first.changes());
        assert_eq!(first.problems().len(), 0);
        let rules = ruleset();
        let second = Bridge::ensure(&config("seacow0", Some("172.17.0.0/16"))).unwrap();
        assert_eq!(
            (second.subnet(), second.gateway(), second.changes()),
            (first.subnet(), first.gateway(), &[][..])
        );
        assert_eq!(rules, ruleset());
        let host = HostNetwork::read().unwrap();
        let link = host.links.iter().find(|l| l.name == "seacow0").unwrap();
        assert!(link.up);
        assert_eq!(link.mac.unwrap().to_string(), "02:42:ac:11:00:01");
        let addresses: Vec<String> =
            host.addresses.iter().filter(|a| a.link == link.index).map(|a| a.net.to_string()).collect();
        assert_eq!(addresses, ["172.17.0.1/16"]);
        assert!(!sh("cat /proc/net/if_inet6").contains("seacow0"), "no IPv6 address on the bridge");
        assert_eq!(tables(), ["seacow"]);
        second.remove().unwrap();
        second.remove().unwrap();
        assert_eq!((link_names(), tables()), (before, vec![]));
    });
}

/// As the `nft` program reads it back; empty without the program.
fn ruleset() -> String {
    if !has("reading the rule set back", &["nft"]) {
        return String::new();
    }
    let rules = sh("nft list ruleset");
    for line in [
        "type filter hook forward priority filter; policy accept;",
        "oifname vmap @to comment \"to containers\"",
        "iifname vmap @from comment \"from containers\"",
        "elements = { \"seacow0\" : jump to-seacow0 }",
        "ct state established,related accept comment \"answers to containers\"",
        "iifname \"seacow0\" accept comment \"among containers\"",
        "ct status dnat accept comment \"published ports\"",
        "drop comment \"unasked\"",
        "type nat hook prerouting priority dstnat; policy accept;",
        "fib daddr type local dnat ip to meta l4proto . th dport map @ports comment \"published at all addresses\"",
        "fib daddr type local dnat ip to meta l4proto . ip daddr . th dport map @ports_of_ip comment \"published at one address\"",
        "type filter hook prerouting priority raw; policy accept;",
        "iifname != \"lo\" ip daddr 127.0.0.0/8 drop comment \"this host's own\"",
        "type nat hook postrouting priority srcnat; policy accept;",
        "ip saddr 172.17.0.0/16 oifname != \"seacow0\" masquerade comment \"containers to the outside\"",
        "ip saddr 172.17.0.0/16 ct status dnat masquerade comment \"to a neighbour's published port\"",
    ] {
        assert!(rules.lines().any(|l| l.trim() == line), "{line}\nnot in\n{rules}");
    }
    rules
}

#[test]
fn what_is_not_ours_is_refused_or_left_alone() {
    host("foreign links", || {
        sh(
            "ip link add scv0 type veth peer name scv1 && ip link add scb0 type bridge && ip addr add 10.1.2.3/24 dev scb0",
        );
        let error = Bridge::ensure(&config("scv0", None)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "interface scv0 exists and is not a bridge (veth); choose another bridge name"
        );
        assert_eq!(error.class(), ErrorClass::Conflict);
        let error = Bridge::ensure(&config("lo", None)).unwrap_err();
        assert!(matches!(error, BridgeError::NotABridge { .. }));
        let error = Bridge::ensure(&config("scb0", Some("172.30.0.0/16"))).unwrap_err();
        assert!(error.to_string().contains("address 10.1.2.3/24, not 172.30.0.1/16"), "{error}");
        let adopted = Bridge::ensure(&config("scb0", None)).unwrap();
        assert_eq!(
            (adopted.subnet().to_string(), adopted.gateway()),
            ("10.1.2.0/24".into(), Ipv4Addr::new(10, 1, 2, 3))
        );
        assert_eq!(adopted.ipam().unwrap().allocate(), Ok(Ipv4Addr::new(10, 1, 2, 1)));
        adopted.remove().unwrap();
        assert!(link_names().contains(&"scb0".to_owned()), "a bridge that somebody else made stays");
        assert_eq!(tables(), Vec::<String>::new());
    });
}

#[test]
fn a_subnet_that_avoids_the_host() {
    host("subnet choice", || {
        sh("ip link add scx type veth peer name scy && ip link set scx up && ip link set scy up \
            && ip addr add 172.17.5.1/24 dev scx && ip route add 172.18.0.0/15 dev scx");
        let bridge = Bridge::ensure(&config("seacow0", None)).unwrap();
        assert_eq!(bridge.subnet().to_string(), "172.20.0.0/16");
        let second = Bridge::ensure(&config("scb1", None)).unwrap();
        assert_eq!(second.subnet().to_string(), "172.21.0.0/16");
        let error = Bridge::ensure(&config("scb2", Some("172.19.0.0/24"))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "subnet 172.19.0.0/24 overlaps with the host's route to 172.18.0.0/15 through interface scx"
        );
        assert!(!link_names().contains(&"scb2".to_owned()));
    });
}

#[test]
fn containers_reach_gateway_each_other_and_the_outside() {
    host("traffic", || {
        let outside = Outside::new();
        let bridge = Bridge::ensure(&config("seacow0", None)).unwrap();
        let ipam = bridge.ipam().unwrap();
        let a = Container::start(&bridge, &ipam, "a");
        let b = Container::start(&bridge, &ipam, "b");
        let at_gateway = Server::at(bridge.gateway());
        assert_eq!(a.reaches(&at_gateway), Some(a.address.into()));
        let in_b = b.peer.inside(|| Server::at(b.address));
        assert_eq!(a.reaches(&in_b), Some(a.address.into()));
        assert_eq!(in_b.ask(), Some(bridge.gateway().into()), "the host reaches a container");
        assert_eq!(a.reaches(&outside.server), Some(HOST_OUTER.into()), "under the host's address");
        assert!(outside.peer.inside(|| in_b.is_shut()), "nobody outside starts a connection to a container");
        let ipv6 = sh("cat /proc/net/if_inet6");
        assert!(!ipv6.contains("sca") && !ipv6.contains("seacow0"), "no IPv6 on our links: {ipv6}");
        let mac = a.peer.inside(|| HostNetwork::read().unwrap().links[1].mac.unwrap());
        assert_eq!(mac, seacow_net::Mac::from_ipv4(a.address));
    });
}

#[test]
fn two_bridges_side_by_side() {
    host("two bridges", || {
        let outside = Outside::new();
        let (first, second) = (
            Bridge::ensure(&config("seacow0", None)).unwrap(),
            Bridge::ensure(&config("scb1", None)).unwrap(),
        );
        assert_eq!(tables(), ["seacow"], "one for both");
        let a = Container::start(&first, &first.ipam().unwrap(), "a");
        let b = Container::start(&second, &second.ipam().unwrap(), "b");
        for container in [&a, &b] {
            assert_eq!(container.reaches(&outside.server), Some(HOST_OUTER.into()));
        }
        let in_b = b.peer.inside(|| Server::at(b.address));
        assert!(a.peer.inside(|| in_b.is_shut()), "networks are isolated from each other");
        first.remove().unwrap();
        assert_eq!(tables(), ["seacow"]);
        assert_eq!(b.reaches(&outside.server), Some(HOST_OUTER.into()));
        second.remove().unwrap();
        assert_eq!(tables(), Vec::<String>::new(), "gone with its last network");
    });
}

#[test]
fn without_masquerading_the_source_is_the_containers_own() {
    host("no masquerade", || {
        let outside = Outside::new();
        let bridge = Bridge::ensure(&BridgeConfig { masquerade: false, ..config("seacow0", None) }).unwrap();
        let container = Container::start(&bridge, &bridge.ipam().unwrap(), "a");
        assert_eq!(container.reaches(&outside.server), Some(container.address.into()));
    });
}

#[test]
fn a_failed_connect_names_its_reason_and_leaves_nothing() {
    host("failed connect", || {
        let bridge = Bridge::ensure(&config("seacow0", None)).unwrap();
        let before = link_names();
        let address = Ipv4Addr::new(172, 17, 0, 9);
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let error = bridge.connect(gone.id(), &endpoint_config("gone", address)).unwrap_err();
        assert!(matches!(error, EndpointError::Gone { .. }), "{error}");
        let peer = Peer::new();
        let bad = EndpointConfig { ifname: "a/b".into(), ..endpoint_config("x", address) };
        assert!(matches!(bridge.connect(peer.pid(), &bad), Err(EndpointError::Name { .. })));
        assert_eq!(link_names(), before);
        bridge.connect(peer.pid(), &endpoint_config("x", address)).unwrap();
        let error = bridge.connect(peer.pid(), &endpoint_config("x", address)).unwrap_err();
        assert!(matches!(error, EndpointError::Exists { .. }), "{error}");
        bridge.remove().unwrap();
        let error = bridge.connect(peer.pid(), &endpoint_config("y", address)).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Conflict, "{error}");
    });
}

#[test]
fn a_full_bridge_says_so() {
    host("full bridge", || {
        let bridge = Bridge::ensure(&config("seacow0", None)).unwrap();
        let peer = Peer::new();
        let address = Ipv4Addr::new(172, 17, 0, 9);
        let connect = |number: usize| {
            let names = endpoint_config(&format!("{number}"), address);
            bridge.connect(peer.pid(), &EndpointConfig { ifname: format!("eth{number}"), ..names })
        };
        for number in 0..MAX_PORTS {
            connect(number).unwrap();
        }
        let error = connect(MAX_PORTS).unwrap_err();
        assert!(matches!(error, EndpointError::Full { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Unavailable);
        assert!(error.to_string().contains("no port left: Linux gives a bridge 1023"), "{error}");
        assert_eq!(bridge.ports().unwrap().len(), MAX_PORTS, "and leaves nothing");
    });
}

#[test]
fn the_kernel_takes_the_pair_away_with_the_namespace() {
    host("end of a namespace", || {
        let bridge = Bridge::ensure(&BridgeConfig { mtu: Some(1400), ..config("seacow0", None) }).unwrap();
        let ipam = bridge.ipam().unwrap();
        let container = Container::start(&bridge, &ipam, "a");
        let other = Container::start(&bridge, &ipam, "b");
        assert_eq!(bridge.mtu(), 1400);
        let inner = container.peer.inside(|| HostNetwork::read().unwrap().links[1].mtu);
        assert_eq!(inner, 1400, "a container has its bridge's");
        assert_eq!(bridge.ports().unwrap().len(), 2);
        drop(container);
        eventually(|| (bridge.ports().unwrap() == std::slice::from_ref(&other.endpoint)).then_some(()))
            .unwrap();
        other.endpoint.disconnect().unwrap();
        other.endpoint.disconnect().unwrap();
        assert_eq!(bridge.ports().unwrap(), []);
        assert_eq!(other.peer.inside(link_names), ["lo"]);
    });
}

#[test]
fn eight_threads_connect_at_once() {
    const EACH: usize = 8;
    host("eight threads", || {
        let own = seacow_sys::ns::open_own(seacow_sys::ns::Kinds::NETWORK).unwrap();
        let bridge = Bridge::ensure(&config("seacow0", None)).unwrap();
        let ipam = bridge.ipam().unwrap();
        let begin = Barrier::new(8);
        let all: Vec<(Peer, Ipv4Addr)> = std::thread::scope(|scope| {
            let worker = |thread: usize| {
                let (own, bridge, ipam, begin) = (&own, &bridge, &ipam, &begin);
                scope.spawn(move || {
                    seacow_sys::ns::enter(std::os::fd::AsFd::as_fd(own), seacow_sys::ns::Kinds::NETWORK)
                        .unwrap();
                    let peers: Vec<Peer> = (0..EACH).map(|_| Peer::new()).collect();
                    begin.wait();
                    let connect = |(i, peer): (usize, Peer)| {
                        let address = ipam.allocate().unwrap();
                        let name = format!("{thread}x{i}");
                        bridge.connect(peer.pid(), &endpoint_config(&name, address)).unwrap();
                        (peer, address)
                    };
                    peers.into_iter().enumerate().map(connect).collect::<Vec<_>>()
                })
            };
            let workers: Vec<_> = (0..8).map(worker).collect();
            workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
        });
        assert_eq!(bridge.ports().unwrap().len(), 8 * EACH);
        let mut addresses: Vec<_> = all.iter().map(|(_, address)| *address).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 8 * EACH);
        drop(all);
        eventually(|| bridge.ports().unwrap().is_empty().then_some(())).unwrap();
    });
}
