//! Doors in the host's firewalls, opened when the engine starts and closed when its bridge goes.
//!
//! Where Docker, ufw or firewalld drops what is forwarded, containers reach the outside only through
//! the door that this firewall documents. Which ones are ours to close is kept with the networks'
//! ids, so that an engine that was killed closes them the next time.

use seacow_net::diagnose::{Finding, Severity, diagnose};
use seacow_net::doors::{Door, Tools, close_doors, pass_doors};

/// Opens every door that the host has. Blocks. `ours` are those an earlier engine opened; `keep` stores
/// what is ours from now on, and is called before a door is opened, and only then.
pub(crate) fn open<E>(
    bridge: &str,
    ours: &[Door],
    keep: impl FnOnce(Vec<Door>) -> Result<(), E>,
) -> Result<(), E> {
    let passed = pass_doors(bridge, &Tools::default(), |doors| {
        let new: Vec<Door> = doors.iter().filter(|door| !ours.contains(door)).cloned().collect();
        if new.is_empty() { Ok(()) } else { keep([ours, &new].concat()) }
    })?;
    for error in &passed.failed {
        tracing::warn!(%error, "containers may not reach the outside");
    }
    for door in &passed.opened {
        tracing::info!(?door, "opened in the host's firewall");
    }
    Ok(())
}

/// Says in the log what keeps containers from the outside all the same, and the mend. Blocks.
pub(crate) fn warn_of_the_rest(bridge: &str, table: &str) {
    for finding in diagnose(bridge, &[table], &[], &Tools::default()) {
        // That forwarding cannot be switched on, the bridge has said with the cause.
        if finding.severity() == Severity::Blocks && !matches!(finding, Finding::ForwardingOff { .. }) {
            let mend = finding.mend(bridge).unwrap_or_default();
            tracing::warn!("{} To mend it: {mend}", finding.sentence());
        }
    }
}

/// Closes them again. Blocks.
pub(crate) fn close(ours: &[Door]) {
    for error in close_doors(ours) {
        tracing::warn!(%error, "a door in the host's firewall is left open");
    }
}
