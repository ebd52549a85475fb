//! What would keep containers from reaching the outside, for `seacow doctor` and the daemon's
//! start. Reads only.
//!
//! In netfilter a drop in any base chain is final, so one foreign chain at the forward hook that
//! refuses what it does not know is enough: Docker's FORWARD policy, ufw's, firewalld's last rule.

use std::fmt;
use std::fs;

use crate::doors::{Tools, legacy_filter_in_use};
use crate::host::HostNetwork;
use crate::nft::{self, Chain, Ending, Family};
use crate::sysctl::{self, SysctlError};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing.
    Note,
    /// May keep packets from passing.
    Suspect,
    /// Keeps containers from the outside.
    Blocks,
}

/// Who runs a firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Docker with iptables: has the DOCKER-USER chain.
    Docker,
    /// Docker with its own nftables tables.
    DockerNft,
    /// ufw.
    Ufw,
    /// firewalld.
    Firewalld,
    /// iptables rules of somebody.
    Iptables,
    /// nftables rules of somebody.
    Nftables,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker | Self::DockerNft => "Docker",
            Self::Ufw => "ufw",
            Self::Firewalld => "firewalld",
            Self::Iptables => "an iptables rule set",
            Self::Nftables => "an nftables rule set",
        })
    }
}

/// One thing found.
#[derive(Debug)]
pub enum Finding {
    /// A foreign chain refuses forwarded packets that it does not know.
    ForwardRefused {
        /// Whose it is.
        owner: Owner,
        /// Where, as the tools name it: `nftables chain ip filter FORWARD`.
        place: String,
        /// How the mend names it to `nft`: `ip filter FORWARD`.
        chain: String,
        /// The documented door for our bridge is open.
        passed: bool,
    },
    /// Rules of the old iptables are loaded, and no program is there to read them.
    LegacyUnreadable,
    /// Forwarding is off.
    ForwardingOff {
        /// Why it cannot be switched on, when that was tried.
        error: Option<String>,
    },
    /// Strict reverse path filter on a host with several ways out.
    ReversePath {
        /// The switch that says so.
        key: String,
    },
    /// No way out.
    NoDefaultRoute,
    /// Something could not be looked at.
    Unreadable {
        /// What.
        what: &'static str,
        /// Why.
        error: String,
    },
}

impl Finding {
    /// Whether somebody blocks who documents a door, and the door is not open.
    pub fn is_shut_door(&self) -> bool {
        use Owner::{Docker, Firewalld, Ufw};
        matches!(self, Self::ForwardRefused { owner: Docker | Ufw | Firewalld, passed: false, .. })
    }

    /// How bad it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::ForwardRefused { passed: true, .. } => Severity::Note,
            Self::ForwardRefused { .. } | Self::ForwardingOff { .. } => Severity::Blocks,
            Self::LegacyUnreadable | Self::ReversePath { .. } | Self::Unreadable { .. } => Severity::Suspect,
            Self::NoDefaultRoute => Severity::Note,
        }
    }

    /// One sentence.
    pub fn sentence(&self) -> String {
        match self {
            Self::ForwardRefused { owner, place, passed: true, .. } => {
                format!("Forwarded packets are refused by {owner} ({place}); seacow's bridge passes by its documented door.")
            }
            Self::ForwardRefused { owner, place, .. } => {
                format!("Forwarded packets are refused by {owner} ({place}): containers cannot reach the outside.")
            }
            Self::LegacyUnreadable => {
                "iptables-legacy rules are loaded, but the program iptables-legacy is not installed: whether they block containers is unknown.".into()
            }
            Self::ForwardingOff { error: Some(error) } => {
                format!("IP forwarding is off and cannot be switched on ({error}): containers cannot reach the outside.")
            }
            Self::ForwardingOff { error: None } => {
                "IP forwarding is off: containers cannot reach the outside.".into()
            }
            Self::ReversePath { key } => {
                format!("{key} is strict and this host has several default routes: answers that come back another way are dropped.")
            }
            Self::NoDefaultRoute => {
                "This host has no default route: containers reach only what the host reaches.".into()
            }
            Self::Unreadable { what, error } => format!("The {what} could not be read: {error}."),
        }
    }

    /// What to do about it, a command where there is one.
    pub fn mend(&self, bridge: &str) -> Option<String> {
        match self {
            Self::ForwardRefused { passed: true, .. } | Self::NoDefaultRoute | Self::Unreadable { .. } => {
                None
            }
            Self::ForwardRefused { owner, chain, .. } => Some(owner.mend(bridge, chain)),
            Self::LegacyUnreadable => Some("apt-get install iptables".into()),
            Self::ForwardingOff { .. } => Some(format!("sysctl -w {}=1", sysctl::IP_FORWARD)),
            Self::ReversePath { key } => Some(format!("sysctl -w {key}=2")),
        }
    }
}

