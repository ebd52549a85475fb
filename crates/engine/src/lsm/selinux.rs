//! SELinux: which labels containers get, by Docker's rules.
//!
//! Vocabulary: the *process label* confines what runs in a container, the *mount label* is on its
//! files. Both come from the policy's `lxc_contexts`, and differ between containers by two categories
//! of 1,024 (MCS): what escapes from one cannot touch the files of another. The pair belongs to a
//! container's id, also while that is only a prepared slot, and is free again when the container is
//! gone.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use seacow_spec::selinux::{Context, Labels, NotALabel};
use seacow_spec::{Classified, ContainerId, ErrorClass};

use crate::blocking::lock;

/// Categories of the policies that distributions have.
const CATEGORIES: u16 = 1024;
/// Tries to find two that nobody has: with half of all pairs taken one in a million fails.
const TRIES: u32 = 20;
/// The kernel's interface, there when SELinux is on.
const SELINUXFS: &str = "/sys/fs/selinux";
/// The policies, and which of them is in force.
const ETC: &str = "/etc/selinux";

/// Why there are no labels.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum SelinuxError {
    #[error("SELinux: read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("SELinux: {path} names no {key}: the policy has no labels for containers")]
    Missing { path: PathBuf, key: &'static str },
    #[error(transparent)]
    Label(#[from] NotALabel),
    #[error(
        "Bad label option {0:?}, valid options 'disable' or 'user, role, level, type, filetype' followed by ':' and a value"
    )]
    Option(String),
    #[error("--ipc and --pid containers SELinux labels aren't the same")]
    Donors,
    #[error("no two categories of SELinux are free")]
    NoCategories,
    #[error("draw a random number")]
    Random(#[source] std::io::Error),
}

impl Classified for SelinuxError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Option(_) | Self::Label(_) | Self::Donors => ErrorClass::InvalidArgument,
            Self::NoCategories => ErrorClass::Unavailable,
            Self::Read { .. } | Self::Missing { .. } | Self::Random(_) => ErrorClass::Internal,
        }
    }
}

/// Gives labels to containers.
#[derive(Debug)]
pub struct Selinux {
    process: Context,
    file: Context,
    levels: Mutex<Levels>,
}

#[derive(Debug, Default)]
struct Levels {
    /// Those that we chose.
    own: HashMap<ContainerId, String>,
    /// Those that a user chose for a container.
    asked: HashMap<ContainerId, String>,
    taken: HashSet<String>,
}

impl Selinux {
    /// The labels that this host's policy has for containers; `None` where SELinux is off.
    ///
    /// # Errors
    /// The policy has none.
    pub fn of_host() -> Result<Option<Self>, SelinuxError> {
        Self::at(Path::new(SELINUXFS), Path::new(ETC))
    }

