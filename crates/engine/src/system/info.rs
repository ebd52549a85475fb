//! `GET /info`: the engine and its machine in Docker's words.

use std::path::Path;

use seacow_spec::Timestamp;
use seacow_spec::docker::system::{Info, InfoCommit, InfoPlugins, InfoSwarm};
use seacow_spec::lifecycle::State;
use seacow_store::record::RecordKind;

use super::SystemError;
use super::host::{self, Cgroups};
use super::version::VERSION;
use crate::error::EngineError;
use crate::lsm::apparmor::Unavailable;
use crate::{Engine, blocking};

/// What clients log in to when they name no registry.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// Key of the engine's own id among its documents.
const ID_KEY: &str = "id";

/// Containers by what they do.
#[derive(Default)]
struct Counts {
    all: i64,
    running: i64,
    paused: i64,
}

impl Engine {
    /// Everything about the engine and its machine.
    ///
    /// # Errors
    /// The engine's own id cannot be read or written.
    pub async fn info(&self) -> Result<Info, EngineError> {
        let counts = self.count_containers();
        let engine = self.clone();
        let (cgroups, id, backing, limited, apparmor) = blocking::run("look at this machine", move || {
            let apparmor = crate::lsm::apparmor::ensure_default();
            let backing = host::file_system(&engine.config().data_root);
            let limited = match engine.store().limit_means() {
                Ok(means) => means.to_owned(),
                Err(why) => format!("none: {why}"),
            };
            (host::cgroups(), engine.own_id(), backing, limited, apparmor)
        })
        .await?;
        let images = self.store().images().list();
        let heads = images
            .iter()
            .filter(|image| !image.names.is_empty() || self.store().images().children(&image.id).is_empty());
        let config = self.config();
        let limits = Limits::of(&cgroups);
        let mut warnings = limits.warnings(&cgroups);
        if let Err(why @ (Unavailable::NoParser | Unavailable::Failed { .. })) = &apparmor {
            warnings.push(format!("WARNING: containers run without an AppArmor profile: {why}"));
        }
        Ok(Info {
            id: id?,
            containers: counts.all,
            containers_running: counts.running,
            containers_paused: counts.paused,
            containers_stopped: counts.all - counts.running - counts.paused,
            images: i64::try_from(heads.count()).unwrap_or(i64::MAX),
            driver: self.store().snapshots().name().into(),
            driver_status: std::iter::once(["Backing Filesystem".into(), backing])
                .chain(self.store().snapshots().status())
                .chain([["Size Limits".into(), limited]])
                .chain(self.store_file_status().await)
                .collect(),
            plugins: self.plugin_names().await,
            memory_limit: limits.memory,
            swap_limit: limits.swap,
            cpu_cfs_period: limits.cpu,
            cpu_cfs_quota: limits.cpu,
            cpu_shares: limits.cpu,
            cpu_set: cgroups.has("cpuset"),
            pids_limit: cgroups.has("pids"),
            ipv4_forwarding: host::sysctl("net.ipv4.ip_forward").as_deref() == Some("1"),
            bridge_nf_iptables: host::sysctl("net.bridge.bridge-nf-call-iptables").as_deref() == Some("1"),
            bridge_nf_ip6tables: host::sysctl("net.bridge.bridge-nf-call-ip6tables").as_deref() == Some("1"),
            debug: config.debug,
            n_fd: count_descriptors(),
            oom_kill_disable: limits.oom_kill_disable,
            // There are none; clients show it in debug mode only.
            n_goroutines: 0,
            system_time: Timestamp::now().to_string(),
            logging_driver: "json-file".into(),
            cgroup_driver: config.cgroup_driver.name().into(),
            cgroup_version: cgroups.version().into(),
            n_events_listener: 0,
            kernel_version: host::kernel(),
            operating_system: host::os_release("PRETTY_NAME").unwrap_or_else(|| "Linux".into()),
            os_version: host::os_release("VERSION_ID").unwrap_or_default(),
            os_type: "linux".into(),
            architecture: host::machine(),
            index_server_address: DOCKER_HUB.into(),
            registry_config: Some(registries(&self.config().registries)),
            ncpu: host::processors(),
            mem_total: host::memory(),
            generic_resources: None,
            docker_root_dir: config.data_root.to_string_lossy().into_owned(),
            http_proxy: proxy("HTTP_PROXY"),
            https_proxy: proxy("HTTPS_PROXY"),
            no_proxy: proxy("NO_PROXY"),
            name: host::hostname(),
            labels: Vec::new(),
            experimental_build: false,
            server_version: VERSION.into(),
            runtimes: config.runtimes.listed(config),
            default_runtime: config.runtimes.default.clone(),
            swarm: InfoSwarm { local_node_state: "inactive".into(), ..InfoSwarm::default() },
            live_restore_enabled: true,
            isolation: String::new(),
            init_binary: config.init_path.to_string_lossy().into_owned(),
            containerd_commit: InfoCommit::default(),
            runc_commit: InfoCommit::default(),
            init_commit: InfoCommit::default(),
            security_options: security_options(apparmor, config.selinux.is_some(), config.remap.is_some()),
            cdi_spec_dirs: None,
            warnings: Some(warnings).filter(|warnings| !warnings.is_empty()),
        })
    }

    /// Lines about the store file, where there is one.
    async fn store_file_status(&self) -> Vec<[String; 2]> {
        let Some(file) = self.0.store_file.clone() else { return Vec::new() };
        let Ok(Ok(status)) = blocking::run("look at the store file", move || file.own_status()).await else {
            return Vec::new();
        };
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        let blocks = if status.direct { "direct" } else { "through the page cache" };
        vec![
            ["Store File".into(), status.file.display().to_string()],
            ["Store File Used".into(), format!("{} of {}", mib(status.used), mib(status.size))],
            ["Store File Takes".into(), mib(status.allocated)],
            ["Store File Blocks".into(), blocks.into()],
        ]
    }

