//! The event bus: what happened, to whoever listens, and the recent past for those who come late.
//!
//! One ring of the last [`RING`] events and one broadcast channel. Publishing and subscribing hold
//! the ring's lock, so that a subscriber sees every event exactly once, in one order.

mod select;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use seacow_spec::Timestamp;
use seacow_spec::docker::event::{Actor, Event};
use tokio::sync::broadcast;

use crate::blocking::lock;
use crate::error::EngineError;
use crate::filter::Filters;
use crate::{Engine, apitime};

/// Events that `since` can bring back; Docker's number.
const RING: usize = 256;
/// Events a slow listener may lag behind before it loses the oldest.
const BACKLOG: usize = 2048;

/// Distributes events. See the module's text.
#[derive(Debug)]
pub struct EventBus {
    ring: Mutex<VecDeque<Arc<Event>>>,
    sender: broadcast::Sender<Arc<Event>>,
}

impl Default for EventBus {
    fn default() -> Self {
        Self { ring: Mutex::new(VecDeque::with_capacity(RING)), sender: broadcast::channel(BACKLOG).0 }
    }
}

/// Which events a client asked for. Times are the API's: seconds with a fraction, RFC 3339, or a
/// duration back from now; empty is none.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Replay from here.
    pub since: String,
    /// End here.
    pub until: String,
    /// Only these.
    pub filters: Filters,
}

/// Builds an event of the present moment. `kind` is `container`, `image`, `network`, `volume`, …
pub fn event(kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) -> Event {
    let now = Timestamp::now();
    // Only containers and images carry the fields of old clients.
    let old_style = matches!(kind, "container" | "image");
    Event {
        status: old_style.then(|| action.to_owned()),
        id: old_style.then(|| id.to_owned()),
        from: (kind == "container").then(|| attributes.get("image").cloned().unwrap_or_default()),
        kind: kind.to_owned(),
        action: action.to_owned(),
        actor: Actor { id: id.to_owned(), attributes },
        scope: "local".into(),
        time: now.unix_seconds(),
        time_nano: i64::try_from(now.unix_nanos()).unwrap_or(i64::MAX),
    }
}

impl EventBus {
    /// Publishes. Never waits.
    pub fn emit(&self, event: Event) {
        let event = Arc::new(event);
        let mut ring = lock(&self.ring);
        if ring.len() == RING {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(&event));
        // An error means that nobody listens.
        let _ = self.sender.send(event);
    }

    fn subscribe(
        &self,
        wanted: impl Fn(&Event) -> bool,
    ) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let ring = lock(&self.ring);
        (ring.iter().filter(|event| wanted(event)).cloned().collect(), self.sender.subscribe())
    }
}

impl Engine {
    /// Publishes an event.
    pub fn emit(&self, event: Event) {
        self.events_bus().emit(event);
    }

    /// The events a client asked for: the replay it wants, then live ones until `until`.
    ///
    /// # Errors
    /// A time cannot be read, `since` is after `until`, or a filter's key is unknown.
    pub fn events(
        &self,
        filter: EventFilter,
    ) -> Result<impl Stream<Item = Arc<Event>> + Send + use<>, EngineError> {
        filter.filters.only(select::KEYS)?;
        let since = apitime::parse(&filter.since)?;
        let until = apitime::parse(&filter.until)?;
        if let (Some(since), Some(until)) = (since, until)
            && since > until
        {
            return Err(apitime::TimeError::Order { since: filter.since, until: filter.until }.into());
        }
        let wanted = Arc::new(filter.filters);
        let replay = since.is_some() || until.is_some();
        let after = since.map_or(i128::MIN, Timestamp::unix_nanos);
        let before = until.map_or(i128::MAX, Timestamp::unix_nanos);
        let (past, live) = self.events_bus().subscribe(|event| {
            let at = i128::from(event.time_nano);
            replay && at >= after && at <= before && select::includes(&wanted, event)
        });
        let left = until.map(|until| until.unix_nanos() - Timestamp::now().unix_nanos());
        // In the past already: the replay is all there is.
        let deadline = left.map(|nanos| {
            let left = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
            // A far future would overflow the clock's arithmetic.
            tokio::time::Instant::now() + left.min(Duration::from_secs(10 * 365 * 86_400))
        });
        let live = stream::unfold(live, move |mut receiver| async move {
            let next = receive(&mut receiver);
            let event = match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline, next).await.ok().flatten(),
                None => next.await,
            }?;
            Some((event, receiver))
        })
        .filter(move |event| std::future::ready(select::includes(&wanted, event)));
        Ok(Box::pin(stream::iter(past).chain(live)))
    }
}

/// The next event; what a listener was too slow for is skipped.
async fn receive(receiver: &mut broadcast::Receiver<Arc<Event>>) -> Option<Arc<Event>> {
    loop {
        match receiver.recv().await {
            Ok(event) => return Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "an event listener is too slow");
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_bounded_and_ordered() {
        let bus = EventBus::default();
        for n in 0..RING + 10 {
            bus.emit(event("volume", "create", &n.to_string(), BTreeMap::new()));
        }
        let (past, _live) = bus.subscribe(|_| true);
        assert_eq!(past.len(), RING);
        assert_eq!(past[0].actor.id, "10");
        assert!(past.windows(2).all(|pair| pair[0].time_nano <= pair[1].time_nano));
    }

    #[test]
    fn only_containers_and_images_have_the_old_fields() {
        let attributes = BTreeMap::from([("image".to_owned(), "bb".to_owned())]);
        let start = event("container", "start", "1", attributes);
        assert_eq!(
            (start.status.as_deref(), start.id.as_deref(), start.from.as_deref()),
            (Some("start"), Some("1"), Some("bb"))
        );
        let connect = event("network", "connect", "1", BTreeMap::new());
        assert_eq!((connect.status, connect.id, connect.from), (None, None, None));
    }
}
