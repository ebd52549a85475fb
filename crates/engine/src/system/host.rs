//! Facts about this machine, read from the kernel's own files.

use std::fs;
use std::path::Path;

use rustix::fs::statfs;

/// Where cgroup controllers live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cgroups {
    /// One hierarchy with everything.
    V2 {
        /// Controllers at its root.
        controllers: Vec<String>,
    },
    /// A hierarchy per controller.
    V1 {
        /// Mounted controllers.
        controllers: Vec<String>,
    },
    /// None mounted.
    Missing,
}

impl Cgroups {
    /// Docker's number for it.
    pub(crate) fn version(&self) -> &'static str {
        match self {
            Self::V2 { .. } => "2",
            Self::V1 { .. } | Self::Missing => "1",
        }
    }

    /// Whether a controller is there.
    pub(crate) fn has(&self, controller: &str) -> bool {
        match self {
            Self::V2 { controllers } | Self::V1 { controllers } => {
                controllers.iter().any(|c| c == controller)
            }
            Self::Missing => false,
        }
    }
}

const CGROUP_ROOT: &str = "/sys/fs/cgroup";
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// How cgroups are mounted.
pub(crate) fn cgroups() -> Cgroups {
    if magic(Path::new(CGROUP_ROOT)) == Some(CGROUP2_MAGIC) {
        let controllers = read(&format!("{CGROUP_ROOT}/cgroup.controllers")).unwrap_or_default();
        return Cgroups::V2 { controllers: controllers.split_whitespace().map(str::to_owned).collect() };
    }
    let mut controllers: Vec<String> = Vec::new();
    for line in read("/proc/self/mountinfo").unwrap_or_default().lines() {
        let Some((_, tail)) = line.split_once(" - cgroup ") else { continue };
        let options = tail.split_whitespace().nth(1).unwrap_or_default();
        let known = ["blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "pids"];
        controllers.extend(options.split(',').filter(|option| known.contains(option)).map(str::to_owned));
    }
    if controllers.is_empty() { Cgroups::Missing } else { Cgroups::V1 { controllers } }
}

/// The number that tells file systems apart.
fn magic(path: &Path) -> Option<u64> {
    statfs(path).ok().and_then(|stat| u64::try_from(stat.f_type).ok())
}

/// The file system's name, as Docker prints it.
pub(crate) fn file_system(path: &Path) -> String {
    match magic(path) {
        Some(0xef53) => "extfs".into(),
        Some(0x5846_5342) => "xfs".into(),
        Some(0x9123_683e) => "btrfs".into(),
        Some(0x0102_1994) => "tmpfs".into(),
        Some(0x794c_7630) => "overlayfs".into(),
        Some(0x2fc1_2fc1) => "zfs".into(),
        Some(0xf2f5_2010) => "f2fs".into(),
        Some(0x6969) => "nfs".into(),
        Some(0x6573_5546) => "fuse".into(),
        Some(0xff53_4d42) => "cifs".into(),
        Some(other) => format!("{other:#x}"),
        None => "unknown".into(),
    }
}

/// A small file's text without the last line feed.
pub(crate) fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim_end().to_owned())
}

/// A sysctl by its dotted name.
pub(crate) fn sysctl(name: &str) -> Option<String> {
    read(&format!("/proc/sys/{}", name.replace('.', "/")))
}

/// `uname -r`.
pub(crate) fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// `uname -m`.
pub(crate) fn machine() -> String {
    rustix::system::uname().machine().to_string_lossy().into_owned()
}

/// The machine's name.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Go's name of the processor's architecture.
pub(crate) fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// One field of `/etc/os-release`.
pub(crate) fn os_release(key: &str) -> Option<String> {
    let text = read("/etc/os-release").or_else(|| read("/usr/lib/os-release"))?;
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name == key).then(|| value.trim_matches(['"', '\'']).to_owned())
    })
}

/// Bytes of memory.
pub(crate) fn memory() -> i64 {
    let text = read("/proc/meminfo").unwrap_or_default();
    let kib =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0i64).saturating_mul(1024)
}

/// Processors that this process may use.
pub(crate) fn processors() -> i64 {
    std::thread::available_parallelism().map_or(1, |n| i64::try_from(n.get()).unwrap_or(1))
}

/// Whether this process has a capability, by its number.
pub(crate) fn has_capability(number: u32) -> bool {
    let text = read("/proc/self/status").unwrap_or_default();
    let effective = text.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    set >> number & 1 == 1
}

/// A file system type that the kernel knows now (a module that is not loaded yet does not count).
pub(crate) fn knows_file_system(name: &str) -> bool {
    let text = read("/proc/filesystems").unwrap_or_default();
    text.lines().any(|line| line.split_whitespace().last() == Some(name))
}

/// Whether AppArmor confines programs here.
pub(crate) fn apparmor() -> bool {
    read("/sys/module/apparmor/parameters/enabled").as_deref() == Some("Y")
        && Path::new("/sys/kernel/security/apparmor").exists()
}

/// SELinux: `Some(true)` enforcing, `Some(false)` permissive.
pub(crate) fn selinux() -> Option<bool> {
    read("/sys/fs/selinux/enforce").map(|enforce| enforce == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_facts() {
        assert!(memory() > 0 && processors() > 0);
        assert!(!kernel().is_empty() && !hostname().is_empty());
        assert_ne!(cgroups(), Cgroups::Missing);
        assert_eq!(sysctl("kernel.osrelease"), Some(kernel()));
        assert!(knows_file_system("proc") && !knows_file_system("seacowfs"));
    }
}
