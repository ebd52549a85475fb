//! Limits as properties of a unit: those that systemd knows, in its units.
//!
//! systemd.resource-control(5). What it does not know it does not touch either, in a cgroup that is
//! delegated; there the files are enough.

use std::collections::BTreeMap;

use seacow_spec::oci::runtime::{BlockIo, Cpu, LinuxResources, Memory, ThrottleDevice, WeightDevice};

use super::message::{Property, Value};
use crate::cgroup::devices::{self, Kind, Rule};
use crate::cgroup::{Layout, limits_v2};

/// How systemd writes "no limit".
const INFINITY: u64 = u64::MAX;

/// The properties for `resources`. `all_devices` is given for a new container, and tells whether it
/// may use all of them.
pub(super) fn of(layout: &Layout, resources: &LinuxResources, all_devices: Option<bool>) -> Vec<Property> {
    let v2 = matches!(layout, Layout::V2 { .. });
    let mut list = Vec::new();
    if let Some(memory) = &resources.memory {
        memory_limits(memory, v2, &mut list);
    }
    if let Some(cpu) = &resources.cpu {
        cpu_limits(cpu, v2, &mut list);
    }
    if let Some(pids) = resources.pids.filter(|pids| pids.limit != 0) {
        list.push(("TasksMax", Value::U64(or_infinity(pids.limit))));
    }
    if let Some(block) = &resources.block_io {
        block_limits(block, v2, &mut list);
    }
    if v2 {
        unified(&resources.unified, &mut list);
    } else if all_devices == Some(false) {
        // In version 1 systemd writes `a` to devices.allow when it reloads, unless it knows rules. In
        // version 2 it has a program of its own or none, and never touches ours.
        if let Ok(rules) = devices::effective(&resources.devices, false) {
            list.push(("DevicePolicy", Value::Text("strict".into())));
            list.push(("DeviceAllow", Value::TextPairs(allowed_devices(&rules))));
        }
    }
    list
}

fn or_infinity(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(INFINITY)
}

fn memory_limits(memory: &Memory, v2: bool, list: &mut Vec<Property>) {
    if let Some(limit) = memory.limit.filter(|limit| *limit != 0) {
        list.push((if v2 { "MemoryMax" } else { "MemoryLimit" }, Value::U64(or_infinity(limit))));
    }
    if !v2 {
        return;
    }
    if let Some(reservation) = memory.reservation.filter(|r| *r != 0) {
        list.push(("MemoryLow", Value::U64(or_infinity(reservation))));
    }
    if let Ok(Some(swap)) = limits_v2::swap_alone(memory) {
        list.push(("MemorySwapMax", Value::U64(or_infinity(swap))));
    }
}

fn cpu_limits(cpu: &Cpu, v2: bool, list: &mut Vec<Property>) {
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        list.push(if v2 {
            ("CPUWeight", Value::U64(limits_v2::weight_of_shares(shares)))
        } else {
            ("CPUShares", Value::U64(shares))
        });
    }
    if v2 && cpu.idle == Some(1) {
        // How systemd 252 and later spell cpu.idle.
        list.push(("CPUWeight", Value::U64(0)));
    }
    let quota = cpu.quota.filter(|quota| *quota != 0);
    let period = cpu.period.filter(|period| *period != 0);
    quota_and_period(quota, period, list);
    if v2 {
        cpu_set("AllowedCPUs", &cpu.cpus, list);
        cpu_set("AllowedMemoryNodes", &cpu.mems, list);
    }
}

/// systemd counts microseconds per second, and rounds to whole percents: so do we, upwards.
fn quota_and_period(quota: Option<i64>, period: Option<u64>, list: &mut Vec<Property>) {
    /// One percent of a second.
    const PERCENT: u64 = 10_000;
    if let Some(period) = period {
        list.push(("CPUQuotaPeriodUSec", Value::U64(period)));
    }
    let Some(quota) = quota else { return };
    let per_second = match u64::try_from(quota) {
        Ok(quota) => {
            let period = period.unwrap_or(limits_v2::DEFAULT_PERIOD);
            quota.saturating_mul(1_000_000).div_ceil(period).div_ceil(PERCENT).saturating_mul(PERCENT)
        }
        Err(_) => INFINITY,
    };
    list.push(("CPUQuotaPerSecUSec", Value::U64(per_second)));
}

