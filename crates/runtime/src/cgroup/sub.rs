//! Cgroups below a container's, in which an exec is to run.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::{Cgroups, Error, Layout};

/// Paths below the container's cgroups, by controller; the empty name stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubCgroups(BTreeMap<String, PathBuf>);

impl SubCgroups {
    /// Reads `PATH`, or several of `CONTROLLER[,CONTROLLER…]:PATH`.
    ///
    /// # Errors
    /// A form that is neither, or a path that leads out.
    pub fn parse(texts: &[String]) -> Result<Self, Error> {
        let mut paths = BTreeMap::new();
        for text in texts {
            let invalid = |why: &str| Error::Invalid { what: format!("cgroup {text:?}: {why}") };
            let (controllers, path) = match text.split_once(':') {
                Some((controllers, path)) => (controllers, path),
                None if texts.len() == 1 => ("", text.as_str()),
                None => return Err(invalid("missing <controller>: before the path")),
            };
            let path = path.trim_start_matches('/');
            if path.contains(':') {
                return Err(invalid("more than one colon"));
            }
            if Path::new(path).components().any(|c| !matches!(c, Component::Normal(_))) {
                return Err(Error::Invalid { what: format!("cgroup path {path} is not a sub cgroup path") });
            }
            for controller in controllers.split(',') {
                paths.insert(controller.to_owned(), PathBuf::from(path));
            }
        }
        Ok(Self(paths))
    }

    /// Whether the process goes where the container is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The path for a hierarchy with these controllers.
    fn of(&self, controllers: &[String]) -> Option<&Path> {
        let own = controllers.iter().find_map(|c| self.0.get(c.trim_start_matches("name=")));
        own.or_else(|| self.0.get("")).map(PathBuf::as_path)
    }
}

impl Cgroups {
    /// As [`Cgroups::tasks_files`], below.
    ///
    /// # Errors
    /// A controller that no hierarchy has, or a cgroup that does not exist.
    pub fn tasks_files_in(&self, sub: &SubCgroups) -> Result<Vec<PathBuf>, Error> {
        let Layout::V1 { hierarchies, .. } = self.layout() else {
            return match sub.0.keys().find(|k| !k.is_empty()) {
                Some(name) => Err(unknown(name)),
                None => Ok(Vec::new()),
            };
        };
        let mounted = |name: &str| {
            hierarchies.iter().flat_map(|h| &h.controllers).any(|c| c.trim_start_matches("name=") == name)
        };
        if let Some(name) = sub.0.keys().find(|k| !k.is_empty() && !mounted(k)) {
            return Err(unknown(name));
        }
        let mut files = Vec::with_capacity(hierarchies.len());
        for hierarchy in hierarchies {
            let dir = hierarchy.mount.join(self.path());
            let dir = match sub.of(&hierarchy.controllers) {
                Some(path) => existing(dir.join(path))?,
                None => dir,
            };
            files.push(dir.join("tasks"));
        }
        Ok(files)
    }

    /// The version 2 directory below; `None` when that has no say here.
    ///
    /// # Errors
    /// It does not exist.
    pub fn unified_dir_in(&self, sub: &SubCgroups) -> Result<Option<PathBuf>, Error> {
        let Some(path) = sub.of(&[]) else { return Ok(None) };
        match self.layout() {
            Layout::V2 { mount } => existing(mount.join(self.path()).join(path)).map(Some),
            // Without controllers it is nobody's matter: below where it exists, otherwise at the top.
            Layout::V1 { unified, .. } => {
                Ok(unified.as_ref().map(|m| m.join(self.path()).join(path)).filter(|d| d.is_dir()))
            }
        }
    }
}

fn unknown(controller: &str) -> Error {
    Error::Invalid { what: format!("cgroup: unknown controller {controller}") }
}

fn existing(dir: PathBuf) -> Result<PathBuf, Error> {
    if dir.is_dir() {
        return Ok(dir);
    }
    let file = dir.join("cgroup.procs");
    Err(Error::Invalid {
        what: format!("cgroup: adding pid to it: open {}: no such file or directory", file.display()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<SubCgroups, Error> {
        SubCgroups::parse(&texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn forms() {
        let sub = parse(&["memory:a", "cpu,cpuacct:/b/c"]).unwrap();
        let of = |name: &str| sub.of(&[name.to_owned()]);
        assert_eq!(of("memory"), Some(Path::new("a")));
        assert_eq!(of("cpuacct"), Some(Path::new("b/c")));
        assert_eq!(of("pids"), None);
        assert_eq!(parse(&["/"]).unwrap().of(&["pids".into()]), Some(Path::new("")));
        assert!(parse(&[]).unwrap().is_empty());
        for wrong in [&["a", "b"][..], &[".."], &["a/../.."], &["cpu:a:b"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
