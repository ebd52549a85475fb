//! `POST /containers/{id}/update`: other limits for a container that may be running.

use seacow_spec::docker::container::{UpdateRequest, UpdateResponse};
use seacow_spec::docker::host_config::Resources;
use seacow_spec::shim::Request;

use super::kept::Kept;
use super::{ContainerError, Invalid, resources};
use crate::Engine;
use crate::error::EngineError;

impl Engine {
    /// Changes limits; zero and empty values leave theirs as it is.
    ///
    /// # Errors
    /// A value is out of range or cannot be changed, or the kernel refuses.
    pub async fn update(
        &self,
        reference: &str,
        request: UpdateRequest,
    ) -> Result<UpdateResponse, EngineError> {
        let container = self.0.containers.find(reference)?;
        let engine = self.clone();
        self.finish("update a container", async move {
            let _one = container.ops.lock().await;
            if let Some(policy) = request.restart_policy.as_ref().map(|policy| policy.name.as_str()) {
                check_policy(policy, container.cell().record.auto_remove())?;
            }
            let mut wanted = container.cell().record.host_config.resources.clone();
            let mut asked = request.resources;
            let warnings = Kept::here().drop_others(&mut asked);
            merge(&mut wanted, asked)?;
            resources::normalize(&mut wanted)?;
            let limits = resources::limits(&wanted)?;
            if let Ok(shim) = container.live_shim() {
                shim.send(Request::Update { resources: Box::new(limits) }, None)?.done().await?;
            } else {
                // A shim that is ready was told the old limits.
                engine.let_go(&container).await;
            }
            container.cell().record.host_config.resources = wanted;
            engine.save(&container).await?;
            engine.emit(container.event("update", &[]));
            Ok(UpdateResponse { warnings: Some(warnings).filter(|warnings| !warnings.is_empty()) })
        })
        .await
    }
}

fn check_policy(policy: &str, auto_remove: bool) -> Result<(), ContainerError> {
    match policy {
        "" | "no" => Ok(()),
        _ if auto_remove => Err(Invalid::RestartPolicyAutoRemove.into()),
        "always" | "on-failure" | "unless-stopped" => {
            Err(ContainerError::Unsupported(format!("the restart policy {policy:?}")))
        }
        policy => Err(Invalid::RestartPolicy(policy.to_owned()).into()),
    }
}

/// Takes over what is set. What a running container cannot change is refused.
fn merge(have: &mut Resources, wanted: Resources) -> Result<(), ContainerError> {
    let refused = [
        ("updating the cgroup parent", !wanted.cgroup_parent.is_empty()),
        ("updating devices", wanted.devices.is_some_and(|list| !list.is_empty())),
        ("updating device rules", wanted.device_cgroup_rules.is_some_and(|list| !list.is_empty())),
        ("updating device requests", wanted.device_requests.is_some_and(|list| !list.is_empty())),
        ("updating ulimits", wanted.ulimits.is_some_and(|list| !list.is_empty())),
    ];
    if let Some((what, _)) = refused.iter().find(|(_, set)| *set) {
        return Err(ContainerError::Unsupported((*what).into()));
    }
    let take = |have: &mut i64, wanted: i64| {
        if wanted != 0 {
            *have = wanted;
        }
    };
    // A new memory limit brings a new default for swap, unless swap was set as well.
    if wanted.memory != 0 && wanted.memory_swap == 0 && have.memory_swap == have.memory.saturating_mul(2) {
        have.memory_swap = 0;
    }
    take(&mut have.memory, wanted.memory);
    take(&mut have.memory_swap, wanted.memory_swap);
    take(&mut have.memory_reservation, wanted.memory_reservation);
    take(&mut have.cpu_shares, wanted.cpu_shares);
    take(&mut have.cpu_period, wanted.cpu_period);
    take(&mut have.cpu_quota, wanted.cpu_quota);
    take(&mut have.cpu_realtime_period, wanted.cpu_realtime_period);
    take(&mut have.cpu_realtime_runtime, wanted.cpu_realtime_runtime);
    take(&mut have.nano_cpus, wanted.nano_cpus);
    if wanted.blkio_weight != 0 {
        have.blkio_weight = wanted.blkio_weight;
    }
    for (have, wanted) in
        [(&mut have.cpuset_cpus, wanted.cpuset_cpus), (&mut have.cpuset_mems, wanted.cpuset_mems)]
    {
        if !wanted.is_empty() {
            *have = wanted;
        }
    }
    if wanted.pids_limit.is_some() {
        have.pids_limit = wanted.pids_limit;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_set_changes() {
        let mut have =
            Resources { memory: 64 << 20, memory_swap: 128 << 20, cpu_shares: 5, ..Default::default() };
        merge(&mut have, Resources { memory: 32 << 20, pids_limit: Some(9), ..Default::default() }).unwrap();
        resources::normalize(&mut have).unwrap();
        assert_eq!(
            (have.memory, have.memory_swap, have.cpu_shares, have.pids_limit),
            (32 << 20, 64 << 20, 5, Some(9))
        );
        assert!(merge(&mut have, Resources { cgroup_parent: "/x".into(), ..Default::default() }).is_err());
    }
}
