//! A bundle with `seacow-runtime` on it.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use seacow_spec::oci::runtime::Spec;

use crate::common::{self, Fixture};

/// A bundle and a state directory of its own.
pub(crate) struct Bundle {
    fixture: Fixture,
    pub(crate) id: String,
}

impl Bundle {
    pub(crate) fn new(name: &str, script: &str, change: impl FnOnce(&mut Spec)) -> Option<Self> {
        if let Some(why) = common::missing() {
            eprintln!("SKIP {name}: {why}");
            return None;
        }
        let fixture = Fixture::new();
        let mut spec = common::spec(common::process(&["/bin/sh", "-c", script]));
        spec.mounts = common::kernel_mounts();
        let id = format!("seacow-test-{name}-{}", std::process::id());
        spec.linux.as_mut().unwrap().cgroups_path = format!("/{id}");
        change(&mut spec);
        std::fs::write(fixture.path().join("config.json"), serde_json::to_vec(&spec).unwrap()).unwrap();
        Some(Self { fixture, id })
    }

    pub(crate) fn path(&self) -> &Path {
        self.fixture.path()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seacow-runtime"));
        command.arg("--root").arg(self.path().join("state")).args(words).current_dir(self.path());
        command.stdin(Stdio::null());
        command
    }

    /// A call that goes on, its output in a pipe.
    pub(crate) fn spawn(&self, words: &[&str]) -> Child {
        self.command(words).stdout(Stdio::piped()).spawn().unwrap()
    }

    /// A call that goes on, its output nowhere: a container may inherit it.
    pub(crate) fn spawn_away(&self, words: &[&str]) -> Child {
        self.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Nobody tells us when it has ended; its parent is whoever adopted it.
    pub(crate) fn wait_for(&self, status: &str) {
        while self.status() != status {
            std::thread::yield_now();
        }
    }

    /// Output goes to files: a pipe would only end when the container that inherits it does.
    pub(crate) fn call(&self, words: &[&str]) -> Output {
        let file = |name: &str| {
            let path = self.path().join(name);
            (std::fs::File::create(&path).unwrap(), path)
        };
        let ((out, out_path), (err, err_path)) = (file("stdout"), file("stderr"));
        let status = self.command(words).stdout(out).stderr(err).status().unwrap();
        Output { status, stdout: std::fs::read(out_path).unwrap(), stderr: std::fs::read(err_path).unwrap() }
    }

    /// A call that must succeed; its output.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.call(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn status(&self) -> String {
        let state: serde_json::Value = serde_json::from_str(&self.ok(&["state", &self.id])).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.call(&["delete", "-f", &self.id]);
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            assert!(!hierarchy.path().join(&self.id).exists(), "cgroup left in {:?}", hierarchy.path());
        }
    }
}
