//! `--ipc container:…`: the other container's IPC namespace, and its `/dev/shm` with it.

use seacow_spec::oci::runtime::Mount;

use super::ContainerError;
use super::record::Record;
use crate::Engine;

/// Whose IPC namespace is joined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Donor {
    pid: i32,
}

impl Donor {
    /// Its `/dev/shm`, which lies in its own mount namespace.
    pub(super) fn mount(self) -> Mount {
        Mount {
            destination: "/dev/shm".into(),
            kind: "bind".into(),
            source: format!("/proc/{}/root/dev/shm", self.pid),
            options: ["bind", "rprivate"].map(str::to_owned).to_vec(),
            ..Mount::default()
        }
    }
}

impl Engine {
    /// The container whose IPC namespace this one joins, if it joins one.
    ///
    /// # Errors
    /// That container does not run, or does not share it.
    pub(super) fn ipc_donor(&self, record: &Record) -> Result<Option<Donor>, ContainerError> {
        let Some(reference) = record.host_config.ipc_mode.strip_prefix("container:") else { return Ok(None) };
        let refused = |why: String| ContainerError::JoinIpc { donor: reference.to_owned(), why };
        let donor = self.0.containers.find(reference).map_err(|error| refused(error.to_string()))?;
        let cell = donor.cell();
        let Some(pid) = cell.record.state.pid() else {
            return Err(refused(format!("container {} is not running", donor.id)));
        };
        match cell.record.host_config.ipc_mode.as_str() {
            "shareable" | "host" => Ok(Some(Donor { pid })),
            _ => {
                Err(refused("non-shareable IPC (hint: use IpcMode:shareable for the donor container)".into()))
            }
        }
    }
}
