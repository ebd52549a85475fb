//! `network create`, `connect`, `disconnect`, `rm`: passed to the engine.

use serde_json::{Map, Value, json};

use super::each;
use crate::client::escape;
use crate::command::{Args, Command, Invocation};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Kind, NO, parse_key_value_map};
use crate::format::Json;

const CREATE_FLAGS: &[Flag] = &[
    Flag::new(NO, "attachable", Kind::Bool, "Enable manual container attachment"),
    Flag::new(
        NO,
        "aux-address",
        Kind::Map,
        "Auxiliary IPv4 or IPv6 addresses used by Network driver (default map[])",
    ),
    Flag::new(NO, "config-from", Kind::Str, "The network from which to copy the configuration"),
    Flag::new(NO, "config-only", Kind::Bool, "Create a configuration only network"),
    Flag::new('d', "driver", Kind::Str, "Driver to manage the Network (default \"bridge\")")
        .default("bridge"),
    Flag::new(NO, "gateway", Kind::Strings, "IPv4 or IPv6 Gateway for the master subnet"),
    Flag::new(NO, "ingress", Kind::Bool, "Create swarm routing-mesh network"),
    Flag::new(NO, "internal", Kind::Bool, "Restrict external access to the network"),
    Flag::new(NO, "ip-range", Kind::Strings, "Allocate container ip from a sub-range"),
    Flag::new(NO, "ipam-driver", Kind::Str, "IP Address Management Driver (default \"default\")")
        .default("default"),
    Flag::new(NO, "ipam-opt", Kind::Map, "Set IPAM driver specific options (default map[])"),
    Flag::new(NO, "ipv4", Kind::Bool, "Enable or disable IPv4 address assignment (default true)")
        .default("true"),
    Flag::new(NO, "ipv6", Kind::Bool, "Enable or disable IPv6 address assignment"),
    Flag::new(NO, "label", Kind::List, "Set metadata on a network"),
    Flag::new('o', "opt", Kind::Map, "Set driver specific options (default map[])"),
    Flag::new(NO, "scope", Kind::Str, "Control the network's scope"),
    Flag::new(NO, "subnet", Kind::Strings, "Subnet in CIDR format that represents a network segment"),
];

/// `network create`
pub(crate) const CREATE: Command = Command {
    usage: "[OPTIONS] NETWORK",
    about: "Create a network",
    aliases: &[],
    flags: &[CREATE_FLAGS],
    args: Args::Exactly(1),
    run: create,
    ..Command::EMPTY
};

fn create(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let given = |name: &str| matches.changed(name).then(|| matches.bool(name));
    let from = matches.str("config-from");
    let body = json!({
        "Name": invocation.arg(0),
        "Driver": matches.str("driver"),
        "Scope": matches.str("scope"),
        "EnableIPv4": given("ipv4"),
        "EnableIPv6": given("ipv6"),
        "IPAM": {
            "Driver": matches.str("ipam-driver"),
            "Options": parse_key_value_map(&matches.list("ipam-opt")),
            "Config": pools(matches)?,
        },
        "Internal": matches.bool("internal"),
        "Attachable": matches.bool("attachable"),
        "Ingress": matches.bool("ingress"),
        "ConfigOnly": matches.bool("config-only"),
        "ConfigFrom": if from.is_empty() { Value::Null } else { json!({"Network": from}) },
        "Options": parse_key_value_map(&matches.list("opt")),
        "Labels": parse_key_value_map(&matches.list("label")),
    });
    let network: Json = invocation.client()?.post("/networks/create").exchange_json(&body)?;
    if !network.str("Warning").is_empty() {
        eprintln!("WARNING: {}", network.str("Warning"));
    }
    crate::outln(network.str("Id"))
}

/// One pool per subnet; ranges, gateways and further addresses go to the subnet they lie in.
fn pools(matches: &crate::flags::Matches) -> Result<Vec<Value>, Failure> {
    let subnets = matches.strings("subnet");
    let ranges = matches.strings("ip-range");
    let gateways = matches.strings("gateway");
    if subnets.is_empty() && !(ranges.is_empty() && gateways.is_empty()) {
        return Err(Failure::refused("every ip-range or gateway must have a corresponding subnet"));
    }
    let mut pools: Vec<Map<String, Value>> = Vec::new();
    for subnet in &subnets {
        let mut pool = Map::new();
        pool.insert("Subnet".into(), subnet.as_str().into());
        pools.push(pool);
    }
    for (values, key) in [(ranges, "IPRange"), (gateways, "Gateway")] {
        for value in values {
            let home = subnets.iter().position(|s| contains(s, &value)).ok_or_else(|| {
                let what = if key == "Gateway" { "gateway" } else { "ip-range" };
                Failure::Refused(format!("no matching subnet for {what} {value}"))
            })?;
            pools[home].insert(key.into(), value.into());
        }
    }
    for (name, address) in parse_key_value_map(&matches.list("aux-address")) {
        let address = address.as_str().unwrap_or("").to_owned();
        let home = subnets
            .iter()
            .position(|s| contains(s, &address))
            .ok_or_else(|| Failure::Refused(format!("no matching subnet for aux-address {address}")))?;
        let aux = pools[home].entry("AuxiliaryAddresses").or_insert_with(|| json!({}));
        if let Value::Object(aux) = aux {
            aux.insert(name, address.into());
        }
    }
    Ok(pools.into_iter().map(Value::Object).collect())
}

