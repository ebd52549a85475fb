//! `--network` and the flags that describe the container's place in it.

use std::collections::BTreeMap;

use seacow_spec::docker::network::{EndpointIpam, EndpointSettings};

use super::mount::csv_fields;
use crate::failure::Failure;
use crate::flags::Matches;

/// One `--network`: a plain name, or `name=…,alias=…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub(crate) target: String,
    aliases: Vec<String>,
    links: Vec<String>,
    ipv4: String,
    ipv6: String,
    link_local: Vec<String>,
    mac: String,
    driver_opts: BTreeMap<String, String>,
    priority: Option<i64>,
}

impl Attachment {
    fn says_something(&self) -> bool {
        *self != Self { target: self.target.clone(), ..Self::default() }
    }
}

/// Reads one `--network` value.
pub(crate) fn parse(value: &str) -> Result<Attachment, String> {
    let mut attachment = Attachment::default();
    if !value.contains('=') {
        value.clone_into(&mut attachment.target);
        return Ok(attachment);
    }
    for field in csv_fields(value)? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("invalid field {field}"));
        };
        let value = value.trim();
        match key.trim().to_lowercase().as_str() {
            "name" => attachment.target = value.to_owned(),
            "alias" => attachment.aliases.push(value.to_owned()),
            "ip" => attachment.ipv4 = value.to_owned(),
            "ip6" => attachment.ipv6 = value.to_owned(),
            "mac-address" => attachment.mac = value.to_owned(),
            "link-local-ip" => attachment.link_local.push(value.to_owned()),
            "driver-opt" => {
                let (key, value) = value
                    .split_once('=')
                    .ok_or_else(|| "invalid key value pair format in driver options".to_owned())?;
                attachment.driver_opts.insert(key.trim().to_lowercase(), value.trim().to_owned());
            }
            "gw-priority" => {
                attachment.priority =
                    Some(value.parse().map_err(|_| format!("invalid gw-priority: {value}"))?);
            }
            other => return Err(format!("invalid field key {other}")),
        }
    }
    if attachment.target.is_empty() {
        return Err("network name/id is not specified".to_owned());
    }
    Ok(attachment)
}

/// The container's networks: the mode of the first, and every endpoint.
pub(crate) struct Networks {
    pub(crate) mode: String,
    pub(crate) endpoints: BTreeMap<String, Option<EndpointSettings>>,
}

/// Puts `--network` and the flags about the first network together.
pub(crate) fn networks(matches: &Matches) -> Result<Networks, Failure> {
    let mut attachments = Vec::new();
    for value in matches.list("network") {
        attachments.push(parse(&value).map_err(Failure::Refused)?);
    }
    if attachments.is_empty() {
        attachments.push(Attachment { target: "default".to_owned(), ..Attachment::default() });
    }
    apply_flags(&mut attachments[0], matches)?;
    let mode = attachments[0].target.clone();
    let several = attachments.len() > 1;
    let mut endpoints = BTreeMap::new();
    for attachment in attachments {
        check(&attachment, several)?;
        let name = attachment.target.clone();
        // Nothing is connected there; docker's client sends nothing unless it was told an address.
        if !several && !is_connected(&name) && !attachment.says_something() {
            continue;
        }
        if endpoints.insert(name.clone(), Some(endpoint(attachment))).is_some() {
            return Err(Failure::Refused(format!("network {name:?} is specified multiple times")));
        }
    }
    Ok(Networks { mode, endpoints })
}

/// Whether containers of this mode have an endpoint at all.
fn is_connected(mode: &str) -> bool {
    !matches!(mode, "host" | "none") && !mode.starts_with("container:")
}

/// Modes that are not names of networks somebody made.
pub(crate) fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "default" | "bridge" | "host" | "none") && !mode.starts_with("container:")
}

