//! Other firewalls between containers and the outside: found, named, passed, and left as they
//! were. Needs root; nft and iptables for the rule sets of others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's way to fail")]

mod lab;

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lab::{Container, HOST_OUTER, Outside, has, host, sh};
use seacow_net::diagnose::{Finding, Owner, Severity, diagnose};
use seacow_net::doors::{Door, DoorError, Passed, Tools, close_doors, pass_doors};
use seacow_net::{Bridge, BridgeConfig};

const BRIDGE: &str = "seacow0";

/// Opens the doors, with nothing to be stored.
fn pass(bridge: &str, tools: &Tools) -> Passed {
    pass_doors(bridge, tools, |_| Ok::<(), Infallible>(())).unwrap()
}

fn findings(bridge: &Bridge, tools: &Tools) -> Vec<Finding> {
    diagnose(BRIDGE, &[bridge.table()], bridge.problems(), tools)
}

/// The one finding about the forward hook.
fn refusal(findings: &[Finding]) -> (Owner, bool) {
    let found: Vec<_> = findings
        .iter()
        .filter_map(|f| match f {
            Finding::ForwardRefused { owner, passed, .. } => Some((*owner, *passed)),
            _ => None,
        })
        .collect();
    assert_eq!(found.len(), 1, "{findings:?}");
    found[0]
}

/// A host with the outside, our bridge and one container; `before` loads the other firewall.
fn with_firewall(
    name: &str,
    programs: &[&str],
    before: &str,
    work: impl FnOnce(&Bridge, &Container, &Outside) + Send,
) {
    if !has(name, programs) {
        return;
    }
    host(name, || {
        let outside = Outside::new();
        sh(before);
        let bridge = Bridge::ensure(&BridgeConfig::new(BRIDGE)).unwrap();
        let container = Container::start(&bridge, &bridge.ipam().unwrap(), "a");
        work(&bridge, &container, &outside);
    });
}

#[test]
fn a_clean_host_has_nothing_to_say() {
    with_firewall("clean host", &[], "true", |bridge, container, outside| {
        let found = findings(bridge, &Tools::default());
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(container.reaches(&outside.server), Some(HOST_OUTER.into()));
        let passed = pass(BRIDGE, &Tools::default());
        assert!(passed.opened.is_empty() && passed.failed.is_empty(), "{passed:?}");
        sh("ip route del default");
        let found = findings(bridge, &Tools::default());
        assert!(matches!(found[..], [Finding::NoDefaultRoute]), "{found:?}");
    });
}

/// The door of Docker with this iptables: blocked, named, passed, closed, blocked.
fn docker_user(iptables: &str) {
    let docker = format!(
        "{iptables} -N DOCKER-USER && {iptables} -A DOCKER-USER -j RETURN && {iptables} -P FORWARD DROP \
         && {iptables} -A FORWARD -j DOCKER-USER"
    );
    with_firewall(iptables, &[iptables], &docker, |bridge, container, outside| {
        let tools = Tools::default();
        assert_eq!(refusal(&findings(bridge, &tools)), (Owner::Docker, false));
        assert!(container.peer.inside(|| outside.server.is_shut()));
        let rules = sh(&format!("{iptables} -S"));
        let passed = pass(BRIDGE, &tools);
        let [door @ Door::DockerUser { .. }] = &passed.opened[..] else { panic!("{passed:?}") };
        assert_eq!(container.reaches(&outside.server), Some(HOST_OUTER.into()));
        let found = findings(bridge, &tools);
        assert_eq!(refusal(&found), (Owner::Docker, true));
        assert_eq!(found[0].severity(), Severity::Note);
        let again = pass(BRIDGE, &tools);
        assert_eq!((again.opened.len(), &again.standing[..]), (0, &passed.opened[..]));
        let stored = serde_json::to_string(door).unwrap();
        let door: Door = serde_json::from_str(&stored).unwrap();
        assert!(close_doors(&[door.clone(), door]).is_empty(), "closing twice is no error");
        assert_eq!(sh(&format!("{iptables} -S")), rules);
        assert!(container.peer.inside(|| outside.server.is_shut()));
    });
}

