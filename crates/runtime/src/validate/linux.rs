//! The rest of `linux`.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use rustix::fs::FileType;
use seacow_spec::oci::runtime::{Linux, LinuxDevice, LinuxResources, MemoryPolicy, Personality};
use seacow_sys::mount::Propagation;
use seacow_sys::ns::Kinds;
use seacow_sys::process::CpuSet;

use super::Error;

pub(super) fn check(linux: &Linux, kinds: Kinds) -> Result<(), Error> {
    missing(linux)?;
    net_devices(linux, kinds)?;
    for key in linux.sysctl.keys() {
        crate::process::sysctl::below_proc_sys(key, |kind| kinds.contains(kind))?;
    }
    for (index, entry) in linux.devices.iter().enumerate() {
        device(index, entry)?;
    }
    propagation(&linux.rootfs_propagation)?;
    linux.personality.as_ref().map(personality).transpose()?;
    for (field, paths) in
        [("linux.maskedPaths", &linux.masked_paths), ("linux.readonlyPaths", &linux.readonly_paths)]
    {
        for (index, path) in paths.iter().enumerate() {
            if !path.starts_with('/') || path.contains('\0') {
                return Err(Error::field(format!("{field}[{index}]"), format!("{path:?} is not absolute")));
            }
        }
    }
    if Path::new(&linux.cgroups_path).components().any(|c| c == Component::ParentDir) {
        return Err(Error::field("linux.cgroupsPath", format!("{:?} has a ..", linux.cgroups_path)));
    }
    mount_label(&linux.mount_label)?;
    linux.resources.as_ref().map_or(Ok(()), resources)
}

/// The SELinux label that mounted file systems get.
fn mount_label(label: &str) -> Result<(), Error> {
    if label.is_empty() {
        return Ok(());
    }
    // It becomes a quoted mount option.
    if label.contains(['"', '\\']) || label.chars().any(char::is_control) {
        return Err(Error::field("linux.mountLabel", format!("{label:?} is not a label")));
    }
    if !crate::process::labels::selinux_is_on() {
        let why = "selinux label is specified in config, but selinux is disabled or not supported";
        return Err(Error::field("linux.mountLabel", why));
    }
    Ok(())
}

/// What others have and we do not.
fn missing(linux: &Linux) -> Result<(), Error> {
    if linux.intel_rdt.is_some() {
        return Err(Error::missing("linux.intelRdt", "cache and bandwidth allocation by resctrl"));
    }
    linux.memory_policy.as_ref().map(memory_policy).transpose().map(drop)
}

/// Network devices and the names that they get.
fn net_devices(linux: &Linux, kinds: Kinds) -> Result<(), Error> {
    if !linux.net_devices.is_empty() && !kinds.contains(Kinds::NETWORK) {
        let why = "needs a network namespace, or the devices would stay where they are";
        return Err(Error::field("linux.netDevices", why));
    }
    let mut taken = BTreeSet::new();
    for (name, device) in &linux.net_devices {
        if !is_interface_name(name) {
            return Err(Error::field("linux.netDevices", format!("{name:?} is not a device's name")));
        }
        let inside = if device.name.is_empty() { name } else { &device.name };
        let wrong = |what| Err(Error::field(format!("linux.netDevices.{name}.name"), what));
        if !is_interface_name(inside) {
            return wrong(format!("{inside:?} is not a device's name"));
        }
        if !taken.insert(inside) {
            return wrong(format!("a second device would be called {inside}"));
        }
    }
    Ok(())
}

/// What the kernel takes as the name of a network device, but for patterns, which it would fill in.
fn is_interface_name(name: &str) -> bool {
    let fits = (1..=IFNAMSIZ).contains(&name.len()) && name != "." && name != "..";
    fits && !name.contains(['/', ':', '%', '\0']) && !name.contains(char::is_whitespace)
}

/// Bytes of an interface's name, without its terminating zero.
const IFNAMSIZ: usize = 15;

/// A device node, as mknod takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: FileType,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
}

/// Checks one entry of `linux.devices`.
pub(crate) fn device(index: usize, device: &LinuxDevice) -> Result<Node, Error> {
    let at = |field: &str| format!("linux.devices[{index}].{field}");
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => {
            return Err(Error::field(at("type"), format!("unknown type {other:?}, there are c, b, u, p")));
        }
    };
    if !device.path.starts_with('/') || device.path.contains('\0') {
        return Err(Error::field(at("path"), format!("{:?} is not an absolute path", device.path)));
    }
    let number = |field: &str, value: i64, max: u32| {
        let value = if kind == FileType::Fifo { 0 } else { value };
        u32::try_from(value)
            .ok()
            .filter(|n| *n <= max)
            .ok_or_else(|| Error::field(at(field), format!("{value} is not between 0 and {max}")))
    };
    // The kernel has 12 bits of major and 20 of minor.
    let (major, minor) = (number("major", device.major, 0xfff)?, number("minor", device.minor, 0xf_ffff)?);
    // The upper bits, should there be any, are the type's.
    Ok(Node { kind, major, minor, mode: device.file_mode.unwrap_or(0o666) & 0o7777 })
}

