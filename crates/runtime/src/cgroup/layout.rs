//! Which cgroup hierarchies this host has, and where.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::Error;

/// The host's cgroup file systems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Version 1, a hierarchy per controller or group of controllers; perhaps with the version 2
    /// tree beside it, without controllers, as systemd's hybrid mode has it.
    V1 {
        /// Version 1 hierarchies in mount order.
        hierarchies: Vec<Hierarchy>,
        /// Mount point of the version 2 tree.
        unified: Option<PathBuf>,
    },
    /// Version 2 only: its mount point.
    V2 {
        /// Mount point.
        mount: PathBuf,
    },
}

/// One version 1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its controllers, or `name=systemd`.
    pub controllers: Vec<String>,
}

impl Hierarchy {
    /// What `-o` mounts it: `cpu,cpuacct`, or `none,name=systemd`.
    pub fn mount_options(&self) -> String {
        let joined = self.controllers.join(",");
        if joined.starts_with("name=") { format!("none,{joined}") } else { joined }
    }
}

impl Layout {
    /// Controllers of the version 2 tree, looked up once per process.
    pub(super) fn unified_controllers(&self) -> &'static [String] {
        static CONTROLLERS: OnceLock<Vec<String>> = OnceLock::new();
        CONTROLLERS.get_or_init(|| {
            let (Self::V1 { unified: Some(mount), .. } | Self::V2 { mount }) = self else {
                return Vec::new();
            };
            let text = std::fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
            text.split_whitespace().map(str::to_owned).collect()
        })
    }
}

/// The layout, looked up once per process.
pub fn layout() -> Result<&'static Layout, Error> {
    static LAYOUT: OnceLock<Layout> = OnceLock::new();
    if let Some(found) = LAYOUT.get() {
        return Ok(found);
    }
    let path = Path::new("/proc/self/mountinfo");
    let failed = |source| Error::file("read", path, source);
    let file = std::fs::File::open(path).map_err(failed)?;
    let found = parse(BufReader::with_capacity(READ, file)).map_err(failed)?.ok_or(Error::NotMounted)?;
    Ok(LAYOUT.get_or_init(|| found))
}

/// Bytes of `/proc/self/mountinfo` in memory at a time. It may be long, and a shim keeps the heap
/// that it ever needed.
const READ: usize = 1024;

/// Reads `/proc/self/mountinfo`; `None` without any cgroup mount.
fn parse(mut mountinfo: impl BufRead) -> std::io::Result<Option<Layout>> {
    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    let mut unified: Option<PathBuf> = None;
    let mut line = Vec::new();
    while mountinfo.read_until(b'\n', &mut line)? > 0 {
        // Mount points that are no UTF-8 are not those of cgroups.
        if let Ok(text) = str::from_utf8(&line) {
            note(text.trim_end(), &mut hierarchies, &mut unified);
        }
        line.clear();
    }
    Ok(match (hierarchies.is_empty(), unified) {
        (true, Some(mount)) => Some(Layout::V2 { mount }),
        (false, unified) => Some(Layout::V1 { hierarchies, unified }),
        (true, None) => None,
    })
}

/// Takes down what one line tells of cgroups.
fn note(line: &str, hierarchies: &mut Vec<Hierarchy>, unified: &mut Option<PathBuf>) {
    let Some((before, after)) = line.split_once(" - ") else { return };
    let mut after = after.split(' ');
    let (kind, _, options) = (after.next(), after.next(), after.next());
    let mount = || before.split(' ').nth(4).map(|m| PathBuf::from(unescape(m)));
    match (kind, options) {
        (Some("cgroup2"), _) if unified.is_none() => *unified = mount(),
        (Some("cgroup"), Some(options)) => {
            let controllers = controllers_of(options);
            if !controllers.is_empty()
                && hierarchies.iter().all(|h| h.controllers != controllers)
                && let Some(mount) = mount()
            {
                hierarchies.push(Hierarchy { mount, controllers });
            }
        }
        _ => {}
    }
}

/// Super block options that are no controllers.
const OTHER_OPTIONS: [&str; 8] =
    ["rw", "ro", "xattr", "clone_children", "noprefix", "none", "seclabel", "cpuset_v2_mode"];

fn controllers_of(options: &str) -> Vec<String> {
    options
        .split(',')
        .filter(|o| !OTHER_OPTIONS.contains(o) && !o.starts_with("release_agent="))
        .map(str::to_owned)
        .collect()
}

/// mountinfo writes space, tab, newline and backslash in octal.
pub(crate) fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(mountinfo: &str) -> Option<Layout> {
        parse(mountinfo.as_bytes()).unwrap()
    }

    #[test]
    fn hybrid_and_unified() {
        let hybrid = "\
30 20 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
32 30 0:28 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd,release_agent=/x\n\
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let Some(Layout::V1 { hierarchies, unified }) = parse_text(hybrid) else { panic!("not hybrid") };
        assert_eq!(hierarchies[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(hierarchies[1].mount_options(), "none,name=systemd");
        assert_eq!(unified, Some("/sys/fs/cgroup/unified".into()));
        let v2 = "29 20 0:26 / /sys/fs/cg\\040x rw - cgroup2 cgroup2 rw\n";
        assert_eq!(parse_text(v2), Some(Layout::V2 { mount: "/sys/fs/cg x".into() }));
        assert_eq!(parse_text("1 2 3 / / rw - ext4 /dev/x rw\n"), None);
    }
}
