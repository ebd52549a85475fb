//! The create request made whole: every field of it is either honoured, or refused by name.

use std::net::Ipv4Addr;

use seacow_spec::docker::container::{ContainerConfig, NetworkingConfig};
use seacow_spec::docker::host_config::HostConfig;

use super::error::ContainerError;
use super::invalid::Invalid;
use super::{capabilities, mounts, resources};

/// Bytes of `/dev/shm` where a container does not say otherwise.
pub(crate) const SHM_SIZE: i64 = 64 << 20;
/// Paths hidden in containers, as Docker hides them.
pub(crate) const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
/// One more, whose path only some machines have.
pub(crate) const MASKED_POWERCAP: &str = "/sys/devices/virtual/powercap";
/// Paths read-only in containers, as Docker has them.
pub(crate) const READONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn unsupported(what: impl Into<String>) -> ContainerError {
    ContainerError::Unsupported(what.into())
}

/// Checks the portable half, before the image's defaults are merged in.
///
/// # Errors
/// A field is malformed or not honoured.
pub(super) fn config(config: &ContainerConfig) -> Result<(), ContainerError> {
    if let Some(check) = &config.healthcheck
        && check.test.as_ref().is_some_and(|test| !test.is_empty() && test[0] != "NONE")
    {
        return Err(unsupported("a health check (--health-cmd)"));
    }
    for entry in config.env.iter().flatten() {
        if entry.is_empty() || entry.starts_with('=') || entry.contains('\0') {
            return Err(Invalid::Env(entry.clone()).into());
        }
    }
    if let Some(signal) = config.stop_signal.as_deref().filter(|signal| !signal.is_empty()) {
        seacow_spec::signal::parse(signal).map_err(|error| Invalid::Signal(error.0))?;
    }
    let host_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    // The kernel's limit, __NEW_UTS_LEN.
    if config.hostname.len() > 64 || !config.hostname.bytes().all(host_word) {
        return Err(Invalid::Hostname(config.hostname.clone()).into());
    }
    Ok(())
}

/// Checks what only makes sense once the image's defaults are in.
///
/// # Errors
/// A field is malformed.
pub(super) fn merged(config: &mut ContainerConfig) -> Result<(), ContainerError> {
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            return Err(Invalid::WorkingDir(config.working_dir.clone()).into());
        }
        config.working_dir = mounts::clean(&config.working_dir);
    }
    Ok(())
}

/// Checks the host-dependent half and puts it into the form `inspect` shows.
///
/// # Errors
/// A field is malformed or not honoured.
pub(super) fn host(host: &mut HostConfig) -> Result<(), ContainerError> {
    refuse(host)?;
    lists(host)?;
    modes(host)?;
    logs(host)?;
    resources::normalize(&mut host.resources)?;
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Invalid::OomScoreAdj(host.oom_score_adj).into());
    }
    match host.shm_size {
        size if size < 0 => return Err(Invalid::ShmSize.into()),
        0 => host.shm_size = SHM_SIZE,
        _ => {}
    }
    if host.privileged {
        host.masked_paths = None;
        host.readonly_paths = None;
    } else {
        host.masked_paths.get_or_insert_with(default_masked);
        host.readonly_paths.get_or_insert_with(|| READONLY.map(str::to_owned).to_vec());
    }
    for (path, options) in host.tmpfs.iter().flatten() {
        if !path.starts_with('/') {
            return Err(Invalid::Mount {
                kind: "tmpfs".into(),
                why: format!("mount path must be absolute: {path}"),
            }
            .into());
        }
        mounts::tmpfs_options(options)?;
    }
    sysctls(host)
}

/// The hidden paths of a container that asks for nothing else.
pub(crate) fn default_masked() -> Vec<String> {
    MASKED.iter().copied().chain([MASKED_POWERCAP]).map(str::to_owned).collect()
}

