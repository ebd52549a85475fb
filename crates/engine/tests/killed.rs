//! kill -9 of the engine before every durable step of what keeps, branches and takes back files of containers
//! and volumes. The next engine finds the old or the new state: nothing frozen, nothing half, nothing left.
//!
//! The engine lives in a helper process, which is told to kill itself before its n-th step.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod common;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::helper::{DIR, Helper, NAME, said};
use common::{Place, create, eventually, request, with};
use futures_util::StreamExt;
use seacow_engine::config::PoolSizes;
use seacow_engine::container::commit::CommitOptions;
use seacow_engine::image::RemoveImage;
use seacow_engine::{CloneOptions, Engine, EngineError, ListOptions, RemoveOptions};
use seacow_store::FaultHook;

/// What is done, and to a container in which state.
const SCENES: [&str; 11] = [
    "snapshot running",
    "snapshot stopped",
    "clone running",
    "clone stopped",
    "rollback",
    "commit running",
    "commit stopped",
    "volume-snapshot",
    "volume-rollback",
    "volume-clone",
    "remove",
];

/// Steps until the end, beginning with the next one; none is fatal while it is 0.
static LIVES: AtomicUsize = AtomicUsize::new(0);

fn faults() -> FaultHook {
    Arc::new(|_| {
        if LIVES.load(Ordering::SeqCst) > 0 && LIVES.fetch_sub(1, Ordering::SeqCst) == 1 {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        Ok(())
    })
}

/// `before SCENE`, `act LIVES SCENE`, `after SCENE`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the helper of the others"]
async fn host_an_engine() {
    let (Some(dir), Ok(name)) = (std::env::var_os(DIR), std::env::var(NAME)) else { return };
    let config = common::config(dir.as_ref(), &name, PoolSizes::OFF);
    let engine = Engine::boot_with_faults(config, Some(faults())).await.unwrap();
    println!("@@ up");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (verb, rest) = line.split_once(' ').unwrap();
        let answer = match verb {
            "before" => said(before(&engine, rest).await),
            "act" => {
                let (lives, scene) = rest.split_once(' ').unwrap();
                LIVES.store(lives.parse().unwrap(), Ordering::SeqCst);
                let done = said(act(&engine, scene).await);
                LIVES.store(0, Ordering::SeqCst);
                done
            }
            "after" => {
                after(&engine, rest).await;
                said(clear(&engine).await)
            }
            other => panic!("what is {other:?}?"),
        };
        println!("@@ {answer}");
    }
}

/// A container that wrote `/state` and a volume's file, and what the scene needs besides.
async fn before(engine: &Engine, scene: &str) -> Result<(), EngineError> {
    let script = "echo good > /state; echo 1 > /d/f; while :; do sleep 1000; done";
    let request = with(request(&["sh", "-c", script]), |config, host| {
        host.binds = Some(vec!["data:/d".into()]);
        config.volumes = Some([("/own".to_owned(), Default::default())].into());
    });
    create(engine, Some("one"), request).await;
    engine.start("one").await?;
    while read(engine, "one", "/d/f").await.is_none_or(|text| text != "1") {
        tokio::task::yield_now().await;
    }
    match scene {
        "rollback" => {
            engine.snapshot("one", Some("s".into())).await?;
            put(engine, "/", "state", "bad").await?;
            engine.stop("one", Some(0), None).await?;
        }
        "volume-rollback" => {
            engine.volume_snapshot("data", Some("s".into())).await?;
            put(engine, "/d", "f", "2").await?;
            engine.stop("one", Some(0), None).await?;
        }
        "remove" => drop(engine.snapshot("one", Some("s".into())).await?),
        stopped if stopped.ends_with("stopped") => engine.stop("one", Some(0), None).await?,
        _ => {}
    }
    Ok(())
}

async fn act(engine: &Engine, scene: &str) -> Result<(), EngineError> {
    let verb = scene.split(' ').next().unwrap_or_default();
    match verb {
        "snapshot" => engine.snapshot("one", None).await.map(drop),
        "clone" => {
            let options = CloneOptions { count: 2, name: Some("twin".into()), snapshot: None };
            engine.clone_container("one", options, seacow_engine::Caller::Peer(Some(0))).await.map(drop)
        }
        "rollback" => engine.rollback("one", "s", false).await,
        "commit" => {
            let options = CommitOptions {
                container: "one".into(),
                repository: "made".into(),
                pause: true,
                ..CommitOptions::default()
            };
            engine.commit(options).await.map(drop)
        }
        "volume-snapshot" => engine.volume_snapshot("data", None).await.map(drop),
        "volume-rollback" => engine.volume_rollback("data", "s").await,
        "volume-clone" => engine.volume_clone("data", "twin", None).await.map(drop),
        "remove" => {
            engine.remove("one", all()).await?;
            // It is answered before its files go.
            let snapshots = std::path::PathBuf::from(std::env::var_os(DIR).unwrap()).join("d/snapshots");
            eventually("its files are gone", || std::fs::read_dir(&snapshots).unwrap().count() == 0).await;
            Ok(())
        }
        other => panic!("what is {other:?}?"),
    }
}

fn all() -> RemoveOptions {
    RemoveOptions { force: true, volumes: true, link: false }
}

