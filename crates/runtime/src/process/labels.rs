//! Labels of security modules for the program that is executed next.
//!
//! They are set by writing to files of the process in `/proc`. Whose `/proc`? The container's is
//! what its image and its other processes make of it: a volume over it swallows the label
//! (CVE-2019-16884), a mount inside it redirects the write to another file, such as
//! `/proc/sysrq-trigger` (CVE-2025-52881). So the files are opened in the host's, before the process
//! enters any mount namespace or root that is not the host's, and only written to later: the kernel
//! accepts the write from the process that opened them, until it executes something.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use seacow_spec::oci::runtime::Process;

use crate::error::{Error, Step};

/// What will be written where.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    exec: Vec<Pending>,
    keyring: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    file: OwnedFd,
    text: String,
    doing: String,
}

impl Pending {
    fn open(file: &str, text: String, doing: String) -> Result<Self, Error> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::open(file, flags, Mode::empty()).step(|| format!("{doing}: open {file}"))?;
        // Whatever the host is, perhaps a container itself: nothing but procfs is written to.
        const PROC_SUPER_MAGIC: i64 = 0x9fa0;
        if rustix::fs::fstatfs(&fd).step(|| doing.clone())?.f_type as i64 != PROC_SUPER_MAGIC {
            return Err(Error::Invalid { what: format!("{doing}: {file} is not on procfs") });
        }
        Ok(Self { file: fd, text, doing })
    }

    fn write(&self) -> Result<(), Error> {
        // One write is one command.
        rustix::io::write(&self.file, self.text.as_bytes()).map(drop).step(|| self.doing.clone())
    }
}

impl Labels {
    /// Opens the files, while `/proc` is still the host's.
    pub(crate) fn open(process: &Process) -> Result<Self, Error> {
        let mut labels = Self::default();
        let (profile, label) = (&process.apparmor_profile, &process.selinux_label);
        if !label.is_empty() {
            if !selinux_is_on() {
                let what = "process.selinuxLabel: selinux label is specified in config, but selinux is disabled or not supported";
                return Err(Error::Invalid { what: what.into() });
            }
            let doing = format!("set SELinux label {label:?}");
            labels.exec.push(Pending::open("/proc/thread-self/attr/exec", label.clone(), doing.clone())?);
            labels.keyring = Some(Pending::open("/proc/thread-self/attr/keycreate", label.clone(), doing)?);
        }
        match (profile.as_str(), apparmor_is_on()) {
            ("", _) | ("unconfined", false) => {}
            (_, true) => {
                let doing = format!("apply AppArmor profile {profile:?}");
                // The second is the first security module's, whichever that is (before Linux 5.8).
                let own = "/proc/thread-self/attr/apparmor/exec";
                let file = if Path::new(own).exists() { own } else { "/proc/thread-self/attr/exec" };
                labels.exec.push(Pending::open(file, format!("exec {profile}"), doing)?);
            }
            (_, false) => {
                return Err(Error::Invalid {
                    what: format!(
                        "process.apparmorProfile: {profile:?} is specified in config, but apparmor is disabled or not supported"
                    ),
                });
            }
        }
        Ok(labels)
    }

    /// Labels the keys that the process makes from now on.
    pub(crate) fn label_keys(&self) -> Result<(), Error> {
        self.keyring.as_ref().map_or(Ok(()), Pending::write)
    }

    /// Labels the program that is executed next.
    pub(crate) fn apply(&self) -> Result<(), Error> {
        self.exec.iter().try_for_each(Pending::write)
    }
}

/// Whether SELinux labels programs here, enforcing or not.
pub(crate) fn selinux_is_on() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Whether AppArmor confines programs here.
pub(crate) fn apparmor_is_on() -> bool {
    std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with(b"Y"))
}