/// What `linux.rootfsPropagation` means, and whether for all mounts below too.
pub(crate) fn propagation(word: &str) -> Result<Option<(Propagation, bool)>, Error> {
    Ok(Some(match word {
        "" => return Ok(None),
        "private" => (Propagation::Private, false),
        "rprivate" => (Propagation::Private, true),
        "slave" => (Propagation::Slave, false),
        "rslave" => (Propagation::Slave, true),
        "shared" => (Propagation::Shared, false),
        "rshared" => (Propagation::Shared, true),
        "unbindable" => (Propagation::Unbindable, false),
        "runbindable" => (Propagation::Unbindable, true),
        other => return Err(Error::field("linux.rootfsPropagation", format!("unknown word {other:?}"))),
    }))
}

/// The execution domain, as personality(2) takes it.
pub(crate) fn personality(wanted: &Personality) -> Result<u64, Error> {
    if let Some(flag) = wanted.flags.first() {
        // The specification names none.
        return Err(Error::field("linux.personality.flags[0]", format!("unknown flag {flag:?}")));
    }
    match wanted.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(Error::field("linux.personality.domain", format!("unknown domain {other:?}"))),
    }
}

/// Policies, each at its number.
pub const MEMORY_POLICIES: [&str; 7] = [
    "MPOL_DEFAULT",
    "MPOL_PREFERRED",
    "MPOL_BIND",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];
/// What may be added to a policy, with its bit.
pub const MEMORY_POLICY_FLAGS: [(&str, i32); 3] = [
    ("MPOL_F_STATIC_NODES", 1 << 15),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
];

/// The policy and its nodes, as set_mempolicy(2) takes them. Which nodes a policy needs, and which
/// there are, the kernel knows.
pub(crate) fn memory_policy(wanted: &MemoryPolicy) -> Result<(i32, CpuSet), Error> {
    let known = MEMORY_POLICIES.iter().zip(0..).find(|(name, _)| **name == wanted.mode);
    let Some((_, mut mode)) = known else {
        return Err(Error::field("linux.memoryPolicy.mode", format!("unknown mode {:?}", wanted.mode)));
    };
    for (index, flag) in wanted.flags.iter().enumerate() {
        let Some((_, bit)) = MEMORY_POLICY_FLAGS.iter().find(|(name, _)| name == flag) else {
            let path = format!("linux.memoryPolicy.flags[{index}]");
            return Err(Error::field(path, format!("unknown flag {flag:?}")));
        };
        mode |= bit;
    }
    if wanted.nodes.is_empty() {
        return Ok((mode, CpuSet::default()));
    }
    let bad = || Error::field("linux.memoryPolicy.nodes", format!("bad list {:?}", wanted.nodes));
    Ok((mode, super::process::cpu_list(&wanted.nodes).ok_or_else(bad)?))
}

/// Numbers that no kernel takes. What this host can limit is the cgroups' matter.
fn resources(resources: &LinuxResources) -> Result<(), Error> {
    let below = |path: &str, value: Option<i64>| match value {
        Some(value) if value < -1 => {
            Err(Error::field(format!("linux.resources.{path}"), format!("{value} is below -1, no limit")))
        }
        Some(_) | None => Ok(()),
    };
    if let Some(memory) = &resources.memory {
        below("memory.limit", memory.limit)?;
        below("memory.reservation", memory.reservation)?;
        below("memory.swap", memory.swap)?;
        below("memory.kernel", memory.kernel)?;
        below("memory.kernelTCP", memory.kernel_tcp)?;
        if memory.swappiness.is_some_and(|s| s > 100) {
            return Err(Error::field("linux.resources.memory.swappiness", "above 100"));
        }
    }
    if let Some(cpu) = &resources.cpu {
        below("cpu.quota", cpu.quota)?;
        below("cpu.realtimeRuntime", cpu.realtime_runtime)?;
    }
    below("pids.limit", resources.pids.map(|p| p.limit))?;
    for (index, rule) in resources.devices.iter().enumerate() {
        let at = |field: &str| format!("linux.resources.devices[{index}].{field}");
        if !matches!(rule.kind.as_str(), "" | "a" | "b" | "c") {
            return Err(Error::field(at("type"), format!("unknown type {:?}", rule.kind)));
        }
        if rule.access.chars().any(|c| !matches!(c, 'r' | 'w' | 'm' | 'a')) {
            return Err(Error::field(at("access"), format!("{:?} is not of r, w and m", rule.access)));
        }
    }
    Ok(())
}
