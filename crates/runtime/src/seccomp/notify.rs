//! Calls that an agent decides (`SCMP_ACT_NOTIFY`).
//!
//! ```text
//! process                                   parent                        agent
//!   │ a helper thread, without the filter      │                             │
//!   │ load the filter: a listener              │                             │
//!   │ ──── Listener + descriptor (helper) ───▶ │ ──── connect ─────────────▶ │
//!   │                                          │ ──── state + descriptor ──▶ │
//!   │ ◀─── Taken (helper) ──────────────────── │ ──── end of stream ───────▶ │
//!   │ execve: may itself be notified           │
//! ```
//!
//! Between the load and the helper's word the filtered thread makes no system call: each might be
//! one that waits for the agent, who has no listener yet. Threads share descriptors, and a filter is
//! its thread's own.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use seacow_spec::oci::runtime::VERSION;
use seacow_spec::oci::state::State;
use seacow_spec::shim::SeccompChoice;
use seacow_sys::{process, seccomp as kernel_filter, unix};

use super::{Error, Filter};
use crate::error::{Error as RuntimeError, Step};
use crate::wire::{self, ToChild};

/// How long an agent may take to accept a connection or its message. The container's start waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who decides, and what they are told.
#[derive(Clone, Debug)]
pub struct Agent {
    path: PathBuf,
    metadata: String,
    state: State,
}

impl Agent {
    /// The agent of a filter, if it has one; `state` is the container's, as the specification's
    /// `state` document.
    pub fn of(choice: &SeccompChoice, state: impl FnOnce() -> State) -> Option<Self> {
        match choice {
            SeccompChoice::Profile(oci) if !oci.listener_path.is_empty() => Some(Self {
                path: oci.listener_path.clone().into(),
                metadata: oci.listener_metadata.clone(),
                state: state(),
            }),
            SeccompChoice::Default | SeccompChoice::Unconfined | SeccompChoice::Profile(_) => None,
        }
    }

    /// Gives the listener of process `pid` away, over a connection that ends with it.
    pub(crate) fn hand_over(&self, listener: BorrowedFd<'_>, pid: i32) -> Result<(), Error> {
        let message = serde_json::json!({
            "ociVersion": VERSION,
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": self.metadata,
            "state": self.state,
        });
        let connection = unix::connect_path_within(&self.path, PATIENCE)
            .map_err(|errno| Error::Agent { path: self.path.clone(), errno })?;
        let text = message.to_string();
        let (mut rest, mut fds) = (text.as_bytes(), [listener].as_slice().to_vec());
        while !rest.is_empty() {
            let sent = unix::send(connection.as_fd(), rest, &fds)
                .map_err(|errno| Error::Send { path: self.path.clone(), errno })?;
            // Descriptors go with the first call only, says the specification.
            fds.clear();
            rest = rest.get(sent..).unwrap_or(&[]);
        }
        Ok(())
    }
}

/// Loads a filter that notifies, and returns when its listener is with the agent. For a process
/// with one thread, right before its execve; `socket` leads to the parent.
pub(crate) fn load(filter: &Filter, socket: BorrowedFd<'_>) -> Result<Held, RuntimeError> {
    let socket =
        rustix::io::fcntl_dupfd_cloexec(socket, 3).step(|| "duplicate the socket to the parent".into())?;
    let shared = Arc::new(Shared::default());
    let theirs = Arc::clone(&shared);
    std::thread::Builder::new()
        .name("seccomp".into())
        .spawn(move || help(&theirs, socket.as_fd()))
        .step(|| "start a thread for the seccomp listener".into())?;
    let loaded = kernel_filter::load_with_listener(&filter.program, filter.flags);
    // From here on no system calls: nobody waits on these cells, so setting them makes none.
    let failed = loaded.as_ref().err().copied();
    let _ = shared.listener.set(loaded.ok());
    if let Some(errno) = failed {
        return Err(errno).step(|| "load the seccomp filter".into());
    }
    while shared.taken.get().is_none() {
        std::hint::spin_loop();
    }
    Ok(Held { _shared: shared })
}

/// The process's own descriptor of the listener, which closes with execve. Dropping it is a call
/// that the agent may have to decide.
#[derive(Debug)]
pub(crate) struct Held {
    _shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// `None` inside: there will be none.
    listener: OnceLock<Option<OwnedFd>>,
    taken: OnceLock<()>,
}

/// The helper's life: sends the listener and waits for the answer. Without one the process ends,
/// because the agent would never answer it.
fn help(shared: &Shared, socket: BorrowedFd<'_>) {
    let listener = loop {
        match shared.listener.get() {
            Some(Some(listener)) => break listener,
            Some(None) => return,
            None => std::thread::yield_now(),
        }
    };
    if wire::send_listener(socket, listener.as_fd()).is_err()
        || !matches!(wire::receive_in_child(socket), Ok(Some(ToChild::Taken)))
    {
        process::exit_now(1);
    }
    let _ = shared.taken.set(());
}
