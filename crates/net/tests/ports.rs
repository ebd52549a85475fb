//! Published ports, in namespaces of the test's own. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's way to fail")]

mod lab;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use lab::{Container, HOST_OUTER, OUTSIDE, Outside, Peer, SECOND, Server, host, sh};
use seacow_net::nat::{self, Protocol, Published};
use seacow_net::{Bridge, BridgeConfig};

const TABLE: &str = "seacow";

fn published(port: u16, server: &Server, at: Option<Ipv4Addr>) -> Published {
    let SocketAddr::V4(to) = server.address else { panic!("{}", server.address) };
    Published { protocol: Protocol::Tcp, at, port, to: (*to.ip(), to.port()) }
}

fn at(address: Ipv4Addr, port: u16) -> Server {
    Server { address: (address, port).into() }
}

struct Lab {
    outside: Outside,
    bridge: Bridge,
    web: Container,
    other: Container,
    server: Server,
}

impl Lab {
    fn new() -> Self {
        let outside = Outside::new();
        let bridge = Bridge::ensure(&BridgeConfig::new("seacow0")).unwrap();
        let ipam = bridge.ipam().unwrap();
        let web = Container::start(&bridge, &ipam, "web");
        let other = Container::start(&bridge, &ipam, "other");
        let server = web.peer.inside(|| Server::at(web.address));
        Self { outside, bridge, web, other, server }
    }
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    host("published port", || {
        let lab = Lab::new();
        let Lab { outside, bridge, web, other, server } = &lab;
        let ports = [published(8080, server, None)];
        nat::publish(TABLE, &ports).unwrap();
        let outer = at(HOST_OUTER, 8080);
        assert_eq!(
            outside.peer.inside(|| outer.ask()),
            Some(OUTSIDE.into()),
            "from outside, its own address seen"
        );
        assert_eq!(at(HOST_OUTER, 8080).ask(), Some(HOST_OUTER.into()), "from the host");
        assert_eq!(at(Ipv4Addr::LOCALHOST, 8080).ask(), Some(bridge.gateway().into()), "by its loopback");
        assert_eq!(at(Ipv4Addr::new(127, 3, 2, 1), 8080).ask(), Some(bridge.gateway().into()));
        assert_eq!(other.reaches(&outer), Some(bridge.gateway().into()), "from a neighbour");
        web.endpoint.reflect().unwrap();
        assert_eq!(web.reaches(&outer), Some(bridge.gateway().into()), "from itself");
        assert_eq!(web.reaches(&at(bridge.gateway(), 8080)), Some(bridge.gateway().into()));
        assert!(outside.peer.inside(|| server.is_shut()), "its own port stays shut");
        let second = Bridge::ensure(&BridgeConfig::new("scb1")).unwrap();
        let far = Container::start(&second, &second.ipam().unwrap(), "far");
        assert_eq!(far.reaches(&outer), Some(bridge.gateway().into()), "from another network");
        assert!(far.peer.inside(|| server.is_shut()));
        nat::unpublish(TABLE, &ports).unwrap();
        assert_eq!(at(HOST_OUTER, 8080).ask(), None);
        assert_eq!(outside.peer.inside(|| outer.ask()), None);
        assert!(nat::unpublish(TABLE, &ports).is_err(), "it is not there any more");
    });
}

#[test]
fn one_address_only() {
    host("one address", || {
        let lab = Lab::new();
        let Lab { outside, server, .. } = &lab;
        nat::publish(TABLE, &[published(8080, server, Some(Ipv4Addr::LOCALHOST))]).unwrap();
        assert!(at(Ipv4Addr::LOCALHOST, 8080).ask().is_some());
        assert_eq!(at(HOST_OUTER, 8080).ask(), None);
        assert_eq!(outside.peer.inside(|| at(HOST_OUTER, 8080).ask()), None);
        // Another program of the host may have the port at its other addresses.
        nat::publish(TABLE, &[published(9000, server, Some(HOST_OUTER))]).unwrap();
        assert!(outside.peer.inside(|| at(HOST_OUTER, 9000).ask()).is_some());
        assert_eq!(at(Ipv4Addr::LOCALHOST, 9000).ask(), None);
    });
}

#[test]
fn nobody_beyond_reaches_what_listens_on_loopback() {
    host("loopback", || {
        let lab = Lab::new();
        let Lab { outside, other, server, .. } = &lab;
        nat::publish(TABLE, &[published(8080, server, Some(Ipv4Addr::LOCALHOST))]).unwrap();
        let own = Server::at(Ipv4Addr::LOCALHOST);
        let try_from = |peer: &Peer, gateway: Ipv4Addr| {
            peer.inside(|| {
                sh("echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet");
                sh("ip route flush table local && ip addr flush dev lo");
                sh(&format!("ip route add 127.0.0.0/8 via {gateway}"));
                assert!(own.is_shut(), "a service of the host's loopback");
                assert!(at(Ipv4Addr::LOCALHOST, 8080).is_shut(), "a port published there");
            });
        };
        try_from(&other.peer, lab.bridge.gateway());
        try_from(&outside.peer, HOST_OUTER);
    });
}

