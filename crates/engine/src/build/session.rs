//! What our own client offers besides files while its build runs: secrets, and its ssh agents.
//!
//! Secrets come with the request, are kept in memory, and go with the build. An agent stays where it
//! is: when a step connects to its socket, the client is told a number, and opens a connection for it
//! (`POST /build/agent?session=…&connection=…`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use seacow_build::executor::Secret;
use seacow_spec::docker::build::{BUILD_EVENT, BuildEvent, JsonMessage};
use tokio::sync::oneshot;

use crate::ClientSocket;
use crate::blocking::lock;
use crate::pipe::ProgressSender;

/// Sessions of running builds, by their names, which clients draw at random.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Arc<Session>>>);

/// One build's client.
pub(super) struct Session {
    secrets: BTreeMap<String, Secret>,
    agents: BTreeSet<String>,
    progress: ProgressSender,
    waiting: Mutex<HashMap<u64, oneshot::Sender<ClientSocket>>>,
    next: AtomicU64,
}

/// Keeps a session known; it is forgotten when dropped.
pub(super) struct Known<'a> {
    sessions: &'a Sessions,
    name: String,
}

impl Sessions {
    /// Makes a session known. A name that is known already is somebody else's, who goes on.
    pub(super) fn open(&self, name: &str, session: Arc<Session>) -> Option<Known<'_>> {
        let mut all = lock(&self.0);
        if all.contains_key(name) {
            return None;
        }
        all.insert(name.to_owned(), session);
        Some(Known { sessions: self, name: name.to_owned() })
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<Session>> {
        lock(&self.0).get(name).cloned()
    }
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        lock(&self.sessions.0).remove(&self.name);
    }
}

impl Session {
    pub(super) fn new(
        secrets: BTreeMap<String, Secret>,
        agents: BTreeSet<String>,
        progress: ProgressSender,
    ) -> Self {
        Self { secrets, agents, progress, waiting: Mutex::default(), next: AtomicU64::new(1) }
    }

    pub(super) fn secret(&self, id: &str) -> Option<Secret> {
        self.secrets.get(id).cloned()
    }

    pub(super) fn has_agent(&self, id: &str) -> bool {
        self.agents.contains(id)
    }

    /// Asks the client for a connection to its agent.
    pub(super) fn ask(&self, id: &str) -> oneshot::Receiver<ClientSocket> {
        let connection = self.next.fetch_add(1, Ordering::Relaxed);
        let (give, get) = oneshot::channel();
        lock(&self.waiting).insert(connection, give);
        let event = BuildEvent::Agent { connection, id: id.to_owned() };
        let message =
            JsonMessage { aux: Some(serde_json::json!({ BUILD_EVENT: event })), ..JsonMessage::default() };
        let progress = self.progress.clone();
        // Fails when the client is gone, and the build with it.
        tokio::task::spawn_blocking(move || progress.send(message));
        get
    }

    /// The client has come.
    pub(super) fn give(&self, connection: u64, socket: ClientSocket) {
        let waiting = lock(&self.waiting).remove(&connection);
        // Nobody waits any more when the step has ended.
        let _ = waiting.map(|waiting| waiting.send(socket));
    }
}
