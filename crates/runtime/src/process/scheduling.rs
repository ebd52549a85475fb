//! Scheduler, I/O priority, processors, memory nodes, execution domain.

use seacow_spec::oci::runtime::{MemoryPolicy, Personality, Process};
use seacow_sys::process::{self, CpuSet};

use crate::error::{Error, Step};
use crate::validate::{linux, process as checked};

/// Applies what the configuration names.
pub(crate) fn apply(of: &Process) -> Result<(), Error> {
    if let Some(wanted) = &of.scheduler {
        let how = checked::scheduler(wanted)?;
        process::set_scheduler(how).step(|| format!("set process.scheduler {}", wanted.policy))?;
    }
    if let Some(wanted) = &of.io_priority {
        let (class, level) = checked::io_priority(wanted)?;
        process::set_io_priority(class, level)
            .step(|| format!("set process.ioPriority {} {level}", wanted.class))?;
    }
    Ok(())
}

/// Where an exec runs before and after it joined its cgroup, if the configuration says.
pub(crate) fn affinity(of: &Process) -> Result<(Option<CpuSet>, Option<CpuSet>), Error> {
    Ok(of.exec_cpu_affinity.as_ref().map(checked::cpu_affinity).transpose()?.unwrap_or_default())
}

/// Moves the caller to these processors. `which` is the field's name.
pub(crate) fn run_on(cpus: Option<&CpuSet>, which: &str) -> Result<(), Error> {
    let Some(cpus) = cpus else { return Ok(()) };
    process::set_affinity(cpus).step(|| format!("set process.execCPUAffinity.{which}"))
}

/// Says where memory comes from.
pub(crate) fn memory_policy(wanted: Option<&MemoryPolicy>) -> Result<(), Error> {
    let Some(wanted) = wanted else { return Ok(()) };
    let (mode, nodes) = linux::memory_policy(wanted)?;
    process::set_memory_policy(mode, &nodes)
        .step(|| format!("set linux.memoryPolicy {} for nodes {:?}", wanted.mode, wanted.nodes))
}

/// Sets the execution domain.
pub(crate) fn personality(wanted: Option<&Personality>) -> Result<(), Error> {
    let Some(wanted) = wanted else { return Ok(()) };
    let domain = linux::personality(wanted)?;
    process::set_personality(domain).step(|| format!("set linux.personality {}", wanted.domain))
}
