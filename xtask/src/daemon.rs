//! A daemon of its own for the demo and the benchmarks: own roots, socket, bridge; gone afterwards.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a daemon may take until it listens.
const START: Duration = Duration::from_secs(20);
/// How long it may take to stop after SIGTERM.
const STOP: Duration = Duration::from_secs(20);

/// A running daemon; stopped and cleaned up when dropped.
pub(crate) struct Daemon {
    child: Child,
    name: String,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts `dist/seacowd` under `name`, which also names its directories and its bridge.
    pub(crate) fn start(dist: &Path, name: &str) -> Result<Self> {
        Self::start_with(dist, name, &[])
    }

    /// The same with more options.
    pub(crate) fn start_with(dist: &Path, name: &str, options: &[&str]) -> Result<Self> {
        let exec_root = PathBuf::from(format!("/run/{name}"));
        std::fs::create_dir_all(&exec_root).with_context(|| format!("create {}", exec_root.display()))?;
        let socket = exec_root.join("seacow.sock");
        let log = exec_root.join("seacowd.log");
        let output = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = Command::new(dist.join("seacowd"))
            .arg(format!("--data-root=/var/lib/{name}"))
            .arg(format!("--exec-root={}", exec_root.display()))
            .arg(format!("--host=unix://{}", socket.display()))
            .arg(format!("--pidfile={}/seacowd.pid", exec_root.display()))
            .arg("--exec-opt=native.cgroupdriver=cgroupfs")
            .arg(format!("--cgroup-parent=/{name}"))
            // Interface names have at most 15 characters.
            .arg(format!("--bridge={}", &name[..name.len().min(15)]))
            .args(options)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", dist.join("seacowd").display()))?;
        let mut daemon = Self { child, name: name.to_owned(), socket, log };
        daemon.await_socket()?;
        Ok(daemon)
    }

    fn await_socket(&mut self) -> Result<()> {
        let start = Instant::now();
        while UnixStream::connect(&self.socket).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("seacowd ended at once: {status}\n{}", self.log());
            }
            if start.elapsed() > START {
                bail!("seacowd does not listen on {} after {START:?}\n{}", self.socket.display(), self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// `unix://…`, for `-H`.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn stop(&mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        crate::shell::run(Command::new("kill").args(["-TERM", &pid]))?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > STOP {
                self.child.kill()?;
                self.child.wait()?;
                bail!("seacowd did not stop within {STOP:?}; killed\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("xtask: {error:#}");
        }
        for dir in [format!("/var/lib/{}", self.name), format!("/run/{}", self.name)] {
            use std::io::ErrorKind::{ReadOnlyFilesystem, ResourceBusy};
            // What is mounted there, or a subvolume in it, goes with the disk of who mounted it.
            if let Err(error) = std::fs::remove_dir_all(&dir)
                && !matches!(error.kind(), ResourceBusy | ReadOnlyFilesystem)
            {
                eprintln!("xtask: remove {dir}: {error}");
            }
        }
    }
}
