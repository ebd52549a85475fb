//! Who else is here: the resolver, another container engine.

use std::os::unix::net::UnixStream;
use std::path::Path;

use seacow_spec::docker::system::Check;

use super::super::host;
use super::{failed, ok, warning};
use crate::Config;

const DOCKER_SOCKETS: [&str; 2] = ["/run/docker.sock", "/var/run/docker.sock"];
const DOCKER_ROOT: &str = "/var/lib/docker";

pub(super) fn resolver() -> Check {
    let name = "name servers";
    let text = host::read("/etc/resolv.conf").unwrap_or_default();
    let servers: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("nameserver").map(str::trim)).collect();
    if servers.is_empty() {
        return warning(
            name,
            "/etc/resolv.conf names no server: containers cannot resolve names.",
            "Give seacowd --dns, or fill /etc/resolv.conf.",
        );
    }
    let local = |server: &&str| server.starts_with("127.") || **server == *"::1";
    if !servers.iter().all(local) {
        return ok(name, format!("Containers use {}.", servers.join(", ")));
    }
    let behind = Path::new("/run/systemd/resolve/resolv.conf").exists();
    if behind {
        return ok(
            name,
            "/etc/resolv.conf points at systemd-resolved; containers use the servers behind it.",
        );
    }
    warning(
        name,
        format!(
            "/etc/resolv.conf has only servers of this machine itself ({}), which containers cannot reach.",
            servers.join(", ")
        ),
        "Give seacowd --dns with a server that containers can reach.",
    )
}

/// Two engines get on with each other unless they share something.
pub(super) fn docker(config: &Config) -> Vec<Check> {
    let name = "docker beside us";
    let mut checks = Vec::new();
    if config.data_root.starts_with(DOCKER_ROOT) {
        checks.push(failed(
            name,
            format!("The data root {} lies in Docker's own.", config.data_root.display()),
            "Give seacowd a --data-root of its own.",
        ));
    }
    if config.bridge == "docker0" {
        checks.push(failed(
            name,
            "The bridge docker0 is Docker's: both engines would give the same addresses to different containers.",
            "Give seacowd a --bridge of its own.",
        ));
    }
    if let Some(socket) = DOCKER_SOCKETS.iter().find(|socket| UnixStream::connect(socket).is_ok()) {
        checks.push(ok(
            name,
            format!(
                "A Docker-compatible daemon answers on {socket}; roots, bridges and tables are separate."
            ),
        ));
    }
    checks
}
