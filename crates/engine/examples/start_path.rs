//! Times of the engine's part of the start path, without HTTP: `start_path DIR SHIM [ROUNDS]`.
//!
//! `DIR` is the data root, made and removed; the exec root is `/run/seacow-path`. The image is busybox. Each round runs one `--rm` container of `true`
//! through create, attach, wait, start, and prints what each step took, as medians. Rounds are
//! separated by a pause, since back-to-back starts hide what an isolated one waits for.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use seacow_engine::config::PoolSizes;
use seacow_engine::{AttachOptions, Caller, ClientSocket, Config, Engine, RemoveOptions};
use seacow_spec::docker::container::{ContainerConfig, CreateRequest};
use seacow_spec::docker::host_config::HostConfig;
use seacow_spec::oci::image::ImageConfig;
use seacow_store::{Store, StoreOptions};
use tracing_subscriber::layer::SubscriberExt;

/// Collects when each step of the engine's was reached.
struct Steps(Arc<Mutex<Vec<(Instant, String)>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Steps {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Message(String);
        impl tracing::field::Visit for Message {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 = format!("{value:?}");
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), message.0));
    }
}

type Failure = Box<dyn std::error::Error>;

/// On a tmpfs, as in real life.
const EXEC_ROOT: &str = "/run/seacow-path";
const PAUSE: Duration = Duration::from_millis(60);

#[derive(Default)]
struct Times {
    create: Vec<Duration>,
    attach: Vec<Duration>,
    start: Vec<Duration>,
    output: Vec<Duration>,
    exit: Vec<Duration>,
    steps: BTreeMap<String, Vec<Duration>>,
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let usage = "usage: start_path DIR SHIM [ROUNDS]";
    let dir = PathBuf::from(arguments.next().ok_or(usage)?);
    let shim = PathBuf::from(arguments.next().ok_or(usage)?);
    let rounds = arguments.next().and_then(|word| word.to_str()?.parse().ok()).unwrap_or(40);
    std::fs::create_dir_all(&dir)?;
    make_image(&dir)?;
    let steps = Arc::new(Mutex::new(Vec::new()));
    let only_steps =
        tracing_subscriber::filter::Targets::new().with_target("start_path", tracing::Level::TRACE);
    let subscriber = tracing_subscriber::registry().with(only_steps).with(Steps(Arc::clone(&steps)));
    tracing::subscriber::set_global_default(subscriber)?;
    println!("µs from the beginning of create, median (10th percentile)");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    for (name, pool, network, remove) in [
        ("warm, bridge, --rm", PoolSizes::default(), "bridge", true),
        ("warm, none, --rm", PoolSizes { bridge: 0, none: 2 }, "none", true),
        ("cold, bridge, --rm", PoolSizes::OFF, "bridge", true),
        ("cold, none, --rm", PoolSizes::OFF, "none", true),
        ("warm, bridge, kept", PoolSizes::default(), "bridge", false),
        ("cold, bridge, kept", PoolSizes::OFF, "bridge", false),
    ] {
        let times = runtime.block_on(measure(&dir, &shim, pool, network, remove, rounds, &steps))?;
        times.print(name);
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(runtime);
    let _ = seacow_net::bridge::remove("seacow-path", "seacow-test-path");
    std::fs::remove_dir_all(&dir)?;
    std::fs::remove_dir_all(EXEC_ROOT)?;
    Ok(())
}

async fn measure(
    dir: &Path,
    shim: &Path,
    pool: PoolSizes,
    network: &str,
    remove: bool,
    rounds: usize,
    steps: &Mutex<Vec<(Instant, String)>>,
) -> Result<Times, Failure> {
    let mut config = Config::new(dir, EXEC_ROOT, shim);
    config.bridge = "seacow-path".into();
    config.nft_table = "seacow-test-path".into();
    config.cgroup_parent = "/seacow-test-path".into();
    config.pool = pool;
    let engine = Engine::boot(config).await?;
    let mut times = Times::default();
    for _ in 0..rounds {
        while engine.pool_state().0 < engine.pool_state().1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(PAUSE).await;
        steps.lock().unwrap_or_else(PoisonError::into_inner).clear();
        // As the daemon's handlers are: on a worker thread.
        let (engine, network) = (engine.clone(), network.to_owned());
        let round =
            tokio::spawn(
                async move { one(&engine, &network, remove).await.map_err(|error| error.to_string()) },
            );
        let begin = Instant::now();
        times.add(round.await??);
        for (at, step) in steps.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            times.steps.entry(step).or_default().push(at.saturating_duration_since(begin));
        }
    }
    engine.shutdown(true).await;
    Ok(times)
}