#[test]
fn docker_with_iptables_nft() {
    docker_user("iptables-nft");
}

#[test]
fn docker_with_iptables_legacy() {
    docker_user("iptables-legacy");
}

/// A firewall without a documented door: the mend that we print is run as printed.
fn the_mend_works(name: &str, program: &str, rules: &str, owner: Owner) {
    with_firewall(name, &[program], rules, |bridge, container, outside| {
        let found = findings(bridge, &Tools::default());
        assert_eq!(refusal(&found), (owner, false));
        assert!(container.peer.inside(|| outside.server.is_shut()));
        assert!(pass(BRIDGE, &Tools::default()).opened.is_empty());
        sh(&found[0].mend(BRIDGE).unwrap());
        assert_eq!(container.reaches(&outside.server), Some(HOST_OUTER.into()));
    });
}

#[test]
fn an_nftables_policy_of_drop() {
    let rules = "nft 'table inet mine { chain fw { type filter hook forward priority 5; policy drop; }; }'";
    the_mend_works("nftables policy", "nft", rules, Owner::Nftables);
}

#[test]
fn an_nftables_last_rule_that_rejects() {
    let rules = "nft 'table inet mine { chain fw { type filter hook forward priority 5; \
                 iifname \"up9\" accept; counter reject with icmpx admin-prohibited; }; }'";
    the_mend_works("nftables last rule", "nft", rules, Owner::Nftables);
}

#[test]
fn plain_iptables_policies_and_last_rules() {
    the_mend_works("iptables policy", "iptables", "iptables -P FORWARD DROP", Owner::Iptables);
    the_mend_works("iptables reject", "iptables", "iptables -A FORWARD -j REJECT", Owner::Iptables);
}

#[test]
fn what_does_not_block_is_not_blamed() {
    let rules = "nft 'table inet mine { chain fw { type filter hook forward priority 5; iifname \"up9\" drop; }; \
                 chain incoming { type filter hook input priority 0; policy drop; }; }; \
                 table ip6 six { chain fw { type filter hook forward priority 0; policy drop; }; }' \
                 && iptables-legacy -A FORWARD -i up9 -j DROP";
    with_firewall("harmless rules", &["nft", "iptables-legacy"], rules, |bridge, container, outside| {
        let found = findings(bridge, &Tools::default());
        assert!(found.is_empty(), "{found:?}");
        // The input policy keeps answers of the host away, not what it forwards.
        assert_eq!(container.reaches(&outside.server), Some(HOST_OUTER.into()));
    });
}

#[test]
fn another_daemons_bridge_is_no_firewall() {
    with_firewall("second daemon", &[], "true", |bridge, _, _| {
        let other = Bridge::ensure(&BridgeConfig::new("scb1")).unwrap();
        for (own, name) in [(bridge, BRIDGE), (&other, "scb1")] {
            let found = diagnose(name, &[own.table()], own.problems(), &Tools::default());
            assert!(found.is_empty(), "{found:?}");
        }
    });
}

#[test]
fn forwarding_that_cannot_be_switched_on() {
    host("read-only switches", || {
        sh("mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys");
        let bridge = Bridge::ensure(&BridgeConfig::new(BRIDGE)).unwrap();
        assert_eq!(bridge.changes(), []);
        assert!(
            bridge.problems().iter().any(|p| p.key() == "net.ipv4.ip_forward"),
            "{:?}",
            bridge.problems()
        );
        let found = findings(&bridge, &Tools::default());
        let off = found.iter().find(|f| matches!(f, Finding::ForwardingOff { .. })).unwrap();
        assert_eq!(
            off.sentence(),
            "IP forwarding is off and cannot be switched on (set sysctl net.ipv4.ip_forward = 1: Read-only file \
             system (os error 30)): containers cannot reach the outside."
        );
        assert_eq!(off.severity(), Severity::Blocks);
        bridge.remove().unwrap();
    });
}

#[test]
fn a_strict_reverse_path_filter_with_two_ways_out() {
    with_firewall("rp_filter", &[], "true", |bridge, _, _| {
        sh("ip link add scx type veth peer name scy && ip link set scx up && ip link set scy up \
            && ip addr add 203.0.113.1/24 dev scx && ip route add default via 203.0.113.2 dev scx metric 500 \
            && echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter");
        let found = findings(bridge, &Tools::default());
        let [Finding::ReversePath { key }] = &found[..] else { panic!("{found:?}") };
        assert_eq!(key, "net.ipv4.conf.all.rp_filter");
    });
}

