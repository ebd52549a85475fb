//! Starting shims, finding running ones again, and cleaning up after lost ones.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Resource, Rlimit};
use seacow_spec::shim::SOCKET_NAME;
use tokio::net::UnixStream;

use super::program::{NAME, Program};
use super::{ShimClient, ShimError};
use crate::blocking;

/// File below the exec directory that takes a shim's last words.
const STDERR_NAME: &str = "shim.err";

/// Starts a shim for the existing directory `dir`. Blocks for as long as the kernel needs for an
/// exec (100–300 µs); std uses `posix_spawn`, whose child shares the engine's memory until then.
///
/// `open_files` is set from outside once it runs, which is before it hears of a container.
pub(crate) fn spawn(
    program: &Program,
    dir: &Path,
    open_files: Option<(u64, u64)>,
) -> Result<(StdStream, std::process::Child), ShimError> {
    let failed = |source| ShimError::Spawn { program: NAME.into(), source };
    let (ours, theirs) = StdStream::pair().map_err(failed)?;
    let stderr = File::create(dir.join(STDERR_NAME)).map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let child = Command::new(program.path())
        .arg0(NAME)
        .arg("--dir")
        .arg(dir)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(stderr))
        .spawn()
        .map_err(failed)?;
    if let Some(limits) = open_files {
        limit_open_files(&child, limits).map_err(failed)?;
    }
    Ok((ours, child))
}

fn limit_open_files(child: &std::process::Child, (soft, hard): (u64, u64)) -> std::io::Result<()> {
    let value = |limit| (limit != u64::MAX).then_some(limit);
    let limit = Rlimit { current: value(soft), maximum: value(hard) };
    rustix::process::prlimit(Some(Pid::from_child(child)), Resource::Nofile, limit)?;
    Ok(())
}

/// Connects to the shim that an earlier engine started in `dir`.
pub(crate) async fn connect(dir: &Path) -> Result<ShimClient, ShimError> {
    let failed = |source: std::io::Error| ShimError::Connect {
        path: dir.join(SOCKET_NAME).display().to_string(),
        source,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::open(dir, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    // By descriptor: an address holds 108 bytes, less than a long exec root and a full id.
    let short = format!("/proc/self/fd/{}/{SOCKET_NAME}", handle.as_raw_fd());
    let stream = UnixStream::connect(short).await.map_err(failed)?;
    Ok(ShimClient::new(stream, None))
}

/// Kills and removes what a lost shim left behind: processes, cgroups. Its directory stays.
pub(crate) async fn cleanup(program: &Program, dir: &Path) -> Result<(), ShimError> {
    let failed = |text: String| ShimError::Cleanup { dir: dir.display().to_string(), text };
    let (program, target) = (program.path(), dir.to_owned());
    let output = blocking::run("clean up after a shim", move || {
        Command::new(program).arg("--cleanup").arg(target).env_clear().stdin(Stdio::null()).output()
    })
    .await
    .map_err(|error| failed(error.to_string()))?
    .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}: {}", output.status, text.trim())))
}
