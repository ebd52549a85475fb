//! Containers reach the outside, past other firewalls too. The daemon runs in a network namespace that
//! plays a machine of its own; a second one plays the world beyond its uplink, and knows no way to the
//! containers' addresses: an answer proves that theirs were translated.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use seacow_tests::{Done, Engine, eventually};

/// The machine's address on its uplink.
const MACHINE: &str = "198.51.100.1";
/// The world's.
const WORLD: &str = "198.51.100.2";

/// A machine's network and the world outside it.
struct Lab {
    machine: String,
    world: String,
    dir: PathBuf,
    server: Option<Child>,
}

static MADE: AtomicU32 = AtomicU32::new(0);

impl Lab {
    fn new() -> Self {
        let name = format!("seacow-egress{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let (machine, world) = (format!("{name}m"), format!("{name}w"));
        let dir = PathBuf::from(format!("/run/{name}"));
        let mut lab = Self { machine, world, dir, server: None };
        lab.connect();
        lab.serve();
        lab
    }

    fn connect(&self) {
        let (machine, world) = (&self.machine, &self.world);
        sh(&format!(
            "ip netns add {machine} && ip netns add {world} \
             && ip link add up0 netns {machine} type veth peer name up1 netns {world} \
             && ip -n {machine} addr add {MACHINE}/24 dev up0 && ip -n {world} addr add {WORLD}/24 dev up1 \
             && ip -n {machine} link set lo up && ip -n {world} link set lo up \
             && ip -n {machine} link set up0 up && ip -n {world} link set up1 up \
             && ip -n {machine} route add default via {WORLD}"
        ));
    }

    /// A web server out there that tells its callers who they are.
    fn serve(&mut self) {
        let (dir, world) = (self.dir.display(), &self.world);
        sh(&format!(
            "mkdir -p {dir}/cgi-bin && printf '#!/bin/sh\\necho\\necho $REMOTE_ADDR\\n' > {dir}/cgi-bin/me \
             && chmod +x {dir}/cgi-bin/me"
        ));
        let address = format!("{WORLD}:80");
        let mut httpd = Command::new("ip");
        httpd.args(["netns", "exec", world, "busybox", "httpd", "-f", "-p", &address, "-h"]).arg(&self.dir);
        self.server = Some(httpd.stdin(Stdio::null()).spawn().unwrap());
        eventually("the world answers", || {
            self.inside(&format!("curl -sm 3 http://{WORLD}/cgi-bin/me")).out.trim() == MACHINE
        });
    }

    /// Runs a line of shell on the machine.
    fn inside(&self, line: &str) -> Done {
        Done::run(Command::new("ip").args(["netns", "exec", &self.machine, "sh", "-c", line]))
    }

    /// A daemon on this machine.
    fn engine(&self) -> Engine {
        Engine::start_through(&["nsenter", &format!("--net=/run/netns/{}", self.machine)], &[])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            drop(server.kill());
            drop(server.wait());
        }
        for name in [&self.machine, &self.world] {
            drop(Command::new("ip").args(["netns", "del", name]).status());
        }
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

#[track_caller]
fn sh(line: &str) -> String {
    Done::run(Command::new("sh").args(["-c", line])).ok()
}

/// The command that asks the world. No `-T`: with it, Debian's busybox dies of a null pointer.
fn wget(into: &str) -> String {
    format!("wget -q -O {into} http://{WORLD}/cgi-bin/me")
}

/// Asks the world from a new container on the bridge.
fn ask(engine: &Engine) -> Done {
    // The shell stays process 1, which no signal of `timeout` would reach.
    engine.docker(&["run", "--rm", "bb", "sh", "-c", &format!("timeout 3 {} || exit 1", wget("-"))])
}

/// What `doctor` says about firewalls.
fn doctor(engine: &Engine) -> String {
    let page = engine.seacow(&["doctor"]).out;
    let lines: Vec<&str> = page.lines().collect();
    let about = lines.iter().enumerate().filter(|(_, line)| line.contains("firewall:"));
    about.flat_map(|(at, _)| lines[at..].iter().take(2)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_container_reaches_the_outside_by_the_machines_address() {
    let lab = Lab::new();
    let engine = lab.engine();
    if engine.skip_on_docker() {
        return;
    }
    assert_eq!(ask(&engine).ok(), MACHINE);
    // A step of a build does, too.
    let dockerfile = format!("FROM bb\nRUN {}\n", wget("/me"));
    engine.docker_with_input(&["build", "-t", "asked", "-"], dockerfile.as_bytes()).ok();
    assert_eq!(engine.docker(&["run", "--rm", "asked", "cat", "/me"]).ok(), MACHINE);
    assert!(
        doctor(&engine).contains("Nothing keeps containers from reaching the outside"),
        "{}",
        doctor(&engine)
    );
    let without = engine.docker(&["run", "--rm", "--network", "none", "bb", "sh", "-c", &wget("-")]);
    without.fails(1, "unreachable");
}

/// What Docker leaves behind on a machine where it switched forwarding on.
fn docker_beside_us(iptables: &str) -> String {
    format!(
        "{iptables} -N DOCKER-USER && {iptables} -A DOCKER-USER -j RETURN && {iptables} -P FORWARD DROP \
         && {iptables} -A FORWARD -j DOCKER-USER"
    )
}

fn passes_dockers_firewall(iptables: &str) {
    let lab = Lab::new();
    lab.inside(&docker_beside_us(iptables)).ok();
    let rules = || lab.inside(&format!("{iptables} -S")).ok();
    let before = rules();
    let mut engine = lab.engine();
    if engine.skip_on_docker() {
        return;
    }
    assert_eq!(ask(&engine).ok(), MACHINE);
    assert!(doctor(&engine).contains("passes by its documented door"), "{}", doctor(&engine));
    let opened = rules();
    assert!(opened.contains("--comment seacow"), "{opened}");
    // One that was killed has closed nothing; the next one takes its doors up, and adds none.
    engine.kill_daemon();
    assert_eq!(rules(), opened);
    engine.restart_daemon();
    assert_eq!(rules(), opened);
    assert_eq!(ask(&engine).ok(), MACHINE);
    engine.stop_daemon();
    assert_eq!(rules(), before, "the door is closed with the bridge");
}

#[test]
fn dockers_drop_policy_is_passed_by_its_own_chain() {
    passes_dockers_firewall("iptables-nft");
}

#[test]
fn so_it_is_with_the_old_iptables() {
    passes_dockers_firewall("iptables-legacy");
}

#[test]
fn a_door_stays_open_as_long_as_containers_run() {
    let lab = Lab::new();
    lab.inside(&docker_beside_us("iptables-nft")).ok();
    let rules = || lab.inside("iptables-nft -S").ok();
    let before = rules();
    let mut engine = lab.engine();
    if engine.skip_on_docker() {
        return;
    }
    engine.docker(&["run", "-d", "--name", "stays", "bb", "sleep", "1000"]).ok();
    let opened = rules();
    engine.stop_daemon();
    assert_eq!(rules(), opened, "the container still needs it");
    engine.restart_daemon();
    assert_eq!(engine.docker(&["exec", "stays", "sh", "-c", &wget("-")]).ok(), MACHINE);
    engine.docker(&["rm", "-f", "stays"]).ok();
    engine.stop_daemon();
    assert_eq!(rules(), before);
}

/// Rules as Docker 29 makes them with `--firewall-backend=nftables`: only what goes to its own bridges
/// is judged, so there is nothing to be passed.
const DOCKER_NFTABLES: &str = "table ip docker-bridges {
    map filter-forward-in-jumps { type ifname : verdict; elements = { \"docker0\" : jump filter-forward-in__docker0 }; }
    map filter-forward-out-jumps { type ifname : verdict; elements = { \"docker0\" : jump filter-forward-out__docker0 }; }
    chain filter-forward-in__docker0 { ct state established,related accept; drop; }
    chain filter-forward-out__docker0 { accept; }
    chain filter-FORWARD {
        type filter hook forward priority filter; policy accept;
        oifname vmap @filter-forward-in-jumps
        iifname vmap @filter-forward-out-jumps
    }
}";

#[test]
fn docker_with_nftables_is_not_in_the_way() {
    let lab = Lab::new();
    lab.inside(&format!("nft '{DOCKER_NFTABLES}'")).ok();
    let engine = lab.engine();
    if engine.skip_on_docker() {
        return;
    }
    assert_eq!(ask(&engine).ok(), MACHINE);
    assert!(
        doctor(&engine).contains("Nothing keeps containers from reaching the outside"),
        "{}",
        doctor(&engine)
    );
}

#[test]
fn a_firewall_without_a_door_is_named_at_the_start_and_by_doctor() {
    let lab = Lab::new();
    lab.inside("iptables-nft -P FORWARD DROP").ok();
    let engine = lab.engine();
    if engine.skip_on_docker() {
        return;
    }
    assert_ne!(ask(&engine).code, 0);
    let cause = "Forwarded packets are refused by an iptables rule set (nftables chain ip filter FORWARD): \
                 containers cannot reach the outside.";
    assert!(engine.log().contains(cause), "{}", engine.log());
    let found = doctor(&engine);
    assert!(found.contains(cause), "{found}");
    // The mend is a command that can be typed.
    let mend = found.lines().find_map(|line| line.trim().strip_prefix("-> ")).unwrap();
    lab.inside(mend).ok();
    assert_eq!(ask(&engine).ok(), MACHINE);
}

#[test]
fn servers_of_the_machine_itself_are_translated() {
    if !std::path::Path::new("/run/systemd").is_dir() {
        println!("SKIPPED: no /run/systemd to play systemd-resolved in");
        return;
    }
    let name = format!("seacow-resolv{}", std::process::id());
    let file = std::env::temp_dir().join(&name);
    let with = |host: &str, behind: &str, work: &dyn Fn(&Engine)| {
        std::fs::write(&file, host).unwrap();
        // systemd itself, where it is, stays to be found.
        let line = format!(
            "mount --rbind /run/systemd /mnt && mount -t tmpfs {name} /run/systemd && cd /mnt || exit 1
             for entry in *; do
                 {{ [ -e $entry ] && [ $entry != resolve ]; }} || continue
                 if [ -d $entry ]; then mkdir /run/systemd/$entry; else touch /run/systemd/$entry; fi
                 mount --rbind $entry /run/systemd/$entry || exit 1
             done
             cd / && umount -l /mnt && mkdir /run/systemd/resolve && {behind} && \
             mount --bind {} /etc/resolv.conf && exec \"$@\"",
            file.display()
        );
        let words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", &line, "sh"];
        let engine = Engine::start_through(&words, &[]);
        if !engine.skip_on_docker() {
            work(&engine);
        }
    };
    let conf = |engine: &Engine| engine.docker(&["run", "--rm", "bb", "cat", "/etc/resolv.conf"]).ok();
    let behind = "printf 'nameserver 192.0.2.53\\nsearch lan\\n' > /run/systemd/resolve/resolv.conf";
    with("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n", behind, &|engine| {
        assert_eq!(conf(engine), "nameserver 192.0.2.53\nsearch lan");
        let doctor = engine.seacow(&["doctor"]).out;
        assert!(doctor.contains("ok    name servers: Containers ask 192.0.2.53.\n"), "{doctor}");
    });
    with("nameserver 127.0.0.1\nnameserver ::1\n", "true", &|engine| {
        assert_eq!(conf(engine), "nameserver 8.8.8.8\nnameserver 8.8.4.4");
        let doctor = engine.seacow(&["doctor"]).out;
        let says = "warn  name servers: Containers cannot reach the host's DNS servers (127.0.0.1, ::1); they ask 8.8.8.8";
        assert!(doctor.contains(says), "{doctor}");
    });
    with("nameserver 127.0.0.1\nnameserver 192.0.2.1\n", "true", &|engine| {
        assert_eq!(conf(engine), "nameserver 192.0.2.1");
        let own = engine.docker(&["run", "--rm", "--dns", "192.0.2.9", "bb", "cat", "/etc/resolv.conf"]);
        assert_eq!(own.ok(), "nameserver 192.0.2.9");
    });
    drop(std::fs::remove_file(&file));
}

#[test]
fn a_firewall_that_comes_later_is_passed_and_named_too() {
    let lab = Lab::new();
    let mut engine = lab.engine();
    if engine.skip_on_docker() {
        return;
    }
    let rules = || lab.inside("iptables-nft -S").ok();
    lab.inside(&docker_beside_us("iptables-nft")).ok();
    eventually("the door is opened", || rules().contains("--comment seacow"));
    assert_eq!(ask(&engine).ok(), MACHINE);
    // Whoever loads rules again forgets what others added.
    lab.inside("iptables-nft -F DOCKER-USER").ok();
    eventually("it is opened again", || rules().contains("--comment seacow"));
    lab.inside("nft 'table inet mine { chain fw { type filter hook forward priority 5; policy drop; }; }'")
        .ok();
    let cause = "refused by an nftables rule set (nftables chain inet mine fw)";
    eventually("what has no door is named", || engine.log().contains(cause));
    // Also those that were opened late are closed.
    engine.stop_daemon();
    assert!(!rules().contains("--comment seacow"), "{}", rules());
}
