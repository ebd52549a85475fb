//! From the flags of `run` and `create` to the body of `POST /containers/create`.
//!
//! Everything is sent the way docker's client sends it, the odd defaults included
//! (`MemorySwappiness: -1`, `NetworkMode: "default"`): engines are tested against those.

use std::collections::{BTreeMap, BTreeSet};

use seacow_spec::docker::container::{ContainerConfig, CreateRequest, Empty, HealthConfig, NetworkingConfig};
use seacow_spec::docker::host_config::{HostConfig, LogConfig};
use seacow_spec::shim::FORKABLE;

use super::resources::{resources, restart_policy};
use super::volume::Volume;
use super::{env, mount, network, port, security, validate, volume};
use crate::failure::Failure;
use crate::flags::Matches;

/// Builds the request; `args` are the image and the command.
pub(crate) fn create_request(matches: &Matches) -> Result<CreateRequest, Failure> {
    let (image, command) = matches.args.split_first().map_or(("", &[][..]), |(i, c)| (i.as_str(), c));
    refuse_windows(matches)?;
    if matches.bool("use-api-socket") {
        return Err(Failure::refused(
            "NotImplemented: --use-api-socket is not supported by seacow: bind the socket with -v",
        ));
    }
    let ports = port::ports(&matches.list("publish"), &matches.list("expose"))?;
    let volumes = volumes(&matches.list("volume"))?;
    check_namespaces(matches)?;
    let networks = network::networks(matches)?;
    let streams = matches.list("attach");
    let attached = |name: &str| streams.iter().any(|s| s.eq_ignore_ascii_case(name));
    let stdin = matches.bool("interactive");
    let attach_stdin = attached("stdin") || stdin;
    let both = streams.is_empty();
    let config = ContainerConfig {
        hostname: matches.str("hostname").to_owned(),
        domainname: matches.str("domainname").to_owned(),
        user: matches.str("user").to_owned(),
        attach_stdin,
        attach_stdout: both || attached("stdout"),
        attach_stderr: both || attached("stderr"),
        exposed_ports: if ports.exposed.is_empty() { None } else { Some(ports.exposed) },
        tty: matches.bool("tty"),
        open_stdin: stdin,
        stdin_once: stdin && attach_stdin,
        env: non_empty(env::variables(&matches.list("env-file"), &matches.list("env"))?),
        cmd: if command.is_empty() { None } else { Some(command.to_vec()) },
        healthcheck: health(matches)?,
        image: image.to_owned(),
        volumes: Some(volumes.anonymous),
        working_dir: matches.str("workdir").to_owned(),
        entrypoint: matches.given("entrypoint").map(|e| vec![e.to_owned()]),
        labels: Some(env::labels(&matches.list("label-file"), &matches.list("label"))?),
        stop_signal: Some(matches.str("stop-signal").to_owned()).filter(|s| !s.is_empty()),
        stop_timeout: matches.int_given("stop-timeout"),
        ..ContainerConfig::default()
    };
    let host_config = host_config(matches, volumes.binds, ports.bindings, networks.mode)?;
    if host_config.auto_remove && !matches!(host_config.restart_policy.name.as_str(), "" | "no") {
        return Err(Failure::refused("conflicting options: cannot specify both --restart and --rm"));
    }
    Ok(CreateRequest {
        config,
        host_config,
        networking_config: NetworkingConfig { endpoints_config: networks.endpoints },
    })
}

