//! AppArmor: the profile that containers get unless they name another.
//!
//! It allows what Docker's default profile allows, which is everything but: writing to the parts of
//! `/proc` and `/sys` that are the machine's, mounting, address families without use or with too much
//! reach, signals and traces across the container's border. What confines more is the container's
//! other protections; this holds where those fail.
//!
//! The kernel takes only compiled profiles, so Debian's `apparmor_parser` is needed. Where it is
//! missing, or refuses the profile, containers run without one, and `info` and the log say so.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use rustix::fs::{Mode, OFlags};

use crate::system::host;

/// Name of the profile.
pub(crate) const DEFAULT_PROFILE: &str = "seacow-default";
/// The answer to "no profile at all".
pub(crate) const UNCONFINED: &str = "unconfined";

const SECURITYFS: &str = "/sys/kernel/security/apparmor";
const PARSERS: [&str; 2] = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];

/// Why containers run without the default profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    /// Not on here; nothing is missing.
    #[error("AppArmor is not on")]
    Off,
    #[error("apparmor_parser is not installed")]
    NoParser,
    #[error("{step}: {why}")]
    Failed { step: &'static str, why: String },
}

/// What was found out, and at which revision of the kernel's policy.
struct Found {
    revision: u64,
    state: Result<(), Unavailable>,
}

/// The machine has one policy, whoever asks.
static FOUND: Mutex<Option<Found>> = Mutex::new(None);

/// Sees to it that the default profile is loaded. Cheap when nothing changed since the last time:
/// the policy may have been reloaded without ours meanwhile.
pub(crate) fn ensure_default() -> Result<(), Unavailable> {
    if !host::apparmor() {
        return Err(Unavailable::Off);
    }
    let mut found = FOUND.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let now = revision();
    if let Some(known) = found.as_ref().filter(|known| known.revision == now) {
        return known.state.clone();
    }
    let state = if is_loaded(DEFAULT_PROFILE) { Ok(()) } else { load() };
    if let Err(why) = &state {
        tracing::warn!("containers run without an AppArmor profile: {why}");
    }
    *found = Some(Found { revision: revision(), state: state.clone() });
    state
}

/// The profile of a container: what it asked for, or what it gets.
pub(crate) fn profile_of(asked: Option<&str>, privileged: bool) -> String {
    // Docker's name for it, unless this host has Docker's as well.
    let means_default = asked.is_some_and(|name| name == "docker-default" && !is_loaded(name));
    let name = match asked {
        Some(name) if !means_default => name,
        None if privileged => UNCONFINED,
        Some(_) | None => match ensure_default() {
            Ok(()) => DEFAULT_PROFILE,
            Err(Unavailable::Off) => "",
            Err(Unavailable::NoParser | Unavailable::Failed { .. }) => UNCONFINED,
        },
    };
    // Unconfined by a module that is off: nothing to be said.
    if name == UNCONFINED && !host::apparmor() { String::new() } else { name.to_owned() }
}

