//! Images: tag, rmi, history, inspect, save, load, import.

use std::process::Command;

use seacow_tests::Engine;

fn built(engine: &Engine) -> String {
    let dir = engine.exec_root().join("context");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(
        dir.join("Dockerfile"),
        "FROM bb\nRUN echo layer > /layer\nENV A=b\nCMD [\"cat\", \"/layer\"]\n",
    )
    .unwrap();
    engine.docker(&["build", "-q", "-t", "made", &dir.display().to_string()]).ok()
}

#[test]
fn names_come_and_go() {
    let engine = Engine::start();
    engine.docker(&["tag", "bb", "other:v2"]).ok();
    engine.docker(&["tag", "bb", "BAD"]).fails(1, "must be lowercase");
    engine.docker(&["tag", "nosuch", "x:1"]).fails(1, "No such image: nosuch:latest");
    let listed = engine.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    let mut names: Vec<_> = listed.lines().collect();
    names.sort();
    assert_eq!(names, ["bb:latest", "other:v2"]);
    assert_eq!(engine.docker(&["rmi", "other:v2"]).ok(), "Untagged: other:v2");
    engine.docker(&["rmi", "other:v2"]).fails(1, "No such image: other:v2");
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    let id = engine.inspect("bb", "{{.Id}}");
    engine.docker(&["rmi", &id]).fails(1, "conflict");
    engine.docker(&["rm", "-f", "box"]).ok();
    let out = engine.docker(&["rmi", "bb"]).ok();
    assert!(out.contains("Untagged: bb:latest") && out.contains("Deleted: sha256:"), "{out}");
    assert_eq!(engine.docker(&["images", "-q"]).ok(), "");
}

#[test]
fn history_and_inspect() {
    let engine = Engine::start();
    let id = built(&engine);
    let rows = engine.docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}", "made"]).ok();
    let rows: Vec<_> = rows.lines().collect();
    assert_eq!(rows[0], "/bin/sh -c #(nop)  CMD [\"cat\" \"/layer\"]");
    assert_eq!(rows[1], "/bin/sh -c #(nop)  ENV A=b");
    assert_eq!(rows[2], "/bin/sh -c echo layer > /layer");
    assert_eq!(
        engine.inspect("made", "{{.Id}} {{.Os}} {{len .RootFS.Layers}} {{json .Config.Cmd}}"),
        format!("{id} linux 2 [\"cat\",\"/layer\"]")
    );
    assert!(engine.inspect("made", "{{json .Config.Env}}").contains("\"A=b\""));
    engine.docker(&["inspect", "--type", "image", "nosuch"]).fails(1, "No such image: nosuch");
}

#[test]
fn saved_and_loaded_it_is_the_same_image() {
    let engine = Engine::start();
    let id = built(&engine);
    let layers = engine.inspect("made", "{{json .RootFS.Layers}}");
    let tar = engine.exec_root().join("made.tar").display().to_string();
    engine.docker(&["save", "-o", &tar, "made", "bb"]).ok();
    engine.docker(&["rmi", "made", "bb"]).ok();
    assert_eq!(engine.docker(&["images", "-aq"]).ok(), "");
    let out = engine.docker(&["load", "-i", &tar]).ok();
    assert!(out.contains("Loaded image: made:latest") && out.contains("Loaded image: bb:latest"), "{out}");
    assert_eq!(engine.inspect("made", "{{.Id}}"), id);
    assert_eq!(engine.inspect("made", "{{json .RootFS.Layers}}"), layers);
    assert_eq!(engine.docker(&["run", "--rm", "made"]).ok(), "layer");
    // What was loaded is saved again with the same layers, byte for byte, or another load would refuse it.
    let again = engine.exec_root().join("again.tar").display().to_string();
    engine.docker(&["save", "-o", &again, "made"]).ok();
    engine.docker(&["rmi", "-f", "made", "bb"]).ok();
    engine.docker(&["load", "-i", &again]).ok();
    assert_eq!(engine.inspect("made", "{{.Id}}"), id);
    engine.docker(&["save", "nosuch"]).fails(1, "nosuch");
}

