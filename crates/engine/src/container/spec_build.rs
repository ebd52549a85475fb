//! From a container's record to what its shim is told: the OCI spec as Docker makes it.
//!
//! Two halves, as the protocol has them. A [`Template`] holds what does not depend on the image or
//! the program; two containers with equal templates can use each other's prepared shims, which is
//! how the pool of slots works. [`create`] makes the rest.

use std::collections::BTreeMap;
use std::path::Path;

use seacow_spec::ContainerId;
use seacow_spec::oci::runtime::{
    Capabilities, ConsoleSize, Linux, LinuxNamespace, LinuxResources, Mount, NamespaceKind, Process, Root,
    Spec, VERSION,
};
use seacow_spec::oci::state::State;
use seacow_spec::selinux::label_mounts;
use seacow_spec::shim::{
    Create, FORKABLE, LogConfig, NamespaceSettings, Prepare, Rootfs, RuntimeCommand, Stdio,
};

use super::error::ContainerError;
use super::invalid::Invalid;
use super::labels::{self, MountLabel};
use super::record::{MountRecord, Record};
use super::{capabilities, mounts, normalize, pid1, resources, security, userns};
use crate::config::{CgroupDriver, Config};
use crate::lsm::apparmor;
use crate::network::Mode;
use crate::remap::Remap;

const PATH_DEFAULT: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a prepared shim is like, apart from its id.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    namespaces: Vec<LinuxNamespace>,
    cgroup_driver: CgroupDriver,
    /// Cgroup that holds the container's own.
    cgroup_parent: String,
    mounts: Vec<Mount>,
    masked_paths: Vec<String>,
    readonly_paths: Vec<String>,
    privileged: bool,
    /// Maps of a new user namespace.
    settings: NamespaceSettings,
    /// Who is its root outside, where that is not root.
    pub(crate) owner: Option<(u32, u32)>,
    /// What makes it, if not our own runtime.
    runtime: Option<RuntimeCommand>,
    /// Gets a link on the default bridge.
    pub(crate) bridged: bool,
    /// Hardware address of that link, if a certain one was asked for.
    pub(crate) mac_address: Option<[u8; 6]>,
    /// Label of its files for SELinux.
    label: MountLabel,
}

impl Template {
    /// What most containers are like: nothing asked for.
    pub(crate) fn common(config: &Config, bridged: bool) -> Self {
        let mut namespaces = [
            NamespaceKind::Pid,
            NamespaceKind::Network,
            NamespaceKind::Mount,
            NamespaceKind::Ipc,
            NamespaceKind::Uts,
            NamespaceKind::Cgroup,
        ]
        .map(|kind| LinuxNamespace { kind, path: String::new() })
        .to_vec();
        let (user, settings) = config.remap.as_ref().map(Remap::namespace).unzip();
        namespaces.extend(user);
        Self {
            namespaces,
            settings: settings.unwrap_or_default(),
            owner: config.remap.as_ref().map(Remap::root),
            cgroup_driver: config.cgroup_driver,
            cgroup_parent: config.cgroup_parent.clone(),
            mounts: default_mounts(normalize::SHM_SIZE, false, Shm::Own),
            masked_paths: normalize::default_masked(),
            readonly_paths: normalize::READONLY.map(str::to_owned).to_vec(),
            privileged: false,
            runtime: None,
            bridged,
            mac_address: None,
            label: MountLabel::common(config),
        }
    }

