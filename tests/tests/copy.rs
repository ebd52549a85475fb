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

/// Mode, owner and name of everything in a tree of a container, sorted.
fn listing(engine: &Engine, container: &str, path: &str) -> Vec<String> {
    let file = engine.exec_root().join("listed.tar");
    let tar = engine.docker_command(&["cp", &format!("{container}:{path}"), "-"]).output().unwrap().stdout;
    std::fs::write(&file, tar).unwrap();
    let listed =
        std::process::Command::new("tar").arg("--numeric-owner").arg("-tvf").arg(&file).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // Between them are size, date and time.
        format!("{} {} {}", words[0], words[1], words[5..].join(" "))
    };
    let mut lines: Vec<String> = text.lines().map(line).collect();
    lines.sort();
    lines
}

/// Between two containers, running or not, and within one; with the meanings that paths have for `cp`.
#[test]
fn between_containers() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let script = "mkdir -p /src/sub; echo 1 > /src/one; ln /src/one /src/linked; ln -s one /src/sym; \
                  chmod 2711 /src/sub; echo 2 > /src/sub/two; chown 7:8 /src/sub/two; mkfifo /src/fifo; touch /ready";
    engine.docker(&["run", "--name", "still", "bb", "sh", "-c", script]).ok();
    let moving = format!("{script}; sleep 1000");
    engine.docker(&["run", "-d", "--name", "moving", "bb", "sh", "-c", &moving]).ok();
    seacow_tests::eventually("files", || engine.docker(&["exec", "moving", "ls", "/ready"]).code == 0);
    for (number, (from, into)) in
        [("still", "moving"), ("moving", "still"), ("still", "other"), ("moving", "run"), ("still", "still")]
            .into_iter()
            .enumerate()
    {
        if into == "other" {
            engine.docker(&["create", "--name", "other", "bb", "true"]).ok();
        } else if into == "run" {
            engine.docker(&["run", "-d", "--name", "run", "bb", "sleep", "1000"]).ok();
        }
        let cp = |source: &str, target: &str| {
            engine.seacow(&["cp", &format!("{from}:{source}"), &format!("{into}:{target}")])
        };
        let new = |name: &str| format!("/new{number}{name}");
        cp("/src", &new("")).ok();
        cp("/src/one", &new("/renamed")).ok();
        cp("/src/sub/.", &new("-contents")).ok();
        cp("/src/sym", &new("/")).ok();
        let top = format!("new{number}");
        let expected = [
            format!("drwx--s--x 0/0 {top}/sub/"),
            format!("drwxr-xr-x 0/0 {top}/"),
            format!("hrw-r--r-- 0/0 {top}/one link to {top}/linked"),
            format!("lrwxrwxrwx 0/0 {top}/sym -> one"),
            format!("prw-r--r-- 0/0 {top}/fifo"),
            format!("-rw-r--r-- 0/0 {top}/linked"),
            format!("-rw-r--r-- 0/0 {top}/renamed"),
            format!("-rw-r--r-- 7/8 {top}/sub/two"),
        ];
        let mut expected: Vec<String> = expected.into();
        expected.sort();
        assert_eq!(listing(&engine, into, &new("")), expected, "{from} to {into}");
        let out = engine.exec_root().join(format!("out{number}"));
        engine.docker(&["cp", &format!("{into}:{}/two", new("-contents")), &out.to_string_lossy()]).ok();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "2\n");
        cp("/no/such", "/tmp").fails(1, "Could not find the file /no/such in container");
        cp("/src", "/no/such/place").fails(1, "Could not find the file");
        cp("/src", "/etc/passwd").fails(1, "cannot copy directory");
    }
    engine.seacow(&["cp", "still:/src", "nosuch:/tmp"]).fails(1, "No such container");
    engine.docker(&["create", "--name", "fixed", "--read-only", "bb", "true"]).ok();
    engine.seacow(&["cp", "still:/src", "fixed:/tmp"]).fails(1, "read-only");
    // Nothing is held afterwards.
    engine.docker(&["start", "-a", "other"]).ok();
    engine.docker(&["start", "-a", "still"]).ok();
}

/// A link in one of the containers is that container's own.
#[test]
fn between_containers_no_link_leads_out() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let secret = engine.exec_root().join("secret");
    write(&secret, "host's own\n");
    let script =
        format!("ln -s {} /link; ln -s / /up; ln -s {} /dir", secret.display(), engine.exec_root().display());
    for name in ["one", "two"] {
        engine.docker(&["run", "--name", name, "bb", "sh", "-c", &script]).ok();
    }
    engine.seacow(&["cp", "-L", "one:/link", "two:/stolen"]).code(1);
    engine.seacow(&["cp", "one:/link/", "two:/stolen"]).code(1);
    engine.seacow(&["cp", "one:/etc/passwd", "two:/dir/"]).code(1);
    engine.seacow(&["cp", "one:/etc/passwd", "two:/up/landed"]).ok();
    let _ = engine.seacow(&["cp", "one:/etc/passwd", "two:/link"]);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "host's own\n");
    assert!(engine.docker(&["diff", "two"]).ok().lines().any(|line| line == "A /landed"));
    let api = "/v1.50/containers/two/archive/copy?from=one&fromPath=/etc/passwd&path=/tmp";
    assert_eq!(engine.api("POST", &format!("{api}&name=../../evil"), "").status, 400);
    assert_eq!(engine.api("POST", "/v1.50/containers/two/archive/copy?path=/tmp", "").status, 400);
    assert_eq!(engine.api("POST", &api.replace("one", "nosuch"), "").status, 404);
}

/// Where the store shares extents, the copy takes no room.
#[test]
fn between_containers_extents_are_shared() {
    if !["/sbin/mkfs.xfs", "/usr/sbin/mkfs.xfs"].iter().any(|path| Path::new(path).exists()) {
        println!("SKIPPED: mkfs.xfs is not installed (package xfsprogs)");
        return;
    }
    let engine = Engine::start_with(&["--storage-init=2g"]);
    if engine.skip_on_docker() {
        return;
    }
    let fill = "dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null; md5sum < /big";
    let sum = engine.docker(&["run", "--name", "one", "bb", "sh", "-c", fill]).ok();
    engine.docker(&["run", "-d", "--name", "two", "bb", "sleep", "1000"]).ok();
    let used = || {
        let store = engine.data_root().join("store");
        rustix::fs::syncfs(std::fs::File::open(&store).unwrap()).unwrap();
        let stat = rustix::fs::statvfs(&store).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    };
    let before = used();
    engine.seacow(&["cp", "one:/big", "two:/copy"]).ok();
    engine.seacow(&["cp", "two:/copy", "one:/back"]).ok();
    let taken = used().saturating_sub(before);
    assert!(taken < 8 << 20, "{taken} bytes");
    assert_eq!(engine.docker(&["exec", "two", "sh", "-c", "md5sum < /copy"]).ok(), sum);
}
