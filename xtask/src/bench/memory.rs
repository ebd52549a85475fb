//! What processes and the machine occupy.

use std::path::Path;

use anyhow::{Context, Result};

/// Proportional set size of a process in kB: its own pages, and its share of those it shares.
pub(crate) fn pss(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    field(Path::new(&path), "Pss:")
}

/// Sum over those that still run, in kB.
pub(crate) fn pss_of(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| pss(*pid).ok()).sum()
}

/// Of that only what is in no file, summed in kB. A program's text is there once for all processes
/// that run it; this is there again for each of them.
pub(crate) fn anonymous_pss_of(pids: &[u32]) -> u64 {
    let anonymous = |pid: &u32| field(Path::new(&format!("/proc/{pid}/smaps_rollup")), "Pss_Anon:").ok();
    pids.iter().filter_map(anonymous).sum()
}

/// The parent of a process.
pub(crate) fn parent(pid: u32) -> Result<u32> {
    Ok(u32::try_from(field(Path::new(&format!("/proc/{pid}/status")), "PPid:")?)?)
}

/// Processes whose command line contains `text`.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    })
    .collect()
}

/// The machine's memory in kB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// Neither free nor page cache: programs, tmpfs, all of the kernel's own. More than what
    /// `MemAvailable` misses, which counts half of the slab as free.
    pub(crate) used: u64,
    /// As the kernel reckons it.
    pub(crate) available: u64,
    /// The kernel's objects, reclaimable or not.
    pub(crate) slab: u64,
}

impl Machine {
    /// Looks now.
    pub(crate) fn now() -> Result<Self> {
        let get = |name| field(Path::new("/proc/meminfo"), name);
        let cache = get("Buffers:")? + get("Cached:")? - get("Shmem:")?;
        Ok(Self {
            used: get("MemTotal:")? - get("MemFree:")? - cache,
            available: get("MemAvailable:")?,
            slab: get("Slab:")?,
        })
    }
}

fn field(path: &Path, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    word.and_then(|word| word.parse().ok()).with_context(|| format!("{} has no {name}", path.display()))
}