async fn one(engine: &Engine, network: &str, remove: bool) -> Result<[Duration; 5], Failure> {
    let request = CreateRequest {
        config: ContainerConfig { image: "bb".into(), cmd: Some(vec!["true".into()]), ..Default::default() },
        host_config: HostConfig { network_mode: network.into(), auto_remove: remove, ..Default::default() },
        ..Default::default()
    };
    let begin = Instant::now();
    let id = engine.create(None, None, request, Caller::Engine).await?.id;
    let created = begin.elapsed();
    let options = AttachOptions { stdout: true, stderr: true, stream: true, ..Default::default() };
    let pending = engine.attach_begin(&id, options)?;
    let (mut mine, theirs) = std::os::unix::net::UnixStream::pair()?;
    pending.finish(ClientSocket { fd: theirs.into(), initial: Vec::new() })?;
    let attached = begin.elapsed();
    let wait = engine.wait(&id, if remove { "removed" } else { "next-exit" }.parse()?)?;
    engine.start(&id).await?;
    let started = begin.elapsed();
    let exit = wait.await;
    let exited = begin.elapsed();
    let output = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        mine.read_to_end(&mut bytes).map(|_| begin.elapsed())
    });
    let output = output.await??;
    if exit.status_code != 0 {
        return Err(format!("exit status {}", exit.status_code).into());
    }
    if !remove {
        engine.remove(&id, RemoveOptions::default()).await?;
    }
    Ok([created, attached, started, output, exited])
}

impl Times {
    fn add(&mut self, round: [Duration; 5]) {
        let lists = [&mut self.create, &mut self.attach, &mut self.start, &mut self.output, &mut self.exit];
        for (list, time) in lists.into_iter().zip(round) {
            list.push(time);
        }
    }

    fn print(mut self, name: &str) {
        let median = |list: &mut Vec<Duration>| {
            list.sort();
            let at = |index: usize| list.get(index).map_or(0, Duration::as_micros);
            format!("{:5} ({:5})", at(list.len() / 2), at(list.len() / 10))
        };
        println!(
            "{name:20} created {}  attached {}  started {}  exit known {}  output ended {}",
            median(&mut self.create),
            median(&mut self.attach),
            median(&mut self.start),
            median(&mut self.exit),
            median(&mut self.output),
        );
        let mut steps: Vec<(u128, String)> = Vec::new();
        for (step, mut list) in std::mem::take(&mut self.steps) {
            list.sort();
            steps.push((list.get(list.len() / 2).map_or(0, Duration::as_micros), step));
        }
        steps.sort();
        for (at, step) in steps {
            println!("    {at:6} {step}");
        }
    }
}

fn make_image(dir: &Path) -> Result<(), Failure> {
    let store = Store::open(StoreOptions::new(dir, EXEC_ROOT))?;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let busybox = std::fs::read("/bin/busybox")?;
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    tar.append_data(&mut header, "bin/true", busybox.as_slice())?;
    let config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..Default::default() };
    let image = store.images().import(tar.into_inner()?.as_slice(), config)?;
    store.images().tag(&image.id, &"bb".parse()?)?;
    Ok(())
}
