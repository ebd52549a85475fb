//! `GET /containers/json`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use seacow_spec::docker::container::{ContainerConfig, ContainerSummary, SummaryHostConfig, SummaryNetworks};
use seacow_spec::docker::network::Port;
use seacow_spec::lifecycle::State;
use seacow_spec::{Reference, Timestamp};

use super::record::Record;
use super::{Container, ContainerError};
use crate::Engine;
use crate::error::EngineError;
use crate::filter::{FilterError, Filters};

const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
const STATUSES: [&str; 7] = ["created", "dead", "exited", "paused", "removing", "restarting", "running"];
const HEALTHS: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

/// Which containers are listed.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Also those that do not run.
    pub all: bool,
    /// Only so many of the youngest (then of all states); 0 and less is no limit.
    pub limit: i64,
    /// With their sizes, which takes long.
    pub size: bool,
    /// Only these.
    pub filters: Filters,
}

impl Engine {
    /// Containers that match, youngest first.
    ///
    /// # Errors
    /// A filter is unknown or malformed, or names a container that does not exist.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<ContainerSummary>, EngineError> {
        let select = Select::new(self, &options)?;
        let mut containers = self.containers_by_age();
        containers.retain(|(container, created)| select.matches(container, *created));
        if let Ok(limit @ 1..) = usize::try_from(options.limit) {
            containers.truncate(limit);
        }
        let mut rows: Vec<ContainerSummary> =
            containers.iter().map(|(container, _)| self.summary(container)).collect();
        if options.size {
            for ((container, _), row) in containers.iter().zip(&mut rows) {
                let size = self.sizes(container).await?;
                row.size_rw = Some(size.own);
                row.size_root_fs = Some(size.root);
            }
        }
        Ok(rows)
    }

    fn containers_by_age(&self) -> Vec<(Arc<Container>, Timestamp)> {
        let all = self.0.containers.all().into_iter();
        let mut all: Vec<_> = all
            .map(|container| {
                let created = container.cell().record.created;
                (container, created)
            })
            .collect();
        all.sort_by_key(|(_, created)| std::cmp::Reverse(*created));
        all
    }

    fn summary(&self, container: &Container) -> ContainerSummary {
        let cell = container.cell();
        let record = &cell.record;
        ContainerSummary {
            id: record.id.to_string(),
            names: vec![format!("/{}", record.name)],
            image: self.image_shown(record),
            image_id: record.image_id.to_string(),
            command: command(record),
            created: record.created.unix_seconds(),
            ports: if cell.is_alive() { ports(record) } else { Vec::new() },
            size_rw: None,
            size_root_fs: None,
            labels: record.config.labels.clone().unwrap_or_default(),
            state: state_word(record).into(),
            status: status(record, Timestamp::now()),
            host_config: SummaryHostConfig { network_mode: record.host_config.network_mode.clone() },
            network_settings: SummaryNetworks { networks: self.endpoint_settings(record) },
            mounts: record.mounts.iter().map(|mount| mount.point.clone()).collect(),
        }
    }

    /// The image's name while it still means the container's image, its id otherwise.
    fn image_shown(&self, record: &Record) -> String {
        let named = record.image().parse::<Reference>().ok().and_then(|name| self.image_id_of(&name));
        let is_host = record.image().parse::<Reference>().is_ok_and(|name| name.is_host());
        match named {
            Some(id) if id == record.image_id => record.image().to_owned(),
            None if is_host => record.image().to_owned(),
            Some(_) | None => record.image_id.to_string(),
        }
    }
}

/// The filters of one request, read once.
struct Select {
    filters: Filters,
    all: bool,
    exited: HashSet<i32>,
    /// Older than this one, younger than that one.
    before: Option<Timestamp>,
    since: Option<Timestamp>,
    /// Image ids; `None` is any.
    ancestors: Option<HashSet<String>>,
}

impl Select {
    fn new(engine: &Engine, options: &ListOptions) -> Result<Self, EngineError> {
        let filters = options.filters.clone();
        filters.only(FILTERS)?;
        let among = |key: &str, known: &[&str]| match filters.values(key).find(|value| !known.contains(value))
        {
            Some(bad) => Err(FilterError::BadValue(key.to_owned(), bad.to_owned())),
            None => Ok(()),
        };
        among("status", &STATUSES)?;
        among("health", &HEALTHS)?;
        filters.boolean("is-task")?;
        let exited = filters
            .values("exited")
            .map(|code| code.parse().map_err(|_| FilterError::BadValue("exited".into(), code.into())))
            .collect::<Result<_, _>>()?;
        let created = |key: &str| -> Result<Option<Timestamp>, ContainerError> {
            let found = filters.values(key).map(|name| engine.0.containers.find(name));
            let times: Result<Vec<Timestamp>, _> =
                found.map(|found| found.map(|container| container.cell().record.created)).collect();
            // Several: the narrowest window.
            Ok(if key == "before" { times?.into_iter().min() } else { times?.into_iter().max() })
        };
        let (before, since) = (created("before")?, created("since")?);
        let ancestors = filters.contains("ancestor").then(|| engine.descendants(filters.values("ancestor")));
        let by_state = filters.contains("status") || filters.contains("exited");
        Ok(Self {
            all: options.all || options.limit > 0 || by_state,
            exited,
            before,
            since,
            ancestors,
            filters,
        })
    }

