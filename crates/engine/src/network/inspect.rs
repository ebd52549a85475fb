//! Networks as clients see them: the three that are always there.

use std::collections::BTreeMap;

use seacow_spec::docker::network::{
    ConfigReference, EndpointSettings, Ipam, IpamConfig, Network, NetworkContainer,
};

use super::{NetworkError, Predefined, mac_text};
use crate::Engine;
use crate::container::Record;
use crate::error::EngineError;
use crate::filter::Filters;

const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

impl Engine {
    /// Networks that match; without the containers on them, as Docker lists them.
    ///
    /// # Errors
    /// A filter is unknown or malformed.
    pub fn network_list(&self, filters: &Filters) -> Result<Vec<Network>, EngineError> {
        filters.only(FILTERS)?;
        // The predefined ones are never dangling.
        if filters.boolean("dangling")? == Some(true) {
            return Ok(Vec::new());
        }
        let no_labels = BTreeMap::new();
        let wanted = |network: &Network| {
            let exact_name = filters.values("name").any(|name| name == network.name);
            (exact_name || filters.pattern("name", &network.name))
                && filters.prefix("id", &network.id)
                && filters.exact("driver", &network.driver)
                && filters.exact("scope", &network.scope)
                && filters.exact("type", "builtin")
                && filters.labels("label", &no_labels)
        };
        Ok(Predefined::ALL.iter().map(|network| self.network(*network, false)).filter(wanted).collect())
    }

    /// One network, by name, id or unique beginning of an id.
    ///
    /// # Errors
    /// There is none, or several begin so.
    pub fn network_inspect(&self, reference: &str) -> Result<Network, EngineError> {
        Ok(self.network(self.find_network(reference)?, true))
    }

    /// Removing a network: none of those there are can be.
    ///
    /// # Errors
    /// Always.
    pub fn network_remove(&self, reference: &str) -> Result<(), EngineError> {
        Err(NetworkError::Predefined(self.find_network(reference)?.name()).into())
    }

    /// What is to be said of all other network verbs.
    pub fn network_unsupported(&self, verb: NetworkVerb) -> EngineError {
        NetworkError::Unsupported(match verb {
            NetworkVerb::Create => "creating networks",
            NetworkVerb::Connect => "connecting a container to a further network",
            NetworkVerb::Disconnect => "disconnecting a container from its network",
        })
        .into()
    }

    fn find_network(&self, reference: &str) -> Result<Predefined, NetworkError> {
        let id = |network: &Predefined| self.0.networks.id(*network);
        let by_name =
            Predefined::ALL.iter().find(|network| network.name() == reference || id(network) == reference);
        if let Some(network) = by_name {
            return Ok(*network);
        }
        let mut begin = Predefined::ALL
            .iter()
            .filter(|network| !reference.is_empty() && id(network).starts_with(reference));
        match (begin.next(), begin.next()) {
            (Some(network), None) => Ok(*network),
            (Some(_), Some(_)) => Err(NetworkError::Ambiguous(reference.to_owned())),
            (None, _) => Err(NetworkError::NotFound(reference.to_owned())),
        }
    }

    fn network(&self, network: Predefined, with_containers: bool) -> Network {
        let bridge = network == Predefined::Bridge;
        let config = bridge.then(|| {
            vec![IpamConfig {
                subnet: self.bridge().subnet().trunc().to_string(),
                ip_range: String::new(),
                gateway: self.bridge().gateway().to_string(),
            }]
        });
        Network {
            name: network.name().into(),
            id: self.0.networks.id(network).to_owned(),
            created: self.0.networks.created,
            scope: "local".into(),
            driver: network.driver().into(),
            enable_ipv4: true,
            enable_ipv6: false,
            ipam: Ipam { driver: "default".into(), options: None, config },
            internal: false,
            attachable: false,
            ingress: false,
            config_from: ConfigReference::default(),
            config_only: false,
            containers: if with_containers { self.members(network) } else { BTreeMap::new() },
            options: if bridge { self.bridge_options() } else { BTreeMap::new() },
            labels: BTreeMap::new(),
        }
    }

    fn bridge_options(&self) -> BTreeMap<String, String> {
        [
            ("com.docker.network.bridge.default_bridge", "true".to_owned()),
            ("com.docker.network.bridge.enable_icc", "true".to_owned()),
            ("com.docker.network.bridge.enable_ip_masquerade", "true".to_owned()),
            ("com.docker.network.bridge.name", self.bridge().name().to_owned()),
            ("com.docker.network.driver.mtu", self.bridge().mtu().to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    fn members(&self, network: Predefined) -> BTreeMap<String, NetworkContainer> {
        let containers = self.0.containers.all();
        let running = containers.iter().filter_map(|container| {
            let cell = container.cell();
            let record = &cell.record;
            (cell.is_alive() && record.network.network() == Some(network)).then(|| {
                let endpoint = record.endpoint.as_ref();
                let member = NetworkContainer {
                    name: record.name.clone(),
                    endpoint_id: endpoint.map_or_else(String::new, |endpoint| endpoint.id.clone()),
                    mac_address: endpoint.map_or_else(String::new, |endpoint| mac_text(endpoint.mac)),
                    ipv4_address: endpoint.map_or_else(String::new, |endpoint| {
                        format!("{}/{}", endpoint.address, endpoint.prefix)
                    }),
                    ipv6_address: String::new(),
                };
                (container.id.to_string(), member)
            })
        });
        running.collect()
    }

    /// A container's connections as `inspect` and lists show them; addresses only while it runs.
    pub(crate) fn endpoint_settings(&self, record: &Record) -> BTreeMap<String, EndpointSettings> {
        let Some(network) = record.network.network() else { return BTreeMap::new() };
        let mut settings = EndpointSettings {
            network_id: self.0.networks.id(network).to_owned(),
            mac_address: record.mac_address.map(mac_text).unwrap_or_default(),
            ..EndpointSettings::default()
        };
        if let Some(endpoint) = record.endpoint.as_ref().filter(|_| record.state.is_alive()) {
            settings.mac_address = mac_text(endpoint.mac);
            settings.endpoint_id.clone_from(&endpoint.id);
            settings.gateway = endpoint.gateway.to_string();
            settings.ip_address = endpoint.address.to_string();
            settings.ip_prefix_len = endpoint.prefix;
        }
        BTreeMap::from([(network.name().to_owned(), settings)])
    }
}

/// Verbs on networks that seacow does not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkVerb {
    /// `network create`.
    Create,
    /// `network connect`.
    Connect,
    /// `network disconnect`.
    Disconnect,
}
