//! What a container has used so far.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Cgroups, Error, Layout, read};

/// Counters and gauges of all controllers. What a controller or kernel does not have is 0 or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: PidsStats,
    /// Block I/O.
    pub block_io: BlockIoStats,
    /// Huge pages by their size, such as `2MB`.
    pub huge_pages: BTreeMap<String, Usage>,
}

/// CPU time in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// Altogether.
    pub total: u64,
    /// In the kernel.
    pub kernel: u64,
    /// Outside it.
    pub user: u64,
    /// Per CPU; version 1 only.
    pub per_cpu: Vec<u64>,
    /// Periods of the quota that have passed.
    pub periods: u64,
    /// Those in which the quota was used up.
    pub throttled_periods: u64,
    /// How long processes had to wait for it.
    pub throttled_time: u64,
}

/// A gauge with its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Now, in bytes.
    pub now: u64,
    /// The highest so far.
    pub highest: u64,
    /// How often the limit was hit.
    pub failed: u64,
    /// The limit; `u64::MAX` for none.
    pub limit: u64,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// Page cache.
    pub cache: u64,
    /// Memory.
    pub usage: Usage,
    /// Version 1: memory and swap together; version 2: swap.
    pub swap: Usage,
    /// The kernel's own; version 1 only.
    pub kernel: Usage,
    /// Buffers of TCP; version 1 only.
    pub kernel_tcp: Usage,
    /// Everything of `memory.stat`.
    pub all: BTreeMap<String, u64>,
}

/// Processes and threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub now: u64,
    /// 0 for no limit.
    pub limit: u64,
}

/// One device's count of one kind of operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockIoEntry {
    /// Device.
    pub major: u64,
    /// Device.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, …
    pub operation: String,
    /// Bytes or operations.
    pub value: u64,
}

/// Block I/O.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockIoStats {
    /// Bytes.
    pub bytes: Vec<BlockIoEntry>,
    /// Operations.
    pub operations: Vec<BlockIoEntry>,
}

impl Cgroups {
    /// Reads them all.
    ///
    /// # Errors
    /// A file that is there cannot be read. A controller that is missing is no error.
    pub fn stats(&self) -> Result<Stats, Error> {
        match self.layout() {
            Layout::V1 { .. } => Ok(Stats {
                cpu: self.cpu_v1()?,
                memory: self.memory_v1()?,
                pids: self.pids_stats()?,
                block_io: self.block_io_v1()?,
                huge_pages: self.huge_pages("usage_in_bytes", "max_usage_in_bytes", "failcnt")?,
            }),
            Layout::V2 { .. } => Ok(Stats {
                cpu: self.cpu_v2()?,
                memory: self.memory_v2()?,
                pids: self.pids_stats()?,
                block_io: self.block_io_v2()?,
                huge_pages: self.huge_pages("current", "current", "events")?,
            }),
        }
    }

    /// A file of a controller; empty when there is none.
    fn text(&self, controller: &str, file: &str) -> Result<String, Error> {
        let Some(dir) = self.dir_of(controller) else { return Ok(String::new()) };
        match read(&dir.join(file)) {
            Err(error) if error.is_missing() => Ok(String::new()),
            done => done,
        }
    }

    /// A file with one number, or `max`.
    fn one(&self, controller: &str, file: &str) -> Result<u64, Error> {
        let text = self.text(controller, file)?;
        Ok(if text.trim() == "max" { u64::MAX } else { text.trim().parse().unwrap_or(0) })
    }

    fn cpu_v1(&self) -> Result<CpuStats, Error> {
        let ticks = keyed(&self.text("cpuacct", "cpuacct.stat")?);
        let quota = keyed(&self.text("cpu", "cpu.stat")?);
        let per_cpu = self.text("cpuacct", "cpuacct.usage_percpu")?;
        Ok(CpuStats {
            total: self.one("cpuacct", "cpuacct.usage")?,
            kernel: get(&ticks, "system").saturating_mul(NANOS_PER_TICK),
            user: get(&ticks, "user").saturating_mul(NANOS_PER_TICK),
            per_cpu: per_cpu.split_whitespace().filter_map(|n| n.parse().ok()).collect(),
            periods: get(&quota, "nr_periods"),
            throttled_periods: get(&quota, "nr_throttled"),
            throttled_time: get(&quota, "throttled_time"),
        })
    }

    fn cpu_v2(&self) -> Result<CpuStats, Error> {
        let micros = keyed(&self.text("cpu", "cpu.stat")?);
        let nanos = |key: &str| get(&micros, key).saturating_mul(1000);
        Ok(CpuStats {
            total: nanos("usage_usec"),
            kernel: nanos("system_usec"),
            user: nanos("user_usec"),
            per_cpu: Vec::new(),
            periods: get(&micros, "nr_periods"),
            throttled_periods: get(&micros, "nr_throttled"),
            throttled_time: nanos("throttled_usec"),
        })
    }

    fn memory_v1(&self) -> Result<MemoryStats, Error> {
        let all = keyed(&self.text("memory", "memory.stat")?);
        let usage = |name: &str| -> Result<Usage, Error> {
            let file = |end: &str| self.one("memory", &format!("memory.{name}{end}"));
            Ok(Usage {
                now: file("usage_in_bytes")?,
                highest: file("max_usage_in_bytes")?,
                failed: file("failcnt")?,
                limit: file("limit_in_bytes")?,
            })
        };
        Ok(MemoryStats {
            cache: get(&all, "cache"),
            usage: usage("")?,
            swap: usage("memsw.")?,
            kernel: usage("kmem.")?,
            kernel_tcp: usage("kmem.tcp.")?,
            all,
        })
    }