    fn matches(&self, container: &Container, created: Timestamp) -> bool {
        let cell = container.cell();
        let record = &cell.record;
        let filters = &self.filters;
        (self.all || cell.is_alive())
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
            && filters.prefix("id", record.id.as_str())
            && (filters.pattern("name", &record.name) || filters.pattern("name", &format!("/{}", record.name)))
            && filters.exact("status", state_word(record))
            && filters.labels("label", record.config.labels.as_ref().unwrap_or(&BTreeMap::new()))
            && self.exited_so(record)
            && self.ancestors.as_ref().is_none_or(|ids| ids.contains(record.image_id.as_str()))
            && has_volume(filters, record)
            && has_network(filters, record)
            && exposes(filters, &record.config)
            && publishes(filters, record)
            // No container has a health status or a swarm's task yet.
            && filters.exact("health", "none")
            && filters.exact("isolation", "default")
            && filters.boolean("is-task").is_ok_and(|task| task != Some(true))
    }

    fn exited_so(&self, record: &Record) -> bool {
        self.exited.is_empty()
            || matches!(&record.state, State::Exited { exit, .. } if self.exited.contains(&exit.code))
    }
}

fn has_volume(filters: &Filters, record: &Record) -> bool {
    !filters.contains("volume")
        || record.mounts.iter().any(|mount| {
            let point = &mount.point;
            filters.values("volume").any(|wanted| {
                wanted == point.destination
                    || wanted == point.name
                    || (point.name.is_empty() && wanted == point.source)
            })
        })
}

fn has_network(filters: &Filters, record: &Record) -> bool {
    !filters.contains("network")
        || record.network.network().is_some_and(|network| filters.exact("network", network.name()))
}

/// `80`, `80/tcp`, `80-90/udp`.
fn exposes(filters: &Filters, config: &ContainerConfig) -> bool {
    let exposed = || config.exposed_ports.iter().flatten().filter_map(|(port, _)| parse_port(port));
    !filters.contains("expose")
        || filters.values("expose").any(|wanted| {
            let Some((range, protocol)) = port_range(wanted) else { return false };
            exposed().any(|(port, kind)| kind == protocol && range.contains(&port))
        })
}

/// `80/tcp`, or `80`.
pub(super) fn parse_port(text: &str) -> Option<(u16, &str)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    Some((port.parse().ok()?, protocol))
}

/// Published ports first with where they are, then those that are exposed only.
fn ports(record: &Record) -> Vec<Port> {
    let published = record.endpoint.iter().flat_map(|endpoint| &endpoint.ports).map(|mapping| Port {
        ip: mapping.address().to_string(),
        private_port: mapping.port,
        public_port: Some(mapping.host),
        kind: mapping.protocol.clone(),
    });
    let mut ports: Vec<Port> = published.collect();
    let exposed = record.config.exposed_ports.iter().flatten().filter_map(|(port, _)| parse_port(port));
    for (private_port, kind) in exposed {
        if !ports.iter().any(|port| port.private_port == private_port && port.kind == kind) {
            ports.push(Port { ip: String::new(), private_port, public_port: None, kind: kind.to_owned() });
        }
    }
    ports
}

/// `8080`, `8080/tcp`, `8080-8090/udp`.
fn publishes(filters: &Filters, record: &Record) -> bool {
    let published = || record.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    !filters.contains("publish")
        || filters.values("publish").any(|wanted| {
            let Some((range, protocol)) = port_range(wanted) else { return false };
            published().any(|mapping| mapping.protocol == protocol && range.contains(&mapping.host))
        })
}

/// `80`, `80/tcp`, `80-90/udp`.
fn port_range(text: &str) -> Option<(std::ops::RangeInclusive<u16>, &str)> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    Some((low.parse().ok()?..=high.parse().ok()?, protocol))
}

/// The program with its arguments, those with blanks in quotes.
fn command(record: &Record) -> String {
    let words = record.command();
    let quoted = words.iter().enumerate().map(|(index, word)| {
        if index > 0 && word.contains(' ') { format!("'{word}'") } else { word.clone() }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Docker's word for the state. A container whose restart failed has run before.
pub(super) fn state_word(record: &Record) -> &'static str {
    record.state.status()
}

/// `Up 5 seconds`, `Exited (0) 2 minutes ago`, …
pub(super) fn status(record: &Record, now: Timestamp) -> String {
    let ago = |then: Timestamp| human_duration((now.unix_nanos() - then.unix_nanos()) / 1_000_000_000);
    match &record.state {
        State::Running { since, .. } => format!("Up {}", ago(*since)),
        State::Paused { since, .. } => format!("Up {} (Paused)", ago(*since)),
        State::Exited { exit, .. } => format!("Exited ({}) {} ago", exit.code, ago(exit.at)),
        State::Created { .. } | State::Starting => "Created".into(),
        State::Removing => "Removal In Progress".into(),
    }
}

/// Docker's rounding: one unit, the largest that fits.
fn human_duration(seconds: i128) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match (seconds, minutes, hours) {
        (..1, ..) => "Less than a second".into(),
        (1, ..) => "1 second".into(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".into(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".into(),
        (.., ..48) => format!("{hours} hours"),
        (.., ..336) => format!("{} days", hours / 24),
        (.., ..1440) => format!("{} weeks", hours / 24 / 7),
        (.., ..17_520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_docker_s() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (730 * 86_400, "2 years"),
        ] {
            assert_eq!(human_duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn ports_of_the_expose_filter() {
        let config = ContainerConfig {
            exposed_ports: Some(
                [("80/tcp".to_owned(), Default::default()), ("53/udp".to_owned(), Default::default())].into(),
            ),
            ..Default::default()
        };
        let of = |value: &str| exposes(&Filters::default().with("expose", value), &config);
        assert!(of("80") && of("80/tcp") && of("50-60/udp"));
        assert!(!of("53") && !of("81-90") && !of("x"));
    }
}