#[test]
fn a_hostile_archive_is_refused_whole() {
    let engine = Engine::start();
    let dir = engine.exec_root().join("evil");
    std::fs::create_dir_all(&dir).unwrap();
    let tar = |script: &str| {
        let made =
            std::process::Command::new("sh").arg("-ec").arg(script).current_dir(&dir).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    };
    tar("echo x > f; tar --transform 's,^f,../../../../escaped,' -P -cf out.tar f");
    let _ = engine.docker(&["import", &dir.join("out.tar").display().to_string(), "evil"]);
    assert!(!std::path::Path::new("/escaped").exists());
    assert!(!engine.data_root().join("escaped").exists());
    // A link to the outside, then a file through it.
    let outside = dir.join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    tar(&format!(
        "ln -sfn {} l; tar -cf link.tar l; rm l; mkdir -p l; echo evil > l/file; tar -rf link.tar l/file",
        outside.display()
    ));
    let _ = engine.docker(&["import", &dir.join("link.tar").display().to_string(), "evil2"]);
    assert!(!outside.join("file").exists());
    tar("echo '{}' > manifest.json; tar -cf manifest.tar manifest.json; echo garbage > garbage.tar");
    engine.docker(&["load", "-i", &dir.join("manifest.tar").display().to_string()]).code(1);
    engine.docker(&["load", "-i", &dir.join("garbage.tar").display().to_string()]).code(1);
    assert_eq!(engine.docker(&["run", "--rm", "bb", "echo", "fine"]).ok(), "fine");
}

#[test]
fn archives_may_be_packed_in_every_usual_way() {
    let engine = Engine::start();
    let dir = engine.exec_root().join("packed");
    std::fs::create_dir_all(dir.join("context")).unwrap();
    let path = |name: &str| dir.join(name).to_string_lossy().into_owned();
    let sh =
        |line: &str| assert!(Command::new("sh").args(["-c", line]).status().unwrap().success(), "{line}");
    std::fs::write(dir.join("context/Dockerfile"), "FROM bb\nADD files /d/\nCOPY text /c/\n").unwrap();
    std::fs::write(dir.join("context/text"), "copied").unwrap();
    engine.docker(&["tag", "bb", "kept:1"]).ok();
    engine.docker(&["save", "-o", &path("saved"), "kept:1"]).ok();
    engine.docker(&["rmi", "kept:1"]).ok();
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    for packer in ["gzip", "bzip2", "xz -1", "zstd -q"] {
        if packer.starts_with("zstd") && engine.kind() == seacow_tests::Kind::Docker {
            println!("SKIPPED: dockerd 20.10 reads no zstd");
            continue;
        }
        sh(&format!(
            "cd {} && tar -cf - text | {packer} > files && tar -cf - . | {packer} > ../sent",
            path("context")
        ));
        let sent = std::fs::read(dir.join("sent")).unwrap();
        engine.docker_with_input(&["build", "-t", "built", "-"], &sent).ok();
        assert_eq!(
            engine.docker(&["run", "--rm", "built", "cat", "/d/text", "/c/text"]).ok(),
            "copiedcopied",
            "{packer}"
        );
        sh(&format!("{packer} < {} > {}", path("saved"), path("packed")));
        assert_eq!(engine.docker(&["load", "-i", &path("packed")]).ok(), "Loaded image: kept:1", "{packer}");
        engine.docker(&["rmi", "kept:1"]).ok();
        sh(&format!("{packer} < {} > {}", seacow_tests::busybox_tar().display(), path("packed")));
        engine.docker(&["import", &path("packed"), "flat"]).ok();
        assert_eq!(engine.docker(&["run", "--rm", "flat", "echo", "runs"]).ok(), "runs", "{packer}");
        sh(&format!("cd {} && tar -cf - text | {packer} > {}", path("context"), path("packed")));
        let files = std::fs::read(dir.join("packed")).unwrap();
        let put = engine.api_raw(
            "PUT",
            "/containers/box/archive?path=/tmp",
            &["Content-Type: application/x-tar"],
            &files,
        );
        assert_eq!(put.status, 200, "{packer}: {}", put.body);
    }
    engine.docker(&["rm", "-f", "box"]).ok();
}
