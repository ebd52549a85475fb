//! cp, diff, export, commit: files in and out.

use std::path::Path;

use seacow_tests::Engine;

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn into_and_out_of_running_and_stopped_containers() {
    let engine = Engine::start();
    let dir = engine.exec_root().join("files");
    write(&dir.join("one"), "1\n");
    write(&dir.join("sub/two"), "2\n");
    let here = |name: &str| dir.join(name).display().to_string();
    engine.docker(&["create", "--name", "still", "bb", "sleep", "1000"]).ok();
    engine.docker(&["run", "-d", "--name", "moving", "bb", "sleep", "1000"]).ok();
    for name in ["still", "moving"] {
        let there = |path: &str| format!("{name}:{path}");
        engine.docker(&["cp", &here("one"), &there("/tmp")]).ok();
        engine.docker(&["cp", &here("one"), &there("/tmp/renamed")]).ok();
        engine.docker(&["cp", &here("sub"), &there("/tmp")]).ok();
        engine.docker(&["cp", &format!("{}/.", here("sub")), &there("/home")]).ok();
        engine.docker(&["cp", &there("/tmp/sub"), &here(&format!("{name}-sub"))]).ok();
        engine.docker(&["cp", &there("/tmp/renamed"), &here(&format!("{name}-renamed"))]).ok();
        let read = |file: &str| std::fs::read_to_string(dir.join(format!("{name}-{file}"))).unwrap();
        assert_eq!((read("sub/two"), read("renamed")), ("2\n".into(), "1\n".into()));
        engine
            .docker(&["cp", &there("/no/such"), &here("x")])
            .fails(1, "Could not find the file /no/such in container");
        engine.docker(&["cp", &here("one"), &there("/no/such/")]).fails(1, "");
        engine.docker(&["cp", &here("nofile"), &there("/tmp")]).code(1);
        let diff = engine.docker(&["diff", name]).ok();
        for line in ["C /tmp", "A /tmp/one", "A /tmp/renamed", "A /tmp/sub", "A /tmp/sub/two", "A /home/two"]
        {
            assert!(diff.lines().any(|l| l == line), "{line} not in {diff}");
        }
    }
    engine.docker(&["start", "still"]).ok();
    let out = engine
        .docker(&["exec", "still", "sh", "-c", "cat /tmp/one /tmp/sub/two; stat -c %u:%g /tmp/one"])
        .ok();
    assert_eq!(out, "1\n2\n0:0");
}

#[test]
fn through_pipes() {
    let engine = Engine::start();
    engine.docker(&["create", "--name", "box", "bb", "true"]).ok();
    let tar = engine.docker_command(&["cp", "box:/etc/passwd", "-"]).output().unwrap();
    assert!(tar.status.success());
    assert_eq!(&tar.stdout[257..262], b"ustar");
    engine.docker_with_input(&["cp", "-", "box:/tmp"], &tar.stdout).ok();
    let back = engine.docker(&["export", "box"]);
    assert!(back.out.contains("tmp/passwd"));
}

#[test]
fn a_link_in_the_container_never_leads_out() {
    let engine = Engine::start();
    let secret = engine.exec_root().join("secret");
    write(&secret, "host's own\n");
    let script =
        format!("ln -s {} /link; ln -s / /up; ln -s ../../../../../.. /dots; sleep 1000", secret.display());
    engine.docker(&["run", "-d", "--name", "box", "bb", "sh", "-c", &script]).ok();
    seacow_tests::eventually("links", || engine.docker(&["exec", "box", "ls", "/dots"]).code == 0);
    let target = engine.exec_root().join("stolen");
    engine.docker(&["cp", "-L", "box:/link", &target.display().to_string()]).code(1);
    assert!(!target.exists());
    let through = format!("box:/dots{}", secret.display());
    engine.docker(&["cp", &through, &target.display().to_string()]).code(1);
    let file = engine.exec_root().join("evil");
    write(&file, "evil\n");
    // Either it is refused, or it lands inside; the host's file is never touched.
    let _ = engine.docker(&["cp", &file.display().to_string(), &format!("box:/up{}", secret.display())]);
    let _ = engine.docker(&["cp", &file.display().to_string(), "box:/link"]);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "host's own\n");
}