    fn at(selinuxfs: &Path, etc: &Path) -> Result<Option<Self>, SelinuxError> {
        if !selinuxfs.join("enforce").exists() {
            return Ok(None);
        }
        let read = |path: PathBuf| match std::fs::read_to_string(&path) {
            Ok(text) => Ok((path, text)),
            Err(source) => Err(SelinuxError::Read { path, source }),
        };
        let (path, config) = read(etc.join("config"))?;
        let policy =
            value(&config, "SELINUXTYPE").ok_or(SelinuxError::Missing { path, key: "SELINUXTYPE" })?;
        let (path, contexts) = read(etc.join(policy).join("contexts/lxc_contexts"))?;
        let context = |key: &'static str| -> Result<Context, SelinuxError> {
            let missing = || SelinuxError::Missing { path: path.clone(), key };
            Ok(value(&contexts, key).ok_or_else(missing)?.parse()?)
        };
        let (process, file) = (context("process")?, context("file")?);
        Ok(Some(Self { process, file, levels: Mutex::default() }))
    }

    /// The labels of a container. What its options do not say, its id decides: the same id has the same
    /// pair of categories until it is released.
    ///
    /// # Errors
    /// An option is none of SELinux's, or no categories are free.
    pub(crate) fn labels(&self, id: &ContainerId, options: &[String]) -> Result<Labels, SelinuxError> {
        if options.iter().any(|option| option == "disable") {
            return Ok(Labels { process: String::new(), mount: self.privileged_file() });
        }
        let (mut process, mut file) = (self.process.clone(), self.file.clone());
        let mut level = None;
        for option in options {
            let bad = || SelinuxError::Option(option.clone());
            let (key, value) = option.split_once(':').ok_or_else(bad)?;
            let value = value.to_owned();
            match key {
                "user" => (process.user, file.user) = (value.clone(), value),
                "role" => process.role = value,
                "type" => process.kind = value,
                "filetype" => file.kind = value,
                "level" => level = Some(value),
                _ => return Err(bad()),
            }
        }
        // A policy without levels has no categories either.
        if process.level.is_some() || level.is_some() {
            let level = match level {
                Some(level) => self.reserve(id, level),
                None => self.level_of(id)?,
            };
            (process.level, file.level) = (Some(level.clone()), Some(level));
        }
        let labels = Labels { process: process.to_string(), mount: file.to_string() };
        // Options may have had anything in them.
        for label in [&labels.process, &labels.mount] {
            label.parse::<Context>()?;
        }
        Ok(labels)
    }

    /// Whether the mount label is that of any container with the same id, whatever else the options say.
    pub(crate) fn leaves_files_alone(options: &[String]) -> bool {
        options.iter().all(|option| option.starts_with("type:") || option.starts_with("role:"))
    }

    /// Files of containers that are not confined: they have the last two categories, which nobody gets.
    fn privileged_file(&self) -> String {
        let level = format!("{}:c{},c{}", self.sensitivity(), CATEGORIES - 2, CATEGORIES - 1);
        Context { level: self.file.level.as_ref().map(|_| level), ..self.file.clone() }.to_string()
    }

    /// The label of files that all containers may use.
    pub(crate) fn shared(&self, mount_label: &str) -> Result<String, SelinuxError> {
        let label: Context = mount_label.parse()?;
        let level = label.level.as_ref().map(|_| self.sensitivity().to_owned());
        Ok(Context { level, ..label }.to_string())
    }

    fn sensitivity(&self) -> &str {
        let level = self.process.level.as_deref().unwrap_or("s0");
        level.split([':', '-']).next().unwrap_or(level)
    }

    /// Options that give a container the labels of another, whose namespaces it joins.
    ///
    /// # Errors
    /// The other's label is none.
    pub(crate) fn as_options(process_label: &str) -> Result<Vec<String>, SelinuxError> {
        if process_label.is_empty() {
            return Ok(vec!["disable".to_owned()]);
        }
        let Context { user, role, kind, level } = process_label.parse()?;
        let level = level.map(|level| format!("level:{level}"));
        let all = [Some(format!("user:{user}")), Some(format!("role:{role}")), Some(format!("type:{kind}"))];
        Ok(all.into_iter().chain([level]).flatten().collect())
    }

    /// The level of an id: its own two categories.
    fn level_of(&self, id: &ContainerId) -> Result<String, SelinuxError> {
        let mut levels = lock(&self.levels);
        if let Some(level) = levels.own.get(id) {
            return Ok(level.clone());
        }
        for _ in 0..TRIES {
            let (one, other) = two_categories()?;
            let level = format!("{}:c{one},c{other}", self.sensitivity());
            if one != other && !levels.taken.contains(&level) {
                levels.taken.insert(level.clone());
                levels.own.insert(id.clone(), level.clone());
                return Ok(level);
            }
        }
        Err(SelinuxError::NoCategories)
    }

    /// Keeps a level that somebody chose from being given to others.
    fn reserve(&self, id: &ContainerId, level: String) -> String {
        let mut levels = lock(&self.levels);
        levels.taken.insert(level.clone());
        levels.asked.insert(id.clone(), level.clone());
        level
    }

    /// Takes a container's labels over from an earlier engine.
    pub(crate) fn keep(&self, id: &ContainerId, labels: &Labels) {
        if let Ok(Context { level: Some(level), .. }) = labels.process.parse() {
            let mut levels = lock(&self.levels);
            levels.taken.insert(level.clone());
            levels.own.insert(id.clone(), level);
        }
    }

    /// Takes the categories of an id back. A level that another container has too, by choice or by
    /// joining, stays taken.
    pub(crate) fn release(&self, id: &ContainerId) {
        let mut levels = lock(&self.levels);
        for level in [levels.own.remove(id), levels.asked.remove(id)].into_iter().flatten() {
            let used = levels.own.values().chain(levels.asked.values()).any(|other| *other == level);
            if !used {
                levels.taken.remove(&level);
            }
        }
    }
}

/// `KEY=value` of a file, with or without quotes and blanks.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim() == key && !value.is_empty()).then_some(value)
    })
}

/// Two random categories, the smaller first. Not the last two ([`Selinux::privileged_file`]).
fn two_categories() -> Result<(u16, u16), SelinuxError> {
    let random = seacow_spec::id::random_hex().map_err(SelinuxError::Random)?;
    let draw = |at: std::ops::Range<usize>| {
        let digits = random.get(at).unwrap_or_default();
        // Four digits are 64 times as many numbers as there are categories: none is favoured much.
        u16::from_str_radix(digits, 16).unwrap_or_default() % (CATEGORIES - 2)
    };
    let (one, other) = (draw(0..4), draw(4..8));
    Ok((one.min(other), one.max(other)))
}

#[cfg(test)]
#[path = "selinux_tests.rs"]
mod tests;
