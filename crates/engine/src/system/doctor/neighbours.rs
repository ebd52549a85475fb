//! Who else is here: the resolver, another container engine.

use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;

use seacow_net::resolv::{self, ResolvConf};
use seacow_spec::docker::system::Check;

use super::{failed, ok, warning};
use crate::Config;

const DOCKER_SOCKETS: [&str; 2] = ["/run/docker.sock", "/var/run/docker.sock"];
const DOCKER_ROOT: &str = "/var/lib/docker";

/// What containers ask that bring no servers of their own, as the start of one would find out.
pub(super) fn resolver(config: &Config) -> Check {
    let name = "name servers";
    let (file, behind) = (Path::new(resolv::HOST_FILE), Path::new(resolv::RESOLVED_FILE));
    let host = match resolv::read_host(file, behind) {
        Ok(host) => host,
        Err(error) => {
            let found = format!("Cannot {error}: {}.", error.source);
            return warning(name, found, "Make the file readable, or give seacowd --dns.");
        }
    };
    let dns = config.dns.iter().copied().map(IpAddr::from).collect();
    let made = resolv::for_container(&host, &resolv::Overrides { dns, ..resolv::Overrides::default() });
    let servers: Vec<String> =
        ResolvConf::parse(&made.text).nameservers.iter().map(ToString::to_string).collect();
    if let Some(why) = made.warnings.first() {
        let mend =
            "Give seacowd --dns with a server that containers reach, or the option to single containers.";
        return warning(name, sentence(why), mend);
    }
    ok(name, format!("Containers ask {}.", servers.join(", ")))
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
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
