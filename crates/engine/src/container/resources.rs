//! Limits: checked, normalised, and as the cgroups know them.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{major, minor};
use seacow_spec::docker::host_config::{DeviceMapping, Resources, ThrottleDevice, Ulimit};
use seacow_spec::oci::runtime::{
    BlockIo, Cpu, DeviceRule, LinuxDevice, LinuxResources, Memory, Pids, Rlimit,
    ThrottleDevice as OciThrottle, WeightDevice as OciWeight,
};

use super::cpuset;
use super::error::ContainerError;
use super::invalid::Invalid;

/// Less memory than this and no program starts; Docker's number.
const MIN_MEMORY: i64 = 6 << 20;
/// Scheduler period that `--cpus` is measured in, microseconds.
const CPU_PERIOD: i64 = 100_000;
const NANOS_PER_CPU: i64 = 1_000_000_000;

/// Checks the limits and puts them into the form that `inspect` shows.
///
/// # Errors
/// A value is out of range, or an option is not honoured.
pub(super) fn normalize(resources: &mut Resources) -> Result<(), ContainerError> {
    memory(resources)?;
    cpu(resources)?;
    if resources.blkio_weight != 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return Err(Invalid::BlkioWeight.into());
    }
    match resources.pids_limit {
        Some(0 | -1) => resources.pids_limit = None,
        Some(limit) if limit < -1 => return Err(Invalid::PidsLimit(limit).into()),
        _ => {}
    }
    for ulimit in resources.ulimits.iter().flatten() {
        rlimit(ulimit)?;
    }
    unsupported(resources)
}

fn memory(resources: &mut Resources) -> Result<(), Invalid> {
    let (limit, reservation) = (resources.memory, resources.memory_reservation);
    if limit != 0 && limit < MIN_MEMORY {
        return Err(Invalid::MemoryMinimum);
    }
    if limit == 0 && resources.memory_swap > 0 {
        return Err(Invalid::SwapWithoutMemory);
    }
    if limit > 0 && resources.memory_swap > 0 && resources.memory_swap < limit {
        return Err(Invalid::SwapBelowMemory);
    }
    if limit > 0 && resources.memory_swap == 0 {
        resources.memory_swap = limit.saturating_mul(2);
    }
    if reservation > 0 && reservation < MIN_MEMORY {
        return Err(Invalid::ReservationMinimum);
    }
    if limit > 0 && reservation > limit {
        return Err(Invalid::ReservationAboveMemory);
    }
    match resources.memory_swappiness {
        Some(-1) => resources.memory_swappiness = None,
        Some(value) if !(0..=100).contains(&value) => return Err(Invalid::Swappiness(value)),
        _ => {}
    }
    Ok(())
}

fn cpu(resources: &Resources) -> Result<(), Invalid> {
    if resources.cpu_shares < 0 {
        return Err(Invalid::CpuShares(resources.cpu_shares));
    }
    if resources.nano_cpus != 0 {
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if resources.cpu_period != 0 {
            return Err(Invalid::NanoCpus("CPU Period"));
        }
        if resources.cpu_quota != 0 {
            return Err(Invalid::NanoCpus("CPU Quota"));
        }
        let most = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(NANOS_PER_CPU);
        if resources.nano_cpus < NANOS_PER_CPU / 100 || resources.nano_cpus > most {
            return Err(Invalid::CpuRange(count));
        }
    }
    if resources.cpu_period != 0 && !(1_000..=1_000_000).contains(&resources.cpu_period) {
        return Err(Invalid::CpuPeriod);
    }
    if resources.cpu_quota > 0 && resources.cpu_quota < 1_000 {
        return Err(Invalid::CpuQuota);
    }
    cpuset::check(&resources.cpuset_cpus, &resources.cpuset_mems)
}

fn unsupported(resources: &Resources) -> Result<(), ContainerError> {
    let given = [
        ("device requests (--gpus)", resources.device_requests.as_ref().is_some_and(|list| !list.is_empty())),
        ("CpuCount, an option of Windows,", resources.cpu_count != 0),
        ("CpuPercent, an option of Windows,", resources.cpu_percent != 0),
        ("IOMaximumIOps, an option of Windows,", resources.io_maximum_iops != 0),
        ("IOMaximumBandwidth, an option of Windows,", resources.io_maximum_bandwidth != 0),
    ];
    match given.iter().find(|(_, set)| *set) {
        Some((name, _)) => Err(ContainerError::Unsupported((*name).into())),
        None => Ok(()),
    }
}

