//! Which events match a client's filters; Docker's rules.

use seacow_spec::docker::event::Event;

use crate::filter::Filters;

/// Keys that may be filtered by.
pub(super) const KEYS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

/// Actions that carry a detail after a colon (`exec_start: sh`); named without one they match all.
const WITH_DETAIL: [&str; 3] = ["health_status", "exec_create", "exec_start"];

/// Whether the event is wanted.
pub(super) fn includes(filters: &Filters, event: &Event) -> bool {
    filters.is_empty()
        || action(filters, event)
            && filters.exact("type", &event.kind)
            && filters.exact("scope", &event.scope)
            && ["container", "daemon", "network", "volume", "plugin", "node", "service", "secret", "config"]
                .iter()
                .all(|kind| subject(filters, event, kind))
            && image(filters, event)
            && filters.labels("label", &event.actor.attributes)
}

fn action(filters: &Filters, event: &Event) -> bool {
    if filters.values("event").any(|value| WITH_DETAIL.contains(&value)) {
        filters.prefix("event", &event.action)
    } else {
        filters.exact("event", &event.action)
    }
}

/// A filter by kind keeps the events of that kind whose id or name begins so.
fn subject(filters: &Filters, event: &Event, kind: &str) -> bool {
    if !filters.contains(kind) {
        return true;
    }
    let name = event.actor.attributes.get("name").map_or("", String::as_str);
    event.kind == kind && (filters.prefix(kind, &event.actor.id) || filters.prefix(kind, name))
}

/// By image: events of the image itself and of containers made from it, with or without the tag.
fn image(filters: &Filters, event: &Event) -> bool {
    let attribute = if event.kind == "image" { "name" } else { "image" };
    let name = event.actor.attributes.get(attribute).map_or("", String::as_str);
    [event.actor.id.as_str(), name]
        .iter()
        .any(|text| filters.exact("image", text) || filters.exact("image", without_tag(text)))
}

fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        // The colon of a registry's port is followed by a path.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn start() -> Event {
        let attributes = [("image", "localhost:5000/bb:1"), ("name", "web"), ("a", "b")];
        super::super::event(
            "container",
            "exec_start: sh",
            "abcdef",
            attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect::<BTreeMap<_, _>>(),
        )
    }

    #[test]
    fn wanted() {
        for (key, value) in [
            ("type", "container"),
            ("event", "exec_start"),
            ("container", "abc"),
            ("container", "web"),
            ("image", "localhost:5000/bb"),
            ("image", "localhost:5000/bb:1"),
            ("label", "a=b"),
            ("scope", "local"),
        ] {
            assert!(includes(&Filters::default().with(key, value), &start()), "{key}={value}");
        }
    }

    #[test]
    fn unwanted() {
        for (key, value) in [
            ("type", "network"),
            ("event", "start"),
            ("container", "xyz"),
            ("network", "web"),
            ("image", "bb"),
            ("label", "a=c"),
        ] {
            assert!(!includes(&Filters::default().with(key, value), &start()), "{key}={value}");
        }
    }
}