    /// What this container is like. `pid_of` finds the main process of a running container whose
    /// namespaces are joined.
    ///
    /// # Errors
    /// A container whose namespaces are to be joined does not run.
    pub(crate) fn of<F>(record: &Record, config: &Config, pid_of: F) -> Result<Self, ContainerError>
    where
        F: Fn(&str) -> Result<i32, ContainerError>,
    {
        let host = &record.host_config;
        let shm = match host.ipc_mode.as_str() {
            "none" => Shm::None,
            "host" => Shm::Host,
            // The other container's is bound when it is known who that is.
            mode if mode.starts_with("container:") => Shm::None,
            _ => Shm::Own,
        };
        let mut all = default_mounts(host.shm_size, host.privileged, shm);
        let taken = |path: &str| {
            record.mounts.iter().any(|mount| mount.point.destination == path)
                || host.tmpfs.iter().flatten().any(|(target, _)| mounts::clean(target) == path)
        };
        all.retain(|mount| !taken(&mount.destination));
        let parent = &host.resources.cgroup_parent;
        userns::check(record, config)?;
        let (user, settings) = userns::namespace(record, config, &pid_of)?.unzip();
        let mut namespaces = namespaces(record, pid_of)?;
        namespaces.extend(user);
        Ok(Self {
            namespaces,
            settings: settings.unwrap_or_default(),
            owner: userns::remap(record, config).map(Remap::root),
            cgroup_driver: config.cgroup_driver,
            cgroup_parent: match config.cgroup_driver {
                _ if parent.is_empty() => config.cgroup_parent.clone(),
                CgroupDriver::Cgroupfs => mounts::clean(&format!("/{parent}")),
                CgroupDriver::Systemd => parent.clone(),
            },
            mounts: all,
            masked_paths: host.masked_paths.clone().unwrap_or_default(),
            readonly_paths: host.readonly_paths.clone().unwrap_or_default(),
            privileged: host.privileged,
            runtime: config.runtimes.find(&host.runtime).map_err(Invalid::from)?,
            bridged: record.network == Mode::Bridge,
            mac_address: record.mac_address,
            label: MountLabel::of(record, config)?,
        })
    }

    /// The cgroup of a container of this kind, in the form that tells the runtime who makes it.
    fn cgroups_path(&self, id: &ContainerId) -> String {
        match self.cgroup_driver {
            CgroupDriver::Cgroupfs => format!("{}/{id}", self.cgroup_parent.trim_end_matches('/')),
            CgroupDriver::Systemd => format!("{}:seacow:{id}", self.cgroup_parent),
        }
    }

    /// Label of the files of the container with this id; empty where there is none.
    ///
    /// # Errors
    /// No categories are free.
    pub(crate) fn mount_label(&self, id: &ContainerId) -> Result<String, ContainerError> {
        self.label.of_id(id)
    }

    /// The request that prepares it.
    ///
    /// # Errors
    /// There is no label for it.
    pub(crate) fn prepare(&self, id: &ContainerId) -> Result<Prepare, ContainerError> {
        let mut mounts = self.mounts.clone();
        label_mounts(&mut mounts, &self.mount_label(id)?);
        Ok(Prepare {
            id: id.clone(),
            namespaces: self.namespaces.clone(),
            cgroups_path: self.cgroups_path(id),
            mounts,
            masked_paths: self.masked_paths.clone(),
            readonly_paths: self.readonly_paths.clone(),
            privileged: self.privileged,
            settings: self.settings.clone(),
            runtime: self.runtime.clone(),
        })
    }
}

fn namespaces<F>(record: &Record, pid_of: F) -> Result<Vec<LinuxNamespace>, ContainerError>
where
    F: Fn(&str) -> Result<i32, ContainerError>,
{
    let host = &record.host_config;
    let own = |kind| Some(LinuxNamespace { kind, path: String::new() });
    let joined = |kind, name: &str, container: &str| -> Result<_, ContainerError> {
        Ok(Some(LinuxNamespace { kind, path: format!("/proc/{}/ns/{name}", pid_of(container)?) }))
    };
    let by_mode = |kind, name: &str, mode: &str| match mode {
        "host" => Ok(None),
        mode => match mode.strip_prefix("container:") {
            Some(container) => joined(kind, name, container),
            None => Ok(own(kind)),
        },
    };
    let network = match &record.network {
        Mode::Bridge | Mode::None => own(NamespaceKind::Network),
        Mode::Host => None,
        Mode::Container(id) => joined(NamespaceKind::Network, "net", id.as_str())?,
    };
    let all = [
        by_mode(NamespaceKind::Pid, "pid", &host.pid_mode)?,
        network,
        own(NamespaceKind::Mount),
        by_mode(NamespaceKind::Ipc, "ipc", &host.ipc_mode)?,
        by_mode(NamespaceKind::Uts, "uts", &host.uts_mode)?,
        by_mode(NamespaceKind::Cgroup, "cgroup", &host.cgroupns_mode)?,
    ];
    Ok(all.into_iter().flatten().collect())
}

