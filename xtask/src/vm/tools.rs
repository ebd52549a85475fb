//! What runs on this side: QEMU, and what makes the guest.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{packages, shell};

/// Unpacked with everything they depend on that is not installed here.
const PACKAGES: [&str; 2] = ["qemu-system-x86", "mmdebstrap"];
/// Small and of use elsewhere: installed.
const INSTALLED: [&str; 4] = ["e2fsprogs", "zstd", "xz-utils", "cpio"];

/// Where the unpacked programs are.
pub(crate) struct Tools {
    root: PathBuf,
}

/// Fetches them once.
pub(crate) fn fetch() -> Result<Tools> {
    packages::ensure(&INSTALLED, "the virtual machine")?;
    let root = dir().join("tools");
    if !root.join(".complete").exists() {
        println!(
            "xtask: fetching Debian packages, not installed, for the virtual machine: {}",
            PACKAGES.join(" ")
        );
        packages::unpack_with_dependencies(&root, &PACKAGES)?;
        std::fs::write(root.join(".complete"), "")?;
    }
    Ok(Tools { root })
}

/// Everything of the virtual machine.
pub(super) fn dir() -> PathBuf {
    shell::target().join("vm")
}

impl Tools {
    /// QEMU, finding its libraries and firmware where they were unpacked.
    pub(super) fn qemu(&self) -> Command {
        let mut qemu = Command::new(self.root.join("usr/bin/qemu-system-x86_64"));
        let libraries = ["usr/lib", "lib"]
            .map(|dir| format!("{}/{dir}/{}-linux-gnu", self.root.display(), std::env::consts::ARCH));
        qemu.env("LD_LIBRARY_PATH", libraries.join(":"));
        for data in ["usr/share/qemu", "usr/share/seabios"] {
            qemu.arg("-L").arg(self.root.join(data));
        }
        qemu
    }

    /// mmdebstrap, which calls a helper that is unpacked beside it.
    pub(super) fn mmdebstrap(&self) -> Command {
        let programs = self.root.join("usr/bin");
        let mut mmdebstrap = Command::new(programs.join("mmdebstrap"));
        let path = std::env::var("PATH").unwrap_or_default();
        mmdebstrap.env("PATH", format!("{}:{path}", programs.display()));
        mmdebstrap.env("PERL5LIB", self.root.join("usr/share/perl5"));
        mmdebstrap
    }
}

/// Writes `program`'s output to a file.
pub(super) fn output_to(program: &mut Command, file: &Path) -> Result<()> {
    let out = std::fs::File::create(file).with_context(|| format!("create {}", file.display()))?;
    shell::run(program.stdout(out))
}
