//! Limits by version 1 files.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use seacow_spec::oci::runtime::{BlockIo, Cpu, HugepageLimit, LinuxResources, Memory, ThrottleDevice};

use super::devices::Rule;
use super::limits_v2::{self, rdma_line};
use super::{Cgroups, Error, read, write};

/// Children of a cpuset take over its CPUs and memory nodes; an empty cpuset admits nobody.
/// The root refuses with EINVAL on some kernels and needs it not: its direct child is filled by hand.
pub(super) fn clone_children(level: &Path) -> Result<(), Error> {
    if level.parent().is_some_and(|p| p.join("cpuset.cpus").exists()) {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let own = level.join(file);
            if read(&own)?.trim().is_empty()
                && let Some(parent) = level.parent()
            {
                write(&own, read(&parent.join(file))?.trim())?;
            }
        }
        // Where it fails, the loop above does the same one level further down.
        let _ = write(&level.join("cgroup.clone_children"), "1");
    }
    Ok(())
}

/// Fills a cpuset whose parents somebody else has made and left empty.
pub(super) fn fill_cpuset(root: &Path, path: &Path) -> Result<(), Error> {
    let full = root.join(path);
    let empty = |level: &Path| -> Result<bool, Error> {
        Ok(read(&level.join("cpuset.cpus"))?.trim().is_empty()
            || read(&level.join("cpuset.mems"))?.trim().is_empty())
    };
    if !empty(&full)? {
        return Ok(());
    }
    let mut level = root.to_owned();
    for component in path.components() {
        level.push(component);
        clone_children(&level)?;
    }
    Ok(())
}

/// Installs device rules, the first denying everything.
pub(super) fn set_devices(cgroups: &Cgroups, rules: &[Rule]) -> Result<(), Error> {
    // A kernel without the controller restricts no devices at all; CAP_MKNOD still does.
    let Some(dir) = cgroups.dir_of("devices") else { return Ok(()) };
    let open = |name| {
        let path = dir.join(name);
        let file = OpenOptions::new().write(true).open(&path);
        file.map_err(|error| Error::file("open", &path, error)).map(|file| (path, file))
    };
    let (allow, deny) = (open("devices.allow")?, open("devices.deny")?);
    for rule in rules {
        let ((path, file), text) = (if rule.allow { &allow } else { &deny }, rule.v1_text());
        let mut file: &File = file;
        file.write_all(text.as_bytes())
            .map_err(|error| Error::file(format!("write {text:?} to"), path, error))?;
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
        let value = if pids.limit < 0 { "max".to_owned() } else { pids.limit.to_string() };
        set(cgroups, "pids", "pids.max", &value)?;
    }
    if let Some(block) = &resources.block_io {
        set_block_io(cgroups, block)?;
    }
    for huge in &resources.hugepage_limits {
        set_huge_pages(cgroups, huge)?;
    }
    for (device, limits) in &resources.rdma {
        set(cgroups, "rdma", "rdma.max", &rdma_line(device, limits)?)?;
    }
    if let Some(network) = &resources.network {
        if let Some(class) = network.class_id {
            set(cgroups, "net_cls", "net_cls.classid", &class.to_string())?;
        }
        for priority in &network.priorities {
            let value = format!("{} {}", priority.name, priority.priority);
            set(cgroups, "net_prio", "net_prio.ifpriomap", &value)?;
        }
    }
    for (key, value) in &resources.unified {
        let controller = key.split_once('.').map_or(key.as_str(), |(controller, _)| controller);
        if controller != "cgroup" && !cgroups.unified_has(controller) {
            return Err(Error::Unsupported {
                limit: format!("linux.resources.unified.{key}"),
                // The first two words are runc's.
                reason: "invalid configuration on this host, which has cgroup version 1".into(),
            });
        }
        limits_v2::set_unified(cgroups, key, value)?;
    }
    Ok(())
}