/// Where `/dev/shm` comes from.
#[derive(Clone, Copy)]
enum Shm {
    Own,
    Host,
    None,
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

fn default_mounts(shm_size: i64, privileged: bool, shm: Shm) -> Vec<Mount> {
    let access = if privileged { "rw" } else { "ro" };
    let mut all = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &[access, "nosuid", "noexec", "nodev"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ];
    match shm {
        Shm::Own => {
            let size = format!("size={shm_size}");
            all.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
        }
        Shm::Host => all.push(mount("/dev/shm", "bind", "/dev/shm", &["rbind", "rprivate"])),
        Shm::None => {}
    }
    all
}

/// Everything that [`create`] needs besides the record.
pub(crate) struct Parts<'a> {
    pub(crate) config: &'a Config,
    pub(crate) template: &'a Template,
    pub(crate) rootfs: Rootfs,
    /// Directory with hosts, hostname and resolv.conf.
    pub(crate) files: &'a Path,
    /// Another container's `/dev/shm`.
    pub(crate) shm: Option<Mount>,
}

/// The request that makes the container out of a prepared shim.
///
/// # Errors
/// A device does not exist (any more), or an option that was valid at create is not.
pub(crate) fn create(record: &Record, parts: Parts<'_>) -> Result<Create, ContainerError> {
    let host = &record.host_config;
    let caps = capability_set(record);
    let security = security::parse(host.security_opt.as_deref().unwrap_or_default(), host.privileged, &caps)?;
    let (devices, rules) = resources::devices(&host.resources)?;
    let limits = LinuxResources { devices: rules, ..resources::limits(&host.resources)? };
    let prepare = parts.template.prepare(&record.id)?;
    let labels = labels::of(record, parts.config)?;
    let mut mounts = own_mounts(record, &parts)?;
    label_mounts(&mut mounts, &labels.mount);
    let spec = Spec {
        oci_version: VERSION.into(),
        process: Some(Process {
            args: pid1::command(record, parts.config),
            selinux_label: labels.process,
            ..process(record, caps, &security)?
        }),
        root: Some(Root { path: String::new(), readonly: host.readonly_rootfs }),
        hostname: if host.uts_mode == "host" { String::new() } else { record.config.hostname.clone() },
        domainname: record.config.domainname.clone(),
        mounts,
        hooks: None,
        annotations: annotations(record),
        linux: Some(Linux {
            sysctl: sysctl(record, userns::remap(record, parts.config)),
            resources: Some(limits),
            cgroups_path: prepare.cgroups_path,
            namespaces: prepare.namespaces,
            uid_mappings: prepare.settings.uid_mappings,
            gid_mappings: prepare.settings.gid_mappings,
            devices,
            rootfs_propagation: rootfs_propagation(record),
            masked_paths: prepare.masked_paths,
            readonly_paths: prepare.readonly_paths,
            mount_label: labels.mount,
            ..Linux::default()
        }),
    };
    Ok(Create {
        spec,
        user: record.config.user.clone(),
        extra_groups: host.group_add.clone().unwrap_or_default(),
        rootfs: parts.rootfs,
        maps_root: userns::remap(record, parts.config).is_some(),
        stdio: stdio(record),
        log: log(record, parts.config)?,
        seccomp: security.seccomp,
        state: State {
            oci_version: VERSION.into(),
            id: record.id.to_string(),
            bundle: parts.files.to_owned(),
            ..State::default()
        },
    })
}

fn capability_set(record: &Record) -> Vec<String> {
    let host = &record.host_config;
    let list = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
    capabilities::of(&list(&host.cap_add), &list(&host.cap_drop), host.privileged)
}

/// The container's process as an exec starts from it: same environment, capabilities, limits.
pub(crate) fn process_base(
    record: &Record,
    config: &Config,
) -> Result<(Process, security::Security), ContainerError> {
    let host = &record.host_config;
    let caps = capability_set(record);
    let security = security::parse(host.security_opt.as_deref().unwrap_or_default(), host.privileged, &caps)?;
    let selinux_label = labels::of(record, config)?.process;
    Ok((Process { selinux_label, ..process(record, caps, &security)? }, security))
}

