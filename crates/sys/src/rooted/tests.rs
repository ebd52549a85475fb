use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;

fn fixture() -> (tempfile::TempDir, Root) {
    let dir = tempfile::Builder::new().prefix("seacow-rooted-").tempdir().unwrap();
    std::fs::create_dir(dir.path().join("root")).unwrap();
    std::fs::write(dir.path().join("secret"), "host").unwrap();
    let root = Root::open(&dir.path().join("root")).unwrap();
    (dir, root)
}

fn p(text: &str) -> &Path {
    Path::new(text)
}

#[test]
fn links_and_dots_stay_inside() {
    let (dir, root) = fixture();
    symlink("/secret", dir.path().join("root/absolute")).unwrap();
    symlink("../../../../secret", dir.path().join("root/relative")).unwrap();
    symlink("/proc/self/root", dir.path().join("root/magic")).unwrap();
    for path in ["absolute", "relative", "../secret", "/../../secret", "magic"] {
        assert_eq!(root.read(p(path), 100).unwrap_err(), Errno::NOENT, "{path}");
    }
    std::fs::write(dir.path().join("root/secret"), "own").unwrap();
    for path in ["absolute", "relative", "../secret"] {
        assert_eq!(root.read(p(path), 100).unwrap(), b"own");
    }
    assert_eq!(root.read(p("secret"), 2).unwrap_err(), Errno::FBIG);
}

#[test]
fn mkdir_all_goes_through_links_but_not_out() {
    let (dir, root) = fixture();
    symlink("/a", dir.path().join("root/l")).unwrap();
    assert_eq!(root.mkdir_all(p("/l/b"), Mode::from(0o755)).unwrap_err(), Errno::NOENT);
    root.mkdir_all(p("/a/x/y"), Mode::from(0o755)).unwrap();
    root.mkdir_all(p("/l/b/c"), Mode::from(0o755)).unwrap();
    assert!(dir.path().join("root/a/b/c").is_dir());
    root.mkdir_all(p("../../up"), Mode::from(0o755)).unwrap();
    assert!(dir.path().join("root/up").is_dir() && !dir.path().join("up").exists());
}

#[test]
fn targets_of_links_are_made_below_the_root() {
    let (dir, root) = fixture();
    symlink("/var/../run", dir.path().join("root/abs")).unwrap();
    symlink("../../../abs/deep", dir.path().join("root/rel")).unwrap();
    symlink("loop", dir.path().join("root/loop")).unwrap();
    let mode = Mode::from(0o755);
    std::fs::create_dir(dir.path().join("root/var")).unwrap();
    root.mkdir_all_through_links(p("/rel/x"), mode).unwrap();
    assert!(dir.path().join("root/run/deep/x").is_dir());
    assert!(!dir.path().join("run").exists() && !dir.path().join("abs").exists());
    assert_eq!(root.mkdir_all_through_links(p("/loop/x"), mode).unwrap_err(), Errno::LOOP);
}

#[test]
fn an_entry_is_not_followed() {
    let (dir, root) = fixture();
    symlink(dir.path().join("secret"), dir.path().join("root/l")).unwrap();
    let entry = root.entry(p("/l")).unwrap();
    assert_eq!(entry.create(Mode::from(0o644)).unwrap_err(), Errno::LOOP);
    assert_eq!(entry.chmod(Mode::from(0o777)).unwrap_err(), Errno::OPNOTSUPP);
    assert_eq!(entry.readlink().unwrap(), dir.path().join("secret"));
    entry.unlink().unwrap();
    assert_eq!(entry.file_type().unwrap(), None);
    assert_eq!(std::fs::read(dir.path().join("secret")).unwrap(), b"host");
    assert_eq!(root.entry(p("/..")).unwrap().name(), ".");
}