impl Owner {
    fn mend(self, bridge: &str, chain: &str) -> String {
        let iptables = |chain: &str| {
            format!(
                "iptables -I {chain} -i {bridge} -j ACCEPT && iptables -I {chain} -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"
            )
        };
        match self {
            Self::Docker => iptables("DOCKER-USER"),
            Self::DockerNft => {
                "set \"ip-forward-no-drop\": true in Docker's daemon.json and restart Docker".into()
            }
            Self::Ufw => format!("ufw route allow in on {bridge}"),
            Self::Firewalld => {
                format!("firewall-cmd --zone=trusted --add-interface={bridge} (and again with --permanent)")
            }
            Self::Iptables => iptables("FORWARD"),
            Self::Nftables => format!(
                "nft insert rule {chain} iifname {bridge} accept && nft insert rule {chain} oifname {bridge} ct state established,related accept"
            ),
        }
    }
}

/// Looks at everything. `bridge` is ours, `tables` are the nftables tables that are ours;
/// `problems` are those of [`crate::Bridge::problems`], when a bridge was made.
pub fn diagnose(bridge: &str, tables: &[&str], problems: &[SysctlError], tools: &Tools) -> Vec<Finding> {
    let mut findings = Vec::new();
    match nft::chains() {
        Ok(chains) => findings.extend(nft_forward(&chains, bridge, tables, tools)),
        Err(error) => findings.push(unreadable("nftables rule set", &error)),
    }
    findings.extend(legacy_forward(bridge, tools));
    findings.extend(forwarding_off(problems));
    match HostNetwork::read() {
        Ok(host) => findings.extend(ways_out(&host)),
        Err(error) => findings.push(unreadable("host's routes", &error)),
    }
    findings
}