/// What must hold, whenever it was cut off.
async fn after(engine: &Engine, scene: &str) {
    let rows = engine.list(ListOptions { all: true, ..Default::default() }).await.unwrap();
    assert!(rows.len() <= 3 && (scene == "remove" || !rows.is_empty()), "{scene}: {} containers", rows.len());
    for row in &rows {
        let text = read(engine, &row.id, "/state").await.unwrap_or_default();
        assert!(text == "good" || (scene == "rollback" && text == "bad"), "{scene}: {} has {text:?}", row.id);
    }
    if rows.iter().any(|row| row.names == ["/one"]) {
        one_is_as_it_was(engine, scene).await;
    }
    if engine.image_inspect("made").await.is_ok() {
        let made = with(request(&["true"]), |config, _| config.image = "made".into());
        let id = create(engine, None, made).await;
        assert_eq!(read(engine, &id, "/state").await.as_deref(), Some("good"), "{scene}");
    }
    let volumes = engine.volume_list(Default::default()).await.unwrap().volumes;
    for volume in volumes.iter().filter(|volume| ["data", "twin"].contains(&volume.name.as_str())) {
        let text = std::fs::read_to_string(format!("{}/f", volume.mountpoint)).unwrap();
        assert!(text == "1\n" || (scene == "volume-rollback" && text == "2"), "{scene}: {volume:?}: {text}");
        for saved in engine.volume_snapshots(&volume.name).unwrap() {
            let copy =
                engine.volume_clone(&volume.name, &format!("copy{}", saved.name), Some(saved.name)).await;
            let at = copy.unwrap().mountpoint;
            assert_eq!(std::fs::read_to_string(format!("{at}/f")).unwrap(), "1\n", "{scene}");
        }
    }
}

/// Its state, and what its snapshots hold.
async fn one_is_as_it_was(engine: &Engine, scene: &str) {
    let state = engine.inspect("one", false).await.unwrap().state;
    let stopped = scene.ends_with("stopped") || scene.contains("rollback");
    let expected = if stopped { "exited" } else { "running" };
    assert!(
        state.status == expected || (scene == "remove" && state.status == "exited"),
        "{scene}: {state:?}"
    );
    for snapshot in engine.snapshots(Some("one")).await.unwrap() {
        let options = CloneOptions { count: 1, name: None, snapshot: Some(snapshot.name) };
        let made =
            engine.clone_container("one", options, seacow_engine::Caller::Peer(Some(0))).await.unwrap();
        assert_eq!(read(engine, &made[0], "/state").await.as_deref(), Some("good"), "{scene}");
    }
}

/// A file in a container, if it is there: its one line.
async fn read(engine: &Engine, container: &str, path: &str) -> Option<String> {
    let (_, mut pieces) = engine.archive_get(container, path).await.ok()?;
    let mut tar = Vec::new();
    while let Some(piece) = pieces.next().await {
        tar.extend_from_slice(&piece.ok()?);
    }
    let mut text = String::new();
    tar::Archive::new(&tar[..]).entries().ok()?.next()?.ok()?.read_to_string(&mut text).ok()?;
    Some(text.trim_end().to_owned())
}

/// Writes a file into the container.
async fn put(engine: &Engine, dir: &str, name: &str, text: &str) -> Result<(), EngineError> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(text.len() as u64);
    tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    let upload = futures_util::stream::iter([Ok(tar.into_inner().unwrap().into())]);
    engine.archive_put("one", dir, Default::default(), upload).await
}

/// Removes everything but the image that was there before.
async fn clear(engine: &Engine) -> Result<(), EngineError> {
    for row in engine.list(ListOptions { all: true, ..Default::default() }).await? {
        engine.remove(&row.id, all()).await?;
    }
    if engine.image_inspect("made").await.is_ok() {
        engine.image_remove("made", RemoveImage::default()).await?;
    }
    // Killed before it had its name.
    engine.image_prune(Default::default()).await?;
    let volumes = engine.volume_list(Default::default()).await?.volumes;
    // Those without a name go with their containers.
    for volume in volumes.iter().filter(|volume| volume.name.len() < 64) {
        engine.volume_remove(&volume.name, false).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn any_step_may_be_the_last() {
    let Some(place) = Place::new() else { return };
    let mut helper = Helper::start(&place);
    for scene in SCENES {
        for lives in 1.. {
            assert_eq!(helper.ask(&format!("before {scene}")), "done");
            let answer = helper.ask_to_death(&format!("act {lives} {scene}"));
            if answer.is_none() {
                helper.kill();
                helper = Helper::start(&place);
            }
            assert_eq!(helper.ask(&format!("after {scene}")), "done");
            nothing_is_left(&place, scene).await;
            if let Some(answer) = answer {
                assert_eq!(answer, "done", "{scene}");
                assert!(lives > 1, "{scene} has no step");
                println!("{scene}: {} steps", lives - 1);
                break;
            }
        }
    }
    helper.kill();
    let engine = Engine::boot(place.config(PoolSizes::OFF)).await.unwrap();
    engine.shutdown(true).await;
    place.is_left_clean().await;
}

/// The image's layer alone, and no trace of a container or volume.
async fn nothing_is_left(place: &Place, scene: &str) {
    place.is_left_clean().await;
    let count = |dir: &str| std::fs::read_dir(place.dir.path().join("d").join(dir)).unwrap().count();
    for (dir, left) in [("layers", 1), ("drafts", 0), ("trash", 0), ("volumes", 0)] {
        eventually(&format!("{scene}: {dir} has {left}"), || count(dir) == left).await;
    }
}
