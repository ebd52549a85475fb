//! The engines under measurement. Each is started when a section first asks for it, and a peer that
//! cannot run here is remembered with the reason.

use std::cell::OnceCell;
use std::path::PathBuf;

use anyhow::Result;

use super::image::Image;
use super::options::Options;
use super::peers::Client;
use super::peers::dockerd::Dockerd;
use super::peers::podman::Podman;
use super::peers::seacow::Seacow;
use crate::packages;

/// Names our daemon's and the peers' directories, bridges and cgroups.
const NAME: &str = "seacow-bench";
/// The second daemon of ours.
const COLD_NAME: &str = "seacow-bench0";

/// A peer, or why it cannot run.
type Peer<T> = OnceCell<Result<T, String>>;

/// What sections take their engines from.
pub(crate) struct Lab {
    /// Our programs.
    pub(crate) dist: PathBuf,
    /// The stock client.
    pub(crate) docker_cli: PathBuf,
    /// What runs in containers.
    pub(crate) image: Image,
    trace: bool,
    warm: Peer<Seacow>,
    cold: Peer<Seacow>,
    docker: Peer<Dockerd>,
    podman: Peer<Podman>,
}

impl Lab {
    /// Nothing is started yet.
    pub(crate) fn new(dist: PathBuf, options: &Options) -> Result<Self> {
        Ok(Self {
            dist,
            docker_cli: packages::docker_cli()?,
            image: Image::new()?,
            trace: options.trace,
            warm: OnceCell::new(),
            cold: OnceCell::new(),
            docker: OnceCell::new(),
            podman: OnceCell::new(),
        })
    }

    /// Ours, as it comes.
    pub(crate) fn seacow(&self) -> Result<&Seacow> {
        ours(self.warm.get_or_init(|| reason(Seacow::start(self, NAME, &self.log_level()))))
    }

    /// Ours without prepared containers: every start is a cold one.
    pub(crate) fn cold(&self) -> Result<&Seacow> {
        let mut options = self.log_level();
        options.push("--pool-size=0");
        ours(self.cold.get_or_init(|| reason(Seacow::start(self, COLD_NAME, &options))))
    }

    /// Debian's dockerd.
    pub(crate) fn docker(&self) -> Result<&Dockerd, String> {
        peer(self.docker.get_or_init(|| reason(Dockerd::start(self, NAME))))
    }

    /// Debian's podman.
    pub(crate) fn podman(&self) -> Result<&Podman, String> {
        peer(self.podman.get_or_init(|| reason(Podman::start(&self.image, NAME))))
    }

    /// The stock client on an engine's socket.
    pub(crate) fn docker_client(&self, host: &str) -> Client {
        Client::new(&self.docker_cli, &["-H", host])
    }

    fn log_level(&self) -> Vec<&'static str> {
        if self.trace { vec!["--log-level=trace"] } else { Vec::new() }
    }
}

fn reason<T>(result: Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{error:#}"))
}

fn peer<T>(peer: &Result<T, String>) -> Result<&T, String> {
    peer.as_ref().map_err(Clone::clone)
}

/// Without our own engine there is nothing to compare.
fn ours<T>(engine: &Result<T, String>) -> Result<&T> {
    engine.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}
