//! Volumes: driver options, subpaths, images and scratch overlays as mounts; snapshots, rollback, clones.

use seacow_tests::{Engine, Kind};

fn sh(engine: &Engine, mounts: &[&str], script: &str) -> seacow_tests::Done {
    let mut args = vec!["run", "--rm"];
    args.extend(mounts);
    args.extend(["bb", "sh", "-c", script]);
    engine.docker(&args)
}

#[test]
fn a_volume_may_be_a_directory_of_the_host() {
    let engine = Engine::start();
    let dir = engine.exec_root().join("served");
    std::fs::create_dir_all(&dir).unwrap();
    let device = format!("device={}", dir.display());
    engine
        .docker(&[
            "volume",
            "create",
            "-o",
            "type=none",
            "-o",
            "o=bind",
            "-o",
            &device,
            "--label",
            "a=b",
            "dir",
        ])
        .ok();
    sh(&engine, &["-v", "dir:/d"], "echo from-container > /d/f").ok();
    assert_eq!(std::fs::read_to_string(dir.join("f")).unwrap(), "from-container\n");
    let shown =
        engine.docker(&["volume", "inspect", "dir", "--format", "{{json .Options}} {{.Labels.a}}"]).ok();
    assert!(shown.contains("\"o\":\"bind\"") && shown.ends_with(" b"), "{shown}");
    assert_eq!(engine.docker(&["volume", "ls", "-q", "-f", "label=a=b"]).ok(), "dir");
    engine.docker(&["volume", "rm", "dir"]).ok();
    assert!(dir.join("f").exists());
    // What is not there fails at the start.
    engine
        .docker(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/no/such", "gone"])
        .ok();
    let failed = sh(&engine, &["-v", "gone:/d"], "true");
    assert!(
        failed.code != 0 && failed.err.to_lowercase().contains("no such file or directory"),
        "{}",
        failed.err
    );
    engine.docker(&["volume", "create", "-o", "typo=x", "bad"]).fails(1, "invalid option: \"typo\"");
    engine
        .docker(&["volume", "create", "-o", "type=tmpfs", "bad"])
        .fails(1, "missing required option: \"device\"");
    assert_eq!(engine.docker(&["volume", "ls", "-q", "-f", "name=bad"]).ok(), "");
}

/// One file system in memory for all that run, and a new one after the last.
#[test]
fn a_volume_may_be_memory_that_containers_share() {
    let mut engine = Engine::start();
    engine
        .docker(&[
            "volume",
            "create",
            "-o",
            "type=tmpfs",
            "-o",
            "device=tmpfs",
            "-o",
            "o=size=2m,mode=1770",
            "ram",
        ])
        .ok();
    for name in ["one", "two"] {
        engine.docker(&["create", "--name", name, "-v", "ram:/ram", "bb", "tail", "-f", "/dev/null"]).ok();
    }
    engine.docker(&["start", "one", "two"]).ok();
    engine.docker(&["exec", "one", "sh", "-c", "echo shared > /ram/f; df -k /ram | tail -1"]).ok();
    assert_eq!(engine.docker(&["exec", "two", "cat", "/ram/f"]).ok(), "shared");
    let mounts = engine.docker(&["exec", "two", "cat", "/proc/mounts"]).ok();
    let line = mounts.lines().find(|line| line.contains(" /ram ")).unwrap_or_else(|| panic!("{mounts}"));
    assert!(line.contains("tmpfs") && line.contains("size=2048k") && line.contains("mode=1770"), "{line}");
    if engine.kind() == Kind::Seacow {
        engine.kill_daemon();
        engine.restart_daemon();
    }
    assert_eq!(sh(&engine, &["-v", "ram:/ram"], "cat /ram/f").ok(), "shared");
    engine.docker(&["rm", "-f", "one", "two"]).ok();
    let gone = sh(&engine, &["-v", "ram:/ram"], "ls /ram");
    assert_eq!(gone.ok(), "");
    let full = sh(&engine, &["-v", "ram:/ram"], "dd if=/dev/zero of=/ram/x bs=1M count=3");
    assert!(full.err.contains("No space left"), "{}", full.err);
}

#[test]
fn mounts_make_their_volumes() {
    let engine = Engine::start();
    let mount = "type=volume,src=made,dst=/d,volume-label=k=v,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=1m";
    let seen = sh(&engine, &["--mount", mount], "cat /proc/mounts | grep ' /d '").ok();
    assert!(seen.contains("size=1024k"), "{seen}");
    assert_eq!(
        engine.docker(&["volume", "inspect", "made", "--format", "{{.Labels.k}} {{.Options.type}}"]).ok(),
        "v tmpfs"
    );
}

#[test]
fn a_part_of_a_volume_is_mounted_and_no_link_leads_out() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let plain = ["-v", "vol:/vol"];
    sh(&engine, &plain, "mkdir -p /vol/a/b; echo x > /vol/a/b/f; ln -s /etc /vol/out; ln -s a/b /vol/in")
        .ok();
    let part = |path: &str| format!("type=volume,src=vol,dst=/p,volume-subpath={path}");
    assert_eq!(sh(&engine, &["--mount", &part("a/b")], "ls /p; echo y > /p/g").ok(), "f");
    assert_eq!(sh(&engine, &plain, "cat /vol/a/b/g").ok(), "y");
    assert_eq!(sh(&engine, &["--mount", &part("in")], "cat /p/g").ok(), "y");
    // The host's /etc is not what a link in a volume means.
    let out = sh(&engine, &["--mount", &part("out")], "ls /p");
    assert!(out.code != 0 && out.err.contains("cannot access path"), "{} {}", out.out, out.err);
    assert_ne!(sh(&engine, &["--mount", &part("nosuch")], "true").code, 0);
    sh(&engine, &["--mount", &part("../x")], "true").fails(125, "subpath must be a relative path");
}

