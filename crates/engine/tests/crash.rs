//! kill -9 of the engine at various moments, and what the next one makes of it.
//!
//! The engine that is killed lives in a helper process: this test binary once more, running
//! [`host_an_engine`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod common;

use std::time::Duration;

use common::helper::{DIR, Helper, NAME, said};
use common::{Place, create, eventually, request, text, with};
use futures_util::StreamExt;
use seacow_engine::config::PoolSizes;
use seacow_engine::{Engine, ListOptions, LogOptions, RemoveOptions, WaitCondition};
use seacow_spec::docker::container::CreateRequest;
use seacow_spec::docker::exec::{ExecConfig, ExecStart};

/// `create NAME RM COMMAND…`, `start NAME`, `exec NAME COMMAND…`, `stop NAME`, `remove NAME`, `pool`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the helper of the others"]
async fn host_an_engine() {
    let (Some(dir), Ok(name)) = (std::env::var_os(DIR), std::env::var(NAME)) else { return };
    let engine = Engine::boot(common::config(dir.as_ref(), &name, PoolSizes::default())).await.unwrap();
    println!("@@ up");
    let lines = std::io::stdin().lines();
    for line in lines {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words.as_slice() {
            ["create", name, remove, command @ ..] => {
                create(&engine, Some(name), helper_request(command, *remove == "rm")).await
            }
            ["start", name] => said(engine.start(name).await),
            ["stop", name] => said(engine.stop(name, Some(1), None).await),
            ["remove", name] => {
                said(engine.remove(name, RemoveOptions { force: true, ..Default::default() }).await)
            }
            ["exec", name, command @ ..] => {
                let cmd = Some(command.iter().map(|word| (*word).to_owned()).collect());
                let id =
                    engine.exec_create(name, ExecConfig { cmd, ..Default::default() }).unwrap().to_string();
                let start = ExecStart { detach: true, ..Default::default() };
                engine.exec_start(&id, start).unwrap().detached().await.unwrap();
                id
            }
            ["pool"] => {
                while engine.pool_state().0 < engine.pool_state().1 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                "full".into()
            }
            other => panic!("what is {other:?}?"),
        };
        println!("@@ {answer}");
    }
}

