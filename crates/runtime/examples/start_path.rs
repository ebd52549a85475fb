//! Times the start path without engine and shim: `start_path <rounds> <rootfs> [command…]` runs the
//! command in a container over an overlay of `rootfs`, with a veth from a bridge when the name of
//! one is in SEACOW_BENCH_BRIDGE. Needs root. SEACOW_RUNTIME_TRACE=1 prints every step.

use std::error::Error;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use seacow_runtime::Streams;
use seacow_runtime::init::Prepared;
use seacow_spec::id::ContainerId;
use seacow_spec::oci::runtime::{Capabilities, LinuxNamespace, Mount, NamespaceKind, Process, Spec};
use seacow_spec::shim::{
    Create, LogConfig, Lower, NetworkConfig, OverlayUpper, Prepare, Rootfs, SeccompChoice, Stdio,
};
use seacow_sys::netlink::{Batch, Protocol, Socket, route};
use seacow_sys::process;

const PARENT: &str = "/seacow-bench";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let rounds: u32 = args.next().ok_or("usage: start_path <rounds> <rootfs> [command…]")?.parse()?;
    let rootfs = PathBuf::from(args.next().ok_or("no rootfs")?);
    let mut command: Vec<String> = args.collect();
    if command.is_empty() {
        command.push("/bin/true".into());
    }
    let base = std::env::temp_dir().join(format!("seacow-bench-{}", std::process::id()));
    std::fs::create_dir(&base)?;
    let bridge = std::env::var("SEACOW_BENCH_BRIDGE").ok();
    let mut laps: Vec<[Duration; 6]> = Vec::new();
    for round in 0..rounds {
        await_quiet();
        laps.push(once(round, &base, &rootfs, &command, bridge.as_deref())?);
        // An isolated start: RCU waits hide in loops without pauses.
        std::thread::sleep(Duration::from_millis(30));
    }
    for (column, name) in
        ["clone", "veth+settle", "configure", "start (exec)", "exit", "total to exec"].iter().enumerate()
    {
        let mut times: Vec<Duration> = laps.iter().map(|lap| lap[column]).collect();
        times.sort();
        println!("{name:<16} p50 {:>10.1?}   min {:>10.1?}", times[times.len() / 2], times[0]);
    }
    std::fs::remove_dir_all(&base)?;
    Ok(())
}

