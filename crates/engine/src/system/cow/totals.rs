//! Every byte once: what kinds of things take of the disk.

use std::collections::HashSet;

use seacow_spec::ChainId;
use seacow_spec::docker::system::DiskTotals;
use seacow_store::census::FileSystem;
use seacow_store::{Census, Holder};

use super::Known;

/// Bytes that several kinds have count for the first of them, in the order of the fields.
pub(super) fn of(census: &Census, known: &Known, file_system: FileSystem) -> DiskTotals {
    let images: HashSet<&ChainId> =
        known.images.iter().flat_map(|(_, stack)| stack.iter().map(|layer| &layer.chain_id)).collect();
    let mut totals = DiskTotals {
        total_bytes: census.total(),
        file_system_bytes: file_system.size,
        file_system_used_bytes: file_system.used,
        ..DiskTotals::default()
    };
    for part in &census.parts {
        let kinds = part.holders.iter().filter_map(|number| census.holders.get(*number));
        let first = kinds.map(|holder| rank(holder, &images)).min();
        let sum = match first {
            Some(0) => &mut totals.images_bytes,
            Some(1) => &mut totals.snapshots_bytes,
            Some(2) => &mut totals.containers_bytes,
            Some(3) => &mut totals.volumes_bytes,
            Some(4) => &mut totals.volume_snapshots_bytes,
            Some(5) => &mut totals.logs_bytes,
            Some(6) => &mut totals.passing_bytes,
            Some(_) | None => &mut totals.store_bytes,
        };
        *sum += part.bytes;
    }
    totals
}

fn rank(holder: &Holder, images: &HashSet<&ChainId>) -> u8 {
    match holder {
        Holder::Layer(chain) if images.contains(chain) => 0,
        Holder::Layer(_) => 1,
        Holder::Snapshot(_) => 2,
        Holder::Volume(_) => 3,
        Holder::Saved { .. } => 4,
        Holder::Container(_) => 5,
        Holder::Passing => 6,
        Holder::Store => 7,
    }
}