fn helper_request(command: &[&str], remove: bool) -> CreateRequest {
    // A word `a_b` is `a b`, so that a script is one word.
    let words: Vec<String> = command.iter().map(|word| word.replace('_', " ")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    with(request(&words), |_, host| host.auto_remove = remove)
}

async fn boot(place: &Place) -> Engine {
    let _ = tracing_subscriber::fmt().with_test_writer().with_env_filter("seacow_engine=debug").try_init();
    // The lock goes with the killed process; the kernel may need a moment.
    Engine::boot(place.config(PoolSizes::OFF)).await.unwrap()
}

/// After an engine of this process.
async fn boot_again(place: &Place) -> Engine {
    loop {
        // Tasks of the last engine may hold it for a moment.
        match Engine::boot(place.config(PoolSizes::OFF)).await {
            Ok(engine) => return engine,
            Err(error) => eprintln!("not yet: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn end(engine: Engine, place: &Place) {
    for row in engine.list(ListOptions { all: true, ..Default::default() }).await.unwrap() {
        engine.remove(&row.id, RemoveOptions { force: true, volumes: true, link: false }).await.unwrap();
    }
    engine.shutdown(true).await;
    place.is_left_clean().await;
}

async fn state(engine: &Engine, name: &str) -> (String, i32) {
    let state = engine.inspect(name, false).await.unwrap().state;
    (state.status, state.exit_code)
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_run_on_and_their_ends_are_not_lost() {
    let Some(place) = Place::new() else { return };
    let mut helper = Helper::start(&place);
    helper.ask("create long keep sh -c while_:;_do_echo_tick;_sleep_0.1;_done");
    helper.ask("create short keep sh -c sleep_0.5;_exit_9");
    helper.ask("create gone rm sh -c sleep_0.5");
    helper.ask("create fresh keep true");
    for name in ["long", "short", "gone"] {
        assert_eq!(helper.ask(&format!("start {name}")), "done");
    }
    let exec = helper.ask("exec long sleep 100");
    helper.kill();
    tokio::time::sleep(Duration::from_millis(1200)).await;

    let engine = boot(&place).await;
    assert_eq!(state(&engine, "long").await.0, "running");
    assert_eq!(state(&engine, "short").await, ("exited".into(), 9));
    assert!(engine.inspect("gone", false).await.is_err());
    assert_eq!(state(&engine, "fresh").await, ("created".into(), 0));
    let exec = engine.exec_inspect(&exec).await.unwrap();
    assert!(exec.running);

    // Everything still works on what was found.
    let inspect = engine.inspect("long", false).await.unwrap();
    assert!(inspect.network_settings.ip_address.parse::<std::net::Ipv4Addr>().is_ok());
    let options = LogOptions { stdout: true, follow: true, tail: "1".into(), ..Default::default() };
    let followed: Vec<_> = engine.logs("long", options).unwrap().body.take(3).collect().await;
    assert!(text(&followed.concat()).contains("tick"));
    // Addresses of running containers are not given out again.
    let other = create(&engine, None, request(&["sleep", "100"])).await;
    engine.start(&other).await.unwrap();
    let address = engine.inspect(&other, false).await.unwrap().network_settings.ip_address;
    assert_ne!(address, inspect.network_settings.ip_address);
    engine.start("fresh").await.unwrap();
    engine.start("short").await.unwrap();
    engine.stop("long", Some(0), None).await.unwrap();
    assert_eq!(state(&engine, "long").await, ("exited".into(), 137));
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_and_unstarted_shims_go_with_their_engine() {
    let Some(place) = Place::new() else { return };
    let mut helper = Helper::start(&place);
    assert_eq!(helper.ask("pool"), "full");
    helper.ask("create waiting keep true");
    assert!(!place.shims().is_empty());
    helper.kill();
    eventually("shims without an engine are gone", || place.shims().is_empty()).await;
    let engine = boot(&place).await;
    assert_eq!(place.exec_dirs(), Vec::<String>::new());
    assert_eq!(place.log_dirs().len(), 1);
    assert_eq!(state(&engine, "waiting").await, ("created".into(), 0));
    engine.start("waiting").await.unwrap();
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_nothing_leaks() {
    let Some(place) = Place::new() else { return };
    // In microseconds after the request was written.
    for (round, delay) in [0, 200, 500, 1_000, 2_000, 3_500, 5_000, 8_000].into_iter().enumerate() {
        for remove in ["keep", "rm"] {
            let mut helper = Helper::start(&place);
            helper.say(&format!("create a{round} {remove} sh -c exit_3"));
            helper.say(&format!("start a{round}"));
            helper.say(&format!("remove a{round}"));
            std::thread::sleep(Duration::from_micros(delay));
            helper.kill();
            let engine = boot(&place).await;
            for row in engine.list(ListOptions { all: true, ..Default::default() }).await.unwrap() {
                let (status, code) = state(&engine, &row.id).await;
                assert!(
                    matches!((status.as_str(), code), ("created", 0) | ("exited", 3 | 137) | ("running", 0)),
                    "{delay} {status} {code}"
                );
            }
            end(engine, &place).await;
        }
    }
}

/// Both are answered before the database has been synced.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_outlives_an_engine_killed_at_once() {
    let Some(place) = Place::new() else { return };
    let mut helper = Helper::start(&place);
    assert_eq!(helper.ask("pool"), "full");
    helper.ask("create gone keep true");
    assert_eq!(helper.ask("remove gone"), "done");
    helper.ask("create there keep true");
    helper.kill();
    // A second time before the next engine has been used at all.
    Helper::start(&place).kill();
    let mut helper = Helper::start(&place);
    assert_eq!(helper.ask("remove there"), "done");
    helper.ask("create there keep sh -c exit_4");
    helper.kill();
    let engine = boot(&place).await;
    assert!(engine.inspect("gone", false).await.is_err());
    assert_eq!(engine.list(ListOptions { all: true, ..Default::default() }).await.unwrap().len(), 1);
    engine.start("there").await.unwrap();
    assert_eq!(engine.wait("there", WaitCondition::NotRunning).unwrap().await.status_code, 4);
    // What the engines before have noted is in the database now.
    assert_eq!(place.notes(), Vec::<String>::new());
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_the_database_has_overtaken_is_dropped() {
    let Some(place) = Place::new() else { return };
    let mut helper = Helper::start(&place);
    let model = helper.ask("create model rm true");
    let id = helper.ask("create box keep true");
    eventually("the record is in the database", || place.notes() == [format!("{model}.json")]).await;
    helper.kill();
    // As of an engine killed between the write to the database and the removal of the note.
    let note = |id: &str| place.notes_dir().join(format!("{id}.json"));
    let stale = std::fs::read_to_string(note(&model)).unwrap().replace(&model, &id);
    let stale = stale.replace("\"AutoRemove\":true", "\"AutoRemove\":false").replace("model", "stale");
    std::fs::rename(note(&model), note(&id)).unwrap();
    std::fs::write(note(&id), stale).unwrap();
    std::fs::write(place.notes_dir().join("half.new"), "{").unwrap();
    let engine = boot(&place).await;
    assert_eq!(engine.list(ListOptions { all: true, ..Default::default() }).await.unwrap().len(), 1);
    assert_eq!(engine.inspect(&id, false).await.unwrap().name, "/box");
    assert_eq!(place.notes(), Vec::<String>::new());
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shim_killed_while_the_engine_was_away() {
    let Some(place) = Place::new() else { return };
    let mut helper = Helper::start(&place);
    helper.ask("create keep1 keep sleep 100");
    helper.ask("create rm1 rm sleep 100");
    helper.ask("start keep1");
    helper.ask("start rm1");
    // Written behind, a moment later.
    std::thread::sleep(Duration::from_millis(100));
    helper.kill();
    for pid in place.shims() {
        // ESRCH: one of a slot, which went with its engine.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    eventually("the shims are dead", || place.shims().is_empty()).await;
    let engine = boot(&place).await;
    assert_eq!(state(&engine, "keep1").await, ("exited".into(), 137));
    assert!(engine.inspect("rm1", false).await.is_err());
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graceful_end_keeps_containers_or_stops_them() {
    let Some(place) = Place::new() else { return };
    let engine = Engine::boot(place.config(PoolSizes::default())).await.unwrap();
    let id = create(&engine, None, request(&["sleep", "100"])).await;
    engine.start(&id).await.unwrap();
    engine.shutdown(true).await;
    drop(engine);
    assert_eq!(place.shims().len(), 1);
    let engine = boot_again(&place).await;
    assert_eq!(state(&engine, &id).await.0, "running");
    engine.shutdown(false).await;
    assert_eq!(state(&engine, &id).await, ("exited".into(), 137));
    end(engine, &place).await;
}