#[test]
fn diff_tells_added_changed_deleted() {
    let engine = Engine::start();
    engine
        .docker(&[
            "run",
            "--name",
            "box",
            "bb",
            "sh",
            "-c",
            "touch /new; echo x >> /etc/group; rm /etc/passwd; mkdir /dir; touch /dir/in",
        ])
        .ok();
    let mut lines: Vec<_> = engine.docker(&["diff", "box"]).ok().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["A /dir", "A /dir/in", "A /new", "C /etc", "C /etc/group", "D /etc/passwd"]);
}

#[test]
fn commit_makes_an_image_of_the_changes() {
    let engine = Engine::start();
    engine
        .docker(&[
            "run",
            "-d",
            "--name",
            "box",
            "bb",
            "sh",
            "-c",
            "echo text > /added; rm /etc/group; sleep 1000",
        ])
        .ok();
    seacow_tests::eventually("file", || engine.docker(&["exec", "box", "ls", "/added"]).code == 0);
    let args = [
        "commit",
        "-m",
        "why",
        "-a",
        "me",
        "-c",
        "ENV X=y",
        "-c",
        "CMD [\"cat\", \"/added\"]",
        "box",
        "made:1",
    ];
    let id = engine.docker(&args).ok();
    assert!(id.starts_with("sha256:"));
    assert_eq!(engine.docker(&["run", "--rm", "made:1"]).ok(), "text");
    assert_eq!(
        engine.docker(&["run", "--rm", "made:1", "sh", "-c", "echo $X; ls /etc/group 2>&1 | wc -l"]).ok(),
        "y\n1"
    );
    engine.docker(&["run", "--rm", "made:1", "ls", "/etc/group"]).code(1);
    let history =
        engine.docker(&["history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "made:1"]).ok();
    assert!(history.lines().next().unwrap().ends_with("|why"), "{history}");
    assert_eq!(engine.inspect("made:1", "{{.Author}}"), "me");
    // The running container was not disturbed.
    assert_eq!(engine.inspect("box", "{{.State.Running}}"), "true");
}

#[test]
fn export_and_import_make_the_round() {
    let engine = Engine::start();
    engine
        .docker(&[
            "run",
            "--name",
            "box",
            "bb",
            "sh",
            "-c",
            "echo e > /exported; ln /exported /linked; ln -s exported /sym; mkfifo /fifo",
        ])
        .ok();
    let tar = engine.exec_root().join("out.tar");
    engine.docker(&["export", "-o", &tar.display().to_string(), "box"]).ok();
    engine.docker(&["import", "-c", "CMD cat /exported", &tar.display().to_string(), "again"]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "again"]).ok(), "e");
    let out = engine
        .docker(&["run", "--rm", "again", "sh", "-c", "stat -c %h /linked; readlink /sym; stat -c %F /fifo"])
        .ok();
    assert_eq!(out, "2\nexported\nfifo");
}

#[test]
fn a_tree_deeper_than_a_path_can_be_long() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    // The shell gives up where the name of its directory is too long, one level below that.
    let dig = "n=$(printf '%0200d' 0); mkdir /deep; cd /deep; while mkdir $n && cd $n; do :; done 2>/dev/null; true";
    engine.docker(&["exec", "box", "sh", "-c", dig]).ok();
    let deepest = engine.docker(&["diff", "box"]).ok().lines().map(str::len).max().unwrap();
    assert!(deepest > 4096, "{deepest}");
    engine.docker(&["ps", "-s"]).ok();
    engine.docker(&["system", "df", "-v"]).ok();
    assert!(engine.seacow(&["cow"]).ok().contains("box"));
    engine.docker(&["export", "-o", &engine.exec_root().join("exported").to_string_lossy(), "box"]).ok();
    engine.docker(&["commit", "box", "deep"]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "deep", "ls", "/deep"]).ok().len(), 200);
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.docker(&["rmi", "deep"]).ok();
}