/// Options of Docker that seacow does not have, by the name the user knows them under.
fn refuse(host: &HostConfig) -> Result<(), ContainerError> {
    let filled = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let given = [
        ("links between containers (--link)", filled(&host.links)),
        ("the option Cgroup", !host.cgroup.is_empty()),
    ];
    if let Some((name, _)) = given.iter().find(|(_, set)| *set) {
        return Err(unsupported(*name));
    }
    storage_size(host)?;
    match host.restart_policy.name.as_str() {
        "" | "no" => {}
        "always" | "on-failure" | "unless-stopped" if host.auto_remove => {
            return Err(Invalid::AutoRemoveRestart.into());
        }
        policy @ ("always" | "on-failure" | "unless-stopped") => {
            return Err(unsupported(format!("the restart policy {policy:?}")));
        }
        policy => return Err(Invalid::RestartPolicy(policy.to_owned()).into()),
    }
    if !matches!(host.isolation.as_str(), "" | "default") {
        return Err(Invalid::Isolation(host.isolation.clone()).into());
    }
    Ok(())
}

fn lists(host: &mut HostConfig) -> Result<(), ContainerError> {
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".into();
    }
    if let Some(names) = &host.cap_add {
        host.cap_add = Some(capabilities::normalize(names, Invalid::CapAdd)?);
    }
    if let Some(names) = &host.cap_drop {
        host.cap_drop = Some(capabilities::normalize(names, Invalid::CapDrop)?);
    }
    for server in &host.dns {
        if server.parse::<std::net::IpAddr>().is_err() {
            return Err(Invalid::Dns(server.clone()).into());
        }
    }
    for entry in host.extra_hosts.iter().flatten() {
        extra_host(entry, Ipv4Addr::UNSPECIFIED)?;
    }
    Ok(())
}

/// `name:address` or `name=address`; `host-gateway` is `gateway`.
pub(crate) fn extra_host(entry: &str, gateway: Ipv4Addr) -> Result<(String, std::net::IpAddr), Invalid> {
    let (name, address) = entry
        .split_once('=')
        .or_else(|| entry.split_once(':'))
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Invalid::ExtraHost(entry.to_owned()))?;
    if address == "host-gateway" {
        return Ok((name.to_owned(), gateway.into()));
    }
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().map_err(|_| Invalid::ExtraHostAddress(address.to_owned()))?;
    Ok((name.to_owned(), address))
}

fn modes(host: &mut HostConfig) -> Result<(), ContainerError> {
    let peer = |mode: &str| mode.strip_prefix("container:").is_some_and(|id| !id.is_empty());
    match host.ipc_mode.as_str() {
        "" => host.ipc_mode = "private".into(),
        "private" | "shareable" | "none" | "host" => {}
        mode if peer(mode) => {}
        mode => return Err(Invalid::IpcMode(mode.to_owned()).into()),
    }
    match host.pid_mode.as_str() {
        "" | "host" => {}
        mode if peer(mode) => {}
        mode => return Err(Invalid::PidMode(mode.to_owned()).into()),
    }
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return Err(Invalid::UtsMode(host.uts_mode.clone()).into());
    }
    if !matches!(host.userns_mode.as_str(), "" | "host") {
        return Err(Invalid::UsernsMode(host.userns_mode.clone()).into());
    }
    match host.cgroupns_mode.as_str() {
        "" => host.cgroupns_mode = "private".into(),
        "private" | "host" => {}
        mode => return Err(Invalid::CgroupnsMode(mode.to_owned()).into()),
    }
    Ok(())
}

fn logs(host: &mut HostConfig) -> Result<(), ContainerError> {
    match host.log_config.kind.as_str() {
        "" => host.log_config.kind = "json-file".into(),
        "json-file" | "none" => {}
        kind @ ("local" | "syslog" | "journald" | "gelf" | "fluentd" | "awslogs" | "splunk" | "gcplogs"
        | "etwlogs") => {
            return Err(unsupported(format!("log driver {kind:?}")));
        }
        kind => return Err(Invalid::LogDriver(kind.to_owned()).into()),
    }
    if host.log_config.kind == "json-file" {
        log_limits(host, 0, 0)?;
    }
    Ok(())
}

