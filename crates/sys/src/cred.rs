//! Who a process is and what it may do. All of it is per thread: for single-threaded callers.

use rustix::fs::Mode;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use crate::Errno;

/// Capabilities as a bit set, bit n for capability number n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps(pub u64);

/// Names by number, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Caps {
    /// Every capability this crate has a name for.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// The capability of a name, with or without `CAP_`, in any case.
    pub fn named(name: &str) -> Option<Self> {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        NAMES.iter().position(|n| *n == short).map(|number| Self(1 << number))
    }

    /// Names in it, with `CAP_`.
    pub fn names(self) -> impl Iterator<Item = String> {
        NAMES.iter().enumerate().filter(move |(n, _)| self.0 >> n & 1 == 1).map(|(_, n)| format!("CAP_{n}"))
    }

    /// Whether all of `other` are in it.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn numbers(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |n| self.0 >> n & 1 == 1)
    }
}

impl std::ops::BitOr for Caps {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitAnd for Caps {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// The three sets that one call changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapSets {
    /// In force.
    pub effective: Caps,
    /// May be put in force.
    pub permitted: Caps,
    /// May be kept over an exec.
    pub inheritable: Caps,
}

/// The calling thread's sets.
pub fn capabilities() -> Result<CapSets, Errno> {
    let sets = rustix::thread::capabilities(None)?;
    Ok(CapSets {
        effective: Caps(sets.effective.bits()),
        permitted: Caps(sets.permitted.bits()),
        inheritable: Caps(sets.inheritable.bits()),
    })
}

/// Sets the calling thread's sets.
pub fn set_capabilities(sets: CapSets) -> Result<(), Errno> {
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: CapabilitySet::from_bits_retain(sets.effective.0),
            permitted: CapabilitySet::from_bits_retain(sets.permitted.0),
            inheritable: CapabilitySet::from_bits_retain(sets.inheritable.0),
        },
    )
}

/// Capabilities in the calling thread's bounding set.
pub fn bounding() -> Result<Caps, Errno> {
    let mut found = 0;
    for number in Caps::ALL.numbers() {
        match rustix::thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(true) => found |= 1 << number,
            Ok(false) => {}
            // The kernel knows fewer than we do.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(Caps(found))
}

/// Removes everything but `keep` from the bounding set, also capabilities that are newer than this
/// program. Needs CAP_SETPCAP.
pub fn limit_bounding(keep: Caps) -> Result<(), Errno> {
    for number in 0..64 {
        if keep.0 >> number & 1 == 1 {
            continue;
        }
        // By number: rustix takes one named bit.
        // SAFETY: PR_CAPBSET_DROP takes an integer and touches no memory.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number as libc::c_ulong, 0, 0, 0) };
        match crate::raw::check(done.into()) {
            Ok(_) => {}
            // Past the last capability of this kernel.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Makes the ambient set exactly this (each must be permitted and inheritable).
pub fn set_ambient(caps: Caps) -> Result<(), Errno> {
    rustix::thread::clear_ambient_capability_set()?;
    for number in caps.numbers() {
        rustix::thread::configure_capability_in_ambient_set(
            CapabilitySet::from_bits_retain(1 << number),
            true,
        )?;
    }
    Ok(())
}

/// Whether permitted capabilities survive the change from uid 0 to another. Reset by exec.
pub fn keep_capabilities(on: bool) -> Result<(), Errno> {
    rustix::thread::set_keep_capabilities(on)
}

/// Sets the secure bits (SECBIT_*).
pub fn set_secure_bits(bits: u32) -> Result<(), Errno> {
    rustix::thread::set_capabilities_secure_bits(CapabilitiesSecureBits::from_bits_retain(bits))
}

/// Set-id programs and file capabilities give no more rights from here on, for ever.
pub fn set_no_new_privileges() -> Result<(), Errno> {
    rustix::thread::set_no_new_privs(true)
}

/// Sets real, effective and saved user id.
pub fn set_uid(uid: u32) -> Result<(), Errno> {
    let uid = id(uid).map(Uid::from_raw)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// Sets real, effective and saved group id.
pub fn set_gid(gid: u32) -> Result<(), Errno> {
    let gid = id(gid).map(Gid::from_raw)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)
}

/// Makes the calling thread's new files somebody else's, with all its capabilities kept: the kernel
/// takes some away with root's file system id.
pub fn own_files_as(uid: u32, gid: u32) -> Result<(), Errno> {
    let (uid, gid) = (id(uid)?, id(gid)?);
    let before = capabilities()?;
    // They answer with the old id whether they did it or not; asked for no id, they tell it.
    for (call, id) in [(libc::SYS_setfsgid, gid), (libc::SYS_setfsuid, uid)] {
        file_system_id(call, id);
        if file_system_id(call, u32::MAX) != i64::from(id) {
            return Err(Errno::PERM);
        }
    }
    set_capabilities(before)
}

/// setfsuid(2) or setfsgid(2).
fn file_system_id(call: libc::c_long, id: u32) -> i64 {
    // SAFETY: both take an integer and touch no memory.
    unsafe { libc::syscall(call, libc::c_ulong::from(id)) }
}

/// Sets the supplementary groups.
pub fn set_groups(groups: &[u32]) -> Result<(), Errno> {
    let groups: Vec<Gid> = groups.iter().map(|g| id(*g).map(Gid::from_raw)).collect::<Result<_, _>>()?;
    rustix::thread::set_thread_groups(&groups)
}

/// All ones means "leave it" to the kernel, never an id.
fn id(raw: u32) -> Result<u32, Errno> {
    if raw == u32::MAX { Err(Errno::INVAL) } else { Ok(raw) }
}

/// Sets the file creation mask and gives the old one.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(Mode::from_raw_mode(mask)).as_raw_mode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(Caps::named("CAP_CHOWN"), Some(Caps(1)));
        assert_eq!(Caps::named("sys_admin"), Some(Caps(1 << 21)));
        assert_eq!(Caps::named("CAP_CHECKPOINT_RESTORE"), Some(Caps(1 << 40)));
        assert_eq!(Caps::named("ALL"), None);
        assert_eq!(Caps(1 << 12 | 1).names().collect::<Vec<_>>(), ["CAP_CHOWN", "CAP_NET_ADMIN"]);
        assert!(bounding().unwrap().contains(Caps(1)));
    }
}
