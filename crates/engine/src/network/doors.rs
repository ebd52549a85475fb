//! Doors in the host's firewalls, opened when the engine starts and closed when its bridge goes.
//!
//! Where Docker, ufw or firewalld drops what is forwarded, containers reach the outside only through
//! the door that this firewall documents. Which ones are ours to close is kept with the networks'
//! ids, so that an engine that was killed closes them the next time.

use seacow_net::doors::{Door, Tools, close_doors, pass_doors};

/// Opens every door that the host has. Blocks. `ours` are those an earlier engine opened; the answer
/// is what is ours now.
pub(crate) fn open(bridge: &str, ours: &[Door]) -> Vec<Door> {
    let passed = pass_doors(bridge, &Tools::default());
    for error in &passed.failed {
        tracing::warn!(%error, "containers may not reach the outside");
    }
    let mut all = ours.to_vec();
    for door in passed.opened {
        if !all.contains(&door) {
            tracing::info!(?door, "opened in the host's firewall");
            all.push(door);
        }
    }
    all
}

/// Closes them again. Blocks.
pub(crate) fn close(ours: &[Door]) {
    for error in close_doors(ours) {
        tracing::warn!(%error, "a door in the host's firewall is left open");
    }
}