/// Rotation of a container's log: bytes per file and number of files.
///
/// # Errors
/// An option is unknown, malformed or not honoured.
pub(crate) fn log_limits(
    host: &HostConfig,
    max_size: u64,
    max_files: u32,
) -> Result<(u64, u32), ContainerError> {
    let (mut size, mut files) = (max_size, max_files);
    for (option, value) in &host.log_config.config {
        let wrong = |option| Invalid::LogValue { option, value: value.clone() };
        match option.as_str() {
            "max-size" if value == "-1" => size = u64::MAX,
            "max-size" => {
                size = seacow_spec::size::parse(value)
                    .filter(|size| *size > 0)
                    .ok_or_else(|| wrong("max-size"))?
            }
            "max-file" => files = value.parse().ok().filter(|n| *n > 0).ok_or_else(|| wrong("max-file"))?,
            "mode" if value == "blocking" => {}
            "compress" if value == "false" => {}
            "mode" | "compress" | "max-buffer-size" | "labels" | "labels-regex" | "env" | "env-regex"
            | "tag" => {
                return Err(unsupported(format!("log option {option}={value}")));
            }
            option => return Err(Invalid::LogOption(option.to_owned()).into()),
        }
    }
    Ok((size, files))
}

/// What a container's own files may take of the disk (`--storage-opt size=`).
///
/// # Errors
/// The option is none of Docker's, or its value is no size.
pub(crate) fn storage_size(host: &HostConfig) -> Result<Option<u64>, Invalid> {
    let mut size = None;
    for (option, value) in host.storage_opt.iter().flatten() {
        if option != "size" {
            return Err(Invalid::StorageOption(option.clone()));
        }
        let bytes = seacow_spec::size::parse(value).filter(|bytes| *bytes > 0);
        size = Some(bytes.ok_or_else(|| Invalid::StorageSize(value.clone()))?);
    }
    Ok(size)
}

/// Only settings that belong to one of the container's own namespaces.
fn sysctls(host: &HostConfig) -> Result<(), ContainerError> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    for name in host.sysctls.iter().flatten().map(|(name, _)| name) {
        if IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
            if host.ipc_mode == "host" {
                return Err(Invalid::SysctlHost(name.clone(), "IPC").into());
            }
        } else if name.starts_with("net.") {
            if host.network_mode == "host" {
                return Err(Invalid::SysctlHost(name.clone(), "network").into());
            }
        } else if matches!(name.as_str(), "kernel.domainname" | "kernel.hostname") && host.uts_mode != "host"
        {
        } else {
            return Err(Invalid::Sysctl(name.clone()).into());
        }
    }
    Ok(())
}

/// Wishes for the endpoint: the only network is the one of the network mode.
///
/// # Errors
/// Another network is named, or a wish is not honoured.
pub(super) fn endpoints(
    networking: &NetworkingConfig,
    mode: &str,
) -> Result<Option<[u8; 6]>, ContainerError> {
    let mut mac = None;
    for (name, wishes) in &networking.endpoints_config {
        let named = if name == "default" { "bridge" } else { name };
        if named != mode {
            return Err(ContainerError::NoSuchNetwork(named.to_owned()));
        }
        let Some(wishes) = wishes else { continue };
        let ipam = wishes.ipam_config.clone().unwrap_or_default();
        if !ipam.ipv4_address.is_empty() || !ipam.ipv6_address.is_empty() {
            return Err(Invalid::StaticAddress.into());
        }
        if ipam.link_local_ips.is_some_and(|list| !list.is_empty()) {
            return Err(unsupported("link-local addresses (--link-local-ip)"));
        }
        if wishes.aliases.as_ref().is_some_and(|list| !list.is_empty()) {
            return Err(Invalid::Alias.into());
        }
        if wishes.links.as_ref().is_some_and(|list| !list.is_empty()) {
            return Err(unsupported("links between containers (--link)"));
        }
        if wishes.driver_opts.as_ref().is_some_and(|opts| !opts.is_empty()) {
            return Err(unsupported("network driver options"));
        }
        if wishes.gw_priority.is_some_and(|priority| priority != 0) {
            return Err(unsupported("a gateway priority"));
        }
        if !wishes.mac_address.is_empty() {
            mac = Some(mac_address(&wishes.mac_address)?);
        }
    }
    Ok(mac)
}

