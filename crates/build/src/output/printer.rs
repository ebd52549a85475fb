//! Whose turn it is to speak, and what waits for its turn.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use seacow_spec::Digest;
use seacow_spec::docker::build::{BUILD_EVENT, BuildEvent, JsonMessage};

use super::{Disconnected, Sent, Sink};

/// How much of a quiet build's output is kept for the case that it fails.
const QUIET_LIMIT: usize = 4 << 20;
/// How much of a stage's output waits for its turn; one that says more waits itself. It is never
/// waited for by a stage before it, so the turn comes.
const WAITING_LIMIT: usize = 4 << 20;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The build itself, before and after all stages.
    Always,
    /// A stage, by its position among those that are built.
    Stage(usize),
}

/// One build's way to its client.
pub(crate) struct Printer {
    state: Mutex<State>,
    turned: Condvar,
    events: bool,
    disconnected: AtomicBool,
    steps: AtomicU64,
}

struct State {
    sink: Box<dyn Sink>,
    /// What a quiet build has said so far.
    quiet: Option<Kept>,
    lanes: Vec<Waiting>,
    /// The lane that speaks.
    front: usize,
}

#[derive(Default)]
struct Kept {
    messages: Vec<JsonMessage>,
    bytes: usize,
}

#[derive(Default)]
struct Waiting {
    kept: Kept,
    done: bool,
}

impl Kept {
    fn push(&mut self, message: JsonMessage) {
        self.bytes += message.stream.as_ref().map_or(0, String::len);
        self.messages.push(message);
    }
}

impl Printer {
    /// For this many stages.
    pub(crate) fn new(sink: Box<dyn Sink>, quiet: bool, events: bool, lanes: usize) -> Self {
        let lanes = (0..lanes).map(|_| Waiting::default()).collect();
        Self {
            state: Mutex::new(State { sink, quiet: quiet.then(Kept::default), lanes, front: 0 }),
            turned: Condvar::new(),
            events,
            disconnected: AtomicBool::new(false),
            steps: AtomicU64::new(0),
        }
    }

    /// Whether our own client listens.
    pub(crate) fn tells_events(&self) -> bool {
        self.events
    }

    pub(crate) fn is_disconnected(&self) -> bool {
        self.disconnected.load(Ordering::Relaxed)
    }

    /// A number for a step.
    pub(crate) fn next_step(&self) -> u64 {
        self.steps.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An event, if our client listens.
    pub(crate) fn event(&self, lane: Lane, event: BuildEvent) -> Sent {
        if !self.events {
            return Ok(());
        }
        let aux = serde_json::json!({ BUILD_EVENT: event });
        self.send(lane, JsonMessage { aux: Some(aux), ..JsonMessage::default() })
    }

    /// Sends now, or when the lane's turn comes. Events are sent at once: they say whose they are.
    pub(crate) fn send(&self, lane: Lane, message: JsonMessage) -> Sent {
        let mut state = self.state();
        let Lane::Stage(own) = lane else { return self.deliver(&mut state, message) };
        let waits = |state: &State| own > state.front && !self.events && own < state.lanes.len();
        while waits(&state) {
            if state.lanes[own].kept.bytes < WAITING_LIMIT {
                state.lanes[own].kept.push(message);
                return Ok(());
            }
            if self.is_disconnected() {
                return Err(Disconnected);
            }
            state = self.turned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.deliver(&mut state, message)
    }

    fn deliver(&self, state: &mut State, message: JsonMessage) -> Sent {
        if let Some(kept) = &mut state.quiet {
            if kept.bytes <= QUIET_LIMIT {
                kept.push(message);
            }
            return Ok(());
        }
        let sent = state.sink.send(message);
        if sent.is_err() {
            self.disconnected.store(true, Ordering::Relaxed);
            self.turned.notify_all();
        }
        sent
    }

    /// A stage has said everything: the next ones may speak.
    pub(crate) fn done(&self, lane: usize) {
        let mut state = self.state();
        if let Some(own) = state.lanes.get_mut(lane) {
            own.done = true;
        }
        while state.lanes.get(state.front).is_some_and(|lane| lane.done) {
            state.front += 1;
            let front = state.front;
            let Some(next) = state.lanes.get_mut(front) else { break };
            for message in std::mem::take(&mut next.kept).messages {
                // That nobody listens is noted, and the stage's next word fails.
                let _ = self.deliver(&mut state, message);
            }
        }
        self.turned.notify_all();
    }

    /// The one line of a quiet build that succeeded.
    pub(crate) fn quiet_result(&self, id: &Digest) -> Sent {
        let mut state = self.state();
        if state.quiet.take().is_none() {
            return Ok(());
        }
        let message = JsonMessage { stream: Some(format!("{id}\n")), ..JsonMessage::default() };
        self.deliver(&mut state, message)
    }

    /// A build failed: what waits, and what a quiet one had to say, is shown after all. The stages
    /// that were only stopped say nothing more.
    pub(crate) fn reveal(&self) -> Sent {
        let mut state = self.state();
        let kept = state.quiet.take().unwrap_or_default();
        kept.messages.into_iter().try_for_each(|message| self.deliver(&mut state, message))
    }
}
