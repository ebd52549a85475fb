//! `ADD https://host/repo.git#reference:directory`: a repository, by the host's `git`.
//!
//! The program runs with nothing of the host's but its path and certificates: no configuration, no
//! hooks, no credentials, no prompts, and only over the protocols that a Dockerfile may name.

use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use seacow_build::Cancel;
use seacow_spec::{ErrorClass, ErrorReport};

use super::executor::BuildExecutor;
use super::fetch::{Download, bare};

/// What to fetch.
pub(super) struct Wanted<'a> {
    pub(super) repository: &'a str,
    /// Branch, tag or commit; empty for the default branch.
    pub(super) reference: &'a str,
    /// Directory in it; empty for all.
    pub(super) subdirectory: &'a str,
    pub(super) keep_git_dir: bool,
}

/// Fetches a repository's files.
pub(super) fn clone(
    build: &BuildExecutor,
    wanted: &Wanted<'_>,
    cancel: &Cancel,
) -> Result<Download, ErrorReport> {
    let mut download = Download::begin(build)?;
    let tree = download.dir.0.join("tree");
    let git = Git { tree: &tree, cancel, repository: wanted.repository };
    std::fs::create_dir(&tree).map_err(|error| git.failed(error.to_string()))?;
    git.run(&["init", "--quiet"])?;
    let reference = if wanted.reference.is_empty() { "HEAD" } else { wanted.reference };
    // One commit is enough; a server that gives no single commits by their ids gives all.
    let shallow =
        ["fetch", "--quiet", "--depth=1", "--no-tags", "--end-of-options", wanted.repository, reference];
    let target = match git.run(&shallow) {
        Ok(_) => "FETCH_HEAD",
        Err(_) if is_hex(reference) => {
            let all = "+refs/heads/*:refs/remotes/origin/*";
            git.run(&["fetch", "--quiet", "--tags", "--end-of-options", wanted.repository, all])?;
            reference
        }
        Err(error) => return Err(error),
    };
    git.run(&["checkout", "--quiet", "--detach", target])?;
    if tree.join(".gitmodules").exists() {
        git.run(&["submodule", "update", "--quiet", "--init", "--recursive", "--depth=1"])?;
    }
    download.commit = Some(git.run(&["rev-parse", "HEAD"])?.trim().to_owned());
    if !wanted.keep_git_dir {
        std::fs::remove_dir_all(tree.join(".git")).map_err(|error| git.failed(error.to_string()))?;
    }
    download.root = root_of(&tree, wanted.subdirectory).map_err(|why| git.failed(why))?;
    Ok(download)
}

/// The repository's directory, or one in it, its links not leading out.
fn root_of(tree: &Path, subdirectory: &str) -> Result<std::os::fd::OwnedFd, String> {
    let root = seacow_store::rooted::Root::open(tree).map_err(|errno| errno.to_string())?;
    root.locate_dir(Path::new(if subdirectory.is_empty() { "/" } else { subdirectory }))
        .map_err(|errno| format!("directory {subdirectory:?}: {errno}"))
}

fn is_hex(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

struct Git<'a> {
    tree: &'a Path,
    cancel: &'a Cancel,
    repository: &'a str,
}

impl Git<'_> {
    fn failed(&self, why: String) -> ErrorReport {
        let text = format!("fetch git repository {}: {why}", bare(self.repository));
        ErrorReport::new(ErrorClass::Unavailable, text)
    }

    /// Runs one command in the tree; its output.
    fn run(&self, args: &[&str]) -> Result<String, ErrorReport> {
        let child = Command::new("git")
            .args([
                "-c",
                "core.hooksPath=/dev/null",
                "-c",
                "protocol.file.allow=never",
                "-c",
                "advice.detachedHead=false",
            ])
            .args(args)
            .current_dir(self.tree)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .env("HOME", "/nonexistent")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "http:https:git")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let child = match child {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = "NotImplemented: ADD of a git repository needs the program git on the engine's host, which has none";
                return Err(ErrorReport::new(ErrorClass::NotImplemented, text));
            }
            child => child.map_err(|error| self.failed(error.to_string()))?,
        };
        let output = self.wait(child).map_err(|error| self.failed(error.to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said =
            String::from_utf8_lossy(&output.stderr).trim().replace(self.repository, &bare(self.repository));
        Err(self.failed(said))
    }

    /// Waits for a command, which a cancelled build kills.
    fn wait(&self, child: std::process::Child) -> io::Result<Output> {
        use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        self.cancel.on_cancel(move || {
            // It may have ended long ago.
            let _ = pidfd_send_signal(&process, Signal::KILL);
        });
        child.wait_with_output()
    }
}
