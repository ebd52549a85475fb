//! Scheduler, I/O priority, execution domain.

use seacow_spec::oci::runtime::{Personality, Process};
use seacow_sys::process::{self, Scheduler};

use crate::error::{Error, Step};

/// Applies what the configuration names.
pub(crate) fn apply(of: &Process) -> Result<(), Error> {
    if let Some(wanted) = &of.scheduler {
        let policy = match wanted.policy.as_str() {
            "SCHED_OTHER" => 0,
            "SCHED_FIFO" => 1,
            "SCHED_RR" => 2,
            "SCHED_BATCH" => 3,
            "SCHED_ISO" => 4,
            "SCHED_IDLE" => 5,
            "SCHED_DEADLINE" => 6,
            other => return Err(Error::Invalid { what: format!("scheduler policy {other:?}") }),
        };
        let mut flags = 0;
        for flag in &wanted.flags {
            flags |= match flag.as_str() {
                "SCHED_FLAG_RESET_ON_FORK" => 0x1,
                "SCHED_FLAG_RECLAIM" => 0x2,
                "SCHED_FLAG_DL_OVERRUN" => 0x4,
                "SCHED_FLAG_KEEP_POLICY" => 0x8,
                "SCHED_FLAG_KEEP_PARAMS" => 0x10,
                "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
                "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
                other => return Err(Error::Invalid { what: format!("scheduler flag {other:?}") }),
            };
        }
        let priority = u32::try_from(wanted.priority)
            .map_err(|_| Error::Invalid { what: format!("scheduler priority {}", wanted.priority) })?;
        let mut how = Scheduler::default();
        (how.policy, how.flags, how.nice, how.priority) = (policy, flags, wanted.nice, priority);
        (how.runtime, how.deadline, how.period) = (wanted.runtime, wanted.deadline, wanted.period);
        process::set_scheduler(how).step(|| format!("set scheduler {}", wanted.policy))?;
    }
    if let Some(wanted) = &of.io_priority {
        let class = match wanted.class.as_str() {
            "IOPRIO_CLASS_RT" => 1,
            "IOPRIO_CLASS_BE" => 2,
            "IOPRIO_CLASS_IDLE" => 3,
            other => return Err(Error::Invalid { what: format!("I/O priority class {other:?}") }),
        };
        let level = u16::try_from(wanted.priority)
            .ok()
            .filter(|l| *l < 8)
            .ok_or_else(|| Error::Invalid { what: format!("I/O priority {}", wanted.priority) })?;
        process::set_io_priority(class, level).step(|| format!("set I/O priority {}", wanted.class))?;
    }
    Ok(())
}

/// Sets the execution domain.
pub(crate) fn personality(wanted: Option<&Personality>) -> Result<(), Error> {
    let Some(wanted) = wanted else { return Ok(()) };
    if !wanted.flags.is_empty() {
        return Err(Error::NotImplemented { what: "personality flags".into() });
    }
    let domain = match wanted.domain.as_str() {
        "LINUX" => 0,
        "LINUX32" => 8,
        other => return Err(Error::Invalid { what: format!("personality {other:?}") }),
    };
    process::set_personality(domain).step(|| format!("set personality {}", wanted.domain))
}