#[test]
fn images_and_scratch_overlays_are_mounts() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let context = engine.exec_root().join("context");
    std::fs::create_dir_all(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM bb\nRUN mkdir /tools && echo t > /tools/t\n").unwrap();
    engine.docker(&["build", "-t", "tools", &context.to_string_lossy()]).ok();
    let image = ["--mount", "type=image,src=tools,dst=/img"];
    assert_eq!(engine.seacow(&["run", "--rm", image[0], image[1], "bb", "cat", "/img/tools/t"]).ok(), "t");
    let refused = engine.seacow(&["run", "--rm", image[0], image[1], "bb", "touch", "/img/x"]);
    assert!(refused.err.contains("Read-only"), "{}", refused.err);
    engine.seacow(&["run", "-d", "--name", "user", image[0], image[1], "bb", "tail", "-f", "/dev/null"]).ok();
    engine.docker(&["rmi", "tools"]).fails(1, "conflict");
    engine.docker(&["rm", "-f", "user"]).ok();
    engine.docker(&["rmi", "tools"]).ok();

    let dir = engine.exec_root().join("kept");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("f"), "kept").unwrap();
    let scratch = format!("{}:/s:O", dir.display());
    engine.docker(&["run", "-d", "--name", "one", "-v", &scratch, "bb", "tail", "-f", "/dev/null"]).ok();
    engine.docker(&["exec", "one", "sh", "-c", "echo changed > /s/f; echo new > /s/new"]).ok();
    assert_eq!(engine.docker(&["exec", "one", "cat", "/s/f"]).ok(), "changed");
    assert_eq!(std::fs::read_to_string(dir.join("f")).unwrap(), "kept");
    assert!(!dir.join("new").exists());
    engine.docker(&["restart", "-t", "0", "one"]).ok();
    assert_eq!(engine.docker(&["exec", "one", "cat", "/s/new"]).ok(), "new");
}

#[test]
fn volumes_go_back_and_are_cloned() {
    let mut engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let run = ["run", "-d", "--name", "one", "-v", "data:/d", "bb", "tail", "-f", "/dev/null"];
    engine.docker(&run).ok();
    let write = |engine: &Engine, text: &str| {
        engine.docker(&["exec", "one", "sh", "-c", &format!("echo {text} > /d/f")]).ok();
    };
    let read = |engine: &Engine, volume: &str| sh(engine, &["-v", &format!("{volume}:/d")], "cat /d/f").ok();
    write(&engine, "first");
    assert_eq!(engine.seacow(&["volume", "snapshot", "data"]).ok(), "1");
    assert_eq!(engine.inspect("one", "{{.State.Status}}"), "running");
    write(&engine, "second");
    assert_eq!(engine.seacow(&["volume", "snapshot", "--name", "two", "data"]).ok(), "two");
    engine.seacow(&["volume", "snapshot", "--name", "two", "data"]).fails(1, "already in use");
    engine.seacow(&["volume", "clone", "data", "copy"]).ok();
    engine.seacow(&["volume", "clone", "data", "old", "--snapshot", "1"]).ok();
    engine.seacow(&["volume", "clone", "data", "old"]).fails(1, "already in use");
    engine.seacow(&["volume", "clone", "nosuch", "new"]).fails(1, "no such volume");
    assert_eq!((read(&engine, "copy"), read(&engine, "old")), ("second".into(), "first".into()));
    engine.seacow(&["volume", "rollback", "data", "1"]).fails(1, "running containers - [one]");
    engine.docker(&["stop", "-t", "0", "one"]).ok();
    engine.seacow(&["volume", "rollback", "data", "nosuch"]).fails(1, "No such snapshot");
    engine.seacow(&["volume", "rollback", "data", "1"]).ok();
    engine.docker(&["start", "one"]).ok();
    assert_eq!(engine.docker(&["exec", "one", "cat", "/d/f"]).ok(), "first");
    engine.kill_daemon();
    engine.restart_daemon();
    assert_eq!(engine.seacow(&["volume", "snapshots", "-q", "data"]).ok(), "1\ntwo");
    engine.seacow(&["volume", "snapshot-rm", "data", "1"]).ok();
    engine.docker(&["rm", "-f", "one"]).ok();
    engine.seacow(&["volume", "rollback", "data", "two"]).ok();
    assert_eq!(read(&engine, "data"), "second");
    engine.docker(&["volume", "rm", "data", "copy", "old"]).ok();
    assert_eq!(std::fs::read_dir(engine.data_root().join("volumes")).unwrap().count(), 0);
    engine.seacow(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "ram"]).ok();
    engine.seacow(&["volume", "snapshot", "ram"]).fails(1, "not in the store");
}
