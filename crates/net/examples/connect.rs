//! Times `Bridge::connect` in a network namespace of its own: `cargo run --release --example
//! connect -- [rounds]`. Needs root. Prints medians; the pause between rounds keeps the kernel's
//! work queues of one start out of the next.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use seacow_net::{Bridge, BridgeConfig, EndpointConfig, Mac};
use seacow_sys::netlink::route::{address_add, link_up, route_add};
use seacow_sys::netlink::{Batch, Protocol, Socket};
use seacow_sys::ns;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let rounds: u32 = std::env::args().nth(1).map_or(Ok(100), |a| a.parse())?;
    ns::unshare(ns::Kinds::NETWORK)?;
    let begin = Instant::now();
    let bridge = Bridge::ensure(&BridgeConfig::new("seacow0"))?;
    println!("ensure, new bridge: {} µs", begin.elapsed().as_micros());
    let begin = Instant::now();
    Bridge::ensure(&BridgeConfig::new("seacow0"))?;
    println!("ensure, existing bridge: {} µs", begin.elapsed().as_micros());
    let ipam = bridge.ipam()?;
    let mut times = Times::default();
    for round in 0..rounds {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        child.stdout.take().map(BufReader::new).map(|mut out| out.read_line(&mut line)).transpose()?;
        std::thread::sleep(Duration::from_millis(20));
        let begin = Instant::now();
        let address = ipam.allocate()?;
        times.allocate.push(begin.elapsed());
        let config = EndpointConfig {
            ifname: "eth0".into(),
            host_ifname: format!("scbench{round}"),
            mac: Mac::from_ipv4(address),
            mtu: None,
        };
        let begin = Instant::now();
        let endpoint = bridge.connect(child.id(), &config)?;
        times.connect.push(begin.elapsed());
        let configured = configure(&child, &bridge, address)?;
        times.configure.push(configured);
        let begin = Instant::now();
        endpoint.wait_forwarding(Duration::from_secs(5))?;
        times.forwarding.push(begin.elapsed());
        ipam.release(address);
        child.kill()?;
        child.wait()?;
    }
    times.print();
    bridge.remove().map_err(|errors| format!("{errors:?}"))?;
    Ok(())
}

/// What the container's init does in its own namespace.
fn configure(
    child: &std::process::Child,
    bridge: &Bridge,
    address: std::net::Ipv4Addr,
) -> Result<Duration, Failure> {
    let netns = ns::open(i32::try_from(child.id())?, ns::Kinds::NETWORK)?;
    std::thread::scope(|scope| {
        let work = || -> Result<Duration, Failure> {
            ns::enter(std::os::fd::AsFd::as_fd(&netns), ns::Kinds::NETWORK)?;
            let index = seacow_net::HostNetwork::read()?
                .links
                .iter()
                .find(|l| l.name == "eth0")
                .map_or(0, |l| l.index);
            let begin = Instant::now();
            let mut batch = Batch::new();
            link_up(&mut batch, 1);
            address_add(&mut batch, index, address.into(), bridge.subnet().prefix_len());
            link_up(&mut batch, index);
            route_add(&mut batch, index, None, Some(bridge.gateway().into()));
            Socket::open(Protocol::Route)?.transact(&batch)?;
            Ok(begin.elapsed())
        };
        scope.spawn(work).join().map_err(|_| "the configuring thread panicked")?
    })
}

#[derive(Default)]
struct Times {
    allocate: Vec<Duration>,
    connect: Vec<Duration>,
    configure: Vec<Duration>,
    forwarding: Vec<Duration>,
}

impl Times {
    fn print(&mut self) {
        let all = [
            ("allocate", &mut self.allocate),
            ("connect", &mut self.connect),
            ("configure inside", &mut self.configure),
            ("then until forwarding", &mut self.forwarding),
        ];
        for (name, times) in all {
            times.sort();
            let at =
                |part: usize| times.get(times.len() * part / 100).map_or(0.0, |t| t.as_nanos() as f64 / 1e3);
            println!("{name}: p10 {:.1} p50 {:.1} p90 {:.1} µs", at(10), at(50), at(90));
        }
    }
}