    fn memory_v2(&self) -> Result<MemoryStats, Error> {
        let all = keyed(&self.text("memory", "memory.stat")?);
        let usage = |name: &str| -> Result<Usage, Error> {
            let events = keyed(&self.text("memory", &format!("{name}.events"))?);
            Ok(Usage {
                now: self.one("memory", &format!("{name}.current"))?,
                highest: self.one("memory", &format!("{name}.peak"))?,
                failed: get(&events, "max"),
                limit: self.one("memory", &format!("{name}.max"))?,
            })
        };
        Ok(MemoryStats {
            cache: get(&all, "file"),
            usage: usage("memory")?,
            swap: usage("memory.swap")?,
            all,
            ..MemoryStats::default()
        })
    }

    fn pids_stats(&self) -> Result<PidsStats, Error> {
        let limit = self.one("pids", "pids.max")?;
        Ok(PidsStats {
            now: self.one("pids", "pids.current")?,
            limit: if limit == u64::MAX { 0 } else { limit },
        })
    }

    fn block_io_v1(&self) -> Result<BlockIoStats, Error> {
        // The scheduler's own count where it has one, otherwise the throttling layer's.
        let either = |name: &str| -> Result<Vec<BlockIoEntry>, Error> {
            let own = self.text("blkio", &format!("blkio.bfq.{name}_recursive"))?;
            let own = block_v1(&own);
            if !own.is_empty() {
                return Ok(own);
            }
            let recursive = block_v1(&self.text("blkio", &format!("blkio.throttle.{name}_recursive"))?);
            if recursive.is_empty() {
                return Ok(block_v1(&self.text("blkio", &format!("blkio.throttle.{name}"))?));
            }
            Ok(recursive)
        };
        Ok(BlockIoStats { bytes: either("io_service_bytes")?, operations: either("io_serviced")? })
    }

    fn block_io_v2(&self) -> Result<BlockIoStats, Error> {
        Ok(block_v2(&self.text("io", "io.stat")?))
    }

    fn huge_pages(&self, now: &str, highest: &str, failed: &str) -> Result<BTreeMap<String, Usage>, Error> {
        let mut found = BTreeMap::new();
        let Some(dir) = self.dir_of("hugetlb") else { return Ok(found) };
        for size in huge_page_sizes(&dir) {
            let file = |end: &str| format!("hugetlb.{size}.{end}");
            let failures = self.text("hugetlb", &file(failed))?;
            let usage = Usage {
                now: self.one("hugetlb", &file(now))?,
                highest: self.one("hugetlb", &file(highest))?,
                failed: failures.trim().parse().unwrap_or_else(|_| get(&keyed(&failures), "max")),
                limit: 0,
            };
            found.insert(size, usage);
        }
        Ok(found)
    }
}

/// USER_HZ is 100 on every architecture that Linux containers run on.
const NANOS_PER_TICK: u64 = 10_000_000;

/// `2MB` of `hugetlb.2MB.usage_in_bytes` or `hugetlb.2MB.current`.
fn huge_page_sizes(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    let size = |name: String| {
        let mut parts = name.split('.');
        let is_usage = parts.next() == Some("hugetlb");
        let size = parts.next()?.to_owned();
        let end = matches!((parts.next(), parts.next()), (Some("usage_in_bytes" | "current"), None));
        (is_usage && end).then_some(size)
    };
    names.filter_map(size).collect()
}

/// Lines of `key value`.
fn keyed(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.trim().rsplit_once(' ')?;
        Some((key.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn get(map: &BTreeMap<String, u64>, key: &str) -> u64 {
    map.get(key).copied().unwrap_or(0)
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines of `8:0 Read 4096`; the last, `Total 4096`, has no device.
fn block_v1(text: &str) -> Vec<BlockIoEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let operation = words.next()?.to_owned();
        Some(BlockIoEntry { major, minor, operation, value: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

/// Lines of `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6`.
fn block_v2(text: &str) -> BlockIoStats {
    let mut stats = BlockIoStats::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let (list, operation) = match key {
                "rbytes" => (&mut stats.bytes, "Read"),
                "wbytes" => (&mut stats.bytes, "Write"),
                "dbytes" => (&mut stats.bytes, "Discard"),
                "rios" => (&mut stats.operations, "Read"),
                "wios" => (&mut stats.operations, "Write"),
                "dios" => (&mut stats.operations, "Discard"),
                _ => continue,
            };
            list.push(BlockIoEntry { major, minor, operation: operation.into(), value });
        }
    }
    stats
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kernels_write() {
        let map = keyed("usage_usec 5\nuser_usec 3\nbad\n");
        assert_eq!((get(&map, "usage_usec"), get(&map, "system_usec")), (5, 0));
        let entries = block_v1("8:0 Read 4096\n8:0 Write 1\nTotal 4097\n");
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].major, entries[0].operation.as_str(), entries[0].value), (8, "Read", 4096));
        let stats = block_v2("253:1 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n");
        assert_eq!((stats.bytes.len(), stats.operations.len()), (3, 3));
        assert_eq!((stats.operations[1].minor, stats.operations[1].value), (1, 4));
    }
}
