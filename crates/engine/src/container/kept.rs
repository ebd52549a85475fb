//! Limits that this host cannot keep: dropped from the request, with the warning that Docker gives.
//!
//! Docker's users have option files that were written for one version of cgroups and run on the
//! other; refusing what the other has no counterpart of would stop them. So these are the only
//! options that are not honoured and not refused, and each is said to the client. A limit that the
//! host has and the kernel rejects stays an error.

use std::path::Path;
use std::sync::OnceLock;

use seacow_spec::docker::host_config::Resources;

use crate::system::host::{self, Cgroups};

/// Which limits there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    memory: bool,
    swap: bool,
    reservation: bool,
    swappiness: bool,
    oom_kill_disable: bool,
    kernel_memory_tcp: bool,
    pids: bool,
    shares: bool,
    quota: bool,
    cpuset: bool,
    block_io: bool,
    /// Weights need an I/O scheduler or cost model that has them.
    block_io_weight: bool,
}

impl Kept {
    /// By this host, which is looked at once: controllers do not change hierarchies while they are used.
    pub(super) fn here() -> Self {
        static HERE: OnceLock<Kept> = OnceLock::new();
        *HERE.get_or_init(|| Self::by(&host::cgroups(), |file| Path::new("/sys").join(file).exists()))
    }

    /// By a host with these cgroups and these files below `/sys`.
    fn by(cgroups: &Cgroups, exists: impl Fn(&str) -> bool) -> Self {
        let has = |controller| cgroups.has(controller);
        // The scheduler's own weights, in either version.
        let bfq = exists("module/bfq");
        match cgroups {
            Cgroups::V2 { .. } => Self {
                memory: has("memory"),
                swap: has("memory"),
                reservation: has("memory"),
                pids: has("pids"),
                shares: has("cpu"),
                quota: has("cpu"),
                cpuset: has("cpuset"),
                block_io: has("io"),
                // The cost model, which `io.weight` belongs to; only the root has this file.
                block_io_weight: has("io") && (bfq || exists("fs/cgroup/io.cost.qos")),
                ..Self::default()
            },
            Cgroups::V1 { .. } => {
                let v1 = |file: &str| exists(&format!("fs/cgroup/{file}"));
                Self {
                    memory: has("memory"),
                    swap: v1("memory/memory.memsw.limit_in_bytes"),
                    reservation: v1("memory/memory.soft_limit_in_bytes"),
                    swappiness: v1("memory/memory.swappiness"),
                    oom_kill_disable: v1("memory/memory.oom_control"),
                    kernel_memory_tcp: v1("memory/memory.kmem.tcp.limit_in_bytes"),
                    pids: has("pids"),
                    shares: has("cpu"),
                    quota: v1("cpu/cpu.cfs_quota_us"),
                    cpuset: has("cpuset"),
                    block_io: has("blkio"),
                    block_io_weight: has("blkio") && (bfq || v1("blkio/blkio.weight")),
                }
            }
            Cgroups::Missing => Self::default(),
        }
    }

    /// Takes out of the request what is not kept; tells what, in Docker's words.
    pub(super) fn drop_others(self, wanted: &mut Resources) -> Vec<String> {
        let mut warnings = Vec::new();
        self.memory(wanted, &mut warnings);
        self.processes_and_cpu(wanted, &mut warnings);
        self.block_io(wanted, &mut warnings);
        warnings
    }

    fn memory(self, wanted: &mut Resources, warnings: &mut Vec<String>) {
        let mut lacks = |what: &str, discarded: &str| {
            warnings.push(format!(
                "Your kernel does not support {what} or the cgroup is not mounted. {discarded}"
            ));
        };
        if wanted.memory > 0 && !self.memory {
            lacks("memory limit capabilities", "Limitation discarded.");
            (wanted.memory, wanted.memory_swap) = (0, -1);
        }
        // Twice the memory is what the default is, and no wish for a limit of swap.
        if wanted.memory > 0 && wanted.memory_swap != -1 && !self.swap {
            lacks("swap limit capabilities", "Memory limited without swap.");
            wanted.memory_swap = -1;
        }
        // -1 is how clients say that they want none.
        if wanted.memory_swappiness == Some(-1) {
            wanted.memory_swappiness = None;
        }
        if wanted.memory_swappiness.is_some() && !self.swappiness {
            lacks("memory swappiness capabilities", "Memory swappiness discarded.");
            wanted.memory_swappiness = None;
        }
        if wanted.memory_reservation > 0 && !self.reservation {
            lacks("memory soft limit capabilities", "Limitation discarded.");
            wanted.memory_reservation = 0;
        }
        // Without effect since Linux 5.16, in both versions.
        if wanted.kernel_memory > 0 {
            lacks("kernel memory limit capabilities", "Limitation discarded.");
        }
        wanted.kernel_memory = 0;
        if wanted.kernel_memory_tcp.is_some_and(|limit| limit > 0) && !self.kernel_memory_tcp {
            lacks("kernel memory TCP limit capabilities", "Limitation discarded.");
            wanted.kernel_memory_tcp = None;
        }
        if !self.oom_kill_disable {
            if wanted.oom_kill_disable == Some(true) {
                let text = "Your kernel does not support OomKillDisable. OomKillDisable discarded.";
                warnings.push(text.into());
            }
            wanted.oom_kill_disable = None;
        }
    }

