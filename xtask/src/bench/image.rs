//! A root file system of busybox alone, as a tar.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// Its name in the engines.
pub(crate) const NAME: &str = "bb";

/// Where it lies.
pub(crate) struct Image {
    /// To be imported.
    pub(crate) tar: PathBuf,
}

impl Image {
    /// Makes it below the target directory.
    pub(crate) fn new() -> Result<Self> {
        let dir = shell::target().join("bench-image");
        let bin = dir.join("bin");
        std::fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;
        std::fs::copy("/bin/busybox", bin.join("busybox")).context("copy /bin/busybox")?;
        for applet in shell::output(Command::new("/bin/busybox").arg("--list"))?.lines() {
            let link = bin.join(applet);
            if applet != "busybox" && !link.exists() {
                std::os::unix::fs::symlink("busybox", &link)?;
            }
        }
        let tar = shell::target().join("bench-image.tar");
        shell::run(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&dir).arg("."))?;
        Ok(Self { tar })
    }

    /// Copies the files to `dir`: a root file system that may be written to.
    pub(crate) fn copy_to(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        shell::run(Command::new("tar").arg("-xf").arg(&self.tar).arg("-C").arg(dir))
    }
}