/// The limits as cgroups know them; only what is set appears.
///
/// # Errors
/// A block device does not exist.
pub(crate) fn limits(resources: &Resources) -> Result<LinuxResources, Invalid> {
    let positive = |value: i64| (value != 0).then_some(value);
    let unsigned = |value: i64| u64::try_from(value).ok().filter(|value| *value != 0);
    let memory = Memory {
        limit: positive(resources.memory),
        reservation: positive(resources.memory_reservation),
        swap: positive(resources.memory_swap),
        kernel_tcp: resources.kernel_memory_tcp.and_then(positive),
        swappiness: resources.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        disable_oom_killer: resources.oom_kill_disable.filter(|disabled| *disabled),
        ..Memory::default()
    };
    let mut cpu = Cpu {
        shares: unsigned(resources.cpu_shares),
        quota: positive(resources.cpu_quota),
        period: unsigned(resources.cpu_period),
        realtime_runtime: positive(resources.cpu_realtime_runtime),
        realtime_period: unsigned(resources.cpu_realtime_period),
        cpus: resources.cpuset_cpus.clone(),
        mems: resources.cpuset_mems.clone(),
        ..Cpu::default()
    };
    if resources.nano_cpus > 0 {
        cpu.period = unsigned(CPU_PERIOD);
        cpu.quota = Some(resources.nano_cpus / (NANOS_PER_CPU / CPU_PERIOD));
    }
    let block_io = BlockIo {
        weight: Some(resources.blkio_weight).filter(|weight| *weight != 0),
        weight_device: weights(resources)?,
        throttle_read_bps_device: throttles(resources.blkio_device_read_bps.as_deref())?,
        throttle_write_bps_device: throttles(resources.blkio_device_write_bps.as_deref())?,
        throttle_read_iops_device: throttles(resources.blkio_device_read_iops.as_deref())?,
        throttle_write_iops_device: throttles(resources.blkio_device_write_iops.as_deref())?,
        ..BlockIo::default()
    };
    Ok(LinuxResources {
        memory: (memory != Memory::default()).then_some(memory),
        cpu: (cpu != Cpu::default()).then_some(cpu),
        pids: resources.pids_limit.map(|limit| Pids { limit }),
        block_io: (block_io != BlockIo::default()).then_some(block_io),
        ..LinuxResources::default()
    })
}

fn weights(resources: &Resources) -> Result<Vec<OciWeight>, Invalid> {
    let devices = resources.blkio_weight_device.iter().flatten();
    devices
        .map(|device| {
            let (major, minor) = device_numbers(&device.path)?;
            Ok(OciWeight { major, minor, weight: Some(device.weight), leaf_weight: None })
        })
        .collect()
}

fn throttles(devices: Option<&[ThrottleDevice]>) -> Result<Vec<OciThrottle>, Invalid> {
    let devices = devices.unwrap_or_default().iter();
    devices
        .map(|device| {
            let (major, minor) = device_numbers(&device.path)?;
            Ok(OciThrottle { major, minor, rate: device.rate })
        })
        .collect()
}

fn device_numbers(path: &str) -> Result<(i64, i64), Invalid> {
    let meta = std::fs::metadata(path).map_err(|error| Invalid::Device(path.to_owned(), words(&error)))?;
    Ok((i64::from(major(meta.rdev())), i64::from(minor(meta.rdev()))))
}

/// An error of the kernel as Docker writes it; its client looks for these words.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// Device nodes and the rules that open them.
///
/// # Errors
/// A device does not exist, or a mode or rule is malformed.
pub(super) fn devices(resources: &Resources) -> Result<(Vec<LinuxDevice>, Vec<DeviceRule>), Invalid> {
    let (mut nodes, mut rules) = (Vec::new(), Vec::new());
    for mapping in resources.devices.iter().flatten() {
        let access = match mapping.cgroup_permissions.as_str() {
            "" => "rwm",
            access => access,
        };
        if access.bytes().any(|b| !matches!(b, b'r' | b'w' | b'm')) {
            return Err(Invalid::DeviceMode(access.to_owned()));
        }
        for node in device_nodes(mapping)? {
            rules.push(DeviceRule {
                allow: true,
                kind: node.kind.clone(),
                major: Some(node.major),
                minor: Some(node.minor),
                access: access.to_owned(),
            });
            nodes.push(node);
        }
    }
    for rule in resources.device_cgroup_rules.iter().flatten() {
        rules.push(device_rule(rule).ok_or_else(|| Invalid::DeviceRule(rule.clone()))?);
    }
    Ok((nodes, rules))
}

/// One device, or all below a directory such as `/dev/snd`.
fn device_nodes(mapping: &DeviceMapping) -> Result<Vec<LinuxDevice>, Invalid> {
    let host = Path::new(&mapping.path_on_host);
    let wrong = |error: std::io::Error| Invalid::Device(mapping.path_on_host.clone(), words(&error));
    let inside =
        if mapping.path_in_container.is_empty() { &mapping.path_on_host } else { &mapping.path_in_container };
    let resolved = host.canonicalize().map_err(wrong)?;
    if !resolved.is_dir() {
        let node = device_node(&resolved, inside).map_err(wrong)?;
        return node
            .map(|node| vec![node])
            .ok_or_else(|| Invalid::Device(mapping.path_on_host.clone(), "not a device node".into()));
    }
    let mut nodes = Vec::new();
    for entry in std::fs::read_dir(&resolved).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let name = entry.file_name();
        let below = format!("{}/{}", inside.trim_end_matches('/'), name.to_string_lossy());
        nodes.extend(device_node(&entry.path(), &below).map_err(wrong)?);
    }
    Ok(nodes)
}

