//! Doors in the host's firewalls, opened when the engine starts and closed when its bridge goes.
//!
//! Where Docker, ufw or firewalld drops what is forwarded, containers reach the outside only through
//! the door that this firewall documents. Which ones are ours to close is kept with the networks'
//! ids, so that an engine that was killed closes them the next time. A firewall that is started,
//! loaded or loaded again later is looked at when the kernel tells of its rules.

use std::collections::BTreeSet;
use std::sync::{Mutex, Weak};
use std::time::Duration;

use seacow_net::diagnose::{Finding, Severity, diagnose};
use seacow_net::doors::{Door, Tools, close_doors, pass_doors};
use tokio::io::unix::AsyncFd;

use crate::blocking::{self, lock};
use crate::{Engine, Inner};

/// Rules come many at a time. So long they may settle, and so often at most they are looked at.
const SETTLE: Duration = Duration::from_secs(2);

/// The doors that are ours.
#[derive(Debug, Default)]
pub(crate) struct Doors(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ours: Vec<Door>,
    /// What was warned of already.
    said: BTreeSet<String>,
    /// The bridge is gone: nothing is opened for it any more.
    closed: bool,
}

impl Doors {
    /// Opens every door that the host has, and says what blocks all the same. Blocks. `ours` are those
    /// an earlier engine opened; `keep` stores what is ours from now on, before a door is opened.
    pub(crate) fn open<E>(
        bridge: &str,
        table: &str,
        ours: &[Door],
        keep: impl FnOnce(&[Door]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut state = State { ours: ours.to_vec(), ..State::default() };
        state.pass(bridge, keep)?;
        state.warn(&diagnose(bridge, &[table], &[], &Tools::default()), bridge);
        Ok(Self(Mutex::new(state)))
    }

    /// The same for a firewall that came later. Blocks; costs little where nothing blocks.
    fn look_again<E>(
        &self,
        bridge: &str,
        table: &str,
        keep: impl FnOnce(&[Door]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = lock(&self.0);
        if state.closed {
            return Ok(());
        }
        let look = || diagnose(bridge, &[table], &[], &Tools::default());
        let mut findings = look();
        if findings.iter().any(Finding::is_shut_door) {
            state.pass(bridge, keep)?;
            findings = look();
        }
        state.warn(&findings, bridge);
        Ok(())
    }

    /// Closes them. Blocks. `keep` stores that there are none any more.
    pub(crate) fn close<E>(&self, keep: impl FnOnce(&[Door]) -> Result<(), E>) -> Result<(), E> {
        let mut state = lock(&self.0);
        state.closed = true;
        let ours = std::mem::take(&mut state.ours);
        if ours.is_empty() {
            return Ok(());
        }
        for error in close_doors(&ours) {
            tracing::warn!(%error, "a door in the host's firewall is left open");
        }
        keep(&[])
    }
}

impl State {
    fn pass<E>(&mut self, bridge: &str, keep: impl FnOnce(&[Door]) -> Result<(), E>) -> Result<(), E> {
        let passed = pass_doors(bridge, &Tools::default(), |doors| {
            let known = self.ours.len();
            let new: Vec<Door> = doors.iter().filter(|door| !self.ours.contains(door)).cloned().collect();
            self.ours.extend(new);
            if self.ours.len() == known { Ok(()) } else { keep(&self.ours) }
        })?;
        for error in &passed.failed {
            tracing::warn!(%error, "containers may not reach the outside");
        }
        for door in &passed.opened {
            tracing::info!(?door, "opened in the host's firewall");
        }
        Ok(())
    }

    /// Says in the log what keeps containers from the outside, and the mend; once.
    fn warn(&mut self, findings: &[Finding], bridge: &str) {
        let mut now = BTreeSet::new();
        for finding in findings {
            // That forwarding cannot be switched on, the bridge has said with the cause.
            if finding.severity() != Severity::Blocks || matches!(finding, Finding::ForwardingOff { .. }) {
                continue;
            }
            let sentence = finding.sentence();
            if !self.said.contains(&sentence) {
                tracing::warn!("{sentence} To mend it: {}", finding.mend(bridge).unwrap_or_default());
            }
            now.insert(sentence);
        }
        self.said = now;
    }
}

/// Looks at the host's firewalls whenever their rules change, as long as the engine is there. The old
/// iptables tells nobody; where the kernel has no nftables there is nothing to hear.
pub(crate) async fn watch(engine: Weak<Inner>) {
    let listener = match seacow_net::nft::changes() {
        Ok(listener) => listener,
        Err(error) => return tracing::debug!(%error, "changes of firewalls are not heard of"),
    };
    #[expect(
        deprecated,
        reason = "the replacement is unsafe; a listener that nobody takes out is what it asks for"
    )]
    let listener = match AsyncFd::new(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::warn!(%error, "changes of firewalls are not heard of"),
    };
    loop {
        let Ok(mut ready) = listener.readable().await else { return };
        tokio::time::sleep(SETTLE).await;
        ready.clear_ready();
        if let Err(error) = listener.get_ref().drain() {
            return tracing::warn!(%error, "changes of firewalls are no longer heard of");
        }
        let Some(inner) = engine.upgrade() else { return };
        Engine(inner).look_at_firewalls().await;
    }
}

impl Engine {
    async fn look_at_firewalls(&self) {
        let inner = std::sync::Arc::clone(&self.0);
        let looked = blocking::run("look at the host's firewalls", move || {
            let keep = |doors: &[Door]| inner.keep_doors(doors);
            inner.doors.look_again(inner.bridge.name(), &inner.config.nft_table, keep)
        });
        if let Ok(Err(error)) = looked.await {
            tracing::warn!(%error, "note what is opened in the host's firewall");
        }
    }
}
