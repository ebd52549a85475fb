//! The three files that every container gets from its engine: hosts, hostname, resolv.conf.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use seacow_net::resolv::{self, Overrides};
use seacow_spec::ContainerId;

use super::{Endpoint, Mode};
use crate::config::Config;
use crate::container::{ContainerError, Record};
use crate::lsm::relabel;

/// What the files say, apart from addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    hostname: String,
    domainname: String,
    extra_hosts: Vec<String>,
    dns: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
    /// The files are the host's own.
    host: bool,
}

impl Names {
    /// Of a container that asks for nothing.
    pub(crate) fn default_of(id: &ContainerId) -> Self {
        Self { hostname: id.short().to_owned(), ..Self::default() }
    }

    /// Of this container.
    pub(crate) fn of(record: &Record) -> Self {
        let host = &record.host_config;
        Self {
            hostname: record.config.hostname.clone(),
            domainname: record.config.domainname.clone(),
            extra_hosts: host.extra_hosts.clone().unwrap_or_default(),
            dns: host.dns.clone(),
            search: host.dns_search.clone(),
            options: host.dns_options.clone(),
            host: record.network == Mode::Host,
        }
    }

    /// Writes all three into `dir`.
    pub(crate) fn write(
        &self,
        dir: &Path,
        endpoint: Option<&Endpoint>,
        config: &Config,
    ) -> Result<(), ContainerError> {
        let put = |name: &str, text: String| {
            let path = dir.join(name);
            write_readable(&path, &text).map_err(|error| ContainerError::io("write", &path, error))
        };
        put("hostname", seacow_net::hosts::hostname_file(&self.hostname))?;
        put("hosts", self.hosts(endpoint)?)?;
        put("resolv.conf", self.resolv_conf(config)?)
    }

    fn hosts(&self, endpoint: Option<&Endpoint>) -> Result<String, ContainerError> {
        let gateway = endpoint.map_or(Ipv4Addr::LOCALHOST, |endpoint| endpoint.gateway);
        let extra: Vec<_> = self
            .extra_hosts
            .iter()
            .map(|entry| crate::container::normalize::extra_host(entry, gateway))
            .collect::<Result<_, _>>()?;
        if !self.host {
            let address = endpoint.map(|endpoint| endpoint.address);
            return Ok(seacow_net::hosts::hosts(address, &self.hostname, &self.domainname, &[], &extra));
        }
        // A host without the file is a host with an empty one.
        let mut text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        if !text.ends_with('\n') && !text.is_empty() {
            text.push('\n');
        }
        for (name, address) in extra {
            let _ = writeln!(text, "{address}\t{name}");
        }
        Ok(text)
    }

    fn resolv_conf(&self, config: &Config) -> Result<String, ContainerError> {
        let host = resolv::read_host(Path::new(resolv::HOST_FILE), Path::new(resolv::RESOLVED_FILE))
            .map_err(|error| ContainerError::io("read", &error.path, error.source))?;
        let mut dns: Vec<IpAddr> = self.dns.iter().filter_map(|server| server.parse().ok()).collect();
        if dns.is_empty() {
            dns = config.dns.iter().copied().map(IpAddr::from).collect();
        }
        let overrides = Overrides { dns, search: self.search.clone(), options: self.options.clone() };
        let made = if self.host {
            resolv::for_host_network(&host, &overrides)
        } else {
            resolv::for_container(&host, &overrides)
        };
        for warning in made.warnings {
            tracing::debug!(warning);
        }
        Ok(made.text)
    }
}

/// Gives the files to the container's root, where that is another than ours, and the label of the
/// container's files, where it has one.
pub(crate) fn give(dir: &Path, owner: Option<(u32, u32)>, label: &str) -> Result<(), ContainerError> {
    if owner.is_none() && label.is_empty() {
        return Ok(());
    }
    ["hostname", "hosts", "resolv.conf"].map(|name| dir.join(name)).iter().try_for_each(|path| {
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .map_err(|error| ContainerError::io("change the owner of", path, error))?;
        }
        if label.is_empty() {
            return Ok(());
        }
        relabel::file(path, label).map_err(|error| ContainerError::io("label", path, error))
    })
}

/// Writes a file that every user of the container may read, whatever the daemon's umask.
fn write_readable(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    Ok(rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(0o644))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_the_container_and_what_was_added() {
        let endpoint = Endpoint {
            id: String::new(),
            address: Ipv4Addr::new(172, 17, 0, 2),
            prefix: 16,
            gateway: Ipv4Addr::new(172, 17, 0, 1),
            mac: [2; 6],
            ports: Vec::new(),
        };
        let names = Names {
            hostname: "web".into(),
            domainname: "example.org".into(),
            extra_hosts: vec!["gw:host-gateway".into()],
            ..Names::default()
        };
        let text = names.hosts(Some(&endpoint)).unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("172.17.0.1\tgw\n172.17.0.2\tweb.example.org web\n"), "{text}");
        let host = Names { host: true, ..names }.hosts(None).unwrap();
        assert!(host.ends_with("127.0.0.1\tgw\n"), "{host}");
    }
}