fn process(record: &Record, caps: Vec<String>, security: &security::Security) -> Result<Process, Invalid> {
    let (config, host) = (&record.config, &record.host_config);
    let [rows, cols] = host.console_size;
    let ulimits = host.resources.ulimits.iter().flatten();
    Ok(Process {
        terminal: config.tty,
        console_size: (config.tty && rows != 0).then_some(ConsoleSize { height: rows, width: cols }),
        args: record.command(),
        env: environment(record, config.tty),
        cwd: if config.working_dir.is_empty() { "/".into() } else { config.working_dir.clone() },
        capabilities: Some(capability_sets(caps)),
        rlimits: ulimits.map(resources::rlimit).collect::<Result<_, _>>()?,
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: apparmor::profile_of(security.apparmor.as_deref(), host.privileged),
        oom_score_adj: Some(host.oom_score_adj),
        ..Process::default()
    })
}

/// Inheritable and ambient stay empty, as in Docker since CVE-2022-24769.
pub(crate) fn capability_sets(caps: Vec<String>) -> Capabilities {
    Capabilities {
        bounding: caps.clone(),
        effective: caps.clone(),
        permitted: caps,
        ..Capabilities::default()
    }
}

/// The environment of a process in this container, with or without a terminal.
pub(crate) fn environment(record: &Record, terminal: bool) -> Vec<String> {
    let config = &record.config;
    let mut env = vec![PATH_DEFAULT.to_owned(), format!("HOSTNAME={}", config.hostname)];
    if terminal {
        env.push("TERM=xterm".into());
    }
    override_env(&mut env, config.env.as_deref().unwrap_or_default());
    override_env(&mut env, &record.secret_env);
    env
}

/// Replaces variables by those of the same name, appends new ones, and takes away those that are
/// named without a value.
pub(crate) fn override_env(env: &mut Vec<String>, by: &[String]) {
    for entry in by {
        let (key, valued) = entry.split_once('=').map_or((entry.as_str(), false), |(key, _)| (key, true));
        let same = |have: &String| have.split_once('=').is_some_and(|(have, _)| have == key);
        match (env.iter().position(same), valued) {
            (Some(at), true) => env[at].clone_from(entry),
            (None, true) => env.push(entry.clone()),
            (Some(at), false) => {
                env.remove(at);
            }
            (None, false) => {}
        }
    }
}

fn stdio(record: &Record) -> Stdio {
    let [rows, cols] = record.host_config.console_size;
    let config = &record.config;
    Stdio { terminal: config.tty, rows, cols, open_stdin: config.open_stdin, stdin_once: config.stdin_once }
}

fn log(record: &Record, config: &Config) -> Result<LogConfig, ContainerError> {
    if record.host_config.log_config.kind == "none" {
        return Ok(LogConfig::None);
    }
    let (max_size, max_files) =
        normalize::log_limits(&record.host_config, config.log.max_size, config.log.max_files)?;
    Ok(LogConfig::JsonFile { path: config.log_path(&record.id), max_size, max_files })
}

/// What was given. A label stands for the one annotation that clients before Docker 24 cannot give.
fn annotations(record: &Record) -> BTreeMap<String, String> {
    let mut all = record.host_config.annotations.clone().unwrap_or_default();
    if let Some(value) = record.config.labels.as_ref().and_then(|labels| labels.get(FORKABLE)) {
        all.entry(FORKABLE.to_owned()).or_insert_with(|| value.clone());
    }
    all
}

/// What Docker sets in every network namespace of its own: any user may ping and listen on low
/// ports, since the ports are the container's.
pub(super) fn sysctl(record: &Record, remap: Option<&Remap>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if matches!(record.network, Mode::Bridge | Mode::None) {
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        // Ids that are not mapped are refused.
        let last = remap.map_or(i32::MAX.unsigned_abs(), Remap::last_group);
        all.insert("net.ipv4.ping_group_range".to_owned(), format!("0 {last}"));
    }
    all.extend(record.host_config.sysctls.clone().unwrap_or_default());
    all
}

