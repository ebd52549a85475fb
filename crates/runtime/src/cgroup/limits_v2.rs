//! Limits by version 2 files.

use std::path::Path;

use seacow_spec::oci::runtime::{BlockIo, Cpu, LinuxResources, Memory};

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
        set(cgroups, &format!("hugetlb.{}.max", huge.page_size), &huge.limit.to_string())?;
    }
    for (key, value) in &resources.unified {
        if key.contains('/') || !key.contains('.') {
            return Err(Error::Invalid { what: format!("unified cgroup key {key:?}") });
        }
        set(cgroups, key, value)?;
    }
    Ok(())
}

fn max_or(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn set_memory(cgroups: &Cgroups, memory: &Memory) -> Result<(), Error> {
    let limit = memory.limit.filter(|l| *l != 0);
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

/// The specification counts memory and swap together, the kernel swap alone.
fn swap_alone(memory: &Memory) -> Result<Option<i64>, Error> {
    let limit = memory.limit.unwrap_or(0);
    match memory.swap {
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
    if quota.is_some() || period.is_some() {
        let quota = quota.map_or("max".to_owned(), max_or);
        let period = period.unwrap_or(DEFAULT_PERIOD);
        set(cgroups, "cpu.max", &format!("{quota} {period}"))?;
    }
    if let Some(burst) = cpu.burst {
        set(cgroups, "cpu.max.burst", &burst.to_string())?;
    }
    if cpu.realtime_runtime.is_some_and(|r| r != 0) || cpu.realtime_period.is_some_and(|p| p != 0) {
        return Err(Error::Unsupported {
            limit: "real-time CPU scheduling".into(),
            reason: "cgroup version 2 has no such limit".into(),
        });
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

/// The kernel's own default, microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// Maps 2..=262144 to 1..=10000 as every runtime does (the OCI specification leaves it open).
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn set_block_io(cgroups: &Cgroups, block: &BlockIo) -> Result<(), Error> {
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
    let scaled = 1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990;
    set(cgroups, "io.weight", &format!("{who} {scaled}"))
}

fn set(cgroups: &Cgroups, file: &str, value: &str) -> Result<(), Error> {
    let dir = cgroups.dir_of("").ok_or(Error::NotMounted)?;
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
        assert!(swap_alone(&memory(Some(100), Some(50))).is_err());
        assert!(swap_alone(&memory(None, Some(50))).is_err());
    }
}