fn apply_flags(first: &mut Attachment, matches: &Matches) -> Result<(), Failure> {
    let both = |flag: &str, what: &str| {
        Failure::Refused(format!("conflicting options: cannot specify both {flag} and per-network {what}"))
    };
    let aliases = matches.list("network-alias");
    if !first.aliases.is_empty() && !aliases.is_empty() {
        return Err(both("--network-alias", "alias"));
    }
    let links = matches.list("link");
    if !first.links.is_empty() && !links.is_empty() {
        return Err(both("--link", "links"));
    }
    let single = |own: &mut String, flag: &str, what: &str| -> Result<(), Failure> {
        let value = matches.str(flag.trim_start_matches('-'));
        if !own.is_empty() && !value.is_empty() {
            return Err(both(flag, what));
        }
        if !value.is_empty() {
            value.clone_into(own);
        }
        Ok(())
    };
    single(&mut first.ipv4, "--ip", "IPv4 address")?;
    single(&mut first.ipv6, "--ip6", "IPv6 address")?;
    single(&mut first.mac, "--mac-address", "MAC address")?;
    let link_local = matches.list("link-local-ip");
    if !first.link_local.is_empty() && !link_local.is_empty() {
        return Err(both("--link-local-ip", "link-local IP addresses"));
    }
    first.aliases.extend(aliases);
    // Links belong to the first network only where it is one of its own; elsewhere the host
    // configuration carries them.
    if is_user_defined(&first.target) {
        first.links.extend(links);
    }
    first.link_local.extend(link_local);
    Ok(())
}

fn check(attachment: &Attachment, several: bool) -> Result<(), Failure> {
    let refused = |text: String| Err(Failure::Refused(text));
    if attachment.target.trim().is_empty() {
        return refused("no name set for network".to_owned());
    }
    let user_defined = is_user_defined(&attachment.target);
    if several && !user_defined && attachment.target != "bridge" && attachment.target != "default" {
        return refused(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
                .to_owned(),
        );
    }
    if !user_defined && !attachment.aliases.is_empty() {
        return refused("network-scoped aliases are only supported for user-defined networks".to_owned());
    }
    if !user_defined && !attachment.links.is_empty() {
        return refused("links are only supported for user-defined networks".to_owned());
    }
    if !attachment.mac.is_empty() && !is_mac(&attachment.mac) {
        return refused(format!("{} is not a valid mac address", attachment.mac));
    }
    Ok(())
}

fn is_mac(text: &str) -> bool {
    let bytes: Vec<&str> = text.split([':', '-']).collect();
    matches!(bytes.len(), 6 | 8 | 20)
        && bytes.iter().all(|b| b.len() == 2 && b.bytes().all(|c| c.is_ascii_hexdigit()))
}

fn endpoint(attachment: Attachment) -> EndpointSettings {
    let list = |v: Vec<String>| if v.is_empty() { None } else { Some(v) };
    let addressed =
        !attachment.ipv4.is_empty() || !attachment.ipv6.is_empty() || !attachment.link_local.is_empty();
    EndpointSettings {
        ipam_config: addressed.then(|| EndpointIpam {
            ipv4_address: attachment.ipv4,
            ipv6_address: attachment.ipv6,
            link_local_ips: list(attachment.link_local),
        }),
        links: list(attachment.links),
        aliases: list(attachment.aliases),
        mac_address: attachment.mac,
        driver_opts: if attachment.driver_opts.is_empty() { None } else { Some(attachment.driver_opts) },
        gw_priority: Some(attachment.priority.unwrap_or(0)),
        ..EndpointSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let a = parse("name=foo,alias=b,ip=1.2.3.5,driver-opt=A=b,gw-priority=3").unwrap();
        assert_eq!((a.target.as_str(), a.ipv4.as_str(), a.priority), ("foo", "1.2.3.5", Some(3)));
        assert_eq!(a.driver_opts["a"], "b");
        assert_eq!(parse("foo").unwrap().target, "foo");
        assert_eq!(parse("name=foo,bar=1").unwrap_err(), "invalid field key bar");
        assert_eq!(parse("alias=x").unwrap_err(), "network name/id is not specified");
    }
}
