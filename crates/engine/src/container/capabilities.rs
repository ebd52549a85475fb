//! Capability names and Docker's rules for adding and dropping them.

use super::invalid::Invalid;

/// In the kernel's order.
const ALL: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has unless told otherwise.
const DEFAULT: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

const EVERY: &str = "ALL";

/// Upper case with the prefix, `ALL` as it is; `wrong` makes the error of an unknown one.
pub(super) fn normalize(names: &[String], wrong: fn(String) -> Invalid) -> Result<Vec<String>, Invalid> {
    names
        .iter()
        .map(|name| {
            let upper = name.trim().to_ascii_uppercase();
            if upper == EVERY {
                return Ok(upper);
            }
            let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
            if ALL.contains(&full.as_str()) { Ok(full) } else { Err(wrong(full)) }
        })
        .collect()
}

/// All that this kernel knows.
pub(crate) fn all() -> Vec<String> {
    // One more than the kernel knows would fail the container's start; a missing file means a
    // kernel without /proc, where the whole list is as good as any.
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok();
    let count = last.and_then(|text| text.trim().parse::<usize>().ok()).map_or(ALL.len(), |last| last + 1);
    ALL.iter().take(count).map(|name| (*name).to_owned()).collect()
}

/// The set of a container, from normalised additions and drops.
pub(crate) fn of(add: &[String], drop: &[String], privileged: bool) -> Vec<String> {
    if privileged {
        return all();
    }
    let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    if has(add, EVERY) {
        return all().into_iter().filter(|name| !has(drop, name)).collect();
    }
    let base: Vec<String> = if has(drop, EVERY) {
        Vec::new()
    } else {
        DEFAULT.iter().map(|name| (*name).to_owned()).filter(|name| !has(drop, name)).collect()
    };
    let further: Vec<String> = add.iter().filter(|name| !base.contains(name)).cloned().collect();
    base.into_iter().chain(further).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        normalize(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), Invalid::CapAdd).unwrap()
    }

    #[test]
    fn docker_s_rules() {
        assert_eq!(of(&[], &[], false).len(), 14);
        assert_eq!(of(&list(&["net_admin"]), &list(&["ALL"]), false), ["CAP_NET_ADMIN"]);
        let most = of(&list(&["ALL"]), &list(&["SYS_ADMIN"]), false);
        assert!(!most.contains(&"CAP_SYS_ADMIN".to_owned()) && most.contains(&"CAP_SYS_TIME".to_owned()));
        assert!(!of(&[], &list(&["CAP_CHOWN"]), false).contains(&"CAP_CHOWN".to_owned()));
        assert!(of(&[], &list(&["ALL"]), true).len() > 30);
        assert_eq!(
            normalize(&["foo".into()], Invalid::CapAdd).unwrap_err().to_string(),
            "invalid CapAdd: unknown capability: \"CAP_FOO\""
        );
    }
}