fn host_config(
    matches: &Matches,
    binds: Vec<String>,
    port_bindings: BTreeMap<String, Option<Vec<seacow_spec::docker::network::PortBinding>>>,
    network_mode: String,
) -> Result<HostConfig, Failure> {
    let text = |name: &str| matches.str(name).to_owned();
    let list = |name: &str| non_empty(matches.list(name));
    let capabilities = capabilities(&matches.list("cap-add"), &matches.list("cap-drop"));
    let security = security::options(&matches.list("security-opt"))?;
    let mounts: Result<Vec<_>, String> = matches.list("mount").iter().map(|m| mount::parse(m)).collect();
    let hosts: Vec<String> =
        matches.list("add-host").iter().map(|h| validate::canonical_extra_host(h)).collect();
    Ok(HostConfig {
        binds: non_empty(binds),
        container_id_file: text("cidfile"),
        log_config: log_config(matches)?,
        network_mode,
        port_bindings,
        restart_policy: restart_policy(matches.str("restart")).map_err(Failure::Refused)?,
        auto_remove: matches.bool("rm"),
        volume_driver: text("volume-driver"),
        volumes_from: list("volumes-from"),
        annotations: annotations(matches),
        cap_add: non_empty(capabilities.0),
        cap_drop: non_empty(capabilities.1),
        cgroupns_mode: text("cgroupns"),
        dns: matches.list("dns"),
        dns_options: matches.list("dns-option"),
        dns_search: matches.list("dns-search"),
        extra_hosts: non_empty(hosts),
        group_add: list("group-add"),
        ipc_mode: text("ipc"),
        links: list("link"),
        oom_score_adj: i32::try_from(matches.int("oom-score-adj")).unwrap_or(0),
        pid_mode: text("pid"),
        privileged: matches.bool("privileged"),
        publish_all_ports: matches.bool("publish-all"),
        readonly_rootfs: matches.bool("read-only"),
        security_opt: security.options,
        storage_opt: storage_options(matches)?,
        tmpfs: tmpfs(matches),
        uts_mode: text("uts"),
        userns_mode: text("userns"),
        shm_size: matches.bytes("shm-size"),
        sysctls: map(matches, "sysctl"),
        runtime: text("runtime"),
        isolation: text("isolation"),
        resources: resources(matches)?,
        mounts: non_empty(mounts.map_err(Failure::Refused)?),
        masked_paths: security.masked_paths,
        readonly_paths: security.readonly_paths,
        init: matches.changed("init").then(|| matches.bool("init")),
        ..HostConfig::default()
    })
}

/// Capabilities under their full names, each once, in order. `ALL` stands for all others, and what
/// is added is not dropped.
fn capabilities(add: &[String], drop: &[String]) -> (Vec<String>, Vec<String>) {
    let set = |names: &[String]| -> BTreeSet<String> {
        let full = names.iter().map(|name| {
            let name = name.trim().to_uppercase();
            if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
        });
        let all: BTreeSet<String> = full.collect();
        if all.contains("ALL") { BTreeSet::from(["ALL".to_owned()]) } else { all }
    };
    let (add, drop) = (set(add), set(drop));
    let drop = drop.difference(&add).cloned().collect();
    (add.into_iter().collect(), drop)
}

fn non_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}

/// What was given, and what `--forkable` stands for.
fn annotations(matches: &Matches) -> Option<BTreeMap<String, String>> {
    let mut all = map(matches, "annotation");
    if matches.bool("forkable") {
        all.get_or_insert_default().insert(FORKABLE.to_owned(), "true".to_owned());
    }
    all
}

fn map(matches: &Matches, flag: &str) -> Option<BTreeMap<String, String>> {
    let map = env::map(&matches.list(flag));
    if map.is_empty() { None } else { Some(map) }
}

struct Volumes {
    binds: Vec<String>,
    anonymous: BTreeMap<String, Empty>,
}

fn volumes(values: &[String]) -> Result<Volumes, Failure> {
    let mut volumes = Volumes { binds: Vec::new(), anonymous: BTreeMap::new() };
    for value in values {
        match volume::parse(value).map_err(Failure::Refused)? {
            Volume::Anonymous(path) => {
                volumes.anonymous.insert(path, Empty {});
            }
            Volume::Bind(bind) if !volumes.binds.contains(&bind) => volumes.binds.push(bind),
            Volume::Bind(_) => {}
        }
    }
    Ok(volumes)
}