/// Reads `02:42:ac:11:00:02`.
pub(super) fn mac_address(text: &str) -> Result<[u8; 6], Invalid> {
    let wrong = || Invalid::MacAddress(text.to_owned());
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        let digits = parts.next().filter(|digits| digits.len() == 2).ok_or_else(wrong)?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    // A group address cannot be an interface's own.
    if parts.next().is_some() || bytes[0] & 1 == 1 { Err(wrong()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What docker CLI 28 sends for `docker run bb`.
    fn cli() -> HostConfig {
        serde_json::from_str(
            r#"{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"default",
            "PortBindings":{},"RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"",
            "VolumesFrom":null,"ConsoleSize":[0,0],"CapAdd":null,"CapDrop":null,"CgroupnsMode":"","Dns":[],"DnsOptions":[],
            "DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,
            "PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"",
            "UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"",
            "BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":[],"BlkioDeviceWriteBps":[],
            "BlkioDeviceReadIOps":[],"BlkioDeviceWriteIOps":[],"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,
            "CpuRealtimeRuntime":0,"CpusetCpus":"","CpusetMems":"","Devices":[],"DeviceCgroupRules":null,
            "DeviceRequests":null,"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":-1,"OomKillDisable":false,
            "PidsLimit":0,"Ulimits":null,"CpuCount":0,"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,
            "MaskedPaths":null,"ReadonlyPaths":null}"#,
        )
        .unwrap()
    }

    #[test]
    fn what_the_cli_sends_is_accepted_and_normalised() {
        let mut config = cli();
        host(&mut config).unwrap();
        assert_eq!(config.resources.memory_swappiness, None);
        assert_eq!(config.resources.pids_limit, None);
        assert_eq!((config.ipc_mode.as_str(), config.shm_size), ("private", 64 << 20));
        assert_eq!(config.masked_paths.unwrap().len(), 12);
    }

    #[test]
    fn what_is_not_honoured_is_refused_by_name() {
        let refused = |change: fn(&mut HostConfig)| {
            let mut config = cli();
            change(&mut config);
            host(&mut config).unwrap_err().to_string()
        };
        assert!(refused(|c| c.restart_policy.name = "always".into()).contains("restart policy"));
        assert!(refused(|c| c.userns_mode = "keep-id".into()).contains("keep-id"));
        assert!(refused(|c| c.log_config.kind = "syslog".into()).contains("syslog"));
        assert!(
            refused(|c| c.sysctls = Some([("vm.swappiness".to_owned(), "1".to_owned())].into()))
                .contains("sysctl")
        );
    }

    #[test]
    fn log_limits_and_sizes() {
        let mut config = cli();
        config.log_config.config =
            [("max-size", "1m"), ("max-file", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(log_limits(&config, 5, 5).unwrap(), (1 << 20, 2));
        assert_eq!(log_limits(&cli(), 5, 6).unwrap(), (5, 6));
        config.log_config.config = [("max-size".to_owned(), "lots".to_owned())].into();
        assert!(log_limits(&config, 5, 5).is_err());
    }

    #[test]
    fn hosts_and_hardware_addresses() {
        let gateway = Ipv4Addr::new(172, 17, 0, 1);
        assert_eq!(extra_host("a:1.2.3.4", gateway).unwrap(), ("a".into(), Ipv4Addr::new(1, 2, 3, 4).into()));
        assert_eq!(extra_host("a=::1", gateway).unwrap().1, std::net::Ipv6Addr::LOCALHOST);
        assert_eq!(extra_host("h:host-gateway", gateway).unwrap().1, gateway);
        assert!(extra_host("nothing", gateway).is_err() && extra_host("a:b", gateway).is_err());
        assert_eq!(mac_address("02:42:ac:11:00:02").unwrap(), [2, 0x42, 0xac, 0x11, 0, 2]);
        for bad in ["", "02:42", "03:42:ac:11:00:02", "02:42:ac:11:00:02:01", "2:42:ac:11:00:02"] {
            assert!(mac_address(bad).is_err(), "{bad}");
        }
    }
}