/// Whether an address (or the first of a range) lies in a subnet.
fn contains(subnet: &str, address: &str) -> bool {
    let Some((base, bits)) = subnet.split_once('/') else { return false };
    let address = address.split('/').next().unwrap_or("");
    let number = |text: &str| -> Option<(u128, u32)> {
        match text.parse::<std::net::IpAddr>().ok()? {
            std::net::IpAddr::V4(a) => Some((u128::from(u32::from(a)), 32)),
            std::net::IpAddr::V6(a) => Some((u128::from(a), 128)),
        }
    };
    match (number(base), number(address), bits.parse::<u32>()) {
        (Some((base, width)), Some((address, other)), Ok(bits)) if width == other && bits <= width => {
            let shift = width - bits;
            shift == 128 || base >> shift == address >> shift
        }
        _ => false,
    }
}

const CONNECT_FLAGS: &[Flag] = &[
    Flag::new(NO, "alias", Kind::Strings, "Add network-scoped alias for the container"),
    Flag::new(NO, "driver-opt", Kind::Strings, "driver options for the network"),
    Flag::new(
        NO,
        "gw-priority",
        Kind::Int,
        "Highest gw-priority provides the default gateway. Accepts positive and negative values.",
    ),
    Flag::new(NO, "ip", Kind::Str, "IPv4 address (e.g., \"172.30.100.104\")"),
    Flag::new(NO, "ip6", Kind::Str, "IPv6 address (e.g., \"2001:db8::33\")"),
    Flag::new(NO, "link", Kind::List, "Add link to another container"),
    Flag::new(NO, "link-local-ip", Kind::Strings, "Add a link-local address for the container"),
];

/// `network connect`
pub(crate) const CONNECT: Command = Command {
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Connect a container to a network",
    aliases: &[],
    flags: &[CONNECT_FLAGS],
    args: Args::Exactly(2),
    run: connect,
    ..Command::EMPTY
};

fn connect(invocation: &Invocation<'_>) -> Outcome {
    let matches = invocation.matches;
    let list = |values: Vec<String>| if values.is_empty() { Value::Null } else { json!(values) };
    let mut options = Map::new();
    for option in matches.strings("driver-opt") {
        let Some((key, value)) = option.split_once('=') else {
            return Err(Failure::refused("invalid key/value pair format in driver options"));
        };
        options.insert(key.to_owned(), value.into());
    }
    let (ip, ip6) = (matches.str("ip"), matches.str("ip6"));
    let local = matches.strings("link-local-ip");
    let addressed = !ip.is_empty() || !ip6.is_empty() || !local.is_empty();
    let body = json!({
        "Container": invocation.arg(1),
        "EndpointConfig": {
            "IPAMConfig": if addressed {
                json!({"IPv4Address": ip, "IPv6Address": ip6, "LinkLocalIPs": list(local)})
            } else {
                Value::Null
            },
            "Links": list(matches.list("link")),
            "Aliases": list(matches.strings("alias")),
            "DriverOpts": options,
            "GwPriority": matches.int("gw-priority"),
        },
    });
    let path = format!("/networks/{}/connect", escape(invocation.arg(0)));
    let client = invocation.client()?;
    client.discard(client.post(path).send_json(&body)?);
    Ok(())
}

const DISCONNECT_FLAGS: &[Flag] =
    &[Flag::new('f', "force", Kind::Bool, "Force the container to disconnect from a network")];

/// `network disconnect`
pub(crate) const DISCONNECT: Command = Command {
    usage: "[OPTIONS] NETWORK CONTAINER",
    about: "Disconnect a container from a network",
    aliases: &[],
    flags: &[DISCONNECT_FLAGS],
    args: Args::Exactly(2),
    run: disconnect,
    ..Command::EMPTY
};

fn disconnect(invocation: &Invocation<'_>) -> Outcome {
    let body = json!({"Container": invocation.arg(1), "Force": invocation.matches.bool("force")});
    let path = format!("/networks/{}/disconnect", escape(invocation.arg(0)));
    let client = invocation.client()?;
    client.discard(client.post(path).send_json(&body)?);
    Ok(())
}

const RM_FLAGS: &[Flag] =
    &[Flag::new('f', "force", Kind::Bool, "Do not error if the network does not exist")];

/// `network rm`
pub(crate) const RM: Command = Command {
    usage: "NETWORK [NETWORK...]",
    about: "Remove one or more networks",
    aliases: &["network rm", "network remove"],
    flags: &[RM_FLAGS],
    args: Args::AtLeast(1),
    run: rm,
    ..Command::EMPTY
};

fn rm(invocation: &Invocation<'_>) -> Outcome {
    let client = invocation.client()?;
    each::in_turn(invocation.args(), |name| {
        match client.delete(format!("/networks/{}", escape(name))).done() {
            Err(e) if e.is_not_found() && invocation.matches.bool("force") => Ok(()),
            other => Ok(other?),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn subnets() {
        assert!(contains("10.0.0.0/8", "10.9.0.1") && contains("10.0.0.0/8", "10.1.0.0/16"));
        assert!(!contains("10.0.0.0/24", "10.0.1.1") && !contains("10.0.0.0/8", "::1"));
        assert!(contains("fd00::/8", "fd00::1"));
    }
}
