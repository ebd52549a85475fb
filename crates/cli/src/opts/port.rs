//! `-p` and `--expose`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use seacow_spec::docker::container::Empty;
use seacow_spec::docker::network::PortBinding;

use super::mount::csv_fields;
use crate::failure::Failure;

/// Ports of the container, and where the published ones go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) exposed: BTreeMap<String, Empty>,
    pub(crate) bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
}

/// Reads all `-p` and `--expose` values.
pub(crate) fn ports(publish: &[String], expose: &[String]) -> Result<Ports, Failure> {
    let mut ports = Ports::default();
    for value in publish {
        publish_one(&mut ports, &short_notation(value)?).map_err(Failure::Refused)?;
    }
    for value in expose {
        if value.contains(':') {
            return Err(Failure::Refused(format!("invalid port format for --expose: {value}")));
        }
        let (range, protocol) = split_protocol(value);
        let (start, end) = port_range(range).map_err(|error| {
            Failure::Refused(format!("invalid range format for --expose: {value}, error: {error}"))
        })?;
        for port in start..=end {
            ports.exposed.insert(format!("{port}/{protocol}"), Empty {});
        }
    }
    Ok(ports)
}

/// `target=80,published=8080,protocol=udp` as `8080:80/udp`.
fn short_notation(value: &str) -> Result<String, Failure> {
    if !value.contains('=') {
        return Ok(value.to_owned());
    }
    let (mut target, mut published, mut protocol) = (String::new(), String::new(), "tcp".to_owned());
    for field in csv_fields(value).map_err(Failure::Refused)? {
        match field.split_once('=') {
            Some(("target", v)) => v.clone_into(&mut target),
            Some(("published", v)) => v.clone_into(&mut published),
            Some(("protocol", v)) => v.clone_into(&mut protocol),
            Some(_) => {}
            None => {
                return Err(Failure::Refused(format!(
                    "invalid publish opts format (should be name=value but got '{field}')"
                )));
            }
        }
    }
    Ok(format!("{published}:{target}/{protocol}"))
}

fn split_protocol(value: &str) -> (&str, &str) {
    match value.split_once('/') {
        Some((port, protocol)) if !protocol.is_empty() => (port, protocol),
        Some((port, _)) => (port, "tcp"),
        None => (value, "tcp"),
    }
}

/// `[ip:][host port or range:]container port or range[/protocol]`.
fn publish_one(ports: &mut Ports, value: &str) -> Result<(), String> {
    let (address, host, rest) = split_publish(value);
    let (container, protocol) = match rest.split_once('/') {
        Some((container, protocol)) => (container, if protocol.is_empty() { "tcp" } else { protocol }),
        None => (rest, "tcp"),
    };
    // docker's own parser takes what follows a second slash for nothing.
    let protocol = protocol.split('/').next().unwrap_or("tcp").to_lowercase();
    if container.is_empty() {
        return Err(format!("no port specified: {value}<empty>"));
    }
    let plain_address = address.trim_start_matches('[').trim_end_matches(']');
    if !plain_address.is_empty() && plain_address.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address: {address}"));
    }
    let (start, end) = port_range(container).map_err(|_| format!("invalid containerPort: {container}"))?;
    let host_range = if host.is_empty() {
        None
    } else {
        Some(port_range(host).map_err(|_| format!("invalid hostPort: {host}"))?)
    };
    if let Some((host_start, host_end)) = host_range
        && host_end - host_start != end - start
        && end != start
    {
        return Err(format!("invalid ranges specified for container and host Ports: {container} and {host}"));
    }
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    for offset in 0..=(end - start) {
        let host_port = match host_range {
            None => String::new(),
            // One container port, a range on the host: the engine picks one of them.
            Some((a, b)) if a != b && start == end => format!("{a}-{b}"),
            Some((a, _)) => (a + offset).to_string(),
        };
        let key = format!("{}/{protocol}", start + offset);
        let binding = PortBinding { host_ip: plain_address.to_owned(), host_port };
        ports.exposed.insert(key.clone(), Empty {});
        ports.bindings.entry(key).or_default().get_or_insert_default().push(binding);
    }
    Ok(())
}

/// Address, host part, container part. An IPv6 address has its colons in brackets.
fn split_publish(value: &str) -> (&str, &str, &str) {
    let Some((front, container)) = value.rsplit_once(':') else { return ("", "", value) };
    match front.rsplit_once(':') {
        Some((address, host)) if !front.ends_with(']') => (address, host, container),
        _ => ("", front, container),
    }
}

fn port_range(text: &str) -> Result<(u16, u16), String> {
    let number = |t: &str| -> Result<u16, String> {
        match t.parse::<u64>() {
            Ok(n) => {
                u16::try_from(n).map_err(|_| format!("strconv.ParseUint: parsing {t:?}: value out of range"))
            }
            Err(_) => Err(format!("strconv.ParseUint: parsing {t:?}: invalid syntax")),
        }
    };
    if text.is_empty() {
        return Err("empty string specified for ports".to_owned());
    }
    let (start, end) = match text.split_once('-') {
        Some((a, b)) => (number(a)?, number(b)?),
        None => (number(text)?, number(text)?),
    };
    if end < start {
        return Err(format!("invalid range specified for port: {text}"));
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(value: &str) -> String {
        match ports(&[value.to_owned()], &[]) {
            Ok(p) => serde_json::to_string(&p.bindings).unwrap(),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn published_ports() {
        assert_eq!(bindings("80"), r#"{"80/tcp":[{"HostIp":"","HostPort":""}]}"#);
        assert_eq!(bindings("8080:80/udp"), r#"{"80/udp":[{"HostIp":"","HostPort":"8080"}]}"#);
        assert_eq!(bindings("[::1]:80:80"), r#"{"80/tcp":[{"HostIp":"::1","HostPort":"80"}]}"#);
        assert_eq!(bindings("127.0.0.1::80"), r#"{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":""}]}"#);
        assert_eq!(bindings("1000-1002:80"), r#"{"80/tcp":[{"HostIp":"","HostPort":"1000-1002"}]}"#);
        assert_eq!(
            bindings("published=80,target=90,protocol=udp"),
            r#"{"90/udp":[{"HostIp":"","HostPort":"80"}]}"#
        );
    }

    #[test]
    fn refusals() {
        assert_eq!(bindings("80/foo"), "invalid proto: foo");
        assert_eq!(bindings("x:80"), "invalid hostPort: x");
        assert_eq!(bindings("80:x"), "invalid containerPort: x");
        assert_eq!(bindings("1-3:1-2"), "invalid ranges specified for container and host Ports: 1-2 and 1-3");
        assert_eq!(bindings("1.2.3:80:80"), "invalid IP address: 1.2.3");
        assert_eq!(bindings(":"), "no port specified: :<empty>");
        let exposed = ports(&[], &["5-3".to_owned()]).unwrap_err().to_string();
        assert_eq!(
            exposed,
            "invalid range format for --expose: 5-3, error: invalid range specified for port: 5-3"
        );
    }
}