#[test]
fn datagrams_too() {
    host("udp", || {
        let lab = Lab::new();
        let socket = lab.web.peer.inside(|| UdpSocket::bind((lab.web.address, 53)).unwrap());
        let port = |to| Published { protocol: Protocol::Udp, at: None, port: 5353, to: (to, 53) };
        let client = lab.outside.peer.inside(|| UdpSocket::bind((OUTSIDE, 0)).unwrap());
        client.set_read_timeout(Some(SECOND * 5)).unwrap();
        let asks = |server: &UdpSocket| {
            client.send_to(b"ping", (HOST_OUTER, 5353)).unwrap();
            let mut bytes = [0; 8];
            let (len, from) = server.recv_from(&mut bytes).unwrap();
            assert_eq!((&bytes[..len], from.ip()), (&b"ping"[..], OUTSIDE.into()));
            server.send_to(b"pong", from).unwrap();
            let (len, from) = client.recv_from(&mut bytes).unwrap();
            assert_eq!((&bytes[..len], from), (&b"pong"[..], (HOST_OUTER, 5353).into()));
        };
        // The kernel remembers this one as going to the host.
        client.send_to(b"early", (HOST_OUTER, 5353)).unwrap();
        nat::publish(TABLE, &[port(lab.web.address)]).unwrap();
        socket.set_read_timeout(Some(SECOND * 5)).unwrap();
        asks(&socket);
        // And this one as going to the first container.
        let next = lab.other.peer.inside(|| UdpSocket::bind((lab.other.address, 53)).unwrap());
        next.set_read_timeout(Some(SECOND * 5)).unwrap();
        nat::unpublish(TABLE, &[port(lab.web.address)]).unwrap();
        nat::publish(TABLE, &[port(lab.other.address)]).unwrap();
        asks(&next);
    });
}

#[test]
fn a_daemon_that_comes_again_interrupts_nobody() {
    host("again", || {
        let lab = Lab::new();
        let Lab { server, .. } = &lab;
        let (kept, left) = (published(8080, server, None), published(8081, server, Some(HOST_OUTER)));
        nat::publish(TABLE, &[kept, left]).unwrap();
        let again = Bridge::ensure(&BridgeConfig::new("seacow0")).unwrap();
        assert!(at(HOST_OUTER, 8080).ask().is_some(), "still there when the bridge is looked after");
        let new = published(8082, server, None);
        nat::publish_only(TABLE, &[kept, new]).unwrap();
        assert!(at(HOST_OUTER, 8080).ask().is_some());
        assert!(at(HOST_OUTER, 8082).ask().is_some());
        assert_eq!(at(HOST_OUTER, 8081).ask(), None, "what was left behind is gone");
        let many: Vec<Published> = (0..3000).map(|port| published(20_000 + port, server, None)).collect();
        nat::publish_only(TABLE, &many).unwrap();
        assert!(at(HOST_OUTER, 22_999).ask().is_some());
        again.remove().unwrap();
    });
}

#[test]
fn an_internal_network_has_no_way_out() {
    host("internal", || {
        let outside = Outside::new();
        let config = BridgeConfig { internal: true, ..BridgeConfig::new("seacow0") };
        let bridge = Bridge::ensure(&config).unwrap();
        let ipam = bridge.ipam().unwrap();
        let (a, b) = (Container::start(&bridge, &ipam, "a"), Container::start(&bridge, &ipam, "b"));
        let in_b = b.peer.inside(|| Server::at(b.address));
        assert!(a.reaches(&in_b).is_some(), "each other");
        assert!(a.peer.inside(|| outside.server.is_shut()), "not the world");
        assert!(outside.peer.inside(|| in_b.is_shut()));
    });
}

#[test]
fn containers_kept_apart() {
    host("no icc", || {
        let outside = Outside::new();
        let bridge = Bridge::ensure(&BridgeConfig { icc: false, ..BridgeConfig::new("seacow0") }).unwrap();
        let ipam = bridge.ipam().unwrap();
        let (a, b) = (Container::start(&bridge, &ipam, "a"), Container::start(&bridge, &ipam, "b"));
        let in_b = b.peer.inside(|| Server::at(b.address));
        assert!(a.peer.inside(|| in_b.is_shut()), "not each other");
        assert!(a.reaches(&outside.server).is_some());
        assert!(in_b.ask().is_some(), "the host");
    });
}