#[test]
fn attributes_of_files() {
    let (dir, root) = fixture();
    let entry = root.entry(p("f")).unwrap();
    drop(entry.create_new(Mode::from(0o600)).unwrap());
    assert_eq!(entry.create_new(Mode::from(0o600)).unwrap_err(), Errno::EXIST);
    entry.chmod(Mode::from(0o4755)).unwrap();
    let meta = std::fs::metadata(dir.path().join("root/f")).unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o4755);
    let hard = root.entry(p("g")).unwrap();
    hard.link_from(&entry).unwrap();
    assert_eq!(hard.stat().unwrap().st_ino, meta.ino());
    match entry.set_xattr(OsStr::new("user.seacow"), b"v") {
        Err(Errno::OPNOTSUPP) => eprintln!("SKIP: no user xattrs on this file system"),
        done => {
            done.unwrap();
            assert_eq!(entry.xattr_names().unwrap(), ["user.seacow"]);
            assert_eq!(entry.xattr(OsStr::new("user.seacow")).unwrap().unwrap(), b"v");
            assert_eq!(entry.xattr(OsStr::new("user.nothing")).unwrap(), None);
        }
    }
    assert_eq!(Entry::in_dir(root.locate_dir(p("/")).unwrap(), OsStr::new("a/b")).unwrap_err(), Errno::INVAL);
}

#[test]
fn removes_deep_trees_and_leaves_link_targets() {
    let (dir, root) = fixture();
    let mut at = root.mkdir_all(p("deep"), Mode::from(0o755)).unwrap();
    for level in 0..500 {
        let entry = Entry::in_dir(at, OsStr::new("d")).unwrap();
        entry.mkdir(Mode::from(0o755)).unwrap();
        at = entry.open(OFlags::PATH, Mode::empty()).unwrap();
        if level % 100 == 0 {
            let dup = rustix::io::fcntl_dupfd_cloexec(&at, 3).unwrap();
            Entry::in_dir(dup, OsStr::new("out")).unwrap().symlink(dir.path()).unwrap();
        }
    }
    let entry = root.entry(p("deep")).unwrap();
    entry.remove_tree().unwrap();
    entry.remove_tree().unwrap();
    assert_eq!(list(root.as_fd()).unwrap(), []);
    assert!(dir.path().join("secret").exists());
}

#[test]
fn paths_longer_than_the_kernel_takes_at_once() {
    let (dir, root) = fixture();
    let name = "n".repeat(200);
    let mut at = root.mkdir_all(p("deep"), Mode::from(0o755)).unwrap();
    let mut path = PathBuf::from("/deep");
    for _ in 0..60 {
        let entry = Entry::in_dir(at, OsStr::new(&name)).unwrap();
        entry.mkdir(Mode::from(0o755)).unwrap();
        at = entry.open(OFlags::PATH, Mode::empty()).unwrap();
        path.push(&name);
    }
    let bottom = rustix::fs::fstat(&at).unwrap().st_ino;
    let open = |path: &Path| root.open_without_symlinks(path, OFlags::PATH, Mode::empty());
    assert_eq!(rustix::fs::fstat(open(&path).unwrap()).unwrap().st_ino, bottom);
    assert_eq!(open(&path.join("nothing")).unwrap_err(), Errno::NOENT);
    assert_eq!(open(&path.join("n".repeat(300))).unwrap_err(), Errno::NAMETOOLONG);
    assert_eq!(open(&path.join("..")).unwrap_err(), Errno::NAMETOOLONG);
    // Every piece is refused a symlink, wherever it leads.
    Entry::in_dir(at, OsStr::new("out")).unwrap().symlink(dir.path()).unwrap();
    assert_eq!(open(&path.join("out/secret")).unwrap_err(), Errno::LOOP);
    symlink(dir.path().join("root/deep"), dir.path().join("root/way")).unwrap();
    let by_link = p("/way").join(path.strip_prefix("/deep").unwrap());
    assert_eq!(open(&by_link).unwrap_err(), Errno::LOOP);
    root.entry(p("deep")).unwrap().remove_tree().unwrap();
}
