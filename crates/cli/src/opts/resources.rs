//! Limits: `--ulimit`, block I/O, and the resource part of a host configuration.

use seacow_spec::docker::host_config::{Resources, RestartPolicy, ThrottleDevice, Ulimit, WeightDevice};
use serde_json::Value;

use super::device;
use crate::failure::Failure;
use crate::flags::{Matches, parse_bytes, parse_cpus, parse_int};

const ULIMITS: [&str; 16] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
    "as",
];

/// `name=soft[:hard]`.
pub(crate) fn ulimit(value: &str) -> Result<Ulimit, String> {
    let Some((name, limits)) = value.split_once('=') else {
        return Err(format!("invalid ulimit argument: {value}"));
    };
    if !ULIMITS.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let parts: Vec<&str> = limits.split(':').collect();
    if parts.len() > 2 {
        return Err(format!(
            "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
        ));
    }
    let number = |text: &str| {
        text.parse::<i64>()
            .map_err(|_| parse_int(text).err().unwrap_or_else(|| format!("invalid ulimit: {text}")))
    };
    let soft = number(parts[0])?;
    let hard = parts.get(1).map_or(Ok(soft), |text| number(text))?;
    if hard != -1 && (soft == -1 || soft > hard) {
        return Err(if soft == -1 {
            format!(
                "ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: {hard}"
            )
        } else {
            format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
        });
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

fn device_value(value: &str) -> Result<(&str, &str), String> {
    let (path, number) = value.split_once(':').ok_or_else(|| format!("bad format: {value}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {value}"));
    }
    Ok((path, number))
}

/// `/dev/sda:100`.
pub(crate) fn weight_device(value: &str) -> Result<WeightDevice, String> {
    let (path, weight) = device_value(value)?;
    match weight.parse::<u16>() {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => {
            Ok(WeightDevice { path: path.to_owned(), weight })
        }
        _ => Err(format!("invalid weight for device: {value}")),
    }
}

/// `/dev/sda:1mb`.
pub(crate) fn throttle_bps(value: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_value(value)?;
    let rate = parse_bytes(rate).ok().and_then(|r| u64::try_from(r).ok()).ok_or_else(|| {
        format!("invalid rate for device: {value}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb")
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// `/dev/sda:100`.
pub(crate) fn throttle_iops(value: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = device_value(value)?;
    let rate = rate.parse().map_err(|_| {
        format!("invalid rate for device: {value}. The correct format is <device-path>:<number>. Number must be a positive integer")
    })?;
    Ok(ThrottleDevice { path: path.to_owned(), rate })
}

/// `no`, `always`, `on-failure[:max]`, `unless-stopped`.
pub(crate) fn restart_policy(value: &str) -> Result<RestartPolicy, String> {
    if value.is_empty() {
        return Ok(RestartPolicy::default());
    }
    let (name, count) = match value.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (value, None),
    };
    if count.is_some() && name.is_empty() {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    let maximum_retry_count = match count {
        None | Some("") => 0,
        Some(count) => count.parse().map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

/// A list flag's values, each read by `read`; they were checked while the command line was read.
fn each<T>(
    matches: &Matches,
    flag: &str,
    read: fn(&str) -> Result<T, String>,
) -> Result<Option<Vec<T>>, Failure> {
    let read: Result<Vec<T>, String> = matches.list(flag).iter().map(|v| read(v)).collect();
    Ok(Some(read.map_err(Failure::Refused)?))
}

/// One limit of each name, the last one given, by name.
fn ulimits(matches: &Matches) -> Result<Option<Vec<Ulimit>>, Failure> {
    let mut all = std::collections::BTreeMap::new();
    for limit in each(matches, "ulimit", ulimit)?.unwrap_or_default() {
        all.insert(limit.name.clone(), limit);
    }
    Ok(Some(all.into_values().collect()))
}

/// `--memory-swap`, which may be -1.
pub(crate) fn swap(matches: &Matches) -> i64 {
    if matches.str("memory-swap") == "-1" { -1 } else { matches.bytes("memory-swap") }
}

pub(crate) fn nano_cpus(matches: &Matches) -> i64 {
    parse_cpus(matches.str("cpus")).unwrap_or(0)
}

/// The limits of `run` and `create`.
pub(crate) fn resources(matches: &Matches) -> Result<Resources, Failure> {
    let swappiness = matches.int("memory-swappiness");
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(Failure::Refused(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        )));
    }
    let (devices, mut requests) = device::devices(&matches.list("device")).map_err(Failure::Refused)?;
    for value in matches.list("gpus") {
        requests.push(device::gpu_request(&value).map_err(Failure::Refused)?);
    }
    let requests: Option<Vec<Value>> = if requests.is_empty() { None } else { Some(requests) };
    let rules = matches.list("device-cgroup-rule");
    let unsigned = |name: &str| u64::try_from(matches.int(name)).unwrap_or(0);
    Ok(Resources {
        cgroup_parent: matches.str("cgroup-parent").to_owned(),
        memory: matches.bytes("memory"),
        memory_reservation: matches.bytes("memory-reservation"),
        memory_swap: swap(matches),
        memory_swappiness: Some(swappiness),
        oom_kill_disable: Some(matches.bool("oom-kill-disable")),
        nano_cpus: nano_cpus(matches),
        cpu_count: matches.int("cpu-count"),
        cpu_percent: matches.int("cpu-percent"),
        cpu_shares: matches.int("cpu-shares"),
        cpu_period: matches.int("cpu-period"),
        cpu_quota: matches.int("cpu-quota"),
        cpu_realtime_period: matches.int("cpu-rt-period"),
        cpu_realtime_runtime: matches.int("cpu-rt-runtime"),
        cpuset_cpus: matches.str("cpuset-cpus").to_owned(),
        cpuset_mems: matches.str("cpuset-mems").to_owned(),
        pids_limit: Some(matches.int("pids-limit")),
        blkio_weight: u16::try_from(matches.int("blkio-weight")).unwrap_or(0),
        blkio_weight_device: each(matches, "blkio-weight-device", weight_device)?,
        blkio_device_read_bps: each(matches, "device-read-bps", throttle_bps)?,
        blkio_device_write_bps: each(matches, "device-write-bps", throttle_bps)?,
        blkio_device_read_iops: each(matches, "device-read-iops", throttle_iops)?,
        blkio_device_write_iops: each(matches, "device-write-iops", throttle_iops)?,
        io_maximum_iops: unsigned("io-maxiops"),
        io_maximum_bandwidth: u64::try_from(matches.bytes("io-maxbandwidth")).unwrap_or(0),
        ulimits: ulimits(matches)?,
        device_cgroup_rules: if rules.is_empty() { None } else { Some(rules) },
        devices: Some(devices),
        device_requests: requests,
        ..Resources::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits() {
        assert_eq!(ulimit("nofile=10:20").unwrap().hard, 20);
        assert_eq!(ulimit("nofile=-1").unwrap().soft, -1);
        assert_eq!(ulimit("x").unwrap_err(), "invalid ulimit argument: x");
        assert_eq!(ulimit("foo=1").unwrap_err(), "invalid ulimit type: foo");
        assert_eq!(
            ulimit("nofile=5:3").unwrap_err(),
            "ulimit soft limit must be less than or equal to hard limit: 5 > 3"
        );
        assert_eq!(ulimit("nofile=x").unwrap_err(), "strconv.ParseInt: parsing \"x\": invalid syntax");
    }

    #[test]
    fn restart_policies() {
        assert_eq!(restart_policy("on-failure:3").unwrap().maximum_retry_count, 3);
        assert!(restart_policy(":").is_err() && restart_policy("on-failure:x").is_err());
    }

    #[test]
    fn block_devices() {
        assert_eq!(throttle_bps("/dev/sda:1mb").unwrap().rate, 1 << 20);
        assert_eq!(throttle_bps("sda:1").unwrap_err(), "bad format for device path: sda:1");
        assert_eq!(weight_device("/dev/sda:5").unwrap_err(), "invalid weight for device: /dev/sda:5");
    }
}
