//! `--runtime`: which OCI runtime makes a container.
//!
//! Ours runs inside the shim and has the name [`OURS`]. Any other is a command with runc's command
//! line: one that the configuration names, one of that name on the engine's path, or an absolute
//! path. Names are resolved anew at every start, so that a runtime may be upgraded or moved.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use seacow_spec::docker::system::InfoRuntime;
use seacow_spec::shim::RuntimeCommand;

use crate::config::Config;

/// Our own runtime's name.
pub const OURS: &str = "seacow";
/// What containerd's shims for runc are called; Docker knows runc by these names as well.
const RUNC_SHIMS: [&str; 2] = ["io.containerd.runc.v2", "io.containerd.runc.v1"];
/// Runtimes that `info` looks for on the path.
const USUAL: [&str; 5] = ["runc", "crun", "youki", "runsc", "kata-runtime"];

/// No runtime has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown or invalid runtime name: {0}")]
pub struct Unknown(pub String);

/// The runtimes of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtimes {
    /// By name, as configured. [`OURS`] is not among them.
    pub configured: BTreeMap<String, RuntimeCommand>,
    /// Name of the one for containers that ask for none.
    pub default: String,
}

impl Default for Runtimes {
    fn default() -> Self {
        Self { configured: BTreeMap::new(), default: OURS.into() }
    }
}

impl Runtimes {
    /// What makes a container with `HostConfig.Runtime` = `name`; `None` is our own runtime.
    ///
    /// # Errors
    /// Nothing has that name.
    pub fn find(&self, name: &str) -> Result<Option<RuntimeCommand>, Unknown> {
        let name = if name.is_empty() { self.default.as_str() } else { name };
        if name == OURS {
            return Ok(None);
        }
        let unknown = || Unknown(name.to_owned());
        if let Some(command) = self.configured.get(name) {
            let path = program(&command.path).ok_or_else(unknown)?;
            return Ok(Some(RuntimeCommand { path, args: command.args.clone() }));
        }
        if RUNC_SHIMS.contains(&name) {
            return self.find("runc").map_err(|_| unknown());
        }
        let path = program(Path::new(name)).ok_or_else(unknown)?;
        Ok(Some(RuntimeCommand { path, args: Vec::new() }))
    }

    /// Whether ours is the default.
    pub fn is_ours_default(&self) -> bool {
        self.default == OURS
    }

    /// What `info` lists: ours, the configured ones, and what usual ones there are.
    pub(crate) fn listed(&self, config: &Config) -> BTreeMap<String, InfoRuntime> {
        let mut all = BTreeMap::new();
        for name in USUAL.into_iter().chain(RUNC_SHIMS) {
            if let Ok(Some(command)) = self.find(name) {
                all.insert(name.to_owned(), listing(&command));
            }
        }
        all.extend(self.configured.iter().map(|(name, command)| (name.clone(), listing(command))));
        let ours = InfoRuntime { path: config.shim.to_string_lossy().into_owned(), runtime_args: Vec::new() };
        all.insert(OURS.to_owned(), ours);
        all
    }
}

fn listing(command: &RuntimeCommand) -> InfoRuntime {
    InfoRuntime { path: command.path.to_string_lossy().into_owned(), runtime_args: command.args.clone() }
}

/// The executable file of an absolute path, or of a bare name on the engine's path.
fn program(wanted: &Path) -> Option<PathBuf> {
    if wanted.is_absolute() {
        return is_executable(wanted).then(|| wanted.to_owned());
    }
    let mut parts = wanted.components();
    let (Some(std::path::Component::Normal(name)), None) = (parts.next(), parts.next()) else { return None };
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        let command = RuntimeCommand { path: "sh".into(), args: vec!["--x".into()] };
        let gone = RuntimeCommand { path: "/no/such".into(), args: Vec::new() };
        let configured = BTreeMap::from([("mine".to_owned(), command), ("gone".to_owned(), gone)]);
        let runtimes = Runtimes { configured, ..Runtimes::default() };
        assert_eq!(runtimes.find(""), Ok(None));
        assert_eq!(runtimes.find("seacow"), Ok(None));
        let mine = runtimes.find("mine").unwrap().unwrap();
        assert!(mine.path.is_absolute() && mine.args == ["--x"]);
        assert_eq!(runtimes.find("/bin/sh").unwrap().unwrap().path, Path::new("/bin/sh"));
        assert!(runtimes.find("sh").unwrap().unwrap().path.is_absolute());
        for bad in ["nosuchruntime", "/no/such", "/etc/passwd", "/tmp", "../bin/sh", "bin/sh", "gone"] {
            assert_eq!(runtimes.find(bad), Err(Unknown(bad.into())), "{bad}");
        }
        let text = runtimes.find("nosuchruntime").unwrap_err().to_string();
        assert_eq!(text, "unknown or invalid runtime name: nosuchruntime");
    }

    #[test]
    fn the_default_is_what_is_asked_for_by_nobody() {
        let runtimes = Runtimes { default: "/bin/sh".into(), ..Runtimes::default() };
        assert_eq!(runtimes.find("").unwrap().unwrap().path, Path::new("/bin/sh"));
        assert_eq!(runtimes.find(OURS), Ok(None));
        assert!(!runtimes.is_ours_default());
    }
}
