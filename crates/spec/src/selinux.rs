//! Labels of SELinux: who a process is, and what a file is, to the policy of the machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::oci::runtime::Mount;

/// `user:role:type:level`, the last absent where the policy knows no levels. The level may have
/// colons of its own (`s0-s0:c0.c1023`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Who, to the policy; no user of the system.
    pub user: String,
    /// What processes may be; `object_r` for files.
    pub role: String,
    /// The domain of a process, the type of a file.
    pub kind: String,
    /// Sensitivity and categories.
    pub level: Option<String>,
}

/// A text is no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an SELinux label: user:role:type, or user:role:type:level")]
pub struct NotALabel(String);

impl FromStr for Context {
    type Err = NotALabel;

    fn from_str(text: &str) -> Result<Self, NotALabel> {
        let mut parts = text.splitn(4, ':');
        let mut next = || parts.next().filter(|part| !part.is_empty()).map(str::to_owned);
        // It becomes a quoted mount option, and a line of its own.
        let plain = !text.contains(['"', '\\']) && !text.chars().any(char::is_control);
        match (next(), next(), next()) {
            (Some(user), Some(role), Some(kind)) if plain => Ok(Self { user, role, kind, level: next() }),
            _ => Err(NotALabel(text.to_owned())),
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        self.level.as_ref().map_or(Ok(()), |level| write!(f, ":{level}"))
    }
}

/// The labels of one container; empty ones where it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Of its processes.
    pub process: String,
    /// Of its files.
    pub mount: String,
}

/// File systems that are mounted anew get the label of the container's files. Those of the kernel
/// itself have labels of their own and take no such option; a bind mount has its source's.
pub fn label_mounts(mounts: &mut [Mount], label: &str) {
    const OWN_LABELS: [&str; 4] = ["proc", "sysfs", "cgroup", "cgroup2"];
    if label.is_empty() {
        return;
    }
    let is_bind =
        |entry: &Mount| entry.kind == "bind" || entry.options.iter().any(|o| o == "bind" || o == "rbind");
    for entry in mounts.iter_mut().filter(|entry| !is_bind(entry)) {
        if !OWN_LABELS.contains(&entry.kind.as_str()) {
            // Quoted: the categories of a label are parted by commas.
            entry.options.push(format!("context=\"{label}\""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_and_written() {
        for text in [
            "system_u:system_r:container_t:s0:c1,c2",
            "system_u:object_r:container_file_t:s0",
            "u:r:t",
            "u:r:t:s0-s0:c0.c1023",
        ] {
            assert_eq!(text.parse::<Context>().unwrap().to_string(), text);
        }
        let context: Context = "u:r:t:s0:c1,c2".parse().unwrap();
        assert_eq!((context.kind.as_str(), context.level.as_deref()), ("t", Some("s0:c1,c2")));
        for bad in ["", "kernel", "u:r", "u::t", "u:r:t\"", "u:r:t:s0\n"] {
            assert!(bad.parse::<Context>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_mounted_anew_is_labelled() {
        let mount = |kind: &str, options: &[&str]| Mount {
            kind: kind.into(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..Mount::default()
        };
        let mut mounts = [
            mount("tmpfs", &["mode=755"]),
            mount("proc", &[]),
            mount("bind", &[]),
            mount("tmpfs", &["rbind"]),
            mount("devpts", &[]),
            mount("mqueue", &[]),
            mount("cgroup", &["ro"]),
        ];
        let plain = mounts.clone();
        label_mounts(&mut mounts, "");
        assert_eq!(mounts, plain);
        label_mounts(&mut mounts, "u:object_r:t:s0:c1,c2");
        let labelled: Vec<bool> = mounts
            .iter()
            .map(|m| m.options.iter().any(|o| o == "context=\"u:object_r:t:s0:c1,c2\""))
            .collect();
        assert_eq!(labelled, [true, false, false, false, true, true, false]);
    }
}