    /// Drivers that are built in, and volume plug-ins that answer.
    async fn plugin_names(&self) -> InfoPlugins {
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let mut volume = names(&["local"]);
        volume.extend(self.0.plugins.volume_drivers().await.iter().map(|driver| driver.name().to_owned()));
        InfoPlugins {
            volume,
            network: names(&["bridge", "host", "null"]),
            authorization: None,
            log: names(&["json-file", "none"]),
        }
    }

    fn count_containers(&self) -> Counts {
        let mut counts = Counts::default();
        for container in self.0.containers.all() {
            counts.all += 1;
            match container.cell().record.state {
                State::Running { .. } => counts.running += 1,
                State::Paused { .. } => counts.paused += 1,
                State::Created { .. } | State::Starting | State::Exited { .. } | State::Removing => {}
            }
        }
        counts
    }

    /// The engine's id: made once per data root.
    fn own_id(&self) -> Result<String, SystemError> {
        let records = self.store().records();
        if let Some(id) = records.get(RecordKind::Engine, ID_KEY)? {
            return Ok(String::from_utf8_lossy(&id).into_owned());
        }
        let hex = seacow_spec::id::random_hex().map_err(SystemError::Random)?;
        // The form of a UUID, as Docker's is.
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]];
        let id = parts.join("-");
        records.put(
            RecordKind::Engine,
            ID_KEY,
            id.clone().into_bytes(),
            seacow_store::Durability::Durable,
        )?;
        Ok(id)
    }
}

/// Which limits the kernel can keep.
struct Limits {
    memory: bool,
    swap: bool,
    cpu: bool,
    oom_kill_disable: bool,
}

impl Limits {
    fn of(cgroups: &Cgroups) -> Self {
        let memory = cgroups.has("memory");
        let v1 = |file: &str| Path::new("/sys/fs/cgroup/memory").join(file).exists();
        match cgroups {
            Cgroups::V2 { .. } => {
                Self { memory, swap: memory, cpu: cgroups.has("cpu"), oom_kill_disable: false }
            }
            Cgroups::V1 { .. } => Self {
                memory,
                swap: v1("memory.memsw.limit_in_bytes"),
                cpu: Path::new("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").exists(),
                oom_kill_disable: v1("memory.oom_control"),
            },
            Cgroups::Missing => Self { memory: false, swap: false, cpu: false, oom_kill_disable: false },
        }
    }

    /// Docker's own lines.
    fn warnings(&self, cgroups: &Cgroups) -> Vec<String> {
        [
            (self.memory, "WARNING: No memory limit support"),
            (self.swap, "WARNING: No swap limit support"),
            (self.cpu, "WARNING: No cpu cfs quota support"),
            (cgroups.has("cpuset"), "WARNING: No cpuset support"),
            (cgroups.has("pids"), "WARNING: No pids limit support"),
        ]
        .into_iter()
        .filter(|(present, _)| !present)
        .map(|(_, warning)| warning.to_owned())
        .collect()
    }
}

/// What confines containers, in Docker's words.
fn security_options(apparmor: Result<(), Unavailable>, labelled: bool, remapped: bool) -> Vec<String> {
    let apparmor = apparmor.is_ok().then_some("name=apparmor");
    let remapped = remapped.then_some("name=userns");
    let selinux = labelled.then_some("name=selinux");
    let all = [apparmor, Some("name=seccomp,profile=builtin"), selinux, remapped, Some("name=cgroupns")];
    all.into_iter().flatten().map(str::to_owned).collect()
}

fn count_descriptors() -> i64 {
    let count = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A proxy from the environment, without the password that may be in it.
fn proxy(name: &str) -> String {
    let value = std::env::var(name).or_else(|_| std::env::var(name.to_lowercase())).unwrap_or_default();
    without_password(&value)
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        None => url.to_owned(),
    }
}

/// As `docker info` reads it.
fn registries(settings: &seacow_registry::Settings) -> serde_json::Value {
    let mirrors = settings.mirrors.get(seacow_spec::reference::DEFAULT_DOMAIN).cloned().unwrap_or_default();
    let networks = settings.insecure.iter().filter(|entry| entry.contains('/'));
    // This machine's are insecure in any case.
    let networks: Vec<&str> = networks.map(String::as_str).chain(["::1/128", "127.0.0.0/8"]).collect();
    let official = |name: &str, mirrors: &[String], secure: bool| {
        serde_json::json!({
            "Name": name, "Mirrors": mirrors, "Secure": secure,
            "Official": name == seacow_spec::reference::DEFAULT_DOMAIN,
        })
    };
    let mut index = serde_json::Map::new();
    index.insert("docker.io".into(), official("docker.io", &mirrors, true));
    for host in settings.insecure.iter().filter(|entry| !entry.contains('/')) {
        index.insert(host.clone(), official(host, &[], false));
    }
    serde_json::json!({
        "AllowNondistributableArtifactsCIDRs": null, "AllowNondistributableArtifactsHostnames": null,
        "InsecureRegistryCIDRs": networks, "IndexConfigs": index, "Mirrors": mirrors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_told() {
        assert_eq!(without_password("http://u:p@proxy:3128"), "http://xxxxx:xxxxx@proxy:3128");
        assert_eq!(without_password("http://proxy:3128"), "http://proxy:3128");
        assert_eq!(without_password("localhost,127.0.0.1"), "localhost,127.0.0.1");
    }

    #[test]
    fn missing_controllers_are_warned_of() {
        let limits = Limits::of(&Cgroups::Missing);
        assert_eq!(limits.warnings(&Cgroups::Missing).len(), 5);
    }
}
