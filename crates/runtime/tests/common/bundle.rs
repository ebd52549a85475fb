//! `seacow-runtime` on a bundle of its own.

use std::path::PathBuf;
use std::process::{Command, Output};

use seacow_spec::oci::runtime::Spec;

use super::Fixture;

/// A bundle and a state directory; dropped, its container is deleted, and nothing may be left.
pub(crate) struct Bundle {
    pub(crate) fixture: Fixture,
    pub(crate) id: String,
}

impl Bundle {
    /// A container that runs a shell script; `None`, said aloud, where that cannot be.
    pub(crate) fn new(name: &str, script: &str, change: impl FnOnce(&mut Spec)) -> Option<Self> {
        if let Some(why) = super::missing() {
            eprintln!("SKIP {name}: {why}");
            return None;
        }
        let bundle =
            Self { fixture: Fixture::new(), id: format!("seacow-sec-{name}-{}", std::process::id()) };
        let mut spec = super::spec(super::process(&["/bin/sh", "-c", script]));
        spec.mounts = super::kernel_mounts();
        spec.linux.as_mut().unwrap().cgroups_path = format!("/{}", bundle.id);
        change(&mut spec);
        bundle.write(&spec);
        Some(bundle)
    }

    /// Writes another configuration.
    pub(crate) fn write(&self, spec: &Spec) {
        std::fs::write(self.fixture.path().join("config.json"), serde_json::to_vec(spec).unwrap()).unwrap();
    }

    /// The command, with its output in files: a pipe would only end when a container that inherits
    /// it does.
    pub(crate) fn command(&self, program: &str, words: &[&str]) -> (Command, [PathBuf; 2]) {
        let paths = ["stdout", "stderr"].map(|name| self.fixture.path().join(name));
        let [out, err] = paths.clone().map(|path| std::fs::File::create(path).unwrap());
        let mut command = Command::new(program);
        command
            .arg("--root")
            .arg(self.fixture.path().join("state"))
            .args(words)
            .current_dir(self.fixture.path())
            .stdin(std::process::Stdio::null())
            .stdout(out)
            .stderr(err);
        (command, paths)
    }

    /// Runs `seacow-runtime` to its end.
    pub(crate) fn call(&self, words: &[&str]) -> Output {
        self.call_program(env!("CARGO_BIN_EXE_seacow-runtime"), words)
    }

    /// Runs a copy of it to its end.
    pub(crate) fn call_program(&self, program: &str, words: &[&str]) -> Output {
        let (mut command, [out, err]) = self.command(program, words);
        let status = command.status().unwrap();
        Output { status, stdout: std::fs::read(out).unwrap(), stderr: std::fs::read(err).unwrap() }
    }

    /// A call that must succeed; its output.
    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let output = self.call(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A call that must fail; what it says.
    pub(crate) fn refused(&self, words: &[&str]) -> String {
        let output = self.call(words);
        assert!(!output.status.success(), "{words:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
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
