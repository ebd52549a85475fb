//! What is done to all processes of a container together, whichever runtime made it: by its cgroups.

use seacow_runtime::cgroup::{Cgroups, Error, OomWatch};
use seacow_spec::ErrorReport;
use seacow_spec::oci::runtime::{LinuxNamespace, LinuxResources, NamespaceKind};
use seacow_spec::shim::Prepare;

const SIGKILL: i32 = 9;

/// The processes of a container.
pub(crate) struct Group {
    cgroups: Cgroups,
    /// Init's end ends everybody else.
    owns_pids: bool,
}

fn report(error: Error) -> ErrorReport {
    ErrorReport::of(&error)
}

impl Group {
    /// Names the cgroups; makes nothing.
    pub(crate) fn new(prepare: &Prepare) -> Result<Self, ErrorReport> {
        let new_pids = |ns: &LinuxNamespace| ns.kind == NamespaceKind::Pid && ns.path.is_empty();
        Ok(Self {
            cgroups: Cgroups::new(&prepare.cgroups_path).map_err(report)?,
            owns_pids: prepare.namespaces.iter().any(new_pids),
        })
    }

    /// What they are in.
    pub(crate) fn cgroups(&self) -> &Cgroups {
        &self.cgroups
    }

    /// Host pids of every process.
    pub(crate) fn pids(&self) -> Result<Vec<i32>, ErrorReport> {
        self.cgroups.pids().map_err(report)
    }

    /// Sends a signal to every process, once.
    pub(crate) fn signal_all(&self, signal: i32) -> Result<(), ErrorReport> {
        self.cgroups.signal_all(signal).map_err(report)
    }

    /// Asks for every process to be stopped, and tells whether all are.
    pub(crate) fn try_freeze(&self) -> Result<bool, ErrorReport> {
        self.cgroups.try_freeze().map_err(report)
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) -> Result<(), ErrorReport> {
        self.cgroups.thaw().map_err(report)
    }

    /// Changes limits.
    pub(crate) fn update(&self, resources: &LinuxResources) -> Result<(), ErrorReport> {
        self.cgroups.update(resources).map_err(report)
    }

    /// Kills every process, without waiting.
    pub(crate) fn kill(&self) {
        // What this misses, `remove` finds: it goes on until the cgroup is empty.
        let _ = self.cgroups.signal_all(SIGKILL);
        let _ = self.cgroups.thaw();
    }

    /// Init ended. In its own pid namespace everybody else is dead by then; elsewhere they are
    /// killed now, because the container is what its first process is.
    pub(crate) fn init_ended(&self) {
        if !self.owns_pids {
            self.kill();
        }
    }

    /// Removes the cgroups. All children of ours must have been reaped: nobody else can.
    pub(crate) fn remove(&self) -> Result<(), ErrorReport> {
        if self.cgroups.exists() {
            self.cgroups.kill_all().map_err(report)?;
            self.cgroups.remove().map_err(report)?;
        }
        Ok(())
    }

    /// Being told of the OOM killer; `None` where that is not to be had.
    pub(crate) fn watch_memory(&self) -> Option<OomWatch> {
        self.cgroups.watch_oom().ok().flatten()
    }

    /// How often it struck.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.cgroups.oom_kills().unwrap_or(0)
    }
}
