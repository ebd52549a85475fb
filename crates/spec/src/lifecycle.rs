//! The states of a container and the one function that moves between them.
//!
//! ```text
//!            start           started            exited
//! Created ──────────▶ Starting ──────▶ Running ───────▶ Exited ──start──▶ Starting …
//!    │                   │ failed       │  ▲ resumed      │
//!    │                   ▼              ▼  │              │
//!    │              Exited/Created    Paused ──exited──▶  │
//!    └──────────── removing ───────────────────────────── ▼
//!                                                      Removing
//! ```
//!
//! A failed start leaves a container `Created` with the exit code and the reason kept, as Docker
//! does. Daemon, shim and runtime use the same function, so that none of them can invent a state.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// How a container's main process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 0–255; 128+n after signal n.
    pub code: i32,
    /// When the kernel reported it.
    pub at: Timestamp,
    /// Whether the kernel's OOM killer struck in the container.
    #[serde(default)]
    pub oom_killed: bool,
    /// Why, where the code does not say it (shim lost, daemon's view of a crash).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a container is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Made, never started successfully. `failure` is the last failed start.
    Created {
        /// The last failed start, if any.
        failure: Option<Exit>,
    },
    /// A start is under way.
    Starting,
    /// The main process runs.
    Running {
        /// Pid as the host sees it.
        pid: i32,
        /// When its program was executed.
        since: Timestamp,
    },
    /// All processes are frozen.
    Paused {
        /// Pid as the host sees it.
        pid: i32,
        /// When its program was executed.
        since: Timestamp,
    },
    /// The main process ended.
    Exited {
        /// When its program was executed.
        since: Timestamp,
        /// How it ended.
        exit: Exit,
    },
    /// Being removed; nothing else may happen to it.
    Removing,
}

/// What can happen to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody asked for a start.
    Start,
    /// The program was executed.
    Started {
        /// Pid as the host sees it.
        pid: i32,
        /// When.
        at: Timestamp,
    },
    /// The program could not be executed.
    StartFailed(Exit),
    /// All processes were frozen.
    Paused,
    /// All processes were thawed.
    Resumed,
    /// The main process goes on as another one on the host.
    Moved {
        /// As the host sees it.
        pid: i32,
    },
    /// The main process ended.
    Exited(Exit),
    /// Somebody asked for its removal.
    Remove,
}

/// An event that cannot happen in this state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen to a container that is {state}")]
pub struct IllegalTransition {
    /// The state, which did not change.
    pub state: State,
    /// The event that was refused.
    pub event: Event,
}

impl State {
    /// Docker's word for it: created, running, paused, exited, removing.
    pub fn status(&self) -> &'static str {
        match self {
            Self::Created { .. } | Self::Starting => "created",
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Exited { .. } => "exited",
            Self::Removing => "removing",
        }
    }

    /// Pid of the main process, while there is one.
    pub fn pid(&self) -> Option<i32> {
        match self {
            Self::Running { pid, .. } | Self::Paused { pid, .. } => Some(*pid),
            Self::Created { .. } | Self::Starting | Self::Exited { .. } | Self::Removing => None,
        }
    }

    /// Whether a main process exists (running or frozen).
    pub fn is_alive(&self) -> bool {
        self.pid().is_some()
    }

    /// How the last run ended, if it did.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            Self::Exited { exit, .. } => Some(exit),
            Self::Created { failure } => failure.as_ref(),
            Self::Starting | Self::Running { .. } | Self::Paused { .. } | Self::Removing => None,
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.status())
    }
}

/// The state after `event`.
///
/// # Errors
/// The event cannot happen in this state; the state is unchanged.
pub fn apply(state: State, event: Event) -> Result<State, IllegalTransition> {
    match (state, event) {
        (State::Created { .. } | State::Exited { .. }, Event::Start) => Ok(State::Starting),
        (State::Starting, Event::Started { pid, at }) => Ok(State::Running { pid, since: at }),
        (State::Starting, Event::StartFailed(exit)) => Ok(State::Created { failure: Some(exit) }),
        (State::Running { pid, since }, Event::Paused) => Ok(State::Paused { pid, since }),
        (State::Paused { pid, since }, Event::Resumed) => Ok(State::Running { pid, since }),
        (State::Running { since, .. }, Event::Moved { pid }) => Ok(State::Running { pid, since }),
        (State::Paused { since, .. }, Event::Moved { pid }) => Ok(State::Paused { pid, since }),
        (State::Running { since, .. } | State::Paused { since, .. }, Event::Exited(exit)) => {
            Ok(State::Exited { since, exit })
        }
        (State::Created { .. } | State::Exited { .. }, Event::Remove) => Ok(State::Removing),
        (
            state @ (State::Created { .. }
            | State::Starting
            | State::Running { .. }
            | State::Paused { .. }
            | State::Exited { .. }
            | State::Removing),
            event,
        ) => Err(IllegalTransition { state, event }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> Exit {
        Exit { code, at: Timestamp::UNIX_EPOCH, oom_killed: false, reason: None }
    }

    #[test]
    fn a_whole_life() {
        let at = Timestamp::UNIX_EPOCH;
        let mut state = State::Created { failure: None };
        for (event, status) in [
            (Event::Start, "created"),
            (Event::Started { pid: 7, at }, "running"),
            (Event::Moved { pid: 8 }, "running"),
            (Event::Paused, "paused"),
            (Event::Resumed, "running"),
            (Event::Exited(exit(3)), "exited"),
            (Event::Start, "created"),
            (Event::StartFailed(exit(127)), "created"),
            (Event::Remove, "removing"),
        ] {
            state = apply(state, event).unwrap();
            assert_eq!(state.status(), status);
        }
    }

    #[test]
    fn a_running_container_is_not_started_or_removed() {
        let running = State::Running { pid: 1, since: Timestamp::UNIX_EPOCH };
        for event in [Event::Start, Event::Remove, Event::Resumed] {
            assert_eq!(apply(running.clone(), event).unwrap_err().state, running);
        }
        assert!(apply(State::Removing, Event::Start).is_err());
        assert!(
            apply(State::Exited { since: Timestamp::UNIX_EPOCH, exit: exit(0) }, Event::Exited(exit(1)))
                .is_err()
        );
    }
}
