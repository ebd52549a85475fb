//! What the calling process may do on this host.

/// Whether the host's rights are not ours: no root, or root of a user namespace only, such as the
/// one in which rootless podman runs its runtime. Asked where something was denied.
pub(crate) fn are_limited() -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    // The first user namespace maps everything to itself.
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().ne(["0", "0", "4294967295"])
}