/// Waits until nobody else is runnable, at most two seconds.
fn await_quiet() {
    for _ in 0..400 {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        if load.split(' ').nth(3).is_some_and(|running| running.starts_with("1/")) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn once(
    round: u32,
    base: &Path,
    rootfs: &Path,
    command: &[String],
    bridge: Option<&str>,
) -> Result<[Duration; 6], Box<dyn Error>> {
    let id = format!("{:064x}", u64::from(std::process::id()) << 20 | u64::from(round));
    let dir = base.join(round.to_string());
    for name in ["upper", "work"] {
        std::fs::create_dir_all(dir.join(name))?;
    }
    let prepare = prepare(&id)?;
    let create = create(&dir, rootfs, command);
    let null = || std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    let pass = |n: i32| {
        rustix::io::fcntl_dupfd_cloexec(
            if n == 1 { rustix::stdio::stdout() } else { rustix::stdio::stderr() },
            3,
        )
    };
    let streams = Streams::Files { stdin: null()?.into(), stdout: pass(1)?, stderr: pass(2)? };

    let begin = Instant::now();
    let mut prepared = Prepared::new(&prepare, &dir.join("stage"))?;
    let cloned = begin.elapsed();
    if let Some(bridge) = bridge {
        veth(bridge, round, prepared.pid())?;
    }
    prepared.settle()?;
    if bridge.is_some() {
        prepared.connect(&link())?;
    }
    let settled = begin.elapsed();
    let created = prepared.configure(&create, streams)?;
    let configured = begin.elapsed();
    let running = created.start()?;
    let started = begin.elapsed();
    let end = process::wait(running.pidfd.as_fd())?;
    let exited = begin.elapsed();
    if end.code() != 0 {
        return Err(format!("the command ended with {end:?}").into());
    }
    running.cgroups.remove()?;
    drop(running.namespaces);
    Ok([cloned, settled - cloned, configured - settled, started - configured, exited - started, started])
}

/// One message: a veth whose peer is born as eth0 in the container, attached to the bridge, up.
fn veth(bridge: &str, round: u32, pid: i32) -> Result<(), Box<dyn Error>> {
    let mut socket = Socket::open(Protocol::Route)?;
    let master = rustix::net::netdevice::name_to_index(socket.as_fd(), bridge)?;
    let mut batch = Batch::new();
    batch.request("create veth", libc::RTM_NEWLINK, (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16, |m| {
        route::link_header(m, 0, 1, 1);
        m.attr_text(libc::IFLA_IFNAME, &format!("seacowb{}-{round}", std::process::id() % 10000));
        m.attr_u32(libc::IFLA_MASTER, master);
        m.nested_plain(libc::IFLA_LINKINFO, |m| {
            m.attr(1, b"veth").nested_plain(2, |m| {
                m.nested_plain(1, |m| {
                    route::link_header(m, 0, 0, 0);
                    m.attr_text(libc::IFLA_IFNAME, "eth0").attr_u32(libc::IFLA_NET_NS_PID, pid as u32);
                });
            });
        });
    });
    socket.transact(&batch)?;
    Ok(())
}

fn mount(destination: &str, kind: &str, options: &str) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: kind.into(),
        options: options.split(',').map(str::to_owned).collect(),
        ..Mount::default()
    }
}

fn prepare(id: &str) -> Result<Prepare, Box<dyn Error>> {
    use NamespaceKind::{Cgroup, Ipc, Mount as MountNs, Network, Pid, Uts};
    Ok(Prepare {
        id: id.parse::<ContainerId>()?,
        namespaces: [MountNs, Pid, Network, Ipc, Uts, Cgroup]
            .map(|kind| LinuxNamespace { kind, path: String::new() })
            .to_vec(),
        cgroups_path: format!("{PARENT}/{id}"),
        mounts: vec![
            mount("/proc", "proc", "nosuid,noexec,nodev"),
            mount("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
            mount("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
            mount("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
            mount("/sys/fs/cgroup", "cgroup", "ro,nosuid,noexec,nodev"),
            mount("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
            mount("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=67108864"),
        ],
        masked_paths: ["acpi", "kcore", "keys", "latency_stats", "timer_list", "sched_debug", "scsi"]
            .map(|p| format!("/proc/{p}"))
            .into_iter()
            .chain(["/sys/firmware".into(), "/sys/devices/virtual/powercap".into()])
            .collect(),
        readonly_paths: ["bus", "fs", "irq", "sys", "sysrq-trigger"].map(|p| format!("/proc/{p}")).to_vec(),
        privileged: false,
        settings: Default::default(),
        runtime: None,
    })
}

fn create(dir: &Path, rootfs: &Path, command: &[String]) -> Create {
    let caps: Vec<String> = seacow_sys::cred::Caps(0xa804_25fb).names().collect();
    let process = Process {
        args: command.to_vec(),
        env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
        cwd: "/".into(),
        capabilities: Some(Capabilities {
            bounding: caps.clone(),
            effective: caps.clone(),
            permitted: caps,
            ..Capabilities::default()
        }),
        oom_score_adj: Some(0),
        ..Process::default()
    };
    Create {
        spec: Spec { process: Some(process), hostname: "seacow-bench".into(), ..Spec::default() },
        user: String::new(),
        maps_root: false,
        extra_groups: Vec::new(),
        rootfs: Rootfs::Overlay {
            lowers: vec![Lower::Dir(rootfs.to_owned())],
            upper: Some(OverlayUpper {
                upper: dir.join("upper"),
                work: dir.join("work"),
                volatile: true,
                metacopy: false,
            }),
        },
        stdio: Stdio::default(),
        log: LogConfig::None,
        seccomp: SeccompChoice::Default,
        state: Default::default(),
    }
}

fn link() -> NetworkConfig {
    NetworkConfig {
        ifname: "eth0".into(),
        address: std::net::Ipv4Addr::new(10, 213, 7, 2),
        prefix: 16,
        gateway: Some(std::net::Ipv4Addr::new(10, 213, 0, 1)),
    }
}
