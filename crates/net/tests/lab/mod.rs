//! A small lab: hosts and containers are threads and processes in network namespaces of their
//! own. The machine's interfaces are never touched; everything goes with its namespace.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use seacow_net::{Bridge, Endpoint, EndpointConfig, HostNetwork, Ipam, Mac};
use seacow_sys::netlink::route::{address_add, link_up, route_add};
use seacow_sys::netlink::{Batch, Protocol, Socket};
use seacow_sys::ns;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Runs `work` in a thread with network and mount namespaces of its own, loopback up. Skips loudly
/// without root.
pub(crate) fn host(name: &str, work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = move || {
            match ns::unshare(ns::Kinds::NETWORK | ns::Kinds::MOUNT) {
                Ok(()) => {}
                Err(error) => {
                    eprintln!("SKIP {name}: needs root (new network and mount namespace: {error})");
                    return;
                }
            }
            sh("mount --make-rprivate /");
            let mut batch = Batch::new();
            link_up(&mut batch, 1);
            transact(&batch);
            // A new namespace inherits this from the machine's first one.
            sh("echo 0 > /proc/sys/net/ipv4/ip_forward");
            work();
        };
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Runs `work` in a thread inside another network namespace.
pub(crate) fn inside<T: Send>(netns: &OwnedFd, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            ns::enter(netns.as_fd(), ns::Kinds::NETWORK).unwrap();
            work()
        };
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

pub(crate) fn transact(batch: &Batch) {
    Socket::open(Protocol::Route).unwrap().transact(batch).unwrap();
}

/// Whether the programs are there; says which is missing.
pub(crate) fn has(test: &str, programs: &[&str]) -> bool {
    let dirs = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let missing = |p: &&&str| !dirs.iter().any(|d| Path::new(d).join(p).exists());
    match programs.iter().find(missing) {
        Some(program) => {
            eprintln!("SKIP {test}: needs the program {program}");
            false
        }
        None => true,
    }
}

/// Runs a shell command in this thread's namespaces; gives its output, panics when it fails.
pub(crate) fn sh(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A process in a network namespace of its own: what a container's init is for this crate.
pub(crate) struct Peer {
    child: Child,
    pub(crate) netns: OwnedFd,
}

impl Peer {
    pub(crate) fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec sleep 600"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let netns = ns::open(i32::try_from(child.id()).unwrap(), ns::Kinds::NETWORK).unwrap();
        Self { child, netns }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What a container's init does: lo and `ifname` up, address, default route.
    pub(crate) fn configure(&self, ifname: &str, address: Ipv4Addr, prefix: u8, gateway: Option<Ipv4Addr>) {
        self.inside(|| configure(ifname, address, prefix, gateway));
    }

    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.netns, work)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn configure(ifname: &str, address: Ipv4Addr, prefix: u8, gateway: Option<Ipv4Addr>) {
    let host = HostNetwork::read().unwrap();
    let index = host.links.iter().find(|l| l.name == ifname).unwrap().index;
    let mut batch = Batch::new();
    link_up(&mut batch, 1);
    address_add(&mut batch, index, IpAddr::V4(address), prefix);
    link_up(&mut batch, index);
    if let Some(gateway) = gateway {
        route_add(&mut batch, index, None, Some(IpAddr::V4(gateway)));
    }
    transact(&batch);
}

/// A container on the bridge, configured, its port forwarding.
pub(crate) struct Container {
    pub(crate) peer: Peer,
    pub(crate) address: Ipv4Addr,
    pub(crate) endpoint: Endpoint,
}

impl Container {
    pub(crate) fn start(bridge: &Bridge, ipam: &Ipam, name: &str) -> Self {
        let peer = Peer::new();
        let address = ipam.allocate().unwrap();
        let endpoint = bridge.connect(peer.pid(), &endpoint_config(name, address)).unwrap();
        peer.configure("eth0", address, bridge.subnet().prefix_len(), Some(bridge.gateway()));
        endpoint.wait_forwarding(SECOND * 5).unwrap();
        Self { peer, address, endpoint }
    }

    /// Whether a TCP connection from here gets through, and the address that the other side saw.
    pub(crate) fn reaches(&self, server: &Server) -> Option<IpAddr> {
        self.peer.inside(|| server.ask())
    }
}

pub(crate) fn endpoint_config(name: &str, address: Ipv4Addr) -> EndpointConfig {
    EndpointConfig {
        ifname: "eth0".into(),
        host_ifname: format!("sc{name}"),
        mac: Mac::from_ipv4(address),
        mtu: None,
    }
}

/// Answers every TCP connection with the address that it came from. Lives in the namespace of
/// the thread that made it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn at(address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let from = stream.peer_addr().unwrap().ip().to_string();
                let _ = stream.write_all(from.as_bytes());
            }
        });
        Self { address }
    }

    /// Connects from the calling thread's namespace; `None` when it does not get through.
    pub(crate) fn ask(&self) -> Option<IpAddr> {
        self.ask_within(SECOND * 5)
    }

    /// Whether nobody answers here. A second and a half: the first retry of a SYN has come by then.
    pub(crate) fn is_shut(&self) -> bool {
        self.ask_within(SECOND * 3 / 2).is_none()
    }

    fn ask_within(&self, limit: Duration) -> Option<IpAddr> {
        let mut stream = TcpStream::connect_timeout(&self.address, limit).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.parse().ok()
    }
}

/// The world beyond: a peer connected to the host by a veth pair, 198.51.100.2 there, .1 here; the
/// host's default route leads to it.
pub(crate) struct Outside {
    pub(crate) peer: Peer,
    pub(crate) server: Server,
}

pub(crate) const HOST_OUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

impl Outside {
    pub(crate) fn new() -> Self {
        let peer = Peer::new();
        sh(&format!("ip link add up0 type veth peer name up1 netns {}", peer.pid()));
        peer.configure("up1", OUTSIDE, 24, None);
        configure("up0", HOST_OUTER, 24, Some(OUTSIDE));
        let server = peer.inside(|| Server::at(OUTSIDE));
        // The world beyond knows the way to the containers: only the firewall keeps it out.
        peer.inside(|| {
            let host = HostNetwork::read().unwrap();
            let index = host.links.iter().find(|l| l.name == "up1").unwrap().index;
            let containers = (Ipv4Addr::new(172, 16, 0, 0).into(), 12);
            let mut batch = Batch::new();
            route_add(&mut batch, index, Some(containers), Some(HOST_OUTER.into()));
            transact(&batch);
        });
        assert_eq!(eventually(|| server.ask()), Some(HOST_OUTER.into()));
        Self { peer, server }
    }
}

/// Asks until there is an answer, at most five seconds.
pub(crate) fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    while begin.elapsed() < SECOND * 5 {
        if let Some(found) = ask() {
            return Some(found);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

pub(crate) fn link_names() -> Vec<String> {
    HostNetwork::read().unwrap().links.into_iter().map(|l| l.name).collect()
}