fn tmpfs(matches: &Matches) -> Option<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for value in matches.list("tmpfs") {
        let (path, options) = value.split_once(':').unwrap_or((&value, ""));
        all.insert(path.to_owned(), options.to_owned());
    }
    if all.is_empty() { None } else { Some(all) }
}

fn log_config(matches: &Matches) -> Result<LogConfig, Failure> {
    let (driver, options) = (matches.str("log-driver"), matches.list("log-opt"));
    if driver == "none" && !options.is_empty() {
        return Err(Failure::refused("invalid logging opts for driver none"));
    }
    Ok(LogConfig { kind: driver.to_owned(), config: env::map(&options) })
}

fn storage_options(matches: &Matches) -> Result<Option<BTreeMap<String, String>>, Failure> {
    let values = matches.list("storage-opt");
    if values.iter().any(|v| !v.contains('=')) {
        return Err(Failure::refused("invalid storage option"));
    }
    Ok(map(matches, "storage-opt"))
}

/// Flags that only an engine on Windows knows.
fn refuse_windows(matches: &Matches) -> Result<(), Failure> {
    match ["cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"].iter().find(|f| matches.changed(f)) {
        Some(flag) => Err(Failure::Status {
            text: format!(
                "\"--{flag}\" is only supported on an engine running on windows, but this one is running on linux"
            ),
            code: 1,
        }),
        None => Ok(()),
    }
}

/// Namespace modes that no engine knows are refused here, as docker's client does.
fn check_namespaces(matches: &Matches) -> Result<(), Failure> {
    let shared = |mode: &str| mode.is_empty() || mode == "host";
    let pid = matches.str("pid");
    if !shared(pid) && pid.strip_prefix("container:").is_none_or(str::is_empty) {
        return Err(Failure::refused("--pid: invalid PID mode"));
    }
    if !shared(matches.str("uts")) {
        return Err(Failure::refused("--uts: invalid UTS mode"));
    }
    if !shared(matches.str("userns")) {
        return Err(Failure::refused("--userns: invalid USER mode"));
    }
    if !shared(matches.str("cgroupns")) && matches.str("cgroupns") != "private" {
        return Err(Failure::refused("--cgroupns: invalid CGROUP mode"));
    }
    Ok(())
}

fn health(matches: &Matches) -> Result<Option<HealthConfig>, Failure> {
    let command = matches.str("health-cmd");
    let numbers = [
        ("health-interval", matches.duration_ns("health-interval")),
        ("health-timeout", matches.duration_ns("health-timeout")),
        ("health-retries", matches.int("health-retries")),
        ("health-start-period", matches.duration_ns("health-start-period")),
        ("health-start-interval", matches.duration_ns("health-start-interval")),
    ];
    let wanted = !command.is_empty() || numbers.iter().any(|(_, n)| *n != 0);
    if matches.bool("no-healthcheck") {
        if wanted {
            return Err(Failure::refused("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }));
    }
    if !wanted {
        return Ok(None);
    }
    if let Some((flag, _)) = numbers.iter().find(|(_, n)| *n < 0) {
        return Err(Failure::Refused(format!("--{flag} cannot be negative")));
    }
    let [(_, interval), (_, timeout), (_, retries), (_, start_period), (_, start_interval)] = numbers;
    let test = (!command.is_empty()).then(|| vec!["CMD-SHELL".to_owned(), command.to_owned()]);
    Ok(Some(HealthConfig { test, interval, timeout, start_period, start_interval, retries }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_one_spelling() {
        let names = |n: &[&str]| n.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let (add, drop) =
            capabilities(&names(&["net_admin", "CAP_NET_ADMIN", "chown"]), &names(&["ALL", "x"]));
        assert_eq!((add, drop), (names(&["CAP_CHOWN", "CAP_NET_ADMIN"]), names(&["ALL"])));
        let (_, drop) = capabilities(&names(&["a"]), &names(&["a", "b"]));
        assert_eq!(drop, ["CAP_B"]);
    }
}
