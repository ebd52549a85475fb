//! Where a registry is reached: mirrors first, then itself; with TLS unless it is said, or known, to be
//! without.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use seacow_spec::reference::DEFAULT_DOMAIN;

use crate::error::RegistryError;

/// Docker Hub's registry: its name is not its host.
const HUB_HOST: &str = "registry-1.docker.io";

/// What the administrator says about registries.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Registries that may be without TLS, or have a certificate that nobody vouches for: hosts with or without
    /// port, or networks (`10.0.0.0/8`). Those on this machine are of them.
    pub insecure: Vec<String>,
    /// What is asked first, by domain; of `*` for all domains that are not named.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Directories in which a directory `HOST[:PORT]` has a registry's certificates: `*.crt` whom to trust,
    /// `*.cert` and `*.key` who we are.
    pub certificates: Vec<PathBuf>,
}

/// One way to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://example.com:5000`, without a slash at its end.
    pub base: String,
    /// Host and port, by which certificates are found.
    pub host: String,
    /// Whether its certificate has to be good.
    pub verified: bool,
    /// It holds copies: what it does not have the next one may.
    pub mirror: bool,
}

impl Settings {
    /// The ways to the registry of a domain, in the order in which they are tried.
    pub fn endpoints(&self, domain: &str) -> Vec<Endpoint> {
        let mirrors = self.mirrors.get(domain).or_else(|| self.mirrors.get("*"));
        let mut all: Vec<Endpoint> =
            mirrors.into_iter().flatten().flat_map(|mirror| self.ways_to(mirror, true)).collect();
        let host = if domain == DEFAULT_DOMAIN { HUB_HOST } else { domain };
        all.extend(self.ways_to(host, false));
        all
    }

    /// The ways to a host that is no domain of names.
    pub(crate) fn ways(&self, host: &str) -> Vec<Endpoint> {
        self.ways_to(host, false)
    }

    /// `place` is a host, or the beginning of a URL.
    fn ways_to(&self, place: &str, mirror: bool) -> Vec<Endpoint> {
        let place = place.trim_end_matches('/');
        let (scheme, host) = match place.split_once("://") {
            Some((scheme, host)) => (Some(scheme), host),
            None => (None, place),
        };
        let insecure = self.is_insecure(host);
        let way = |scheme: &str| Endpoint {
            base: format!("{scheme}://{host}"),
            host: host.split('/').next().unwrap_or(host).to_owned(),
            verified: !insecure,
            mirror,
        };
        match scheme {
            Some(scheme) => vec![way(scheme)],
            None if insecure => vec![way("https"), way("http")],
            None => vec![way("https")],
        }
    }

    fn is_insecure(&self, host: &str) -> bool {
        let host = host.split('/').next().unwrap_or(host);
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let address: Option<IpAddr> = name.trim_start_matches('[').trim_end_matches(']').parse().ok();
        name == "localhost"
            || address.is_some_and(|address| address.is_loopback())
            || self.insecure.iter().any(|entry| {
                entry == host
                    || entry == name
                    || matches!((entry.parse::<IpNet>(), address), (Ok(net), Some(address)) if net.contains(&address))
            })
    }

    /// The directories with certificates for a host that exist.
    pub(crate) fn certificate_dirs(&self, host: &str) -> Vec<PathBuf> {
        // A host is a part of a name and has no slash; a domain of dots alone is none.
        let plain = !host.is_empty() && !host.contains('/') && !host.bytes().all(|b| b == b'.');
        let dirs = self.certificates.iter().map(|dir| dir.join(host));
        dirs.filter(|dir| plain && Path::is_dir(dir)).collect()
    }
}

/// Ways that were tried in vain.
#[derive(Debug, Default)]
pub(crate) struct Tries(Option<RegistryError>);

impl Tries {
    /// Notes why a way led nowhere. A registry that answered has answered, and that is the end; a mirror, or one
    /// that is not reached so, may just not be it.
    pub(crate) fn failed(&mut self, way: &Endpoint, error: RegistryError) -> Result<(), RegistryError> {
        if !way.mirror && !matches!(error, RegistryError::Exchange { .. }) {
            return Err(error);
        }
        tracing::debug!(way = way.base, %error, "a way to a registry");
        // Of two ways to one registry the first one's failure says little.
        self.0 = Some(error);
        Ok(())
    }

    /// There are no more.
    pub(crate) fn all_in_vain(self, domain: &str) -> RegistryError {
        self.0.unwrap_or_else(|| RegistryError::Refused(format!("there is no way to the registry {domain}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bases(settings: &Settings, domain: &str) -> Vec<String> {
        settings.endpoints(domain).into_iter().map(|endpoint| endpoint.base).collect()
    }

    #[test]
    fn ways_to_registries() {
        let mut settings = Settings::default();
        assert_eq!(bases(&settings, "docker.io"), ["https://registry-1.docker.io"]);
        assert_eq!(bases(&settings, "example.com"), ["https://example.com"]);
        for here in ["localhost:5000", "127.0.0.1:5000", "127.8.0.1", "[::1]:5000"] {
            assert_eq!(bases(&settings, here), [format!("https://{here}"), format!("http://{here}")]);
            assert!(!settings.endpoints(here)[0].verified);
        }
        settings.insecure = vec!["10.1.0.0/16".into(), "lab".into(), "lab2:5000".into()];
        assert_eq!(bases(&settings, "10.1.2.3:5000").len(), 2);
        assert_eq!(bases(&settings, "10.2.2.3:5000").len(), 1);
        assert_eq!(bases(&settings, "lab:5001").len(), 2);
        assert_eq!((bases(&settings, "lab2:5000").len(), bases(&settings, "lab2:5001").len()), (2, 1));
    }

    #[test]
    fn mirrors_come_first() {
        let mut settings = Settings::default();
        settings.mirrors.insert("docker.io".into(), vec!["https://mirror.example/".into()]);
        settings.mirrors.insert("*".into(), vec!["http://cache:5000/all".into()]);
        assert_eq!(bases(&settings, "docker.io"), ["https://mirror.example", "https://registry-1.docker.io"]);
        assert_eq!(bases(&settings, "ghcr.io"), ["http://cache:5000/all", "https://ghcr.io"]);
        let all = settings.endpoints("ghcr.io");
        assert_eq!((all[0].host.as_str(), all[0].mirror, all[1].mirror), ("cache:5000", true, false));
    }
}