fn unreadable(what: &'static str, error: &dyn std::error::Error) -> Finding {
    Finding::Unreadable { what, error: chain(error) }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// nf_inet_hooks: forward.
const FORWARD: u32 = 2;

fn nft_forward(chains: &[Chain], bridge: &str, tables: &[&str], tools: &Tools) -> Vec<Finding> {
    let mut findings = Vec::new();
    for chain in chains {
        let ours = chain.family == Family::Ip && tables.contains(&chain.table.as_str());
        let sees_ipv4 = matches!(chain.family, Family::Ip | Family::Inet);
        let Some(base) = chain.base.as_ref().filter(|b| b.hook == FORWARD && sees_ipv4 && !ours) else {
            continue;
        };
        let refuses = match nft::chain_ending(chain) {
            Ok(ending) => base.drops || ending == Ending::Refuses,
            Err(error) => {
                findings.push(unreadable("nftables rule set", &error));
                base.drops
            }
        };
        // Another seacow daemon's table refuses only what goes to its own bridge, and says so by
        // a condition; it never gets here.
        if refuses {
            let owner = nft_owner(chain, chains);
            let name = format!("{} {} {}", chain.family, chain.table, chain.name);
            let passed = tools.door_is_open(owner, bridge);
            findings.push(Finding::ForwardRefused {
                owner,
                place: format!("nftables chain {name}"),
                chain: name,
                passed,
            });
        }
    }
    findings
}

fn nft_owner(chain: &Chain, all: &[Chain]) -> Owner {
    let has =
        |name: &str| all.iter().any(|c| c.family == chain.family && c.table == chain.table && c.name == name);
    match (chain.table.as_str(), chain.name.as_str()) {
        ("firewalld", _) => Owner::Firewalld,
        ("docker-bridges", _) => Owner::DockerNft,
        // iptables-nft keeps its tables under the old names.
        ("filter", "FORWARD") if has("DOCKER-USER") => Owner::Docker,
        ("filter", "FORWARD") if has("ufw-user-forward") => Owner::Ufw,
        ("filter", "FORWARD") if chain.family == Family::Ip => Owner::Iptables,
        _ => Owner::Nftables,
    }
}

fn legacy_forward(bridge: &str, tools: &Tools) -> Option<Finding> {
    if !legacy_filter_in_use() {
        return None;
    }
    let Some(program) = tools.iptables_legacy() else { return Some(Finding::LegacyUnreadable) };
    let rules = match program.run(&["-w", "5", "-S"]) {
        Ok(output) => output.stdout,
        Err(error) => {
            return Some(Finding::Unreadable { what: "iptables-legacy rule set", error: error.to_string() });
        }
    };
    let has = |line: &str| rules.lines().any(|l| l == line);
    let refuses = has("-P FORWARD DROP")
        || rules
            .lines()
            .rfind(|l| l.starts_with("-A FORWARD "))
            .is_some_and(|l| l.starts_with("-A FORWARD -j DROP") || l.starts_with("-A FORWARD -j REJECT"));
    let owner = match () {
        () if has("-N DOCKER-USER") => Owner::Docker,
        () if has("-N ufw-user-forward") => Owner::Ufw,
        () => Owner::Iptables,
    };
    refuses.then(|| Finding::ForwardRefused {
        owner,
        place: "iptables-legacy chain FORWARD".into(),
        chain: "FORWARD".into(),
        passed: tools.door_is_open(owner, bridge),
    })
}

fn forwarding_off(problems: &[SysctlError]) -> Option<Finding> {
    if sysctl::read(sysctl::IP_FORWARD).is_ok_and(|value| value == "1") {
        return None;
    }
    let error = problems.iter().find(|p| p.key() == sysctl::IP_FORWARD).map(|p| chain(p));
    Some(Finding::ForwardingOff { error })
}

/// Strict reverse path filtering is harmless with one way out: answers come back by it.
fn ways_out(host: &HostNetwork) -> Option<Finding> {
    let routes = host.default_routes();
    let Some(first) = routes.first() else { return Some(Finding::NoDefaultRoute) };
    if routes.iter().all(|r| r.interface == first.interface) {
        return None;
    }
    let interface = first.interface.replace('.', "/");
    ["all".to_owned(), interface]
        .iter()
        .map(|i| format!("net.ipv4.conf.{i}.rp_filter"))
        .find(|key| sysctl::read(key).is_ok_and(|v| v == "1"))
        .map(|key| Finding::ReversePath { key })
}

/// Whether the old iptables' filter table exists in this namespace. Asking the program instead
/// would create it.
pub(crate) fn legacy_tables() -> String {
    fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_is_one_sentence_and_every_block_has_a_mend() {
        let owners =
            [Owner::Docker, Owner::DockerNft, Owner::Ufw, Owner::Firewalld, Owner::Iptables, Owner::Nftables];
        let refused = |owner, passed| Finding::ForwardRefused {
            owner,
            place: "nftables chain ip filter FORWARD".into(),
            chain: "ip filter FORWARD".into(),
            passed,
        };
        let mut all: Vec<Finding> =
            owners.iter().flat_map(|o| [refused(*o, false), refused(*o, true)]).collect();
        all.extend([
            Finding::LegacyUnreadable,
            Finding::ForwardingOff { error: None },
            Finding::ForwardingOff { error: Some("read-only file system".into()) },
            Finding::ReversePath { key: "net.ipv4.conf.all.rp_filter".into() },
            Finding::NoDefaultRoute,
        ]);
        for finding in all {
            let sentence = finding.sentence();
            assert!(sentence.ends_with('.') && !sentence.contains('\n'), "{sentence}");
            if finding.severity() == Severity::Blocks {
                assert!(finding.mend("seacow0").is_some(), "{sentence}");
            }
        }
        assert_eq!(refused(Owner::Ufw, false).mend("seacow0").unwrap(), "ufw route allow in on seacow0");
    }
}