/// Counts every change of the policy. Opened anew, the file answers at once.
fn revision() -> u64 {
    let path = Path::new(SECURITYFS).join("revision");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let read = rustix::fs::open(path, flags, Mode::empty()).and_then(|fd| {
        let mut buffer = [0; 32];
        let len = rustix::io::read(&fd, &mut buffer)?;
        Ok(buffer.get(..len).map(|text| String::from_utf8_lossy(text).trim().to_owned()))
    });
    read.ok().flatten().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Whether the kernel has a profile of that name.
fn is_loaded(name: &str) -> bool {
    let profiles = std::fs::read_to_string(Path::new(SECURITYFS).join("profiles")).unwrap_or_default();
    profiles.lines().any(|line| line.rsplit_once(" (").is_some_and(|(present, _)| present == name))
}

fn load() -> Result<(), Unavailable> {
    let parser = PARSERS.iter().map(Path::new).find(|path| path.exists()).ok_or(Unavailable::NoParser)?;
    // Replaced when it is there, and nothing about it is cached: the text is not a file.
    parse(parser, &["--replace", "--skip-cache"], &text(&Surroundings::of_host()))
}

/// Runs the parser on a text.
fn parse(parser: &Path, options: &[&str], text: &str) -> Result<(), Unavailable> {
    let failed = |step| move |source: std::io::Error| Unavailable::Failed { step, why: source.to_string() };
    let mut child = Command::new(parser)
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("start apparmor_parser"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // What it makes of half a text it says itself.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed("wait for apparmor_parser"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Unavailable::Failed { step: "apparmor_parser refuses the profile", why })
}

/// What the profile's text depends on.
struct Surroundings {
    /// `/etc/apparmor.d`.
    policy: PathBuf,
    /// The daemon's own profile: it sends signals to containers.
    daemon: String,
}

impl Surroundings {
    fn of_host() -> Self {
        let current = ["/proc/self/attr/apparmor/current", "/proc/self/attr/current"];
        let current = current.iter().find_map(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        // "name (mode)", or the word for none.
        let name = current.trim_end_matches(['\n', '\0']);
        let name = name.rsplit_once(" (").map_or(name, |(name, _)| name);
        let daemon = if name.is_empty() { UNCONFINED } else { name }.to_owned();
        Self { policy: "/etc/apparmor.d".into(), daemon }
    }

    fn has(&self, file: &str) -> bool {
        self.policy.join(file).exists()
    }
}

/// Address families that Linux has no code for any more, or that reach too far: the kernel's
/// cryptography, and the hypervisor past every network namespace.
const FAMILIES: [&str; 11] =
    ["alg", "appletalk", "atmsvc", "ax25", "econet", "ipx", "irda", "netrom", "rose", "vsock", "wanpipe"];

/// Whose signals reach a container: unconfined programs of the host, runtimes with a profile of
/// their own, and its own processes.
const SENDERS: [&str; 3] = ["unconfined", "runc", "crun"];

/// Not to be written, created, linked or locked: the machine's settings. `/proc/<pid>` is the
/// process's own and `/proc/sys/kernel/shm*` the namespace's.
const READ_ONLY: [&str; 9] = [
    "/sys/[^f]*/**",
    "/sys/f[^s]*/**",
    "/sys/fs/[^c]*/**",
    "/sys/fs/c[^g]*/**",
    "/sys/fs/cg[^r]*/**",
    "@{PROC}/*",
    "@{PROC}/{[^1-9/],[^1-9/][^0-9/],[^1-9s/][^0-9y/][^0-9s/],[^1-9/][^0-9/][^0-9/][^0-9/]*}/**",
    "@{PROC}/sys/[^k]**",
    "@{PROC}/sys/kernel/{?,??,[^s][^h][^m]**}",
];

/// Not even to be read: memory, buttons, keys to the machine, and what side channels use.
const CLOSED: [&str; 5] = [
    "@{PROC}/kcore",
    "@{PROC}/sysrq-trigger",
    "/sys/devices/virtual/powercap/**",
    "/sys/firmware/**",
    "/sys/kernel/security/**",
];

/// The profile in AppArmor's language, version 3.
fn text(around: &Surroundings) -> String {
    let mut lines = vec!["# Made by seacowd, which loads it anew when it is missing.".to_owned()];
    if around.has("abi/3.0") {
        // From version 4 on, `network` would no longer mean Unix sockets.
        lines.push("abi <abi/3.0>,".into());
    }
    lines.push(
        if around.has("tunables/global") { "include <tunables/global>" } else { "@{PROC}=/proc/" }.into(),
    );
    lines.push(format!("profile {DEFAULT_PROFILE} flags=(attach_disconnected,mediate_deleted) {{"));
    if around.has("abstractions/base") {
        lines.push("  include <abstractions/base>".into());
    }
    lines.extend(["network", "capability", "file", "umount", "deny mount"].map(|rule| format!("  {rule},")));
    lines.extend(FAMILIES.map(|family| format!("  deny network {family},")));
    for sender in SENDERS.iter().filter(|sender| **sender != around.daemon) {
        lines.push(format!("  signal (receive) peer={sender},"));
    }
    lines.push(format!("  signal (receive) peer=\"{}\",", around.daemon));
    lines.push(format!("  signal (send,receive) peer={DEFAULT_PROFILE},"));
    lines.push(format!("  ptrace (trace,read,tracedby,readby) peer={DEFAULT_PROFILE},"));
    for path in READ_ONLY {
        // Below /sys also no links and locks; files right in /proc may be locked.
        let rights = if path.starts_with("/sys") { "wklx" } else { "w" };
        lines.push(format!("  deny {path} {rights},"));
    }
    lines.extend(CLOSED.map(|path| format!("  deny {path} rwklx,")));
    lines.push("}\n".into());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare(daemon: &str) -> Surroundings {
        Surroundings { policy: "/nonexistent".into(), daemon: daemon.into() }
    }

    #[test]
    fn the_text_depends_on_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let plain = text(&bare("unconfined"));
        assert!(plain.contains("@{PROC}=/proc/\n"));
        assert!(!plain.contains("include") && !plain.contains("abi <"));
        assert_eq!(plain.matches("peer=\"unconfined\"").count(), 1);
        assert_eq!(plain.matches("peer=unconfined").count(), 0);
        for file in ["abi/3.0", "tunables/global", "abstractions/base"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let full = text(&Surroundings { policy: dir.path().into(), daemon: "/usr/bin/seacowd".into() });
        for line in ["abi <abi/3.0>,", "include <tunables/global>", "  include <abstractions/base>"] {
            assert!(full.lines().any(|l| l == line), "{line} not in {full}");
        }
        assert!(full.contains("signal (receive) peer=\"/usr/bin/seacowd\","));
        assert!(full.contains("signal (receive) peer=unconfined,"));
    }

    /// AppArmor's own compiler takes it; it needs no AppArmor in the kernel for that.
    #[test]
    fn the_parser_takes_it() {
        let Some(parser) = PARSERS.iter().map(Path::new).find(|path| path.exists()) else {
            return eprintln!("SKIP: no apparmor_parser (Debian: apparmor)");
        };
        let check = ["--skip-kernel-load", "--skip-cache"];
        assert_eq!(parse(parser, &check, &text(&bare("unconfined"))), Ok(()));
        assert_eq!(parse(parser, &check, &text(&Surroundings::of_host())), Ok(()));
        let broken = text(&bare("unconfined")).replace("deny mount", "deny mountain");
        assert!(matches!(parse(parser, &check, &broken), Err(Unavailable::Failed { .. })));
    }
}
