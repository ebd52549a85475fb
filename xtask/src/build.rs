//! Release binaries in `target/dist/`.
//!
//! The client, the shim and the runtime are static: the client because a dynamic one costs 0.4 ms
//! before `main`, the others because they run where no library can be relied upon, and because
//! every container pays for its shim's pages. The daemon is an ordinary dynamic program.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// What is built, from which package, with which profile, static or not.
const BINARIES: [(&str, &str, &str, bool); 5] = [
    ("seacow", "seacow-cli", "release", true),
    ("seacowd", "seacow-daemon", "release", false),
    ("seacow-shim", "seacow-shim", "small", true),
    ("seacow-runtime", "seacow-runtime", "small", true),
    ("seacow-init", "seacow-runtime", "small", true),
];

/// The directory that `SEACOW_DIST` names, or everything built anew: so that what measures need not
/// build at the same moment.
pub(crate) fn given_or_dist() -> Result<PathBuf> {
    match std::env::var_os("SEACOW_DIST") {
        Some(dir) => std::path::absolute(&dir).with_context(|| format!("SEACOW_DIST: {}", dir.display())),
        None => dist(),
    }
}

/// Builds everything and returns the directory that holds it.
pub(crate) fn dist() -> Result<PathBuf> {
    let dist = shell::target().join("dist");
    std::fs::create_dir_all(&dist).with_context(|| format!("create {}", dist.display()))?;
    let target = static_target();
    for (profile, is_static) in [("release", false), ("release", true), ("small", true)] {
        let wanted: Vec<_> = BINARIES.iter().filter(|b| b.2 == profile && b.3 == is_static).collect();
        let mut cargo = shell::cargo();
        cargo.args(["build", "--locked", "--profile", profile]);
        for (bin, package, ..) in &wanted {
            cargo.args(["-p", package, "--bin", bin]);
        }
        if is_static {
            cargo.args(["--target", &target.triple]);
            cargo.env(target.flags_variable(), target.flags);
        }
        shell::run(&mut cargo)?;
        let mut built = shell::target();
        if is_static {
            built.push(&target.triple);
        }
        built.push(profile);
        for (bin, ..) in &wanted {
            install(&built.join(bin), &dist.join(bin))?;
        }
    }
    Ok(dist)
}

/// Replaces by rename: a running binary is never written to.
fn install(from: &Path, to: &Path) -> Result<()> {
    let temporary = to.with_extension("new");
    std::fs::copy(from, &temporary).with_context(|| format!("copy {}", from.display()))?;
    std::fs::rename(&temporary, to).with_context(|| format!("rename to {}", to.display()))
}

struct StaticTarget {
    triple: String,
    flags: &'static str,
}

impl StaticTarget {
    fn flags_variable(&self) -> String {
        format!("CARGO_TARGET_{}_RUSTFLAGS", self.triple.to_uppercase().replace('-', "_"))
    }
}

/// musl where rustup has it or can get it, else a static glibc. Not position independent: a
/// static-PIE relocates itself at every start, and those pages are then nobody else's.
fn static_target() -> StaticTarget {
    let arch = std::env::consts::ARCH;
    let musl = format!("{arch}-unknown-linux-musl");
    if has_target(&musl) || (add_target(&musl) && has_target(&musl)) {
        return StaticTarget { triple: musl, flags: "-C relocation-model=static" };
    }
    println!(
        "xtask: the target {musl} is not installed and rustup cannot add it; linking glibc statically instead"
    );
    StaticTarget {
        triple: format!("{arch}-unknown-linux-gnu"),
        flags: "-C target-feature=+crt-static -C relocation-model=static",
    }
}

fn has_target(triple: &str) -> bool {
    let mut rustc = Command::new("rustc");
    rustc.current_dir(shell::root()).args(["--print", "target-libdir", "--target", triple]);
    shell::output(&mut rustc).is_ok_and(|dir| Path::new(dir.trim()).is_dir())
}

fn add_target(triple: &str) -> bool {
    println!("xtask: adding the Rust target {triple}");
    shell::output(Command::new("rustup").current_dir(shell::root()).args(["target", "add", triple])).is_ok()
}
