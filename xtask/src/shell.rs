//! Running other programs, with errors that say which and why.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The workspace's root directory.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs to the end with our own terminal; fails when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs to the end and returns what it printed; fails when it fails, with its error output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let result =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", shown(command)))?;
    if !result.status.success() {
        bail!(
            "{} failed: {}: {}",
            shown(command),
            result.status,
            String::from_utf8_lossy(&result.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

/// Whether a program of that name is on the path.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// Runs this very command again under sudo, and never returns on success: containers need root.
pub(crate) fn become_root() -> Result<()> {
    if is_root() {
        return Ok(());
    }
    if which("sudo").is_none() {
        bail!("this needs root, and sudo is not installed: run it as root");
    }
    println!("xtask: this needs root; continuing with sudo");
    let exe = std::env::current_exe().context("own path")?;
    let mut sudo = Command::new("sudo");
    sudo.arg("--preserve-env=PATH,CARGO,CARGO_TARGET_DIR,HOME,RUSTUP_HOME,CARGO_HOME,SEACOW_DIST,CI");
    let status = sudo.arg(exe).args(std::env::args_os().skip(1)).status().context("sudo")?;
    std::process::exit(status.code().unwrap_or(1));
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
