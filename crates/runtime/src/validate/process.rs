//! `process`: what the program is and how the kernel shall treat it.

use seacow_spec::oci::runtime::{Capabilities, CpuAffinity, IoPriority, Process, Rlimit, Scheduler};
use seacow_sys::cred::Caps;
use seacow_sys::process::{CpuSet, Scheduler as KernelScheduler};
use seacow_sys::rlimit::Kind;

use super::{Error, Warning, no_zero};

pub(super) fn check(process: &Process, warnings: &mut Vec<Warning>) -> Result<(), Error> {
    if process.args.is_empty() {
        return Err(Error::field("process.args", "empty: no command specified"));
    }
    no_zero("process.args", &process.args)?;
    no_zero("process.env", &process.env)?;
    if !process.cwd.starts_with('/') {
        return Err(Error::field("process.cwd", format!("{:?} is not an absolute path", process.cwd)));
    }
    if process.user.umask.is_some_and(|mask| mask > 0o777) {
        return Err(Error::field("process.user.umask", "has bits beyond 0777"));
    }
    if process.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        return Err(Error::field("process.oomScoreAdj", "not between -1000 and 1000"));
    }
    rlimits(&process.rlimits)?;
    capabilities(process.capabilities.as_ref(), warnings)?;
    process.scheduler.as_ref().map(scheduler).transpose()?;
    process.io_priority.as_ref().map(io_priority).transpose()?;
    process.exec_cpu_affinity.as_ref().map(cpu_affinity).transpose()?;
    Ok(())
}

fn rlimits(limits: &[Rlimit]) -> Result<(), Error> {
    for (index, limit) in limits.iter().enumerate() {
        let at = |field: &str| format!("process.rlimits[{index}].{field}");
        if Kind::named(&limit.kind).is_none() {
            return Err(Error::field(at("type"), format!("unknown resource {:?}", limit.kind)));
        }
        if limits.iter().take(index).any(|earlier| earlier.kind == limit.kind) {
            return Err(Error::field(at("type"), format!("a second {}", limit.kind)));
        }
        if limit.soft > limit.hard {
            return Err(Error::field(at("soft"), format!("{} is above hard, {}", limit.soft, limit.hard)));
        }
    }
    Ok(())
}

/// Unknown names are told, not refused (OCI runtime specification, `capabilities`).
fn capabilities(capabilities: Option<&Capabilities>, warnings: &mut Vec<Warning>) -> Result<(), Error> {
    let Some(sets) = capabilities else { return Ok(()) };
    let lists = [
        ("bounding", &sets.bounding),
        ("effective", &sets.effective),
        ("permitted", &sets.permitted),
        ("inheritable", &sets.inheritable),
        ("ambient", &sets.ambient),
    ];
    for (set, names) in lists {
        for (index, name) in names.iter().enumerate() {
            if Caps::named(name).is_none() {
                let what = format!("ignored: unknown or unavailable capability {name:?}");
                warnings.push(Warning { path: format!("process.capabilities.{set}[{index}]"), what });
            }
        }
    }
    let set_of = crate::process::identity::set_of;
    let (effective, permitted) = (set_of(&sets.effective), set_of(&sets.permitted));
    if !permitted.contains(effective) {
        let extra = Caps(effective.0 & !permitted.0);
        let names = extra.names().collect::<Vec<_>>().join(", ");
        return Err(Error::field("process.capabilities.effective", format!("{names} not in permitted")));
    }
    let ambient = set_of(&sets.ambient);
    let missing = Caps(ambient.0 & !(permitted.0 & set_of(&sets.inheritable).0));
    if missing != Caps::default() {
        let names = missing.names().collect::<Vec<_>>().join(", ");
        let what = format!("ignored: {names} not both permitted and inheritable");
        warnings.push(Warning { path: "process.capabilities.ambient".into(), what });
    }
    Ok(())
}

/// What the kernel takes as a scheduler.
pub(crate) fn scheduler(wanted: &Scheduler) -> Result<KernelScheduler, Error> {
    let at = |field: &str| format!("process.scheduler.{field}");
    let policy = match wanted.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        "" => return Err(Error::field(at("policy"), "missing")),
        other => return Err(Error::field(at("policy"), format!("unknown policy {other:?}"))),
    };
    let mut flags = 0;
    for (index, flag) in wanted.flags.iter().enumerate() {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x1,
            "SCHED_FLAG_RECLAIM" => 0x2,
            "SCHED_FLAG_DL_OVERRUN" => 0x4,
            "SCHED_FLAG_KEEP_POLICY" => 0x8,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => {
                return Err(Error::field(at(&format!("flags[{index}]")), format!("unknown flag {other:?}")));
            }
        };
    }
    // The kernel ignores what does not belong to the policy; whoever wrote it believes in it.
    let (fair, real_time, deadline) = (matches!(policy, 0 | 3), matches!(policy, 1 | 2), policy == 6);
    if wanted.nice != 0 && !fair {
        return Err(Error::field(at("nice"), "only for SCHED_OTHER and SCHED_BATCH"));
    }
    if !(-20..=19).contains(&wanted.nice) {
        return Err(Error::field(at("nice"), format!("{} is not between -20 and 19", wanted.nice)));
    }
    if wanted.priority != 0 && !real_time {
        return Err(Error::field(at("priority"), "only for SCHED_FIFO and SCHED_RR"));
    }
    let priority = u32::try_from(wanted.priority).ok().filter(|p| *p <= 99);
    let priority = priority
        .ok_or_else(|| Error::field(at("priority"), format!("{} is not 0 to 99", wanted.priority)))?;
    for (field, value) in
        [("runtime", wanted.runtime), ("deadline", wanted.deadline), ("period", wanted.period)]
    {
        if value != 0 && !deadline {
            return Err(Error::field(at(field), "only for SCHED_DEADLINE"));
        }
    }
    let mut how = KernelScheduler::default();
    (how.policy, how.flags, how.nice, how.priority) = (policy, flags, wanted.nice, priority);
    (how.runtime, how.deadline, how.period) = (wanted.runtime, wanted.deadline, wanted.period);
    Ok(how)
}

/// Class and level as the kernel takes them.
pub(crate) fn io_priority(wanted: &IoPriority) -> Result<(u16, u16), Error> {
    let class = match wanted.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(Error::field("process.ioPriority.class", format!("unknown class {other:?}"))),
    };
    let level = u16::try_from(wanted.priority).ok().filter(|level| *level < 8);
    let level = level.ok_or_else(|| {
        Error::field("process.ioPriority.priority", format!("{} is not between 0 and 7", wanted.priority))
    })?;
    Ok((class, level))
}

/// Processors before and after an exec joined its cgroup.
pub(crate) fn cpu_affinity(wanted: &CpuAffinity) -> Result<(Option<CpuSet>, Option<CpuSet>), Error> {
    let set = |field: &str, list: &str| {
        if list.is_empty() {
            return Ok(None);
        }
        let bad = || Error::field(format!("process.execCPUAffinity.{field}"), format!("bad list {list:?}"));
        cpu_list(list).map(Some).ok_or_else(bad)
    };
    Ok((set("initial", &wanted.initial)?, set("final", &wanted.final_)?))
}

/// `0-3,7` as the kernel writes lists of processors and nodes.
pub(super) fn cpu_list(list: &str) -> Option<CpuSet> {
    let mut cpus = CpuSet::default();
    for part in list.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if first > last || last >= CpuSet::MAX {
            return None;
        }
        (first..=last).for_each(|cpu| cpus.add(cpu));
    }
    Some(cpus)
}
