//! The engines that are compared: how each is started, reached and removed without a trace.

pub(crate) mod dockerd;
pub(crate) mod oci;
pub(crate) mod podman;
pub(crate) mod seacow;

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use super::sampler::{self, Sampler};

/// A client program, with the words that come before every command.
#[derive(Clone)]
pub(crate) struct Client {
    leading: Vec<String>,
    /// Where it has to run, if not here.
    sampler: Option<Rc<Sampler>>,
}

impl Client {
    /// One that runs here.
    pub(crate) fn new(program: &Path, leading: &[&str]) -> Self {
        let words = std::iter::once(program.display().to_string());
        Self { leading: words.chain(leading.iter().map(|word| (*word).to_owned())).collect(), sampler: None }
    }

    /// The same, where `sampler` is.
    pub(crate) fn within(self, sampler: &Rc<Sampler>) -> Self {
        Self { sampler: Some(Rc::clone(sampler)), ..self }
    }

    fn words(&self, args: &[&str]) -> Vec<String> {
        self.leading.iter().cloned().chain(args.iter().map(|word| (*word).to_owned())).collect()
    }

    /// Runs a command to its end; how long it took.
    pub(crate) fn time(&self, args: &[&str]) -> Result<Duration> {
        match &self.sampler {
            Some(sampler) => sampler.time(&self.words(args)),
            None => sampler::time(&self.words(args)),
        }
    }

    /// Commands per second with [`sampler::IN_FLIGHT`] at once.
    pub(crate) fn load(&self, args: &[&str], duration: Duration) -> Result<f64> {
        match &self.sampler {
            Some(sampler) => sampler.load(&self.words(args), duration),
            None => sampler::load(&self.words(args), duration),
        }
    }
}

/// An engine with Docker's API.
pub(crate) trait Engine {
    /// Told in tables.
    fn name(&self) -> &'static str;
    /// Where it listens.
    fn socket(&self) -> &Path;
    /// The daemon's process, in whose namespaces the containers' links and mounts are.
    fn pid(&self) -> u32;
    /// All processes that serve all containers together.
    fn daemons(&self) -> Vec<u32>;
    /// Directories that it may have made for a container.
    fn directories(&self, id: &str, inspect: &Value) -> Vec<PathBuf>;
}

/// Removes directories that a run made; what cannot be removed is said.
fn remove_dirs(dirs: &[PathBuf]) {
    for dir in dirs.iter().filter(|dir| dir.exists()) {
        if let Err(error) = std::fs::remove_dir_all(dir) {
            eprintln!("xtask: remove {}: {error}", dir.display());
        }
    }
}

/// Removes the cgroup of that name from every hierarchy, with what is below.
fn remove_cgroups(name: &str) {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let roots = hierarchies.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
    for dir in roots.map(|root| root.join(name)).filter(|dir| dir.is_dir()) {
        if let Err(error) = remove_cgroup(&dir) {
            eprintln!("xtask: remove {}: {error}", dir.display());
        }
    }
}

/// Files in there cannot be removed, and go with their directory; where a hierarchy is not mounted,
/// podman makes plain ones.
fn remove_cgroup(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_cgroup(&path)?;
        } else {
            let _ = std::fs::remove_file(&path);
        }
    }
    std::fs::remove_dir(dir)
}