fn cpu_set(name: &'static str, text: &str, list: &mut Vec<Property>) {
    // What is no list of numbers the kernel has refused before.
    if let Some(bits) = bits(text).filter(|bits| !bits.is_empty()) {
        list.push((name, Value::Bytes(bits)));
    }
}

/// `0-2,9` as a little-endian bit mask.
fn bits(text: &str) -> Option<Vec<u8>> {
    /// The kernel's largest NR_CPUS.
    const MOST: usize = 8192;
    let mut mask = Vec::new();
    for range in text.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if last >= MOST {
            return None;
        }
        for number in first..=last {
            if mask.len() <= number / 8 {
                mask.resize(number / 8 + 1, 0u8);
            }
            *mask.get_mut(number / 8)? |= 1 << (number % 8);
        }
    }
    Some(mask)
}

fn block_limits(block: &BlockIo, v2: bool, list: &mut Vec<Property>) {
    if let Some(weight) = block.weight.filter(|weight| *weight != 0) {
        list.push(if v2 {
            ("IOWeight", Value::U64(limits_v2::io_weight(weight)))
        } else {
            ("BlockIOWeight", Value::U64(weight.into()))
        });
    }
    if !v2 {
        return;
    }
    let weights: Vec<_> = block.weight_device.iter().filter_map(device_weight).collect();
    if !weights.is_empty() {
        list.push(("IODeviceWeight", Value::TextNumbers(weights)));
    }
    let throttles = [
        ("IOReadBandwidthMax", &block.throttle_read_bps_device),
        ("IOWriteBandwidthMax", &block.throttle_write_bps_device),
        ("IOReadIOPSMax", &block.throttle_read_iops_device),
        ("IOWriteIOPSMax", &block.throttle_write_iops_device),
    ];
    for (name, devices) in throttles {
        let rates: Vec<_> = devices.iter().map(throttle).collect();
        if !rates.is_empty() {
            list.push((name, Value::TextNumbers(rates)));
        }
    }
}

fn device_weight(device: &WeightDevice) -> Option<(String, u64)> {
    let weight = device.weight?;
    Some((format!("/dev/block/{}:{}", device.major, device.minor), limits_v2::io_weight(weight)))
}

fn throttle(device: &ThrottleDevice) -> (String, u64) {
    (format!("/dev/block/{}:{}", device.major, device.minor), device.rate)
}

/// The keys of the unified map that have a property.
fn unified(map: &BTreeMap<String, String>, list: &mut Vec<Property>) {
    let number = |text: &str| match text.trim() {
        "max" => Some(INFINITY),
        digits => digits.parse().ok(),
    };
    for (key, value) in map {
        let name = match key.as_str() {
            "cpu.weight" => "CPUWeight",
            "memory.high" => "MemoryHigh",
            "memory.low" => "MemoryLow",
            "memory.min" => "MemoryMin",
            "memory.max" => "MemoryMax",
            "memory.swap.max" => "MemorySwapMax",
            "pids.max" => "TasksMax",
            "cpuset.cpus" => {
                cpu_set("AllowedCPUs", value, list);
                continue;
            }
            "cpuset.mems" => {
                cpu_set("AllowedMemoryNodes", value, list);
                continue;
            }
            "cpu.max" => {
                let mut words = value.split_whitespace();
                let quota = words.next().map(|word| word.parse().unwrap_or(-1));
                quota_and_period(quota, words.next().and_then(|word| word.parse().ok()), list);
                continue;
            }
            _ => continue,
        };
        // What is no number the kernel has refused before.
        list.extend(number(value).map(|number| (name, Value::U64(number))));
    }
}

