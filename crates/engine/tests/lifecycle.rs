//! Containers from create to removal, with real shims.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{Place, attach, collect, create, eventually, request, run, send, text, with};
use futures_util::StreamExt;
use seacow_engine::config::PoolSizes;
use seacow_engine::{
    AttachOptions, Caller, ClientSocket, Engine, EventFilter, Filters, ListOptions, LogOptions, RemoveOptions,
};
use seacow_spec::Classified;
use seacow_spec::docker::exec::{ExecConfig, ExecStart};

async fn engine(place: &Place) -> Engine {
    engine_with(place, PoolSizes::default()).await
}

async fn engine_with(place: &Place, pool: PoolSizes) -> Engine {
    let _ = tracing_subscriber::fmt().with_test_writer().with_env_filter("seacow_engine=debug").try_init();
    Engine::boot(place.config(pool)).await.unwrap()
}

async fn end(engine: Engine, place: &Place) {
    for row in engine.list(ListOptions { all: true, ..Default::default() }).await.unwrap() {
        engine.remove(&row.id, RemoveOptions { force: true, volumes: true, link: false }).await.unwrap();
    }
    engine.shutdown(true).await;
    place.is_left_clean().await;
}

fn all_output() -> AttachOptions {
    AttachOptions { stdout: true, stderr: true, stream: true, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_gives_output_and_status_warm_and_cold() {
    let Some(place) = Place::new() else { return };
    for pool in [PoolSizes::OFF, PoolSizes::default()] {
        let engine = engine_with(&place, pool).await;
        if pool.bridge > 0 {
            let full = engine.pool_state().1;
            for _ in 0..300 {
                if engine.pool_state().0 == full {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(engine.pool_state().0, full);
        }
        let (output, code) = run(&engine, request(&["sh", "-c", "echo out; echo err >&2; exit 7"])).await;
        assert_eq!(code, 7);
        assert!(output.contains("out\n") && output.contains("err\n"), "{output}");
        end(engine, &place).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_is_there_at_the_first_instruction() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let (output, code) =
        run(&engine, request(&["sh", "-c", "ip -4 addr show eth0; ip route; hostname; cat /etc/hosts"]))
            .await;
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("inet 10."), "{output}");
    assert!(output.contains("default via"), "{output}");
    let (output, _) =
        run(&engine, with(request(&["ip", "link"]), |_, host| host.network_mode = "none".into())).await;
    assert!(output.contains("lo:") && !output.contains("eth0"), "{output}");
    let (output, _) =
        run(&engine, with(request(&["ip", "link"]), |_, host| host.network_mode = "host".into())).await;
    assert!(output.contains(&place.name), "{output}");
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_remove_leaves_nothing_and_wait_knows() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let id = create(&engine, Some("r1"), with(request(&["false"]), |_, host| host.auto_remove = true)).await;
    let wait = engine.wait("r1", "removed".parse().unwrap()).unwrap();
    engine.start("r1").await.unwrap();
    assert_eq!(wait.await.status_code, 1);
    assert_eq!(engine.inspect(&id, false).await.unwrap_err().to_string(), format!("No such container: {id}"));
    // The name is free at once.
    create(&engine, Some("r1"), request(&["true"])).await;
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let id = create(&engine, None, request(&["nosuchcmd"])).await;
    let wait = engine.wait(&id, "next-exit".parse().unwrap()).unwrap();
    let output = attach(&engine, &id, all_output());
    let error = engine.start(&id).await.unwrap_err();
    assert!(error.to_string().contains("exec: \"nosuchcmd\": executable file not found in $PATH"), "{error}");
    assert_eq!(error.class(), seacow_spec::ErrorClass::InvalidArgument);
    assert_eq!(wait.await.status_code, 127);
    assert!(output.await.unwrap().is_empty());
    let state = engine.inspect(&id, false).await.unwrap().state;
    assert_eq!((state.status.as_str(), state.exit_code, state.running), ("created", 127, false));
    assert!(state.error.contains("nosuchcmd"));

    let id = create(&engine, None, with(request(&["/etc/passwd"]), |_, host| host.auto_remove = true)).await;
    let wait = engine.wait(&id, "removed".parse().unwrap()).unwrap();
    let error = engine.start(&id).await.unwrap_err();
    assert!(error.to_string().contains("permission denied"), "{error}");
    assert_eq!(wait.await.status_code, 126);
    assert!(engine.inspect(&id, false).await.is_err());
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_reaches_the_program_even_before_it_runs() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let id = create(
        &engine,
        None,
        with(request(&["cat"]), |config, _| {
            config.open_stdin = true;
            config.stdin_once = true;
        }),
    )
    .await;
    let options = AttachOptions { stdin: true, ..all_output() };
    let pending = engine.attach_begin(&id, options).unwrap();
    let (mut mine, theirs) = UnixStream::pair().unwrap();
    send(&mut mine, b" second");
    mine.shutdown(std::net::Shutdown::Write).unwrap();
    pending.finish(ClientSocket { fd: theirs.into(), initial: b"first".to_vec() }).unwrap();
    let output = collect(mine);
    let wait = engine.wait(&id, "next-exit".parse().unwrap()).unwrap();
    engine.start(&id).await.unwrap();
    assert_eq!(wait.await.status_code, 0);
    assert_eq!(text(&output.await.unwrap()), "first second");
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_an_announced_client() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let id = create(&engine, None, request(&["echo", "first byte"])).await;
    let pending = engine.attach_begin(&id, all_output()).unwrap();
    let starting = {
        let (engine, id) = (engine.clone(), id.clone());
        tokio::spawn(async move { engine.start(&id).await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!starting.is_finished());
    let (mine, theirs) = UnixStream::pair().unwrap();
    pending.finish(ClientSocket { fd: theirs.into(), initial: Vec::new() }).unwrap();
    starting.await.unwrap().unwrap();
    assert_eq!(text(&collect(mine).await.unwrap()), "first byte\n");
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_its_size_and_follows_resizes() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let id = create(
        &engine,
        None,
        with(request(&["sh", "-c", "stty size; read x; stty size"]), |config, host| {
            config.tty = true;
            config.open_stdin = true;
            host.console_size = [24, 80];
        }),
    )
    .await;
    let pending = engine.attach_begin(&id, AttachOptions { stdin: true, ..all_output() }).unwrap();
    assert!(pending.tty());
    let (mut mine, theirs) = UnixStream::pair().unwrap();
    pending.finish(ClientSocket { fd: theirs.into(), initial: Vec::new() }).unwrap();
    let output = collect(mine.try_clone().unwrap());
    let wait = engine.wait(&id, "next-exit".parse().unwrap()).unwrap();
    engine.start(&id).await.unwrap();
    engine.resize(&id, 40, 120).await.unwrap();
    send(&mut mine, b"\n");
    assert_eq!(wait.await.status_code, 0);
    let output = String::from_utf8(output.await.unwrap()).unwrap();
    assert!(output.contains("40 120"), "{output:?}");
    end(engine, &place).await;
}

/// Waits until the container has said so: a signal to a program that has not set its handler yet is
/// lost on a first process.
async fn ready(engine: &Engine, name: &str) {
    let options = LogOptions { stdout: true, follow: true, ..Default::default() };
    engine.logs(name, options).unwrap().body.next().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_kill_pause_and_their_refusals() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let id = create(
        &engine,
        Some("c2"),
        request(&["sh", "-c", "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done"]),
    )
    .await;
    let said = |error: seacow_engine::EngineError| error.to_string();
    assert_eq!(
        said(engine.kill("c2", None).await.unwrap_err()),
        format!("cannot kill container: c2: container {id} is not running")
    );
    assert_eq!(said(engine.pause("c2").await.unwrap_err()), format!("container {id} is not running"));
    assert_eq!(said(engine.top("c2", "").await.unwrap_err()), format!("container {id} is not running"));
    assert_eq!(
        engine.stop("c2", None, None).await.unwrap_err().class(),
        seacow_spec::ErrorClass::NotModified
    );
    engine.start("c2").await.unwrap();
    assert_eq!(engine.start("c2").await.unwrap_err().class(), seacow_spec::ErrorClass::NotModified);
    assert_eq!(
        said(engine.kill("c2", Some("FOO".into())).await.unwrap_err()),
        "cannot kill container: c2: invalid signal: FOO"
    );
    assert_eq!(
        said(engine.remove("c2", RemoveOptions::default()).await.unwrap_err()),
        "cannot remove container \"/c2\": container is running: stop the container before removing or force remove"
    );
    ready(&engine, "c2").await;
    engine.pause("c2").await.unwrap();
    assert_eq!(said(engine.pause("c2").await.unwrap_err()), format!("Container {id} is already paused"));
    let row = &engine.list(ListOptions::default()).await.unwrap()[0];
    assert!(row.status.starts_with("Up ") && row.status.ends_with("(Paused)") && row.state == "paused");
    engine.unpause("c2").await.unwrap();
    engine.stop("c2", Some(5), None).await.unwrap();
    assert_eq!(engine.inspect("c2", false).await.unwrap().state.exit_code, 42);

    engine.start("c2").await.unwrap();
    engine.restart("c2", Some(5), None).await.unwrap();
    assert!(engine.inspect("c2", false).await.unwrap().state.running);
    engine.pause("c2").await.unwrap();
    // Also a frozen one dies of SIGKILL.
    engine.kill("c2", None).await.unwrap();
    assert_eq!(engine.inspect("c2", false).await.unwrap().state.exit_code, 137);

    let id = create(
        &engine,
        None,
        request(&["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]),
    )
    .await;
    engine.start(&id).await.unwrap();
    engine.stop(&id, Some(0), None).await.unwrap();
    assert_eq!(engine.inspect(&id, false).await.unwrap().state.exit_code, 137);
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_container_keeps_its_files() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let script = "cat /file 2>/dev/null; echo again >> /file";
    let id = create(&engine, None, request(&["sh", "-c", script])).await;
    for round in 0..4 {
        let wait = engine.wait(&id, "next-exit".parse().unwrap()).unwrap();
        let output = attach(&engine, &id, all_output());
        engine.start(&id).await.unwrap();
        assert_eq!(wait.await.status_code, 0);
        assert_eq!(text(&output.await.unwrap()), "again\n".repeat(round));
    }
    let sizes = engine.inspect(&id, true).await.unwrap();
    assert_eq!(sizes.size_rw, Some(24));
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_kept_filtered_and_followed() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let id = create(
        &engine,
        None,
        request(&["sh", "-c", "for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; sleep 0.1; done"]),
    )
    .await;
    engine.start(&id).await.unwrap();
    let read = |options: LogOptions| {
        let stream = engine.logs(&id, options).unwrap();
        async move {
            let chunks: Vec<_> = stream.body.collect().await;
            text(&chunks.concat())
        }
    };
    let both = LogOptions { stdout: true, stderr: true, ..Default::default() };
    let followed = read(LogOptions { follow: true, stderr: false, ..both.clone() }).await;
    assert_eq!(followed, "o1\no2\no3\no4\no5\n");
    assert_eq!(read(both.clone()).await.lines().count(), 10);
    let three = LogOptions { tail: "3".into(), stdout: true, ..Default::default() };
    assert!(read(three).await.lines().count() <= 3);
    let stamped = read(LogOptions { timestamps: true, tail: "1".into(), ..both.clone() }).await;
    assert!(stamped.contains("Z ") && stamped.len() > 30, "{stamped}");
    assert_eq!(read(LogOptions { until: "1".into(), ..both.clone() }).await, "");
    assert!(engine.logs(&id, LogOptions::default()).is_err());
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching_with_logs_replays_first() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let id =
        create(&engine, None, request(&["sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.1; done"]))
            .await;
    engine.start(&id).await.unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    let output = attach(&engine, &id, AttachOptions { logs: true, ..all_output() });
    assert_eq!(text(&output.await.unwrap()), "1\n2\n3\n4\n5\n6\n");
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_attached_detached_missing_and_with_environment() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let id = create(
        &engine,
        None,
        with(request(&["sleep", "100"]), |config, _| config.env = Some(vec!["OWN=1".into()])),
    )
    .await;
    engine.start(&id).await.unwrap();
    let exec = |config: ExecConfig| {
        let engine = engine.clone();
        let id = id.clone();
        async move {
            let exec = engine.exec_create(&id, config).unwrap().to_string();
            let pending = engine.exec_start(&exec, ExecStart::default()).unwrap();
            let (mine, theirs) = UnixStream::pair().unwrap();
            mine.shutdown(std::net::Shutdown::Write).unwrap();
            pending.finish(ClientSocket { fd: theirs.into(), initial: Vec::new() }).await.unwrap();
            let output = text(&collect(mine).await.unwrap());
            let inspect = engine.exec_inspect(&exec).await.unwrap();
            assert!(!inspect.running);
            (output, inspect.exit_code)
        }
    };
    let config = |words: &[&str]| ExecConfig {
        attach_stdout: true,
        attach_stderr: true,
        cmd: Some(words.iter().map(|word| (*word).to_owned()).collect()),
        ..Default::default()
    };
    let shell = "echo $OWN $FROM_IMAGE $EXTRA; id -u; pwd; exit 5";
    let (output, code) = exec(ExecConfig {
        env: Some(vec!["EXTRA=x".into()]),
        user: "user".into(),
        working_dir: "/tmp".into(),
        ..config(&["sh", "-c", shell])
    })
    .await;
    assert_eq!((output.as_str(), code), ("1 yes x\n1000\n/tmp\n", Some(5)));
    let (output, code) = exec(config(&["nosuchcmd"])).await;
    assert_eq!(
        output,
        "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nosuchcmd\": executable file not found in $PATH: unknown\r\n"
    );
    assert_eq!(code, Some(126));
    for _ in 0..20 {
        assert_eq!(exec(config(&["true"])).await.1, Some(0));
    }
    let background = engine.exec_create(&id, config(&["sleep", "50"])).unwrap().to_string();
    engine
        .exec_start(&background, ExecStart { detach: true, ..Default::default() })
        .unwrap()
        .detached()
        .await
        .unwrap();
    assert!(engine.exec_inspect(&background).await.unwrap().running);
    assert_eq!(engine.inspect(&id, false).await.unwrap().exec_ids, Some(vec![background.clone()]));
    assert!(engine.exec_start(&background, ExecStart::default()).is_err());
    let top = engine.top(&id, "").await.unwrap();
    assert_eq!(top.processes.len(), 2, "{top:?}");
    engine.kill(&id, None).await.unwrap();
    assert_eq!(engine.exec_inspect(&background).await.unwrap().exit_code, Some(137));
    assert!(engine.exec_create(&id, config(&["true"])).is_err());
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_binds_and_tmpfs() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let host = place.dir.path().join("bound/deep");
    let bind = format!("{}:/b", host.display());
    let script = "cat /data/from-image; echo new > /data/new; echo x > /b/x; mount | grep -c ' /t '; touch /ro/x || echo refused";
    let (output, code) = run(
        &engine,
        with(request(&["sh", "-c", script]), |_, config| {
            config.binds = Some(vec![bind, "seacow-vol:/data".into(), "/tmp:/ro:ro".into()]);
            config.tmpfs = Some(BTreeMap::from([("/t".to_owned(), "size=64k".to_owned())]));
        }),
    )
    .await;
    assert_eq!(code, 0);
    assert!(output.contains("original\n1\n") && output.contains("refused\n"), "{output}");
    assert!(host.join("x").exists());
    let (output, _) = run(
        &engine,
        with(request(&["ls", "/data"]), |_, config| config.binds = Some(vec!["seacow-vol:/data".into()])),
    )
    .await;
    assert_eq!(output, "from-image\nnew\n");
    let keeper = create(
        &engine,
        Some("keeper"),
        with(request(&["true"]), |_, config| config.binds = Some(vec!["seacow-vol:/data".into()])),
    )
    .await;
    let borrow = with(request(&["sh", "-c", "ls /data; touch /data/x || echo refused"]), |_, config| {
        config.volumes_from = Some(vec!["keeper:ro".into()]);
    });
    let (output, _) = run(&engine, borrow).await;
    assert!(output.contains("from-image\nnew\n") && output.contains("refused"), "{output}");
    engine.remove(&keeper, RemoveOptions { volumes: true, ..Default::default() }).await.unwrap();
    // Anonymous volumes go with their container.
    let id = create(
        &engine,
        None,
        with(request(&["true"]), |config, _| {
            config.volumes = Some(BTreeMap::from([("/data".to_owned(), Default::default())]));
        }),
    )
    .await;
    let mount = engine.inspect(&id, false).await.unwrap().mounts.remove(0);
    assert_eq!((mount.kind.as_str(), mount.destination.as_str(), mount.rw), ("volume", "/data", true));
    let source = std::path::PathBuf::from(mount.source);
    assert!(source.join("from-image").exists());
    engine.remove(&id, RemoveOptions { volumes: true, ..Default::default() }).await.unwrap();
    eventually("the volume is gone", || !source.exists()).await;
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn options_reach_the_container() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let script = "id -u; id -G; hostname; cat /proc/self/status | grep -E 'CapEff|NoNewPrivs'; ulimit -n; pwd; touch /x || echo readonly";
    let (output, _) = run(
        &engine,
        with(request(&["sh", "-c", script]), |config, host| {
            config.user = "user".into();
            config.hostname = "named".into();
            config.working_dir = "/tmp".into();
            host.group_add = Some(vec!["extra".into()]);
            host.readonly_rootfs = true;
            host.security_opt = Some(vec!["no-new-privileges".into()]);
            host.resources.ulimits = Some(vec![seacow_spec::docker::host_config::Ulimit {
                name: "nofile".into(),
                soft: 77,
                hard: 88,
            }]);
            host.resources.memory = 64 << 20;
            host.resources.pids_limit = Some(50);
        }),
    )
    .await;
    assert!(output.starts_with("1000\n1000 7\nnamed\n"), "{output}");
    assert!(output.contains("CapEff:\t0000000000000000") && output.contains("NoNewPrivs:\t1"), "{output}");
    assert!(output.contains("77\n/tmp\n") && output.contains("readonly\n"), "{output}");
    // A container in another's network and pid namespaces.
    let first = create(&engine, Some("first"), request(&["sleep", "100"])).await;
    engine.start("first").await.unwrap();
    let address = engine.inspect(&first, false).await.unwrap().network_settings.ip_address;
    let (output, _) = run(
        &engine,
        with(
            request(&["sh", "-c", "ip -4 addr show eth0; ls -d /proc/1; cat /proc/1/cmdline"]),
            |_, host| {
                host.network_mode = "container:first".into();
                host.pid_mode = "container:first".into();
            },
        ),
    )
    .await;
    assert!(output.contains(&address) && output.contains("sleep"), "{output}");
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_honoured_is_refused_before_anything_is_made() {
    let Some(place) = Place::new() else { return };
    let engine = engine_with(&place, PoolSizes::OFF).await;
    let refused = |request| {
        let engine = engine.clone();
        async move { engine.create(None, None, request, Caller::Peer(Some(0))).await.unwrap_err() }
    };
    let linked = with(request(&["true"]), |_, host| host.links = Some(vec!["web:db".into()]));
    let error = refused(linked).await;
    assert_eq!(
        (error.class(), error.to_string().contains("--link")),
        (seacow_spec::ErrorClass::NotImplemented, true)
    );
    let error = refused(with(request(&["true"]), |config, _| config.image = "nosuch:1".into())).await;
    assert_eq!(error.to_string(), "No such image: nosuch:1");
    let error = refused(with(request(&["true"]), |_, host| host.network_mode = "nosuch".into())).await;
    assert!(error.to_string().starts_with("network nosuch not found"), "{error}");
    let error =
        engine.create(Some("a/b".into()), None, request(&["true"]), Caller::Engine).await.unwrap_err();
    assert_eq!(error.to_string(), "Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    let id = create(&engine, Some("web"), request(&["true"])).await;
    let error =
        engine.create(Some("web".into()), None, request(&["true"]), Caller::Engine).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
        )
    );
    assert_eq!(place.snapshots().len(), 1);
    let error = engine
        .create(None, Some("linux/arm64".into()), request(&["true"]), Caller::Engine)
        .await
        .unwrap_err();
    assert_eq!(error.class(), seacow_spec::ErrorClass::NotFound);
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_names_prefixes_and_renames() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let id = create(
        &engine,
        Some("web"),
        with(request(&["sh", "-c", "exit 3"]), |config, _| {
            config.labels = Some(BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        }),
    )
    .await;
    let other = create(&engine, Some("other"), request(&["sleep", "100"])).await;
    engine.start(&other).await.unwrap();
    let wait = engine.wait("web", "next-exit".parse().unwrap()).unwrap();
    engine.start(&id[..12]).await.unwrap();
    wait.await;
    let list = |filters: Filters, all: bool| {
        let engine = engine.clone();
        async move {
            let rows = engine.list(ListOptions { all, filters, ..Default::default() }).await.unwrap();
            rows.into_iter().map(|row| row.names[0].clone()).collect::<Vec<_>>()
        }
    };
    let filter = |key: &str, value: &str| Filters::default().with(key, value);
    assert_eq!(list(Filters::default(), false).await, ["/other"]);
    assert_eq!(list(Filters::default(), true).await, ["/other", "/web"]);
    assert_eq!(list(filter("status", "exited"), false).await, ["/web"]);
    assert_eq!(list(filter("exited", "3"), false).await, ["/web"]);
    assert_eq!(list(filter("name", "^we"), true).await, ["/web"]);
    assert_eq!(list(filter("label", "a=b"), true).await, ["/web"]);
    assert_eq!(list(filter("ancestor", "bb"), true).await.len(), 2);
    assert_eq!(list(filter("before", "other"), true).await, ["/web"]);
    assert_eq!(list(filter("since", "web"), true).await, ["/other"]);
    assert_eq!(list(filter("network", "bridge"), true).await.len(), 2);
    let row = &engine.list(ListOptions { limit: 2, ..Default::default() }).await.unwrap()[1];
    assert_eq!(
        (row.command.as_str(), row.image.as_str(), row.state.as_str()),
        ("sh -c 'exit 3'", "bb", "exited")
    );
    assert!(row.status.starts_with("Exited (3) "), "{}", row.status);
    engine.rename("web", "renamed").await.unwrap();
    assert!(
        engine
            .rename("renamed", "other")
            .await
            .unwrap_err()
            .to_string()
            .starts_with("Error when allocating new name: Conflict.")
    );
    assert!(engine.inspect("web", false).await.is_err());
    assert_eq!(engine.inspect("/renamed", false).await.unwrap().id, id);
    let pruned = engine.prune_containers(&Filters::default()).await.unwrap();
    assert_eq!(pruned.containers_deleted, Some(vec![id]));
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_docker_s_order() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let id = create(&engine, Some("r1"), with(request(&["true"]), |_, host| host.auto_remove = true)).await;
    let wait = engine.wait(&id, "removed".parse().unwrap()).unwrap();
    let output = attach(&engine, &id, all_output());
    engine.start(&id).await.unwrap();
    wait.await;
    output.await.unwrap();
    let filter = EventFilter { since: "0".into(), until: now(), ..Default::default() };
    let events: Vec<_> = engine.events(filter).unwrap().collect().await;
    let seen: Vec<String> = events.iter().map(|event| format!("{} {}", event.kind, event.action)).collect();
    assert_eq!(
        seen,
        [
            "container create",
            "container attach",
            "network connect",
            "container start",
            "network disconnect",
            "container die",
            "container destroy"
        ]
    );
    let die = &events[5];
    assert_eq!(die.actor.attributes["exitCode"], "0");
    assert_eq!((die.status.as_deref(), die.from.as_deref()), (Some("die"), Some("bb")));
    end(engine, &place).await;
}

fn now() -> String {
    let now = seacow_spec::Timestamp::now();
    format!("{}.{:09}", now.unix_seconds(), now.subsec_nanos())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_is_not_started_gives_its_shim_back() {
    let Some(place) = Place::new() else { return };
    let engine = engine_with(&place, PoolSizes { bridge: 1, none: 0 }).await;
    for _ in 0..300 {
        if engine.pool_state().0 == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let id = create(&engine, None, request(&["echo", "late"])).await;
    tokio::time::sleep(Duration::from_millis(5500)).await;
    assert!(!place.exec_dirs().contains(&id));
    let wait = engine.wait(&id, "next-exit".parse().unwrap()).unwrap();
    let output = attach(&engine, &id, all_output());
    engine.start(&id).await.unwrap();
    assert_eq!((wait.await.status_code, text(&output.await.unwrap()).as_str()), (0, "late\n"));
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_at_once() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let runs = (0..100).map(|n| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let word = format!("n{n}");
            let (output, code) =
                run(&engine, with(request(&["echo", &word]), |_, host| host.auto_remove = n % 2 == 0)).await;
            assert_eq!((output, code), (format!("{word}\n"), 0));
        })
    });
    for run in runs.collect::<Vec<_>>() {
        run.await.unwrap();
    }
    assert_eq!(engine.list(ListOptions { all: true, ..Default::default() }).await.unwrap().len(), 50);
    end(engine, &place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_shim_is_said_so_and_leaves_nothing() {
    let Some(place) = Place::new() else { return };
    let engine = engine(&place).await;
    let id = create(&engine, None, request(&["sleep", "100"])).await;
    engine.start(&id).await.unwrap();
    let init = engine.inspect(&id, false).await.unwrap().state.pid;
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    let shim: i32 =
        status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap();
    assert!(std::fs::read_to_string(format!("/proc/{shim}/comm")).unwrap().starts_with("seacow-shim"));
    let wait = engine.wait(&id, "next-exit".parse().unwrap()).unwrap();
    let shim = rustix::process::Pid::from_raw(shim).unwrap();
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
    assert_eq!(wait.await.status_code, 137);
    assert_eq!(engine.inspect(&id, false).await.unwrap().state.status, "exited");
    eventually("its cgroups are gone", || place.cgroups().iter().all(|path| !path.ends_with(&id))).await;
    // And it starts again.
    engine.start(&id).await.unwrap();
    end(engine, &place).await;
}
