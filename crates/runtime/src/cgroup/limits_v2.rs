//! Limits by version 2 files.

use std::path::Path;

use seacow_spec::oci::runtime::{BlockIo, Cpu, HugepageLimit, LinuxResources, Memory};

use super::{Cgroups, Error, read, write};

/// Gives a level's children every controller it has itself, one by one: where one is refused (it
/// is threaded, or processes live here) the others still work. A limit that then has no file is
/// refused when somebody asks for it.
pub(super) fn delegate(level: &Path) -> Result<(), Error> {
    let available = read(&level.join("cgroup.controllers"))?;
    let present = read(&level.join("cgroup.subtree_control"))?;
    let missing: Vec<&str> =
        available.split_whitespace().filter(|c| present.split_whitespace().all(|p| p != *c)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let file = level.join("cgroup.subtree_control");
    let all: Vec<String> = missing.iter().map(|c| format!("+{c}")).collect();
    if write(&file, &all.join(" ")).is_err() {
        for one in &all {
            let _ = write(&file, one);
        }
    }
    Ok(())
}

pub(super) fn apply(cgroups: &Cgroups, resources: &LinuxResources) -> Result<(), Error> {
    if let Some(memory) = &resources.memory {
        set_memory(cgroups, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        set_cpu(cgroups, cpu)?;
    }
    if let Some(pids) = &resources.pids
        && pids.limit != 0
    {
        set(cgroups, "pids.max", &max_or(pids.limit))?;
    }
    if let Some(block) = &resources.block_io {
        set_block_io(cgroups, block)?;
    }
    for huge in &resources.hugepage_limits {
        set_huge_pages(cgroups, huge)?;
    }
    for (device, limits) in &resources.rdma {
        set(cgroups, "rdma.max", &rdma_line(device, limits)?)?;
    }
    if let Some(network) = &resources.network {
        refuse("linux.resources.network.classID", network.class_id.is_some_and(|class| class != 0))?;
        refuse("linux.resources.network.priorities", !network.priorities.is_empty())?;
    }
    for (key, value) in &resources.unified {
        set_unified(cgroups, key, value)?;
    }
    Ok(())
}

/// A value for a file of the request's choice.
pub(super) fn set_unified(cgroups: &Cgroups, key: &str, value: &str) -> Result<(), Error> {
    if key.contains('/') || !key.contains('.') {
        return Err(Error::Invalid {
            what: format!("linux.resources.unified: {key:?} is no file of a cgroup"),
        });
    }
    set(cgroups, key, value)
}

pub(super) fn set_huge_pages(cgroups: &Cgroups, huge: &HugepageLimit) -> Result<(), Error> {
    let HugepageLimit { page_size, limit } = huge;
    set(cgroups, &format!("hugetlb.{page_size}.max"), &limit.to_string())?;
    // Reservations, since Linux 5.7: without a limit of them a program that reserves more than it may
    // use is killed when it touches the rest.
    match set(cgroups, &format!("hugetlb.{page_size}.rsvd.max"), &limit.to_string()) {
        Err(Error::Unsupported { .. }) => Ok(()),
        done => done,
    }
}

/// `mlx5_0 hca_handle=3 hca_object=4`, in both versions.
pub(super) fn rdma_line(device: &str, limits: &serde_json::Value) -> Result<String, Error> {
    let invalid = |what: &str| Error::Invalid { what: format!("linux.resources.rdma.{device}.{what}") };
    if device.is_empty() || device.contains(char::is_whitespace) {
        return Err(invalid("(name of a device)"));
    }
    let mut line = device.to_owned();
    for (field, key) in [("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")] {
        match limits.get(field) {
            None | Some(serde_json::Value::Null) => {}
            Some(limit) => {
                let limit = limit.as_u64().and_then(|limit| u32::try_from(limit).ok());
                line.push_str(&format!(" {key}={}", limit.ok_or_else(|| invalid(field))?));
            }
        }
    }
    Ok(line)
}

/// What version 1 had and version 2 has not. Asked for, it is missed aloud.
fn refuse(field: &str, asked: bool) -> Result<(), Error> {
    if !asked {
        return Ok(());
    }
    Err(Error::Unsupported { limit: field.to_owned(), reason: "cgroup version 2 has no such thing".into() })
}

fn max_or(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn set_memory(cgroups: &Cgroups, memory: &Memory) -> Result<(), Error> {
    let limit = memory.limit.filter(|l| *l != 0);
    refuse("linux.resources.memory.kernel", memory.kernel.is_some_and(|limit| limit > 0))?;
    refuse("linux.resources.memory.kernelTCP", memory.kernel_tcp.is_some_and(|limit| limit > 0))?;
    refuse("linux.resources.memory.swappiness", memory.swappiness.is_some())?;
    refuse("linux.resources.memory.disableOOMKiller", memory.disable_oom_killer == Some(true))?;
    refuse("linux.resources.memory.useHierarchy=false", memory.use_hierarchy == Some(false))?;
    if memory.check_before_update == Some(true) {
        check_usage(cgroups, memory)?;
    }
    if let Some(swap) = swap_alone(memory)? {
        match set(cgroups, "memory.swap.max", &max_or(swap)) {
            // No swap on this kernel is the same as no limit of it.
            Err(Error::Unsupported { .. }) if swap <= 0 => {}
            done => done?,
        }
    }
    if let Some(limit) = limit {
        set(cgroups, "memory.max", &max_or(limit))?;
    }
    if let Some(reservation) = memory.reservation.filter(|r| *r != 0) {
        set(cgroups, "memory.low", &max_or(reservation))?;
    }
    Ok(())
}

/// The kernel would reclaim, and kill when that is not enough; version 1 refused.
fn check_usage(cgroups: &Cgroups, memory: &Memory) -> Result<(), Error> {
    let used = |file: &str| -> Result<u64, Error> {
        let dir = cgroups.dir_of("memory").ok_or(Error::NotMounted)?;
        match read(&dir.join(file)) {
            Ok(text) => Ok(text.trim().parse().unwrap_or(0)),
            Err(error) if error.is_missing() => Ok(0),
            Err(error) => Err(error),
        }
    };
    let wanted = |limit: Option<i64>| limit.filter(|l| *l != 0).and_then(|l| u64::try_from(l).ok());
    let checks = [
        ("limit", wanted(memory.limit), used("memory.current")?),
        (
            "swap",
            wanted(memory.limit.and(memory.swap)),
            used("memory.current")? + used("memory.swap.current")?,
        ),
    ];
    for (field, limit, used) in checks {
        if limit.is_some_and(|limit| limit < used) {
            let what = format!("linux.resources.memory.{field} is below the {used} bytes in use");
            return Err(Error::Invalid { what });
        }
    }
    Ok(())
}

/// The specification counts memory and swap together, the kernel swap alone.
pub(super) fn swap_alone(memory: &Memory) -> Result<Option<i64>, Error> {
    let limit = memory.limit.unwrap_or(0);
    match memory.swap {
        // Without a limit of memory one of both together cannot be meant.
        None | Some(0) if limit == -1 => Ok(Some(-1)),
        None | Some(0) => Ok(None),
        Some(-1) => Ok(Some(-1)),
        Some(both) if limit > 0 && both >= limit => Ok(Some(both - limit)),
        Some(both) if limit > 0 => Err(Error::Invalid {
            what: format!("memory+swap limit {both} is below the memory limit {limit}"),
        }),
        Some(both) => Err(Error::Invalid { what: format!("memory+swap limit {both} needs a memory limit") }),
    }
}

fn set_cpu(cgroups: &Cgroups, cpu: &Cpu) -> Result<(), Error> {
    if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
        set(cgroups, "cpu.weight", &weight_of_shares(shares).to_string())?;
    }
    let (quota, period) = (cpu.quota.filter(|q| *q != 0), cpu.period.filter(|p| *p != 0));
    refuse("linux.resources.cpu.realtimeRuntime", cpu.realtime_runtime.is_some_and(|r| r != 0))?;
    refuse("linux.resources.cpu.realtimePeriod", cpu.realtime_period.is_some_and(|p| p != 0))?;
    let set_quota = || match (quota, period) {
        (None, None) => Ok(()),
        // One number alone leaves the period as it is.
        (Some(quota), None) => set(cgroups, "cpu.max", &max_or(quota)),
        (Some(quota), Some(period)) => set(cgroups, "cpu.max", &format!("{} {period}", max_or(quota))),
        (None, Some(period)) => set(cgroups, "cpu.max", &format!("{} {period}", present_quota(cgroups)?)),
    };
    let set_burst = || match cpu.burst {
        Some(burst) => set(cgroups, "cpu.max.burst", &burst.to_string()),
        None => Ok(()),
    };
    // A burst is at most the quota: whichever of the two orders the present values allow.
    match set_quota() {
        Ok(()) => set_burst()?,
        Err(_) if cpu.burst.is_some() => set_burst().and_then(|()| set_quota())?,
        refused => refused?,
    }
    if let Some(idle) = cpu.idle {
        set(cgroups, "cpu.idle", &idle.to_string())?;
    }
    if !cpu.cpus.is_empty() {
        set(cgroups, "cpuset.cpus", &cpu.cpus)?;
    }
    if !cpu.mems.is_empty() {
        set(cgroups, "cpuset.mems", &cpu.mems)?;
    }
    Ok(())
}

/// The first word of cpu.max.
fn present_quota(cgroups: &Cgroups) -> Result<String, Error> {
    let dir = cgroups.dir_of("cpu").ok_or(Error::NotMounted)?;
    match read(&dir.join("cpu.max")) {
        Ok(text) => Ok(text.split_whitespace().next().unwrap_or("max").to_owned()),
        // Setting it will say that the controller is missing.
        Err(error) if error.is_missing() => Ok("max".to_owned()),
        Err(error) => Err(error),
    }
}

/// The kernel's own default, microseconds.
pub(super) const DEFAULT_PERIOD: u64 = 100_000;

/// Maps 2..=262144 to 1..=10000 as every runtime does (the OCI specification leaves it open).
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn set_block_io(cgroups: &Cgroups, block: &BlockIo) -> Result<(), Error> {
    refuse("linux.resources.blockIO.leafWeight", block.leaf_weight.is_some_and(|weight| weight != 0))?;
    let leaf = block.weight_device.iter().any(|device| device.leaf_weight.is_some_and(|weight| weight != 0));
    refuse("linux.resources.blockIO.weightDevice.leafWeight", leaf)?;
    if let Some(weight) = block.weight.filter(|w| *w != 0) {
        set_weight(cgroups, "default", weight)?;
    }
    for device in &block.weight_device {
        if let Some(weight) = device.weight {
            set_weight(cgroups, &format!("{}:{}", device.major, device.minor), weight)?;
        }
    }
    let throttles = [
        ("rbps", &block.throttle_read_bps_device),
        ("wbps", &block.throttle_write_bps_device),
        ("riops", &block.throttle_read_iops_device),
        ("wiops", &block.throttle_write_iops_device),
    ];
    for (key, devices) in throttles {
        for device in devices {
            set(cgroups, "io.max", &format!("{}:{} {key}={}", device.major, device.minor, device.rate))?;
        }
    }
    Ok(())
}

/// BFQ takes the old scale 10..=1000 as it is; io.weight has 1..=10000.
fn set_weight(cgroups: &Cgroups, who: &str, weight: u16) -> Result<(), Error> {
    let has_bfq = cgroups.dir_of("io").is_some_and(|d| d.join("io.bfq.weight").exists());
    if has_bfq {
        return set(cgroups, "io.bfq.weight", &format!("{who} {weight}"));
    }
    set(cgroups, "io.weight", &format!("{who} {}", io_weight(weight)))
}

/// Maps 10..=1000 to 1..=10000.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

fn set(cgroups: &Cgroups, file: &str, value: &str) -> Result<(), Error> {
    let dir = cgroups.unified_dir().ok_or(Error::NotMounted)?;
    match write(&dir.join(file), value) {
        Err(error) if error.is_missing() => Err(Error::Unsupported {
            limit: file.to_owned(),
            reason: "its controller is not available to this cgroup".into(),
        }),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(1024), 39);
        assert_eq!(weight_of_shares(262_144), 10_000);
        let memory = |limit, swap| Memory { limit, swap, ..Memory::default() };
        assert_eq!(swap_alone(&memory(Some(100), Some(150))).unwrap(), Some(50));
        assert_eq!(swap_alone(&memory(Some(100), Some(-1))).unwrap(), Some(-1));
        assert_eq!(swap_alone(&memory(Some(100), None)).unwrap(), None);
        assert_eq!(swap_alone(&memory(Some(-1), None)).unwrap(), Some(-1));
        assert!(swap_alone(&memory(Some(100), Some(50))).is_err());
        assert!(swap_alone(&memory(None, Some(50))).is_err());
        let limits = serde_json::json!({ "hcaHandles": 3, "hcaObjects": 4 });
        assert_eq!(rdma_line("mlx5_0", &limits).unwrap(), "mlx5_0 hca_handle=3 hca_object=4");
        assert!(rdma_line("a b", &limits).is_err());
        assert!(rdma_line("a", &serde_json::json!({ "hcaHandles": -1 })).is_err());
    }
}
