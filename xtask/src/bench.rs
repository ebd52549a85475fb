//! Start times against dockerd, interleaved in one run.
//!
//! Every round starts one container with each engine, isolated by a pause: back-to-back loops hide
//! what an isolated start pays (RCU grace periods, cold caches). Medians and their ratio are printed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::daemon::Daemon;
use crate::{build, packages, shell};

const NAME: &str = "seacow-bench";
/// Pause before each measurement: long enough for deferred teardown and the refill of pools.
const PAUSE: Duration = Duration::from_millis(250);
const DEFAULT_ROUNDS: usize = 20;

/// Runs the named benchmark.
pub(crate) fn run(args: &[String]) -> Result<()> {
    match args.first().map(String::as_str) {
        Some("start") => {
            let rounds = match args.get(1) {
                Some(text) => text.parse().with_context(|| format!("rounds: {text:?} is not a number"))?,
                None => DEFAULT_ROUNDS,
            };
            start(rounds)
        }
        Some(other) => bail!("unknown benchmark {other:?}; there is: start"),
        None => bail!("which benchmark? there is: start"),
    }
}

fn start(rounds: usize) -> Result<()> {
    let dist = build::dist()?;
    shell::become_root()?;
    packages::ensure(&["busybox-static", "iptables", "procps"], "the benchmark")?;
    let docker = packages::docker_cli()?;
    let peers = packages::unpack("docker", &packages::DOCKER)?;
    let image = BusyboxTar::new()?;
    let ours = Daemon::start(&dist, NAME)?;
    let theirs = Dockerd::start(&peers)?;
    let seacow = Client { program: dist.join("seacow"), host: ours.host() };
    let docker_on_seacow = Client { program: docker.clone(), host: ours.host() };
    let docker = Client { program: docker, host: theirs.host() };
    for client in [&seacow, &docker] {
        client.run(&["import", &image.path.to_string_lossy(), "bb"])?;
    }
    let mut rows = [
        Row::new("seacow run --rm, bridge", &seacow, &["run", "--rm", "bb", "true"]),
        Row::new("seacow run --rm, none", &seacow, &["run", "--rm", "--network", "none", "bb", "true"]),
        Row::new("docker CLI on seacow, bridge", &docker_on_seacow, &["run", "--rm", "bb", "true"]),
        Row::new("docker run --rm, bridge", &docker, &["run", "--rm", "bb", "true"]),
        Row::new("docker run --rm, none", &docker, &["run", "--rm", "--network", "none", "bb", "true"]),
        Row::new("docker --version (floor of its client)", &docker, &["--version"]),
    ];
    for round in 0..=rounds {
        for row in &mut rows {
            std::thread::sleep(PAUSE);
            let elapsed = row.measure()?;
            if round > 0 {
                row.times.push(elapsed);
            }
        }
    }
    report(&mut rows, rounds);
    Ok(())
}

struct Client {
    program: PathBuf,
    host: String,
}

impl Client {
    fn run(&self, args: &[&str]) -> Result<()> {
        shell::output(Command::new(&self.program).args(["-H", &self.host]).args(args)).map(drop)
    }
}

struct Row<'a> {
    what: &'static str,
    client: &'a Client,
    args: &'a [&'a str],
    times: Vec<Duration>,
}

impl<'a> Row<'a> {
    fn new(what: &'static str, client: &'a Client, args: &'a [&'a str]) -> Self {
        Self { what, client, args, times: Vec::new() }
    }

    fn measure(&self) -> Result<Duration> {
        let start = Instant::now();
        self.client.run(self.args)?;
        Ok(start.elapsed())
    }

    /// Milliseconds at a quantile.
    fn quantile(&mut self, q: f64) -> f64 {
        self.times.sort();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index within the samples"
        )]
        let index = ((self.times.len().saturating_sub(1)) as f64 * q) as usize;
        self.times.get(index).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

fn report(rows: &mut [Row<'_>; 6], rounds: usize) {
    println!("\nstart of a container, ms, {rounds} rounds interleaved, each after a pause of {PAUSE:?}");
    println!("{:<42} {:>8} {:>8} {:>8}", "", "p10", "median", "p90");
    for row in rows.iter_mut() {
        let (low, median, high) = (row.quantile(0.1), row.quantile(0.5), row.quantile(0.9));
        println!("{:<42} {low:>8.2} {median:>8.2} {high:>8.2}", row.what);
    }
    let bridge = rows[3].quantile(0.5);
    let none = rows[4].quantile(0.5);
    println!("\nseacow is {:.0}x dockerd with a bridge network", bridge / rows[0].quantile(0.5));
    println!("seacow is {:.0}x dockerd without a network", none / rows[1].quantile(0.5));
    println!(
        "docker's own client is {:.1}x faster on seacow than on dockerd",
        bridge / rows[2].quantile(0.5)
    );
}

/// A root file system of busybox alone.
struct BusyboxTar {
    path: PathBuf,
}

impl BusyboxTar {
    fn new() -> Result<Self> {
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
        let path = shell::target().join("bench-image.tar");
        shell::run(Command::new("tar").arg("-cf").arg(&path).arg("-C").arg(&dir).arg("."))?;
        Ok(Self { path })
    }
}

/// Debian's dockerd with roots of its own, in network and mount namespaces of its own, so that it
/// changes neither the machine's firewall nor its bridges.
struct Dockerd {
    child: Child,
    dir: PathBuf,
}

impl Dockerd {
    fn start(peers: &Path) -> Result<Self> {
        let dir = PathBuf::from(format!("/run/{NAME}-docker"));
        std::fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let path = format!(
            "{0}/usr/sbin:{0}/usr/bin:{1}",
            peers.display(),
            std::env::var("PATH").unwrap_or_default()
        );
        let log = std::fs::File::create(dir.join("dockerd.log"))?;
        let child = Command::new("unshare")
            .args(["--mount", "--net", "--fork", "--kill-child", "sh", "-c"])
            .arg("ip link set lo up && exec dockerd \"$@\"")
            .arg("dockerd")
            .arg(format!("--data-root=/var/lib/{NAME}-docker"))
            .arg(format!("--exec-root={}/exec", dir.display()))
            .arg(format!("--host=unix://{}/docker.sock", dir.display()))
            .arg(format!("--pidfile={}/docker.pid", dir.display()))
            .env("PATH", path)
            .env("LD_LIBRARY_PATH", peers.join("usr/lib/x86_64-linux-gnu"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start dockerd")?;
        let mut dockerd = Self { child, dir };
        dockerd.await_socket()?;
        Ok(dockerd)
    }

    fn host(&self) -> String {
        format!("unix://{}/docker.sock", self.dir.display())
    }

    fn await_socket(&mut self) -> Result<()> {
        let start = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.dir.join("docker.sock")).is_err() {
            let log = || std::fs::read_to_string(self.dir.join("dockerd.log")).unwrap_or_default();
            if let Some(status) = self.child.try_wait()? {
                bail!("dockerd ended at once: {status}\n{}", log());
            }
            if start.elapsed() > Duration::from_secs(60) {
                bail!("dockerd does not listen\n{}", log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // dockerd is pid 1 of nothing: SIGTERM to it lets it end its containerd in order.
        if let Ok(pid) = std::fs::read_to_string(self.dir.join("docker.pid")) {
            drop(shell::output(Command::new("kill").args(["-TERM", pid.trim()])));
        }
        drop(self.child.wait());
        for dir in [format!("/var/lib/{NAME}-docker"), self.dir.display().to_string()] {
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                eprintln!("xtask: remove {dir}: {error}");
            }
        }
    }
}