/// In the hybrid layout the controller may be the version 2 tree's.
fn set_huge_pages(cgroups: &Cgroups, huge: &HugepageLimit) -> Result<(), Error> {
    let HugepageLimit { page_size, limit } = huge;
    if cgroups.dir_of("hugetlb").is_none() && cgroups.unified_has("hugetlb") {
        return limits_v2::set_huge_pages(cgroups, huge);
    }
    set(cgroups, "hugetlb", &format!("hugetlb.{page_size}.limit_in_bytes"), &limit.to_string())?;
    // Reservations, since Linux 5.7: without a limit of them a program that reserves more than it may
    // use is killed when it touches the rest.
    let reserved = format!("hugetlb.{page_size}.rsvd.limit_in_bytes");
    match set(cgroups, "hugetlb", &reserved, &limit.to_string()) {
        Err(Error::Unsupported { .. }) => Ok(()),
        done => done,
    }
}

fn set_memory(cgroups: &Cgroups, memory: &Memory) -> Result<(), Error> {
    let limit = memory.limit.filter(|l| *l != 0);
    // No limit of memory at all is what -1 means; one of memory and swap would stay in its way.
    let swap = memory.swap.filter(|s| *s != 0).or(limit.filter(|l| *l < 0));
    if memory.use_hierarchy == Some(true) {
        // The kernel's only way since 5.11, and what it answers to 1 is then yes.
        set(cgroups, "memory", "memory.use_hierarchy", "1")?;
    }
    if let Some(kernel) = memory.kernel.filter(|k| *k > 0) {
        set(cgroups, "memory", "memory.kmem.limit_in_bytes", &kernel.to_string())?;
    }
    match (limit, swap) {
        // The kernel keeps limit <= limit+swap at every moment: raise the outer one first.
        (Some(limit), Some(swap)) if raises_swap(cgroups, swap)? => {
            set_swap(cgroups, swap)?;
            set(cgroups, "memory", "memory.limit_in_bytes", &limit.to_string())?;
        }
        (Some(limit), swap) => {
            set(cgroups, "memory", "memory.limit_in_bytes", &limit.to_string())?;
            if let Some(swap) = swap {
                set_swap(cgroups, swap)?;
            }
        }
        (None, Some(swap)) => set_swap(cgroups, swap)?,
        (None, None) => {}
    }
    if let Some(reservation) = memory.reservation.filter(|r| *r != 0) {
        set(cgroups, "memory", "memory.soft_limit_in_bytes", &reservation.to_string())?;
    }
    if let Some(swappiness) = memory.swappiness {
        set(cgroups, "memory", "memory.swappiness", &swappiness.to_string())?;
    }
    if memory.disable_oom_killer == Some(true) {
        set(cgroups, "memory", "memory.oom_control", "1")?;
    }
    if let Some(tcp) = memory.kernel_tcp.filter(|t| *t > 0) {
        set(cgroups, "memory", "memory.kmem.tcp.limit_in_bytes", &tcp.to_string())?;
    }
    Ok(())
}

const MEMSW: &str = "memory.memsw.limit_in_bytes";

/// Whether the wanted memory+swap limit is above the present one.
fn raises_swap(cgroups: &Cgroups, swap: i64) -> Result<bool, Error> {
    let Some(dir) = cgroups.dir_of("memory") else { return Ok(false) };
    match read(&dir.join(MEMSW)) {
        Ok(present) => {
            let present: u64 = present.trim().parse().unwrap_or(u64::MAX);
            Ok(swap < 0 || u64::try_from(swap).is_ok_and(|swap| swap > present))
        }
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    }
}

fn set_swap(cgroups: &Cgroups, swap: i64) -> Result<(), Error> {
    match set(cgroups, "memory", MEMSW, &swap.to_string()) {
        // "No limit" is what a kernel without swap accounting does anyway.
        Err(Error::Unsupported { .. }) if swap < 0 => Ok(()),
        done => done,
    }
}

fn set_cpu(cgroups: &Cgroups, cpu: &Cpu) -> Result<(), Error> {
    if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
        set(cgroups, "cpu", "cpu.shares", &shares.to_string())?;
    }
    // A burst is at most the quota: whichever of the two orders the present values allow.
    let set_burst = || match cpu.burst {
        Some(burst) => set(cgroups, "cpu", "cpu.cfs_burst_us", &burst.to_string()),
        None => Ok(()),
    };
    match set_cpu_quota(cgroups, cpu) {
        Ok(()) => set_burst()?,
        Err(_) if cpu.burst.is_some() => set_burst().and_then(|()| set_cpu_quota(cgroups, cpu))?,
        refused => refused?,
    }
    let period = cpu.realtime_period.filter(|p| *p != 0).map(|p| p.to_string());
    let runtime = cpu.realtime_runtime.filter(|r| *r != 0).map(|r| r.to_string());
    set_pair(cgroups, ("cpu.rt_period_us", period.as_deref()), ("cpu.rt_runtime_us", runtime.as_deref()))?;
    if let Some(idle) = cpu.idle {
        set(cgroups, "cpu", "cpu.idle", &idle.to_string())?;
    }
    if !cpu.cpus.is_empty() {
        set(cgroups, "cpuset", "cpuset.cpus", &cpu.cpus)?;
    }
    if !cpu.mems.is_empty() {
        set(cgroups, "cpuset", "cpuset.mems", &cpu.mems)?;
    }
    Ok(())
}

