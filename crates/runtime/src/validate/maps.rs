//! Ranges of user and group ids.

use seacow_spec::oci::runtime::IdMapping;

use super::Error;

/// Lines of one map the kernel takes (`UID_GID_MAP_MAX_EXTENTS`).
const MAX_EXTENTS: usize = 340;

/// Checks one list of ranges: not empty, none overlaps another on either side.
pub(crate) fn check(path: &str, maps: &[IdMapping]) -> Result<(), Error> {
    if maps.is_empty() {
        return Err(Error::field(path, "a user namespace needs ids"));
    }
    if maps.len() > MAX_EXTENTS {
        return Err(Error::field(path, format!("more than {MAX_EXTENTS} ranges")));
    }
    for (index, map) in maps.iter().enumerate() {
        let at = |field: &str| format!("{path}[{index}].{field}");
        if map.size == 0 {
            return Err(Error::field(at("size"), "zero"));
        }
        for (field, first) in [("containerID", map.container_id), ("hostID", map.host_id)] {
            // The last number means no id at all.
            if u64::from(first) + u64::from(map.size) > u64::from(u32::MAX) {
                return Err(Error::field(
                    at(field),
                    format!("{first} and {} more ids are too many", map.size - 1),
                ));
            }
        }
        for (other, earlier) in maps.iter().enumerate().take(index) {
            let overlap = |a: u32, b: u32| {
                u64::from(a) < u64::from(b) + u64::from(earlier.size)
                    && u64::from(b) < u64::from(a) + u64::from(map.size)
            };
            for (field, ours, theirs) in [
                ("containerID", map.container_id, earlier.container_id),
                ("hostID", map.host_id, earlier.host_id),
            ] {
                if overlap(ours, theirs) {
                    return Err(Error::field(at(field), format!("overlaps {path}[{other}]")));
                }
            }
        }
    }
    Ok(())
}

/// What an id of the container is outside.
pub(crate) fn to_host(maps: &[IdMapping], id: u32) -> Option<u32> {
    maps.iter().find_map(|m| {
        let offset = id.checked_sub(m.container_id).filter(|o| *o < m.size)?;
        m.host_id.checked_add(offset)
    })
}