/// Writes a program that plays another firewall's front end.
fn fake(dir: &Path, name: &str, script: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\nd={}\necho \"$*\" >> $d/log\n{script}\n", dir.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn ufw_by_its_own_command() {
    let dir = tempfile::tempdir().unwrap();
    fake(
        dir.path(),
        "ufw",
        "case \"$*\" in
           status) echo 'Status: active';;
           'show added') echo 'Added user rules:'; cat $d/rules;;
           'route allow in on seacow0') echo 'ufw route allow in on seacow0' >> $d/rules;;
           'route delete allow in on seacow0') : > $d/rules;;
           *) exit 9;;
         esac",
    );
    fs::write(dir.path().join("rules"), "ufw allow 22/tcp\n").unwrap();
    let tools = Tools::in_dirs([dir.path()]);
    let rules = || fs::read_to_string(dir.path().join("rules")).unwrap();
    let passed = pass(BRIDGE, &tools);
    assert!(matches!(passed.opened[..], [Door::Ufw { .. }]), "{passed:?}");
    assert!(rules().contains("ufw route allow in on seacow0\n"));
    assert_eq!(pass(BRIDGE, &tools).standing, passed.opened, "not added twice");
    assert!(close_doors(&passed.opened).is_empty());
    assert!(close_doors(&passed.opened).is_empty());
    assert_eq!(rules(), "");
}

#[test]
fn a_door_is_noted_before_it_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    fake(
        dir.path(),
        "ufw",
        "case \"$*\" in status) echo 'Status: active';; 'show added') ;; *) touch $d/opened;; esac",
    );
    let tools = Tools::in_dirs([dir.path()]);
    let opened = || dir.path().join("opened").exists();
    let refused = pass_doors(BRIDGE, &tools, |doors| {
        assert!(matches!(doors, [Door::Ufw { .. }]) && !opened(), "{doors:?}");
        Err("no room to note it")
    });
    assert_eq!(refused.unwrap_err(), "no room to note it");
    assert!(!opened());
    assert_eq!(pass(BRIDGE, &tools).opened.len(), 1);
    assert!(opened());
}

#[test]
fn firewalld_by_its_own_command() {
    let dir = tempfile::tempdir().unwrap();
    fake(
        dir.path(),
        "firewall-cmd",
        "case \"$*\" in
           --state) echo running;;
           '--zone=trusted --query-interface=seacow0') test -e $d/in;;
           '--zone=trusted --add-interface=seacow0') touch $d/in;;
           '--zone=trusted --remove-interface=seacow0') rm $d/in;;
           *) exit 9;;
         esac",
    );
    let tools = Tools::in_dirs([dir.path()]);
    let passed = pass(BRIDGE, &tools);
    assert!(matches!(passed.opened[..], [Door::Firewalld { .. }]), "{passed:?}");
    assert!(dir.path().join("in").exists());
    assert_eq!(pass(BRIDGE, &tools).standing, passed.opened);
    assert!(close_doors(&passed.opened).is_empty());
    assert!(!dir.path().join("in").exists());
}

#[test]
fn a_sleeping_firewall_has_no_door_and_a_broken_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fake(dir.path(), "ufw", "echo 'Status: inactive'");
    fake(dir.path(), "firewall-cmd", "echo 'not running' >&2; exit 252");
    let tools = Tools::in_dirs([dir.path()]);
    let Passed { opened, standing, failed } = pass(BRIDGE, &tools);
    assert_eq!((opened.len(), standing.len(), failed.len()), (0, 0, 0));
    fake(
        dir.path(),
        "ufw",
        "case \"$*\" in status) echo 'Status: active';; 'show added') ;; *) echo 'ERROR: no space' >&2; exit 1;; esac",
    );
    let failed = pass(BRIDGE, &tools).failed;
    let [DoorError::Failed { text, .. }] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(text, "ERROR: no space");
}