    fn processes_and_cpu(self, wanted: &mut Resources, warnings: &mut Vec<String>) {
        if !self.pids && wanted.pids_limit.is_some() {
            if wanted.pids_limit > Some(0) {
                warnings.push(
                    "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded."
                        .into(),
                );
            }
            wanted.pids_limit = None;
        }
        if wanted.cpu_shares > 0 && !self.shares {
            let text =
                "Your kernel does not support CPU shares or the cgroup is not mounted. Shares discarded.";
            warnings.push(text.into());
            wanted.cpu_shares = 0;
        }
        if (wanted.cpu_period != 0 || wanted.cpu_quota != 0) && !self.quota {
            let text = "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded.";
            warnings.push(text.into());
            (wanted.cpu_period, wanted.cpu_quota) = (0, 0);
        }
        let wants_cpuset = !wanted.cpuset_cpus.is_empty() || !wanted.cpuset_mems.is_empty();
        if wants_cpuset && !self.cpuset {
            let text = "Your kernel does not support cpuset or the cgroup is not mounted. Cpuset discarded.";
            warnings.push(text.into());
            wanted.cpuset_cpus.clear();
            wanted.cpuset_mems.clear();
        }
    }

    fn block_io(self, wanted: &mut Resources, warnings: &mut Vec<String>) {
        let mut lacks = |what: &str, discarded: &str| {
            warnings.push(format!(
                "Your kernel does not support {what} or the cgroup is not mounted. {discarded} discarded."
            ));
        };
        if wanted.blkio_weight > 0 && !self.block_io_weight {
            lacks("Block I/O weight", "Weight");
            wanted.blkio_weight = 0;
        }
        if wanted.blkio_weight_device.as_ref().is_some_and(|list| !list.is_empty()) && !self.block_io_weight {
            lacks("Block I/O weight_device", "Weight-device");
            wanted.blkio_weight_device = Some(Vec::new());
        }
        let throttles = [
            (&mut wanted.blkio_device_read_bps, "BPS Block I/O read limit", "Block I/O BPS read limit"),
            (&mut wanted.blkio_device_write_bps, "BPS Block I/O write limit", "Block I/O BPS write limit"),
            (&mut wanted.blkio_device_read_iops, "IOPS Block read limit", "Block I/O IOPS read limit"),
            (&mut wanted.blkio_device_write_iops, "IOPS Block write limit", "Block I/O IOPS write limit"),
        ];
        for (list, what, discarded) in throttles {
            if list.as_ref().is_some_and(|list| !list.is_empty()) && !self.block_io {
                lacks(what, discarded);
                *list = Some(Vec::new());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 5] = ["cpuset", "cpu", "io", "memory", "pids"];

    fn v2(controllers: &[&str]) -> Cgroups {
        Cgroups::V2 { controllers: controllers.iter().map(|c| (*c).to_owned()).collect() }
    }

    fn everything() -> Resources {
        serde_json::from_str(
            r#"{"Memory":67108864,"MemorySwap":-1,"MemorySwappiness":10,"OomKillDisable":true,"KernelMemory":9000000,
            "KernelMemoryTCP":9000000,"BlkioWeight":500,"BlkioWeightDevice":[{"Path":"/dev/null","Weight":100}],
            "PidsLimit":5,"CpuShares":7,"CpusetCpus":"0","MemoryReservation":33554432}"#,
        )
        .unwrap()
    }

    #[test]
    fn version_2_has_no_counterpart_of_some() {
        let mut wanted = everything();
        let warnings = Kept::by(&v2(&ALL), |file| file == "fs/cgroup/io.cost.qos").drop_others(&mut wanted);
        assert_eq!(
            warnings,
            [
                "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
                "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
                "Your kernel does not support kernel memory TCP limit capabilities or the cgroup is not mounted. Limitation discarded.",
                "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
            ]
        );
        let kept = Resources {
            memory_swappiness: None,
            kernel_memory: 0,
            kernel_memory_tcp: None,
            oom_kill_disable: None,
            ..everything()
        };
        assert_eq!(wanted, kept);
    }

    #[test]
    fn weights_need_whoever_weighs() {
        let mut wanted = Resources { blkio_weight: 500, ..Resources::default() };
        let warnings = Kept::by(&v2(&ALL), |_| false).drop_others(&mut wanted);
        assert_eq!((warnings.len(), wanted.blkio_weight), (1, 0), "{warnings:?}");
        let mut wanted = Resources { blkio_weight: 500, ..Resources::default() };
        assert!(Kept::by(&v2(&ALL), |file| file == "module/bfq").drop_others(&mut wanted).is_empty());
    }

    #[test]
    fn nothing_asked_nothing_said() {
        let mut wanted = Resources {
            memory_swappiness: Some(-1),
            oom_kill_disable: Some(false),
            pids_limit: Some(0),
            ..Resources::default()
        };
        assert_eq!(Kept::default().drop_others(&mut wanted), Vec::<String>::new());
        assert_eq!(wanted, Resources::default());
    }

    #[test]
    fn without_controllers_everything_is_dropped_and_named() {
        let mut wanted = everything();
        let warnings = Kept::by(&Cgroups::Missing, |_| true).drop_others(&mut wanted);
        assert_eq!(warnings.len(), 11, "{warnings:#?}");
        assert_eq!((wanted.memory, wanted.memory_swap, wanted.pids_limit), (0, -1, None));
    }
}