/// Rules as systemd takes them: paths of nodes, or names of drivers from `/proc/devices` for all
/// minor numbers. It cannot say "all but", so denials are left to the files.
fn allowed_devices(rules: &[Rule]) -> Vec<(String, String)> {
    let drivers = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    let allowed = rules.iter().filter(|rule| rule.allow);
    allowed
        .flat_map(|rule| specifiers(rule, &drivers).into_iter().map(|name| (name, rule.access.text())))
        .collect()
}

fn specifiers(rule: &Rule, drivers: &str) -> Vec<String> {
    let kind = match rule.kind {
        // Both kinds, one by one.
        Kind::All => {
            let one = |kind| Rule { kind, ..*rule };
            let mut both = specifiers(&one(Kind::Char), drivers);
            both.extend(specifiers(&one(Kind::Block), drivers));
            return both;
        }
        Kind::Char => "char",
        Kind::Block => "block",
    };
    match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => vec![format!("/dev/{kind}/{major}:{minor}")],
        (Some(major), None) => {
            driver(kind, major, drivers).map(|name| format!("{kind}-{name}")).into_iter().collect()
        }
        (None, _) => vec![format!("{kind}-*")],
    }
}

/// The driver's name behind a major number, in the section of its kind.
fn driver<'a>(kind: &str, major: u32, drivers: &'a str) -> Option<&'a str> {
    let heading = if kind == "char" { "Character devices:" } else { "Block devices:" };
    let section = drivers.lines().skip_while(|line| *line != heading).skip(1);
    section.take_while(|line| !line.is_empty()).find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (number.parse() == Ok(major)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use seacow_spec::oci::runtime::Pids;

    #[test]
    fn limits_of_version_2() {
        let layout = Layout::V2 { mount: "/".into() };
        let resources = LinuxResources {
            memory: Some(Memory { limit: Some(64), swap: Some(100), ..Memory::default() }),
            cpu: Some(Cpu {
                shares: Some(1024),
                quota: Some(12_345),
                period: Some(100_000),
                cpus: "0-1,9".into(),
                ..Cpu::default()
            }),
            pids: Some(Pids { limit: -1 }),
            unified: [("memory.high", "max"), ("cpu.max", "50000 100000"), ("hugetlb.2MB.max", "0")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..LinuxResources::default()
        };
        let expected = [
            ("MemoryMax", Value::U64(64)),
            ("MemorySwapMax", Value::U64(36)),
            ("CPUWeight", Value::U64(39)),
            ("CPUQuotaPeriodUSec", Value::U64(100_000)),
            // 12.345 % is 13 %.
            ("CPUQuotaPerSecUSec", Value::U64(130_000)),
            ("AllowedCPUs", Value::Bytes(vec![3, 2])),
            ("TasksMax", Value::U64(u64::MAX)),
            ("CPUQuotaPeriodUSec", Value::U64(100_000)),
            ("CPUQuotaPerSecUSec", Value::U64(500_000)),
            ("MemoryHigh", Value::U64(u64::MAX)),
        ];
        assert_eq!(of(&layout, &resources, Some(false)), expected);
        assert_eq!(of(&layout, &LinuxResources::default(), Some(false)), []);
    }

    #[test]
    fn devices_of_version_1() {
        let drivers = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n";
        assert_eq!(driver("char", 136, drivers), Some("pts"));
        assert_eq!(driver("block", 136, drivers), None);
        let rule =
            |kind, major, minor| Rule { allow: true, kind, major, minor, access: devices::Access::ALL };
        assert_eq!(specifiers(&rule(Kind::Char, Some(1), Some(3)), drivers), ["/dev/char/1:3"]);
        assert_eq!(specifiers(&rule(Kind::Block, Some(8), None), drivers), ["block-sd"]);
        assert_eq!(specifiers(&rule(Kind::All, None, None), drivers), ["char-*", "block-*"]);
        let layout = Layout::V1 { hierarchies: Vec::new(), unified: None };
        assert_eq!(of(&layout, &LinuxResources::default(), None), []);
        assert_eq!(of(&layout, &LinuxResources::default(), Some(true)), []);
        assert_eq!(of(&layout, &LinuxResources::default(), Some(false))[0].0, "DevicePolicy");
    }
}
