//! What running containers share of their memory: with the container that they were forked from, with each
//! other, with whoever has the same files mapped.

use std::collections::HashMap;

use seacow_spec::ContainerId;
use seacow_spec::docker::system::CowMemory;

use crate::Engine;

impl Engine {
    /// Memory of all containers that run. What ends meanwhile has none.
    pub(super) async fn memory(&self) -> HashMap<ContainerId, CowMemory> {
        let running = self.0.containers.all().into_iter().filter(|one| one.cell().is_alive());
        let of_one = |container: std::sync::Arc<crate::container::Container>| async move {
            let pids = container.live_shim().ok()?.pids().await.ok()?;
            Some((container.id.clone(), pids))
        };
        let pids = futures_util::future::join_all(running.map(of_one)).await;
        let count = move || {
            let all = pids.into_iter().flatten();
            all.filter_map(|(id, pids)| Some((id, of_processes(&pids)?))).collect()
        };
        crate::blocking::run("count memory", count).await.unwrap_or_default()
    }
}

/// The sum over its processes; `None` when there are none any more.
fn of_processes(pids: &[i32]) -> Option<CowMemory> {
    let texts =
        pids.iter().filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok());
    texts.map(|text| of_rollup(&text)).reduce(|sum, one| CowMemory {
        resident_bytes: sum.resident_bytes + one.resident_bytes,
        own_bytes: sum.own_bytes + one.own_bytes,
        shared_bytes: sum.shared_bytes + one.shared_bytes,
    })
}

fn of_rollup(text: &str) -> CowMemory {
    let kilobytes = |keys: &[&str]| -> u64 {
        let value = |line: &str| {
            let (key, rest) = line.split_once(':')?;
            keys.contains(&key).then(|| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()).flatten()
        };
        text.lines().filter_map(value).sum::<u64>() * 1024
    };
    CowMemory {
        resident_bytes: kilobytes(&["Rss"]),
        own_bytes: kilobytes(&["Private_Clean", "Private_Dirty", "Private_Hugetlb"]),
        shared_bytes: kilobytes(&["Shared_Clean", "Shared_Dirty", "Shared_Hugetlb"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_is_read() {
        let text = "00400000-7ffe000 ---p 00000000 00:00 0   [rollup]\nRss:   100 kB\nPss:  50 kB\n\
                    Shared_Clean:  20 kB\nShared_Dirty:  40 kB\nPrivate_Clean: 10 kB\nPrivate_Dirty: 30 kB\n";
        let read = of_rollup(text);
        let expected = CowMemory { resident_bytes: 102_400, own_bytes: 40_960, shared_bytes: 61_440 };
        assert_eq!(read, expected);
        assert_eq!(of_processes(&[]), None);
    }
}
