//! What `COPY` and `ADD` do to files. Needs root: copies change owners.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

mod fake;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use fake::{Engine, is_root};
use seacow_spec::docker::container::ContainerConfig;

fn engine() -> Option<Engine> {
    if !is_root() {
        return None;
    }
    let engine = Engine::new();
    let config = ContainerConfig { working_dir: "/w".into(), ..ContainerConfig::default() };
    let files = [
        ("/etc/passwd", "root:x:0:0::/:\nu:x:1007:8::/:\n"),
        ("/etc/group", "g:x:1009:\n"),
        ("/usr/bin/tool", "tool"),
        ("/d/old", "old"),
        ("/d/sub/old", "old"),
    ];
    let base = engine.base("bb", config, &files);
    let root = engine.files(&base);
    symlink("/usr/bin", root.join("bin")).unwrap();
    symlink("../../../../../../..", root.join("up")).unwrap();
    symlink("/d/old", root.join("to-file")).unwrap();
    symlink("d/not-yet", root.join("dangling")).unwrap();
    symlink("/d/nodir", root.join("dangdir")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    Some(engine)
}

fn put(engine: &Engine, path: &str, text: &str) {
    let path = engine.context().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Builds on `bb`, gives the root of the files.
fn built(engine: &Engine, steps: &str) -> std::path::PathBuf {
    engine.files(&engine.build(&format!("FROM bb\n{steps}")).id())
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn where_a_file_goes() {
    let Some(engine) = engine() else { return };
    put(&engine, "f", "new");
    for (step, path) in [
        ("COPY f /x", "x"),
        ("COPY f /x/", "x/f"),
        ("COPY f /d", "d/f"),
        ("COPY ./f x/y", "w/x/y"),
        ("COPY /f .", "w/f"),
        ("COPY f ./z/", "w/z/f"),
        ("WORKDIR /q\nCOPY f ../r", "r"),
        ("COPY f /bin/", "usr/bin/f"),
        ("COPY f /bin/tool", "usr/bin/tool"),
        ("COPY f /to-file", "d/old"),
        ("COPY f /dangling", "d/not-yet"),
        ("COPY f /dangdir/sub/x", "d/nodir/sub/x"),
        ("COPY f /x//y", "x/y"),
        ("COPY f /up/up/e", "e"),
        ("COPY f /../../e", "e"),
        ("ENV D=/x V=f\nCOPY $V ${D}y", "xy"),
        ("COPY [\"f\", \"/a b/\"]", "a b/f"),
    ] {
        assert_eq!(read(&built(&engine, step), path), "new", "{step}");
    }
    for step in ["COPY f /loop/x", "COPY f /loop", "COPY f /d/old/x"] {
        assert!(
            engine.build(&format!("FROM bb\n{step}")).error().starts_with("failed to copy files:"),
            "{step}"
        );
    }
    let root = built(&engine, "COPY f /d/sub");
    assert_eq!(read(&root, "d/sub/f"), "new");
}

#[test]
fn trees_are_merged() {
    let Some(engine) = engine() else { return };
    for (path, text) in [("t/old", "new"), ("t/sub/new", "new"), ("t/bin/x", "x"), ("t/to-file/x", "x")] {
        put(&engine, path, text);
    }
    fs::create_dir(engine.context().join("t/empty")).unwrap();
    symlink("/nowhere", engine.context().join("t/link")).unwrap();
    let root = built(&engine, "COPY t /d");
    assert_eq!((read(&root, "d/old"), read(&root, "d/sub/old")), ("new".into(), "old".into()));
    assert_eq!(read(&root, "d/sub/new"), "new");
    assert!(root.join("d/empty").is_dir());
    assert_eq!(fs::read_link(root.join("d/link")).unwrap(), Path::new("/nowhere"));
    // A directory of the tree replaces a link or file of the image; nothing is written through it.
    let root = built(&engine, "COPY t /");
    assert_eq!((read(&root, "bin/x"), read(&root, "to-file/x")), ("x".into(), "x".into()));
    assert!(!root.join("usr/bin/x").exists() && root.join("bin").symlink_metadata().unwrap().is_dir());
    // Without a slash a directory is still copied by its contents.
    assert_eq!(read(&built(&engine, "COPY t/sub /n/m"), "n/m/new"), "new");
    assert_eq!(read(&built(&engine, "COPY . /all"), "all/t/sub/new"), "new");
}

#[test]
fn modes_times_owners_and_links() {
    let Some(engine) = engine() else { return };
    put(&engine, "t/f", "1");
    put(&engine, "t/s/g", "2");
    let context = engine.context();
    fs::set_permissions(context.join("t/f"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(context.join("t/s"), fs::Permissions::from_mode(0o1700)).unwrap();
    fs::hard_link(context.join("t/f"), context.join("t/s/hard")).unwrap();
    std::os::unix::fs::chown(context.join("t/f"), Some(5), Some(6)).unwrap();
    let touch = |path: &str| {
        let done =
            std::process::Command::new("touch").args(["-d", "@1000000.25"]).arg(context.join(path)).status();
        assert!(done.unwrap().success());
    };
    touch("t/f");
    touch("t/s");
    let root = built(&engine, "COPY t /t");
    let meta = fs::metadata(root.join("t/f")).unwrap();
    // chown to 5:6 above has taken the set-id bit of the source.
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o751, 0, 0));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (1_000_000, 250_000_000));
    let dir = fs::metadata(root.join("t/s")).unwrap();
    assert_eq!((dir.mode() & 0o7777, dir.mtime()), (0o1700, 1_000_000));
    assert_eq!(meta.ino(), fs::metadata(root.join("t/s/hard")).unwrap().ino());
    assert_eq!(fs::metadata(root.join("t")).unwrap().mode() & 0o7777, 0o755);

    fs::set_permissions(context.join("t/f"), fs::Permissions::from_mode(0o4751)).unwrap();
    for (flag, owner) in [("u:g", (1007, 1009)), ("u", (1007, 0)), ("3", (3, 3)), ("3:g", (3, 1009))] {
        let step = format!("COPY --chown={flag} t/f /n/m/f");
        if flag == "u" {
            let error = engine.build(&format!("FROM bb\n{step}")).error();
            assert!(error.ends_with("can't find gid for group u: no such group: u"), "{error}");
            continue;
        }
        let root = built(&engine, &step);
        for path in ["n", "n/m", "n/m/f"] {
            let meta = fs::metadata(root.join(path)).unwrap();
            assert_eq!((meta.uid(), meta.gid()), owner, "{flag} {path}");
        }
        assert_eq!(fs::metadata(root.join("n/m/f")).unwrap().mode() & 0o7777, 0o4751);
    }
    // An existing directory keeps its owner.
    let root = built(&engine, "COPY --chown=3 t /d");
    assert_eq!(fs::metadata(root.join("d")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(root.join("d/s")).unwrap().uid(), 3);
    // From an image the owners are kept.
    let root = built(
        &engine,
        "COPY --chown=3 t /t\nFROM bb\nCOPY --from=0 /t /t\nCOPY --from=0 --chown=4:5 /t/f /f",
    );
    assert_eq!(fs::metadata(root.join("t/f")).unwrap().uid(), 3);
    assert_eq!(fs::metadata(root.join("f")).unwrap().gid(), 5);
}

#[test]
fn sources_stay_in_the_context() {
    let Some(engine) = engine() else { return };
    let outside = engine.context().parent().unwrap().join("secret");
    fs::write(&outside, "host").unwrap();
    put(&engine, "real/f", "own");
    let context = engine.context();
    symlink(&outside, context.join("absolute")).unwrap();
    symlink("../secret", context.join("relative")).unwrap();
    symlink("real/f", context.join("link")).unwrap();
    symlink("real", context.join("dirlink")).unwrap();
    for name in ["absolute", "relative"] {
        let error = engine.build(&format!("FROM bb\nCOPY {name} /x")).error();
        assert!(error.contains("file not found in build context"), "{error}");
    }
    // A link is followed when it is named, under its own name; not inside a tree.
    let root = built(&engine, "COPY link dirlink/f /x/\nCOPY dirlink /y\nCOPY . /z");
    assert_eq!(
        (read(&root, "x/link"), read(&root, "x/f"), read(&root, "y/f")),
        ("own".into(), "own".into(), "own".into())
    );
    assert!(fs::symlink_metadata(root.join("x/link")).unwrap().is_file());
    assert!(fs::symlink_metadata(root.join("z/absolute")).unwrap().is_symlink());
}

#[test]
fn wildcards() {
    let Some(engine) = engine() else { return };
    for path in ["a.txt", "b.txt", "c.log", "dir/a.txt", "dir/sub/a.txt", "d2/a.txt", "[x].txt", "st*r"] {
        put(&engine, path, path);
    }
    for (step, present, absent) in [
        ("COPY *.txt /x/", &["a.txt", "b.txt", "[x].txt"][..], &["c.log", "sub"][..]),
        ("COPY d*/a.txt /x/", &["a.txt"], &["b.txt"]),
        ("COPY ?.* /x/", &["a.txt", "c.log"], &["[x].txt"]),
        ("COPY [ab].txt /x/", &["a.txt", "b.txt"], &["c.log"]),
        ("COPY [[]x].txt /x/", &["[x].txt"], &["a.txt"]),
        ("COPY d?r /x/", &["a.txt", "sub/a.txt"], &["dir"]),
        ("COPY dir/* c.* /x/", &["a.txt", "c.log"], &["sub"]),
        ("COPY st\\*r* /x/", &["st*r"], &[]),
    ] {
        let root = built(&engine, step);
        for name in present {
            assert!(root.join("x").join(name).exists(), "{step}: {name}");
        }
        for name in absent {
            assert!(!root.join("x").join(name).exists(), "{step}: {name}");
        }
    }
    let error = engine.build("FROM bb\nCOPY a[ /x").error();
    assert_eq!(error, "COPY failed: a[: syntax error in pattern");
}

#[test]
fn ignored_files_are_not_seen() {
    let Some(engine) = engine() else { return };
    for path in ["keep", "a.log", "node/x/y", "node/keep/z", "docs/a.md", "docs/README.md", "Dockerfile"] {
        put(&engine, path, path);
    }
    put(
        &engine,
        ".dockerignore",
        "*.log\nnode\n!node/keep\ndocs/*\n!docs/README.md\nDockerfile\n.dockerignore\n",
    );
    let root = built(&engine, "COPY . /x/\nCOPY node /n\nCOPY * /flat/");
    for path in ["x/keep", "x/node/keep/z", "x/docs/README.md", "n/keep/z", "flat/keep"] {
        assert!(root.join(path).exists(), "{path}");
    }
    for path in ["x/a.log", "x/node/x", "x/docs/a.md", "x/Dockerfile", "x/.dockerignore", "n/x", "flat/a.log"]
    {
        assert!(!root.join(path).exists(), "{path}");
    }
    for path in ["a.log", "node/x", "docs/a.md", "Dockerfile"] {
        let error = engine.build(&format!("FROM bb\nCOPY {path} /x")).error();
        assert!(error.contains("excluded by .dockerignore"), "{error}");
    }
    // What is hidden does not count for the cache.
    let before = engine.build("FROM bb\nCOPY . /x/").id();
    put(&engine, "a.log", "changed");
    assert_eq!(engine.build("FROM bb\nCOPY . /x/").id(), before);
}

#[test]
fn working_directories_are_made() {
    let Some(engine) = engine() else { return };
    let outcome = engine.build("FROM bb\nWORKDIR /bin/new/../deep\nWORKDIR rel\nWORKDIR /d");
    let root = engine.files(&outcome.id());
    assert!(root.join("usr/bin/deep/rel").is_dir());
    let history = engine.history(&outcome.id());
    assert_eq!(history.iter().map(|(_, empty)| *empty).collect::<Vec<_>>(), [false, false, true]);
    let error = engine.build("FROM bb\nWORKDIR /etc/passwd/x").error();
    assert!(error.starts_with("Cannot mkdir /etc/passwd/x: open /etc/passwd"), "{error}");
}

#[test]
fn lower_case_dockerfiles_and_other_paths() {
    let Some(engine) = engine() else { return };
    put(&engine, "dir/My.Dockerfile", "FROM bb\nCMD x");
    let options = |path: &str| seacow_build::BuildOptions { dockerfile: path.into(), ..Default::default() };
    engine.build_with("FOO", &options("dir/My.Dockerfile")).id();
    let error = engine.build_with("FROM bb", &options("nope")).error();
    assert_eq!(error, "Cannot locate specified Dockerfile: nope");
    let error = engine.build_with("FROM bb", &options("../x")).error();
    assert_eq!(error, "forbidden path outside the build context: ../x ()");
}

/// Makes an archive of the directory `from` beside the context, moves it in.
fn archive(engine: &Engine, from: &Path, name: &str, flag: &str) {
    let done = std::process::Command::new("tar")
        .args(["-c", flag, "--xattrs", "-f"])
        .arg(engine.context().join(name))
        .arg("-C")
        .arg(from)
        .arg(".")
        .status();
    assert!(done.unwrap().success());
}

#[test]
fn add_unpacks_archives_whatever_they_are_called() {
    let Some(engine) = engine() else { return };
    let from = tempfile::Builder::new().prefix("seacow-add-").tempdir().unwrap();
    let long = "n".repeat(120);
    fs::create_dir_all(from.path().join("old")).unwrap();
    fs::write(from.path().join("old/f"), "packed").unwrap();
    fs::write(from.path().join(&long), "long").unwrap();
    fs::set_permissions(from.path().join("old"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(from.path().join("old/f"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(from.path().join("old/f"), from.path().join("old/hard")).unwrap();
    symlink("/old/f", from.path().join("link")).unwrap();
    std::os::unix::fs::chown(from.path().join("old/f"), Some(2_100_000), Some(9)).unwrap();
    for (name, flag) in [
        ("plain", "--format=gnu"),
        ("pax", "--format=pax"),
        ("gz", "-z"),
        ("bz.bin", "-j"),
        ("xz.txt", "-J"),
        ("zst", "--zstd"),
    ] {
        archive(&engine, from.path(), name, flag);
        let root = built(&engine, &format!("ADD {name} /d\nADD --chown=3 {name} /n/"));
        for dir in ["d", "n"] {
            // /d/old is a file of the image: the archive's directory takes its place.
            let file = fs::metadata(root.join(dir).join("old/f")).unwrap();
            assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (2_100_000, 9, 0o640), "{name}");
            assert_eq!(file.ino(), fs::metadata(root.join(dir).join("old/hard")).unwrap().ino(), "{name}");
            assert_eq!(fs::metadata(root.join(dir).join("old")).unwrap().mode() & 0o7777, 0o750, "{name}");
            assert_eq!(fs::read_link(root.join(dir).join("link")).unwrap(), Path::new("/old/f"), "{name}");
            assert_eq!(read(&root, &format!("{dir}/{long}")), "long", "{name}");
        }
        assert_eq!(read(&root, "d/sub/old"), "old");
        // COPY never unpacks.
        let root = built(&engine, &format!("COPY {name} /n/"));
        assert!(root.join("n").join(name).is_file());
    }
}

#[test]
fn add_copies_what_is_no_archive() {
    let Some(engine) = engine() else { return };
    put(&engine, "text.tar", "not a tar");
    put(&engine, "empty.tar.gz", "");
    put(&engine, "dir/f", "x");
    fs::write(engine.context().join("zeros"), [0; 2048]).unwrap();
    fs::write(engine.context().join("half.gz"), [0x1f, 0x8b, 8, 0, 1, 2, 3]).unwrap();
    let root = built(&engine, "ADD text.tar empty.tar.gz zeros half.gz /x/\nADD dir /y");
    for path in ["x/text.tar", "x/empty.tar.gz", "x/zeros", "x/half.gz", "y/f"] {
        assert!(root.join(path).is_file(), "{path}");
    }
}

#[test]
fn archives_stay_where_they_are_unpacked() {
    let Some(engine) = engine() else { return };
    let tar = |members: &[(&str, tar::EntryType, &str)]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, text) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            let data = if kind.is_file() { text.as_bytes() } else { b"" };
            header.set_size(data.len() as u64);
            // The builder refuses such names, a hostile archive does not.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            if !kind.is_file() {
                header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_cksum();
            builder.append(&header, data).unwrap();
        }
        fs::write(engine.context().join("a.tar"), builder.into_inner().unwrap()).unwrap();
    };
    use tar::EntryType;
    tar(&[("../../evil", EntryType::Regular, "x")]);
    let error = engine.build("FROM bb\nADD a.tar /d").error();
    assert!(error.contains("../../evil leads out of the archive"), "{error}");
    tar(&[("h", EntryType::Link, "../../etc/passwd")]);
    assert!(engine.build("FROM bb\nADD a.tar /d").error().contains("leads out of the archive"));

    let secret = engine.context().parent().unwrap().join("secret");
    fs::write(&secret, "host").unwrap();
    let host_dir = secret.parent().unwrap().to_str().unwrap().to_owned();
    tar(&[
        ("/abs", EntryType::Regular, "abs"),
        ("out", EntryType::Symlink, &host_dir),
        ("up", EntryType::Symlink, "../../../../../../.."),
        ("up/inside", EntryType::Regular, "in"),
    ]);
    let root = built(&engine, "ADD a.tar /d");
    assert_eq!((read(&root, "d/abs"), read(&root, "d/inside")), ("abs".into(), "in".into()));
    tar(&[("out", EntryType::Symlink, &host_dir), ("out/secret", EntryType::Regular, "overwritten")]);
    let root = built(&engine, "ADD a.tar /d");
    assert_eq!(read(&root, &format!("d{host_dir}/secret")), "overwritten");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "host");
}
