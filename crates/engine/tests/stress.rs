//! Everything at once on a few containers: no verb hangs, nothing is left, states stay sane.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Place, request, with};
use seacow_engine::config::PoolSizes;
use seacow_engine::{AttachOptions, Caller, Engine, EngineError, ListOptions, LogOptions, RemoveOptions};
use seacow_spec::docker::exec::{ExecConfig, ExecStart};
use seacow_spec::{Classified, ErrorClass};

const WORKERS: u64 = 8;
const NAMES: u64 = 5;
const DURATION: Duration = Duration::from_secs(8);
/// No single verb takes longer, on a machine as loaded as this makes it.
const PATIENCE: Duration = Duration::from_secs(40);

/// A small generator of our own: which verb meets which is all that matters.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_meet_in_every_order() {
    let Some(place) = Place::new() else { return };
    let _ = tracing_subscriber::fmt().with_test_writer().with_env_filter("seacow_engine=debug").try_init();
    let engine = Engine::boot(place.config(PoolSizes::default())).await.unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let workers = (0..WORKERS).map(|seed| {
        let (engine, done) = (engine.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut random = Random(seed + 1);
            let begin = Instant::now();
            while begin.elapsed() < DURATION {
                let name = format!("s{}", random.below(NAMES));
                let verb = random.below(16);
                let outcome = tokio::time::timeout(PATIENCE, act(&engine, verb, &name)).await;
                let outcome = outcome.unwrap_or_else(|_| panic!("verb {verb} on {name} hangs"));
                if let Err(error) = outcome {
                    // Whatever the others did in between, it is never the engine's fault.
                    let class = error.class();
                    let expected = matches!(
                        class,
                        ErrorClass::NotFound | ErrorClass::Conflict | ErrorClass::NotModified
                    ) || error.to_string().contains("not running");
                    assert!(expected, "verb {verb} on {name}: {class:?} {error}");
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    eprintln!("{} verbs", done.load(Ordering::Relaxed));
    for row in engine.list(ListOptions { all: true, ..Default::default() }).await.unwrap() {
        let options = RemoveOptions { force: true, volumes: true, link: false };
        tokio::time::timeout(PATIENCE, engine.remove(&row.id, options)).await.unwrap().unwrap();
    }
    engine.shutdown(true).await;
    place.is_left_clean().await;
}

async fn act(engine: &Engine, verb: u64, name: &str) -> Result<(), EngineError> {
    match verb {
        0..=2 => {
            let script = if verb == 0 { "exit 3" } else { "sleep 100" };
            let request = with(request(&["sh", "-c", script]), |_, host| host.auto_remove = verb == 2);
            engine.create(Some(name.into()), None, request, Caller::Engine).await.map(drop)
        }
        3..=5 => engine.start(name).await,
        6 => engine.stop(name, Some(0), None).await,
        7 => engine.kill(name, None).await,
        8 => engine.pause(name).await,
        9 => engine.unpause(name).await,
        10 => engine.remove(name, RemoveOptions { force: true, volumes: true, link: false }).await,
        11 => engine.remove(name, RemoveOptions::default()).await,
        12 => {
            let cmd = Some(vec!["true".into()]);
            let id = engine.exec_create(name, ExecConfig { cmd, ..Default::default() })?.to_string();
            let start = ExecStart { detach: true, ..Default::default() };
            engine.exec_start(&id, start)?.detached().await?;
            engine.exec_inspect(&id).await.map(drop)
        }
        13 => {
            engine.inspect(name, false).await?;
            engine.list(ListOptions { all: true, ..Default::default() }).await.map(drop)
        }
        14 => engine.restart(name, Some(0), None).await,
        _ => {
            // An announced client that never comes.
            drop(
                engine
                    .attach_begin(name, AttachOptions { stream: true, stdout: true, ..Default::default() })?,
            );
            engine.logs(name, LogOptions { stdout: true, ..Default::default() }).map(drop)
        }
    }
}
