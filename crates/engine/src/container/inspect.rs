//! `GET /containers/{id}/json`.

use std::collections::BTreeMap;
use std::path::Path;

use seacow_spec::Timestamp;
use seacow_spec::docker::inspect::{ContainerInspect, ContainerState, GraphDriver, NetworkSettings};
use seacow_spec::docker::network::PortBinding;
use seacow_spec::lifecycle::State;
use seacow_spec::shim::{Lower, Rootfs};

use super::list::state_word;
use super::record::Record;
use crate::Engine;
use crate::error::EngineError;
use crate::lsm::apparmor;
use crate::network::Mode;

impl Engine {
    /// Everything about a container.
    ///
    /// # Errors
    /// There is no such container, or its sizes cannot be found out.
    pub async fn inspect(&self, reference: &str, size: bool) -> Result<ContainerInspect, EngineError> {
        let container = self.0.containers.find(reference)?;
        let (record, oom) = {
            let cell = container.cell();
            (cell.record.clone(), cell.oom)
        };
        let mut inspect = self.inspect_record(&record, oom, self.running_execs(&container));
        if size {
            let sizes = self.sizes(&container).await?;
            inspect.size_rw = Some(sizes.own);
            inspect.size_root_fs = Some(sizes.root);
        }
        Ok(inspect)
    }

    fn inspect_record(&self, record: &Record, oom: bool, execs: Vec<String>) -> ContainerInspect {
        let labels = record.labels.clone().unwrap_or_default();
        let mut command = record.command().into_iter();
        let files = match &record.network {
            Mode::Container(other) => self.config().exec_dir(other),
            Mode::Bridge | Mode::None | Mode::Host => self.config().exec_dir(&record.id),
        };
        let file = |name: &str| files.join(name).display().to_string();
        let logged = record.host_config.log_config.kind == "json-file";
        ContainerInspect {
            id: record.id.to_string(),
            created: record.created,
            path: command.next().unwrap_or_default(),
            args: command.collect(),
            state: state(record, oom),
            image: record.image_id.to_string(),
            resolv_conf_path: file("resolv.conf"),
            hostname_path: file("hostname"),
            hosts_path: file("hosts"),
            log_path: if logged {
                self.config().log_path(&record.id).display().to_string()
            } else {
                String::new()
            },
            name: format!("/{}", record.name),
            restart_count: record.restart_count,
            driver: self.store().snapshots().name().into(),
            platform: "linux".into(),
            mount_label: labels.mount,
            process_label: labels.process,
            app_armor_profile: apparmor_profile(record),
            exec_ids: (!execs.is_empty()).then_some(execs),
            host_config: record.host_config.clone(),
            graph_driver: GraphDriver {
                data: self.graph_data(record),
                name: self.store().snapshots().name().into(),
            },
            size_rw: None,
            size_root_fs: None,
            mounts: record.mounts.iter().map(|mount| mount.point.clone()).collect(),
            config: record.config.clone(),
            network_settings: self.network_settings(record),
        }
    }

    fn graph_data(&self, record: &Record) -> Option<BTreeMap<String, String>> {
        let Some(Rootfs::Overlay { lowers, upper: Some(upper) }) = self.rootfs_shown(&record.id) else {
            return None;
        };
        let text = |path: &Path| path.display().to_string();
        let lower = |lower: &Lower| match lower {
            Lower::Dir(path) => text(path),
            Lower::HostView { root, .. } => text(root),
        };
        let lowers: Vec<String> = lowers.iter().map(lower).collect();
        // Where Docker would mount it; here it is mounted in the container's own namespace only.
        let merged = upper.upper.with_file_name("merged");
        let pairs = [
            ("LowerDir", lowers.join(":")),
            ("MergedDir", text(&merged)),
            ("UpperDir", text(&upper.upper)),
            ("WorkDir", text(&upper.work)),
        ];
        Some(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    fn network_settings(&self, record: &Record) -> NetworkSettings {
        let networks = self.endpoint_settings(record);
        let endpoint = networks.get("bridge").cloned().unwrap_or_default();
        let running = record.state.pid();
        NetworkSettings {
            // Docker's is a random id; the container's own says more.
            sandbox_id: running.map(|_| record.id.to_string()).unwrap_or_default(),
            sandbox_key: running.map(|pid| format!("/proc/{pid}/ns/net")).unwrap_or_default(),
            ports: if running.is_some() && record.network == Mode::Bridge {
                ports(record)
            } else {
                BTreeMap::new()
            },
            endpoint_id: endpoint.endpoint_id,
            gateway: endpoint.gateway,
            ip_address: endpoint.ip_address,
            ip_prefix_len: endpoint.ip_prefix_len,
            mac_address: if running.is_some() { endpoint.mac_address } else { String::new() },
            networks,
            ..NetworkSettings::default()
        }
    }
}

/// Exposed ports, and where those are published that are.
fn ports(record: &Record) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    let exposed = record.config.exposed_ports.iter().flatten();
    let mut ports: BTreeMap<_, Option<Vec<PortBinding>>> =
        exposed.map(|(port, _)| (port.clone(), None)).collect();
    for mapping in record.endpoint.iter().flat_map(|endpoint| &endpoint.ports) {
        let binding =
            PortBinding { host_ip: mapping.address().to_string(), host_port: mapping.host.to_string() };
        let port = format!("{}/{}", mapping.port, mapping.protocol);
        ports.entry(port).or_default().get_or_insert_default().push(binding);
    }
    ports
}

fn state(record: &Record, oom: bool) -> ContainerState {
    let never = Timestamp::GO_ZERO;
    let exit = record.state.exit();
    ContainerState {
        status: state_word(record).into(),
        running: record.state.is_alive(),
        paused: matches!(record.state, State::Paused { .. }),
        restarting: false,
        oom_killed: exit.map_or(oom, |exit| exit.oom_killed),
        dead: false,
        pid: record.state.pid().unwrap_or(0),
        exit_code: record.exit_code(),
        error: record.error.clone(),
        started_at: record.started_at().unwrap_or(never).to_string(),
        finished_at: record.finished_at.unwrap_or(never).to_string(),
    }
}

fn apparmor_profile(record: &Record) -> String {
    let options = record.host_config.security_opt.iter().flatten();
    let mut profiles = options
        .filter_map(|option| option.strip_prefix("apparmor=").or_else(|| option.strip_prefix("apparmor:")));
    let asked = profiles.next_back().filter(|profile| !profile.is_empty());
    apparmor::profile_of(asked, record.host_config.privileged)
}
