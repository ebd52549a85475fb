//! What the daemon itself may do.

use seacow_spec::docker::system::Check;

use super::super::host;
use super::{failed, ok, warning};

/// Numbers from `capability.h`.
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;
const CAP_NET_ADMIN: u32 = 12;

pub(super) fn root() -> Check {
    let name = "rights";
    if !rustix::process::geteuid().is_root() {
        return failed(
            name,
            "The daemon does not run as root.",
            "Start seacowd as root; rootless mode is not built yet.",
        );
    }
    for (number, capability) in [(CAP_SYS_ADMIN, "CAP_SYS_ADMIN"), (CAP_NET_ADMIN, "CAP_NET_ADMIN")] {
        if !host::has_capability(number) {
            return failed(
                name,
                format!("The daemon runs as root but without {capability}."),
                format!("Give it {capability}; inside another container, start that one privileged."),
            );
        }
    }
    ok(name, "The daemon runs as root with the capabilities it needs.")
}

pub(super) fn resource_limits() -> Check {
    let name = "resource limits";
    if host::has_capability(CAP_SYS_RESOURCE) {
        return ok(name, "The daemon may raise resource limits of containers (CAP_SYS_RESOURCE).");
    }
    warning(
        name,
        "The daemon lacks CAP_SYS_RESOURCE: limits above its own (--ulimit) are refused, and defaults are lowered.",
        "Give the daemon CAP_SYS_RESOURCE, or raise its own limits before it starts.",
    )
}
