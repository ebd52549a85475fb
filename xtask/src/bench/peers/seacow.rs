//! Our own engine.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use super::{Client, Engine};
use crate::bench::api::Api;
use crate::bench::image;
use crate::bench::lab::Lab;
use crate::bench::memory;
use crate::daemon::Daemon;

/// Prepared containers of a daemon without options.
const POOL: usize = 5;
/// How long the pool may take to be full.
const FILL: Duration = Duration::from_secs(20);

/// A daemon, and the clients on its socket.
pub(crate) struct Seacow {
    daemon: Daemon,
    name: &'static str,
    /// Our own client.
    pub(crate) client: Client,
    /// The stock one.
    pub(crate) docker: Client,
}

impl Seacow {
    /// Starts one and imports the image.
    pub(crate) fn start(lab: &Lab, name: &'static str, options: &[&str]) -> Result<Self> {
        let daemon = Daemon::start_with(&lab.dist, name, options)?;
        let host = daemon.host();
        let client = Client::new(&lab.dist.join("seacow"), &["-H", &host]);
        client.time(&["import", &lab.image.tar.to_string_lossy(), image::NAME])?;
        Ok(Self { docker: lab.docker_client(&host), daemon, name, client })
    }

    /// What the daemon printed.
    pub(crate) fn log(&self) -> String {
        self.daemon.log()
    }

    /// Where its data are.
    pub(crate) fn data_root(&self) -> PathBuf {
        PathBuf::from(format!("/var/lib/{}", self.name))
    }

    /// Shims and their children, prepared or in use.
    pub(crate) fn shims(&self) -> Vec<u32> {
        memory::processes_with(&format!("/run/{}/c/", self.name))
    }

    /// Waits until the pool is full while no container exists; shims and zygotes of the slots.
    pub(crate) fn full_pool(&self) -> Result<(Vec<u32>, usize)> {
        let start = Instant::now();
        loop {
            let all = self.shims();
            let slots = all.iter().filter(|pid| memory::parent(**pid).ok() == Some(self.pid())).count();
            // Guesses come on top.
            if slots >= POOL {
                return Ok((all, slots));
            }
            if start.elapsed() > FILL {
                bail!("{slots} slots instead of at least {POOL} after {FILL:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Engine for Seacow {
    fn name(&self) -> &'static str {
        "seacow"
    }

    fn socket(&self) -> &Path {
        self.daemon.socket()
    }

    fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    fn daemons(&self) -> Vec<u32> {
        vec![self.pid()]
    }

    fn directories(&self, id: &str, _: &Value) -> Vec<PathBuf> {
        let below = |root: &str, kind: &str| PathBuf::from(format!("{root}/{}/{kind}/{id}", self.name));
        vec![
            below("/run", "c"),
            below("/run", "records"),
            below("/var/lib", "containers"),
            below("/var/lib", "snapshots"),
        ]
    }
}

impl Drop for Seacow {
    fn drop(&mut self) {
        // A daemon that stops leaves its containers alone.
        if let Err(error) = Api::open(self.socket()).and_then(|mut api| api.remove_all()) {
            eprintln!("xtask: remove containers of {}: {error:#}", self.name);
        }
    }
}
