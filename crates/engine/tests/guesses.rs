//! Containers that are made before anybody asks: whoever asks must not tell a difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod common;

use common::{Place, create, eventually, request, run, with};
use seacow_engine::config::PoolSizes;
use seacow_engine::image::RemoveImage;
use seacow_engine::{Engine, ListOptions, RemoveOptions};
use seacow_spec::docker::container::CreateRequest;

async fn engine(place: &Place) -> Engine {
    Engine::boot(place.config(PoolSizes::default())).await.unwrap()
}

async fn end(engine: Engine, place: &Place) {
    for row in engine.list(ListOptions { all: true, ..Default::default() }).await.unwrap() {
        // One that removes itself may be faster.
        let _ = engine.remove(&row.id, RemoveOptions { force: true, volumes: true, link: false }).await;
    }
    engine.shutdown(true).await;
    place.is_left_clean().await;
}

fn removed(request: CreateRequest) -> CreateRequest {
    with(request, |_, host| host.auto_remove = true)
}

/// Runs something, after which two more such containers are made.
async fn guessed(engine: &Engine, request: CreateRequest) {
    let (output, code) = run(engine, request).await;
    assert_eq!(code, 0, "{output}");
    eventually("two are made ahead", || engine.guesses() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn program_environment_and_user_are_told_afterwards() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let script =
        "echo $SECRET; id -u; id -G; hostname; echo $HOSTNAME; echo $FROM_IMAGE; ls /made 2>&1; touch /made";
    for remove in [true, false] {
        let like = |words: &[&str]| {
            let request = request(words);
            if remove { removed(request) } else { request }
        };
        let first = with(like(&["sh", "-c", "test $SECRET = one"]), |config, _| {
            config.env = Some(vec!["SECRET=one".into()]);
        });
        guessed(&engine, first).await;
        let second = with(like(&["sh", "-c", script]), |config, _| {
            config.user = "1000:7".into();
            config.labels = Some([("a".to_owned(), "b".to_owned())].into());
        });
        let id = create(&engine, Some("second"), second).await;
        assert!(engine.guesses() < 2, "a guess was taken");
        let record = engine.inspect(&id, false).await.unwrap();
        assert_eq!(record.config.hostname, id[..12]);
        let wait = engine.wait(&id, "next-exit".parse().unwrap()).unwrap();
        let output = common::attach(
            &engine,
            &id,
            seacow_engine::AttachOptions { stdout: true, stderr: true, stream: true, ..Default::default() },
        );
        engine.start(&id).await.unwrap();
        let text = common::text(&output.await.unwrap());
        wait.await;
        let short = &id[..12];
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..6], ["", "1000", "7", short, short, "yes"], "{text}");
        assert!(lines[6].contains("No such file"), "the root file system is its own: {text}");
        if !remove {
            engine.remove("second", RemoveOptions::default()).await.unwrap();
        }
    }
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_something_else_gets_it() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let check = |words: &[&str]| removed(request(words));
    guessed(&engine, check(&["true"])).await;
    let (output, _) = run(&engine, with(check(&["ip", "link"]), |_, h| h.network_mode = "none".into())).await;
    assert!(!output.contains("eth0"), "{output}");
    guessed(&engine, check(&["true"])).await;
    let (output, _) = run(&engine, with(check(&["hostname"]), |c, _| c.hostname = "other".into())).await;
    assert_eq!(output, "other\n");
    guessed(&engine, check(&["true"])).await;
    let (output, code) =
        run(&engine, with(check(&["touch", "/file"]), |_, host| host.readonly_rootfs = true)).await;
    assert!(code != 0 && output.contains("Read-only"), "{output}");
    guessed(&engine, check(&["true"])).await;
    let (output, _) =
        run(&engine, with(check(&["sh", "-c", "pwd"]), |config, _| config.working_dir = "/data".into()))
            .await;
    assert_eq!(output, "/data\n");
    guessed(&engine, check(&["true"])).await;
    let (output, _) = run(
        &engine,
        with(check(&["cat", "/etc/hosts"]), |_, host| host.extra_hosts = Some(vec!["far:192.0.2.7".into()])),
    )
    .await;
    assert!(output.contains("192.0.2.7\tfar"), "{output}");
    // The same again and again: now it is what is expected, names and all.
    let hosts = || {
        let far = Some(vec!["far:192.0.2.7".to_owned()]);
        with(check(&["cat", "/etc/hosts"]), |_, host| host.extra_hosts = far)
    };
    run(&engine, hosts()).await;
    eventually("one of each is made ahead", || engine.guesses() == 2).await;
    let (output, _) = run(&engine, hosts()).await;
    assert!(output.contains("192.0.2.7\tfar"), "{output}");
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_removed_is_not_held() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    guessed(&engine, removed(request(&["true"]))).await;
    let guesses = mounted(&place);
    assert_eq!(guesses.len(), 2, "{guesses:?}");
    let deleted = engine.image_remove("bb", RemoveImage::default()).await.unwrap();
    assert!(deleted.len() >= 2, "name and image: {deleted:?}");
    assert_eq!(engine.guesses(), 0);
    assert!(mounted(&place).is_empty());
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_shim_was_killed_is_not_given_to_anybody() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    guessed(&engine, removed(request(&["true"]))).await;
    for shim in place.shims() {
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    }
    let (output, code) = run(&engine, removed(request(&["echo", "alive"]))).await;
    assert_eq!((output.as_str(), code), ("alive\n", 0));
    end(engine, &place).await;
}

/// Snapshots that are whole: not those of slots that wait for an image.
fn mounted(place: &Place) -> Vec<String> {
    let whole = |id: &String| place.snapshot(id).join("parent").symlink_metadata().is_ok();
    place.snapshots().into_iter().filter(whole).collect()
}