fn device_node(host: &Path, inside: &str) -> std::io::Result<Option<LinuxDevice>> {
    let meta = std::fs::metadata(host)?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Ok(None),
    };
    Ok(Some(LinuxDevice {
        path: inside.to_owned(),
        kind: kind.into(),
        major: i64::from(major(meta.rdev())),
        minor: i64::from(minor(meta.rdev())),
        file_mode: Some(meta.mode() & 0o7777),
        uid: Some(meta.uid()),
        gid: Some(meta.gid()),
    }))
}

/// `c 1:3 rwm`, with `*` for any number.
fn device_rule(text: &str) -> Option<DeviceRule> {
    let mut words = text.split(' ');
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let number = |word: &str| match word {
        "*" => Some(None),
        digits => digits.parse().ok().map(Some),
    };
    let (major, minor) = numbers.split_once(':')?;
    let valid = matches!(kind, "a" | "b" | "c")
        && words.next().is_none()
        && !access.is_empty()
        && access.bytes().all(|b| matches!(b, b'r' | b'w' | b'm'));
    valid.then_some(())?;
    Some(DeviceRule {
        allow: true,
        kind: kind.to_owned(),
        major: number(major)?,
        minor: number(minor)?,
        access: access.to_owned(),
    })
}

/// A ulimit as the kernel names it; -1 is unlimited.
pub(super) fn rlimit(ulimit: &Ulimit) -> Result<Rlimit, Invalid> {
    const KINDS: [&str; 15] = [
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
    ];
    if !KINDS.contains(&ulimit.name.as_str()) {
        return Err(Invalid::UlimitType(ulimit.name.clone()));
    }
    if ulimit.hard != -1 && (ulimit.soft > ulimit.hard || ulimit.soft == -1) {
        return Err(Invalid::UlimitOrder(ulimit.name.clone(), ulimit.soft, ulimit.hard));
    }
    // -1 as an unsigned number is the kernel's RLIM_INFINITY.
    let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    Ok(Rlimit {
        kind: format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase()),
        hard: value(ulimit.hard),
        soft: value(ulimit.soft),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_follows_memory() {
        let mut resources = Resources { memory: 64 << 20, memory_swappiness: Some(-1), ..Default::default() };
        normalize(&mut resources).unwrap();
        assert_eq!((resources.memory_swap, resources.memory_swappiness), (128 << 20, None));
        let limits = limits(&resources).unwrap().memory.unwrap();
        assert_eq!((limits.limit, limits.swap), (Some(64 << 20), Some(128 << 20)));
    }

    #[test]
    fn out_of_range() {
        for resources in [
            Resources { memory: 1 << 20, ..Default::default() },
            Resources { memory: -5, ..Default::default() },
            Resources { memory_swap: 1 << 30, ..Default::default() },
            Resources { memory: 64 << 20, memory_swap: 32 << 20, ..Default::default() },
            Resources { nano_cpus: 1, ..Default::default() },
            Resources { nano_cpus: i64::MAX, ..Default::default() },
            Resources { cpu_quota: 10, ..Default::default() },
            Resources { cpuset_cpus: "a".into(), ..Default::default() },
            Resources { blkio_weight: 5, ..Default::default() },
            Resources { pids_limit: Some(-2), ..Default::default() },
            Resources { cpu_count: 1, ..Default::default() },
        ] {
            assert!(normalize(&mut resources.clone()).is_err(), "{resources:?}");
        }
    }

    #[test]
    fn half_a_cpu_and_unlimited_files() {
        let resources = Resources { nano_cpus: 500_000_000, pids_limit: Some(7), ..Default::default() };
        let found = limits(&resources).unwrap();
        let cpu = found.cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(50_000), Some(100_000)));
        assert_eq!(found.pids.unwrap().limit, 7);
        let ulimit = Ulimit { name: "nofile".into(), hard: -1, soft: 5 };
        assert_eq!(
            rlimit(&ulimit).unwrap(),
            Rlimit { kind: "RLIMIT_NOFILE".into(), hard: u64::MAX, soft: 5 }
        );
        assert!(rlimit(&Ulimit { name: "nofile".into(), hard: 4, soft: 5 }).is_err());
    }

    #[test]
    fn devices_and_rules() {
        let resources = Resources {
            devices: Some(vec![DeviceMapping {
                path_on_host: "/dev/null".into(),
                path_in_container: "/dev/nothing".into(),
                cgroup_permissions: "r".into(),
            }]),
            device_cgroup_rules: Some(vec!["c 42:* rmw".into()]),
            ..Default::default()
        };
        let (nodes, rules) = devices(&resources).unwrap();
        assert_eq!((nodes[0].path.as_str(), nodes[0].major, nodes[0].minor), ("/dev/nothing", 1, 3));
        assert_eq!(rules[0].access, "r");
        assert_eq!((rules[1].major, rules[1].minor), (Some(42), None));
        assert!(device_rule("x 1:1 r").is_none() && device_rule("c 1:1").is_none());
    }
}