fn rootfs_propagation(record: &Record) -> String {
    let has = |words: [&str; 2]| {
        record.mounts.iter().any(|mount| words.contains(&mount.point.propagation.as_str()))
    };
    if has(["shared", "rshared"]) {
        "rshared".into()
    } else if has(["slave", "rslave"]) {
        "rslave".into()
    } else {
        String::new()
    }
}

/// The container's own mounts: files of the engine, then the user's, parents first.
fn own_mounts(record: &Record, parts: &Parts<'_>) -> Result<Vec<Mount>, ContainerError> {
    let mut all = Vec::new();
    for (path, options) in record.host_config.tmpfs.iter().flatten() {
        let mut tmpfs = mount(&mounts::clean(path), "tmpfs", "tmpfs", &[]);
        tmpfs.options = mounts::tmpfs_options(options)?;
        all.push(tmpfs);
    }
    let access = if record.host_config.readonly_rootfs { "ro" } else { "rw" };
    for name in ["resolv.conf", "hostname", "hosts"] {
        let target = format!("/etc/{name}");
        if !record.mounts.iter().any(|mount| mount.point.destination == target) {
            let source = parts.files.join(name);
            all.push(mount(&target, "bind", &source.to_string_lossy(), &["rbind", "rprivate", access]));
        }
    }
    let remapped = userns::remap(record, parts.config).is_some();
    let dir = parts.config.container_dir(&record.id);
    let own = record.mounts.iter().enumerate();
    all.extend(own.map(|(index, mount)| own_mount(mount, remapped, &mounts::scratch_dir(&dir, index))));
    all.extend(pid1::mount(record, parts.config));
    all.extend(parts.shm.clone().filter(|shm| !has_mount(record, &shm.destination)));
    all.sort_by_key(|mount| Path::new(&mount.destination).components().count());
    Ok(all)
}

fn has_mount(record: &Record, destination: &str) -> bool {
    record.mounts.iter().any(|mount| mount.point.destination == destination)
}

/// `remapped` volumes are shown with the container's ids: they are its own, whatever the remap.
/// Directories of the host keep the host's, as in Docker.
fn own_mount(record: &MountRecord, remapped: bool, scratch: &Path) -> Mount {
    let point = &record.point;
    let mut options = record.options.clone();
    if point.kind == "tmpfs" {
        if !point.rw {
            options.push("ro".into());
        }
        return Mount { options, ..mount(&point.destination, "tmpfs", "tmpfs", &[]) };
    }
    if let Some(fs) = &record.filesystem {
        options.extend(fs.options.clone());
        if fs.is_ram() && record.copy {
            options.push("tmpcopyup".into());
        }
        if !point.rw {
            options.push("ro".into());
        }
        return Mount { options, ..mount(&point.destination, &fs.kind, &fs.device, &[]) };
    }
    if record.scratch || !record.lowers.is_empty() {
        return overlaid(record, scratch);
    }
    options.insert(0, if record.non_recursive { "bind" } else { "rbind" }.into());
    if !record.subpath.is_empty() {
        options.push(format!("{}{}", seacow_spec::shim::BENEATH, record.subpath));
    }
    if matches!(point.kind.as_str(), "volume" | "image") {
        options.push("rprivate".into());
        if remapped && !record.hosts_ids {
            options.push("idmap".into());
        }
    }
    if !point.rw && !options.iter().any(|option| option == "rro") {
        options.push("ro".into());
    }
    Mount { options, ..mount(&point.destination, "bind", &record.source.to_string_lossy(), &[]) }
}

/// Layers as one directory, or a source that takes no writes.
fn overlaid(record: &MountRecord, scratch: &Path) -> Mount {
    let joined = match record.lowers.as_slice() {
        [] => record.source.display().to_string(),
        lowers => lowers.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":"),
    };
    let mut options = vec![format!("lowerdir={joined}")];
    if record.scratch {
        options.push(format!("upperdir={}", scratch.join("upper").display()));
        options.push(format!("workdir={}", scratch.join("work").display()));
    } else {
        options.push("ro".into());
    }
    Mount { options, ..mount(&record.point.destination, "overlay", "overlay", &[]) }
}

#[cfg(test)]
#[path = "spec_build_tests.rs"]
mod tests;
