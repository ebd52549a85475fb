//! Debian's dockerd with roots and cgroups of its own, in network and mount namespaces of its own,
//! so that it changes neither the machine's firewall nor its bridges.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Client, Engine, remove_cgroups, remove_dirs};
use crate::bench::api::Api;
use crate::bench::image;
use crate::bench::lab::Lab;
use crate::bench::memory;
use crate::{packages, shell};

/// How long it may take until it listens.
const START: Duration = Duration::from_secs(60);

/// A running dockerd.
pub(crate) struct Dockerd {
    process: Process,
    socket: PathBuf,
    pid: u32,
    /// The stock client on its socket.
    pub(crate) client: Client,
}

impl Dockerd {
    /// Starts one and imports the image.
    pub(crate) fn start(lab: &Lab, name: &str) -> Result<Self> {
        let peers = packages::unpack("docker", &packages::DOCKER)?;
        let process = Process::start(&peers, &format!("{name}-docker"))?;
        let socket = process.run.join("docker.sock");
        let client = lab.docker_client(&format!("unix://{}", socket.display()));
        let pid = process.pid()?;
        client.time(&["import", &lab.image.tar.to_string_lossy(), image::NAME])?;
        Ok(Self { process, socket, pid, client })
    }
}

impl Engine for Dockerd {
    fn name(&self) -> &'static str {
        "dockerd"
    }

    fn socket(&self) -> &Path {
        &self.socket
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn daemons(&self) -> Vec<u32> {
        let ours = memory::processes_with(&self.process.run.display().to_string());
        let containerd = ours.into_iter().filter(|pid| memory::parent(*pid).ok() == Some(self.pid));
        containerd.chain([self.pid]).collect()
    }

    fn directories(&self, id: &str, inspect: &Value) -> Vec<PathBuf> {
        let upper = inspect.pointer("/GraphDriver/Data/UpperDir").and_then(Value::as_str);
        let mut dirs = vec![
            self.process.data.join("containers").join(id),
            self.process.run.join("exec/containerd/daemon/io.containerd.runtime.v2.task/moby").join(id),
        ];
        dirs.extend(upper.and_then(|upper| Path::new(upper).parent()).map(Path::to_owned));
        dirs
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        if let Err(error) = Api::open(&self.socket).and_then(|mut api| api.remove_all()) {
            eprintln!("xtask: remove dockerd's containers: {error:#}");
        }
    }
}

/// The process with its directories; stopped and removed when dropped.
struct Process {
    child: Child,
    name: String,
    run: PathBuf,
    data: PathBuf,
}

impl Process {
    fn start(peers: &Path, name: &str) -> Result<Self> {
        let run = PathBuf::from(format!("/run/{name}"));
        let data = PathBuf::from(format!("/var/lib/{name}"));
        std::fs::create_dir_all(&run).with_context(|| format!("create {}", run.display()))?;
        let own = std::env::var("PATH").unwrap_or_default();
        let log = std::fs::File::create(run.join("dockerd.log"))?;
        let child = Command::new("unshare")
            .args(["--mount", "--net", "--fork", "--kill-child", "sh", "-c"])
            .arg("ip link set lo up && exec dockerd \"$@\"")
            .arg("dockerd")
            .arg(format!("--data-root={}", data.display()))
            .arg(format!("--exec-root={}/exec", run.display()))
            .arg(format!("--host=unix://{}/docker.sock", run.display()))
            .arg(format!("--pidfile={}/docker.pid", run.display()))
            .arg(format!("--cgroup-parent=/{name}"))
            .env("PATH", format!("{0}/usr/sbin:{0}/usr/bin:{own}", peers.display()))
            .env("LD_LIBRARY_PATH", peers.join("usr/lib/x86_64-linux-gnu"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start dockerd")?;
        let mut process = Self { child, name: name.to_owned(), run, data };
        process.await_socket()?;
        Ok(process)
    }

    fn pid(&self) -> Result<u32> {
        let text = std::fs::read_to_string(self.run.join("docker.pid")).context("dockerd's pid file")?;
        Ok(text.trim().parse()?)
    }

    fn await_socket(&mut self) -> Result<()> {
        let start = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.run.join("docker.sock")).is_err() {
            let log = || std::fs::read_to_string(self.run.join("dockerd.log")).unwrap_or_default();
            if let Some(status) = self.child.try_wait()? {
                bail!("dockerd ended at once: {status}\n{}", log());
            }
            if start.elapsed() > START {
                bail!("dockerd does not listen\n{}", log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // dockerd is pid 1 of nothing: SIGTERM to it lets it end its containerd in order.
        if let Ok(pid) = self.pid() {
            drop(shell::output(Command::new("kill").args(["-TERM", &pid.to_string()])));
        } else {
            drop(self.child.kill());
        }
        drop(self.child.wait());
        remove_cgroups(&self.name);
        remove_dirs(&[self.run.clone(), self.data.clone()]);
    }
}
