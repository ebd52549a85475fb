//! What a run left behind on the machine.
//!
//! A snapshot before and one after; whatever is in the second only, and carries one of our names,
//! was leaked: mounts, network namespaces' links, nftables tables, cgroups, processes, directories.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Everything of ours that exists on this machine at one moment, one line each.
#[derive(Debug, Default)]
pub(crate) struct Snapshot(BTreeSet<String>);

/// How long deferred teardown (cgroups, mounts, namespaces) may take after the last test.
const SETTLE: Duration = Duration::from_secs(10);

impl Snapshot {
    /// Looks now.
    pub(crate) fn take() -> Self {
        let mut found = BTreeSet::new();
        mounts(&mut found);
        links(&mut found);
        processes(&mut found);
        for hierarchy in children(Path::new("/sys/fs/cgroup")) {
            named(&hierarchy, "cgroup", &mut found);
        }
        named(Path::new("/sys/fs/cgroup"), "cgroup", &mut found);
        for dir in ["/run", "/var/lib", "/tmp", "/var/tmp", "/dev/shm", "/run/netns"] {
            named(Path::new(dir), "directory", &mut found);
        }
        tables(&mut found);
        Self(found)
    }

    /// Fails with a list of what is there now and was not in `self`.
    pub(crate) fn check(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            let now = Self::take();
            let leaked: Vec<&String> = now.0.difference(&self.0).collect();
            if leaked.is_empty() {
                println!("leak check: nothing left behind");
                return Ok(());
            }
            if start.elapsed() > SETTLE {
                let list: Vec<&str> = leaked.iter().map(|l| l.as_str()).collect();
                bail!("left behind:\n  {}", list.join("\n  "));
            }
            // Teardown is deferred by design; what matters is that it ends.
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.contains("seacow")
}

fn children(dir: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|p| p.is_dir())
        .collect()
}

fn named(dir: &Path, what: &str, found: &mut BTreeSet<String>) {
    for path in std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        // Where the runtime puts containers whose bundle names no cgroup stays, empty, as it does with runc.
        if what == "cgroup" && path.ends_with("seacow") && children(&path).is_empty() {
            continue;
        }
        if path.file_name().is_some_and(|name| is_ours(&name.to_string_lossy())) {
            found.insert(format!("{what} {}", path.display()));
        }
    }
}

fn mounts(found: &mut BTreeSet<String>) {
    for line in std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
        if is_ours(line) {
            found.insert(format!("mount {}", line.split(' ').nth(4).unwrap_or(line)));
        }
    }
}

/// Bridges and veth ends are named `seacow…` or `sc` and hex digits.
fn links(found: &mut BTreeSet<String>) {
    for path in children(Path::new("/sys/class/net")) {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let hex = name
            .strip_prefix("sc")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_hexdigit()));
        if is_ours(&name) || hex {
            found.insert(format!("link {name}"));
        }
    }
}

fn processes(found: &mut BTreeSet<String>) {
    for path in children(Path::new("/proc")) {
        let Some(pid) =
            path.file_name().and_then(|n| n.to_str()).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        let comm = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let cgroup = std::fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        if matches!(comm.trim(), "seacowd" | "seacow-shim" | "seacow-runtime" | "docker-init")
            || is_ours(&cgroup)
        {
            found.insert(format!("process {pid} {}", comm.trim()));
        }
    }
}

fn tables(found: &mut BTreeSet<String>) {
    let Ok(list) = crate::shell::output(std::process::Command::new("nft").args(["list", "tables"])) else {
        return;
    };
    for line in list.lines().filter(|line| is_ours(line)) {
        found.insert(format!("nftables {line}"));
    }
}
