//! Checks of single values, made while the command line is read. The texts are docker's.

use std::net::IpAddr;

use super::{device, mount, network};

type Check = Result<(), String>;

pub(crate) fn env(value: &str) -> Check {
    if value.is_empty() || value.starts_with('=') {
        return Err(format!("invalid environment variable: {value}"));
    }
    Ok(())
}

pub(crate) fn label(value: &str) -> Check {
    if value.split('=').next().is_none_or(|name| name.trim().is_empty()) {
        return Err(format!("invalid label '{value}': empty name"));
    }
    Ok(())
}

pub(crate) fn attach(value: &str) -> Check {
    match value.to_ascii_lowercase().as_str() {
        "stdin" | "stdout" | "stderr" => Ok(()),
        _ => Err("valid streams are STDIN, STDOUT and STDERR".to_owned()),
    }
}

/// The address that stands for the host's gateway.
const HOST_GATEWAY: &str = "host-gateway";

/// `host:ip` or `host=ip`.
pub(crate) fn extra_host(value: &str) -> Check {
    let (name, address) = split_extra_host(value);
    if name.is_empty() || value == name {
        return Err(format!("bad format for add-host: {value:?}"));
    }
    let address = address.trim_start_matches('[').trim_end_matches(']');
    if address != HOST_GATEWAY && address.parse::<IpAddr>().is_err() {
        return Err(format!("invalid IP address in add-host: {address:?}"));
    }
    Ok(())
}

fn split_extra_host(value: &str) -> (&str, &str) {
    value.split_once('=').or_else(|| value.split_once(':')).unwrap_or((value, ""))
}

/// `host:ip`, whatever the user's separator and brackets were.
pub(crate) fn canonical_extra_host(value: &str) -> String {
    let (name, address) = split_extra_host(value);
    format!("{name}:{}", address.trim_start_matches('[').trim_end_matches(']'))
}

pub(crate) fn ip(value: &str) -> Check {
    value
        .trim()
        .parse::<IpAddr>()
        .map(drop)
        .map_err(|_| format!("IP address is not correctly formatted: {value}"))
}

pub(crate) fn dns_search(value: &str) -> Check {
    let domain = value.trim().trim_matches('.');
    let label =
        |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if value.trim() == "." || domain.split('.').all(label) {
        return Ok(());
    }
    Err(format!("{value} is not a valid domain"))
}

pub(crate) fn link(value: &str) -> Check {
    if value.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    if value.split(':').count() > 2 {
        return Err(format!("bad format for links: {value}"));
    }
    Ok(())
}

/// Only what belongs to a namespace of the container's own.
pub(crate) fn sysctl(value: &str) -> Check {
    const NAMES: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let allowed =
        |name: &str| NAMES.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
    match value.split_once('=') {
        Some((name, _)) if allowed(name) => Ok(()),
        _ => Err(format!("sysctl '{value}' is not allowed")),
    }
}

pub(crate) fn mount(value: &str) -> Check {
    mount::parse(value).map(drop)
}

pub(crate) fn network(value: &str) -> Check {
    network::parse(value).map(drop)
}

pub(crate) fn ulimit(value: &str) -> Check {
    super::resources::ulimit(value).map(drop)
}

pub(crate) fn gpus(value: &str) -> Check {
    device::gpu_request(value).map(drop)
}

pub(crate) fn weight_device(value: &str) -> Check {
    super::resources::weight_device(value).map(drop)
}

pub(crate) fn throttle_bps(value: &str) -> Check {
    super::resources::throttle_bps(value).map(drop)
}

pub(crate) fn throttle_iops(value: &str) -> Check {
    super::resources::throttle_iops(value).map(drop)
}

/// `c 1:3 rwm`.
pub(crate) fn device_cgroup_rule(value: &str) -> Check {
    let bad = || format!("invalid device cgroup format '{value}'");
    let words: Vec<&str> = value.split(' ').collect();
    let [kind, numbers, modes] = words.as_slice() else { return Err(bad()) };
    let number = |n: &str| n == "*" || (!n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let numbers_ok = numbers.split_once(':').is_some_and(|(a, b)| number(a) && number(b));
    let modes_ok = (1..=3).contains(&modes.len()) && modes.bytes().all(|b| b"rwm".contains(&b));
    if matches!(*kind, "a" | "b" | "c") && numbers_ok && modes_ok { Ok(()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals() {
        assert_eq!(env("=x"), Err("invalid environment variable: =x".into()));
        assert_eq!(label("="), Err("invalid label '=': empty name".into()));
        assert_eq!(extra_host("x"), Err("bad format for add-host: \"x\"".into()));
        assert_eq!(extra_host("a:zz"), Err("invalid IP address in add-host: \"zz\"".into()));
        assert!(device_cgroup_rule("c 1:* rw").is_ok() && device_cgroup_rule("x 1:3 rwm").is_err());
    }

    #[test]
    fn extra_hosts_are_sent_with_a_colon() {
        assert_eq!(canonical_extra_host("h=[::1]"), "h:::1");
        assert_eq!(canonical_extra_host("h:1.1.1.1"), "h:1.1.1.1");
        assert!(extra_host("h=host-gateway").is_ok());
    }
}