/// Period and quota constrain each other (quota/period of the parent).
fn set_cpu_quota(cgroups: &Cgroups, cpu: &Cpu) -> Result<(), Error> {
    let period = cpu.period.filter(|p| *p != 0).map(|p| p.to_string());
    let quota = cpu.quota.filter(|q| *q != 0).map(|q| q.to_string());
    set_pair(cgroups, ("cpu.cfs_period_us", period.as_deref()), ("cpu.cfs_quota_us", quota.as_deref()))
}

/// Sets two files of which each limits the other: when one order is refused, the other may be right.
fn set_pair(
    cgroups: &Cgroups,
    (first, value): (&str, Option<&str>),
    (second, other): (&str, Option<&str>),
) -> Result<(), Error> {
    let set_one = |file: &str, value: Option<&str>| value.map_or(Ok(()), |v| set(cgroups, "cpu", file, v));
    match set_one(first, value) {
        Ok(()) => set_one(second, other),
        Err(_) if other.is_some() => set_one(second, other).and_then(|()| set_one(first, value)),
        refused => refused,
    }
}

fn set_block_io(cgroups: &Cgroups, block: &BlockIo) -> Result<(), Error> {
    if let Some(weight) = block.weight.filter(|w| *w != 0) {
        set_first(cgroups, "blkio", &["blkio.weight", "blkio.bfq.weight"], &weight.to_string())?;
    }
    if let Some(weight) = block.leaf_weight.filter(|w| *w != 0) {
        set(cgroups, "blkio", "blkio.leaf_weight", &weight.to_string())?;
    }
    for device in &block.weight_device {
        let name = format!("{}:{}", device.major, device.minor);
        if let Some(weight) = device.weight {
            let files = ["blkio.weight_device", "blkio.bfq.weight_device"];
            set_first(cgroups, "blkio", &files, &format!("{name} {weight}"))?;
        }
        if let Some(weight) = device.leaf_weight {
            set(cgroups, "blkio", "blkio.leaf_weight_device", &format!("{name} {weight}"))?;
        }
    }
    let throttles: [(&str, &[ThrottleDevice]); 4] = [
        ("blkio.throttle.read_bps_device", &block.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", &block.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", &block.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", &block.throttle_write_iops_device),
    ];
    for (file, devices) in throttles {
        for device in devices {
            let value = format!("{}:{} {}", device.major, device.minor, device.rate);
            set(cgroups, "blkio", file, &value)?;
        }
    }
    Ok(())
}

/// Writes to the first of these files that the kernel has.
fn set_first(cgroups: &Cgroups, controller: &str, files: &[&str], value: &str) -> Result<(), Error> {
    let dir = dir(cgroups, controller, files.first().unwrap_or(&controller))?;
    let file = files.iter().find(|f| dir.join(f).exists());
    set(cgroups, controller, file.or(files.first()).unwrap_or(&controller), value)
}

fn set(cgroups: &Cgroups, controller: &str, file: &str, value: &str) -> Result<(), Error> {
    match write(&dir(cgroups, controller, file)?.join(file), value) {
        Err(error) if error.is_missing() => Err(Error::Unsupported {
            limit: file.to_owned(),
            reason: "the kernel was built without it".into(),
        }),
        done => done,
    }
}

fn dir(cgroups: &Cgroups, controller: &str, file: &str) -> Result<PathBuf, Error> {
    cgroups.dir_of(controller).ok_or_else(|| Error::Unsupported {
        limit: file.to_owned(),
        reason: format!("the cgroup controller {controller} is not mounted"),
    })
}
