//! `docker cp` and `docker export`, on a stopped container's mounted root and on a plain tree.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use seacow_spec::{Classified, ErrorClass};
use seacow_store::archive::{ArchiveError, Bind, ContainerRoot, PutOptions};

use crate::common::{Tar, TestStore, image, is_root};

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("seacow-archive-").tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("srv/data/sub")).unwrap();
        std::fs::write(root.join("srv/data/f"), "content").unwrap();
        std::fs::hard_link(root.join("srv/data/f"), root.join("srv/data/g")).unwrap();
        std::os::unix::fs::symlink("/srv/data", root.join("link")).unwrap();
        std::os::unix::fs::symlink("/srv/data/f", root.join("flink")).unwrap();
        std::os::unix::fs::symlink("/nowhere/x", root.join("dangling")).unwrap();
        std::os::unix::fs::symlink("/", root.join("escape")).unwrap();
        Self(dir)
    }

    fn root(&self) -> ContainerRoot {
        ContainerRoot::of_directory(self.0.path()).unwrap()
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn get(&self, path: &str) -> Vec<String> {
        let mut out = Vec::new();
        self.root().get_tar(Path::new(path), &mut out).unwrap();
        list(&out)
    }

    fn put(&self, path: &str, tar: Tar) -> Result<(), ArchiveError> {
        self.root().put_tar(Path::new(path), &tar.bytes()[..], &PutOptions::default())
    }
}

fn list(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        match entry.link_name_bytes() {
            Some(target) => format!("{name} -> {}", String::from_utf8_lossy(&target)),
            None => name,
        }
    });
    entries.collect()
}

#[test]
fn stat_speaks_go() {
    let tree = Tree::new();
    let stat = |path: &str| tree.root().stat(Path::new(path)).unwrap();
    let dir = stat("/srv/data/");
    assert_eq!((dir.name.as_str(), dir.mode), ("data", 0x8000_0000 | 0o755));
    let file = stat("srv/data/f");
    assert_eq!((file.name.as_str(), file.mode, file.size), ("f", 0o644, 7));
    assert!(file.mtime.ends_with('Z') && file.link_target.is_empty());
    let link = stat("/link");
    assert_eq!((link.name.as_str(), link.mode >> 24, link.link_target.as_str()), ("link", 8, "/srv/data"));
    assert_eq!(stat("/link/").mode >> 24, 0x80);
    assert_eq!(stat("/escape").link_target, "/");
    assert_eq!(stat("/dangling").link_target, "/nowhere/x");
    assert_eq!((stat("/").name.as_str(), stat("/srv/.").name.as_str()), ("/", "."));
    let error = tree.root().stat(Path::new("/nosuch")).unwrap_err();
    assert_eq!(
        (error.class(), error.to_string().as_str()),
        (ErrorClass::NotFound, "Could not find the file /nosuch")
    );
}

#[test]
fn the_top_entry_is_called_what_was_asked_for() {
    let tree = Tree::new();
    assert_eq!(tree.get("/srv/data"), ["data/", "data/f", "data/g -> data/f", "data/sub/"]);
    assert_eq!(tree.get("/srv/data/."), ["./", "./f", "./g -> ./f", "./sub/"]);
    assert_eq!(tree.get("/link/"), ["link/", "link/f", "link/g -> link/f", "link/sub/"]);
    assert_eq!(tree.get("/link"), ["link -> /srv/data"]);
    assert_eq!(tree.get("/link/f"), ["f"]);
    assert_eq!(tree.get("/escape/srv/data/sub"), ["sub/"]);
    assert_eq!(tree.get("/../../srv/data/sub"), ["sub/"]);
    assert!(tree.get("/").contains(&"/srv/data/f".to_owned()));
    assert_eq!(tree.get("/")[0], "/");
    assert_eq!(tree.get("/flink/"), ["flink"]);
}

#[test]
fn nothing_outside_is_read() {
    let tree = Tree::new();
    std::os::unix::fs::symlink("../../../../../../etc/passwd", tree.path("up")).unwrap();
    let mut out = Vec::new();
    let error = tree.root().get_tar(Path::new("/up/"), &mut out).unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound);
    let error = tree.root().get_tar(Path::new("/escape/etc/passwd"), &mut out).unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound);
}

#[test]
fn put_unpacks_where_links_lead() {
    if !is_root("put_unpacks_where_links_lead") {
        return;
    }
    let tree = Tree::new();
    tree.put("/link", Tar::new().dir("new/", 0o700).file("new/x", "x").file("f", "replaced")).unwrap();
    assert_eq!(std::fs::read_to_string(tree.path("srv/data/new/x")).unwrap(), "x");
    assert_eq!(std::fs::read_to_string(tree.path("srv/data/f")).unwrap(), "replaced");
    assert_eq!(
        std::fs::read_to_string(tree.path("srv/data/g")).unwrap(),
        "content",
        "the link was not written through"
    );
    assert_eq!(std::fs::metadata(tree.path("srv/data/new")).unwrap().mtime(), 1_700_000_000);
    // Whiteouts are files here like any other.
    tree.put("/", Tar::new().file(".wh.srv", "w")).unwrap();
    assert_eq!(std::fs::read_to_string(tree.path(".wh.srv")).unwrap(), "w");
    assert!(tree.path("srv").is_dir());

    let error = tree.put("/nosuch", Tar::new()).unwrap_err();
    assert_eq!(error.class(), ErrorClass::NotFound);
    let error = tree.put("/srv/data/f", Tar::new()).unwrap_err();
    assert_eq!(error.to_string(), "extraction point is not a directory");
}

#[test]
fn put_stays_within_the_container() {
    if !is_root("put_stays_within_the_container") {
        return;
    }
    let tree = Tree::new();
    let outside = tempfile::tempdir().unwrap();
    let out = outside.path().to_str().unwrap();
    let error = tree.put("/srv", Tar::new().raw("../../evil", None, tar::EntryType::Regular)).unwrap_err();
    assert!(error.to_string().contains("leads out of the root"), "{error}");
    // An absolute link leads below the container's root, where there is no such directory.
    let planted = Tar::new().symlink("l", out).raw("l/evil", None, tar::EntryType::Regular);
    assert!(tree.put("/srv", planted).is_err());
    tree.put("/escape", Tar::new().file("top", "t")).unwrap();
    assert!(tree.path("top").exists());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn options_of_put() {
    if !is_root("options_of_put") {
        return;
    }
    let tree = Tree::new();
    let put = |tar: Tar, options: &PutOptions| {
        tree.root().put_tar(Path::new("/srv"), &tar.bytes()[..], options).map_err(|error| error.to_string())
    };
    let strict = PutOptions { no_overwrite_dir_non_dir: true, ..PutOptions::default() };
    assert_eq!(
        put(Tar::new().file("data", ""), &strict).unwrap_err(),
        "cannot overwrite directory \"/srv/data\" with non-directory \"data\""
    );
    assert_eq!(
        put(Tar::new().dir("data/f/", 0o755), &strict).unwrap_err(),
        "cannot overwrite non-directory \"/srv/data/f\" with directory \"data/f/\""
    );
    let owned = PutOptions { owner: Some((1000, 2000)), ..PutOptions::default() };
    put(Tar::new().dir("o/", 0o755).file("o/f", "").file("implied/f", ""), &owned).unwrap();
    for path in ["srv/o", "srv/o/f", "srv/implied", "srv/implied/f"] {
        let meta = std::fs::metadata(tree.path(path)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1000, 2000), "{path}");
    }
    put(Tar::new().file("data", "a file now"), &PutOptions::default()).unwrap();
    assert_eq!(std::fs::read_to_string(tree.path("srv/data")).unwrap(), "a file now");
}

#[test]
fn a_link_that_is_swapped_all_the_time_never_leads_out() {
    if !is_root("a_link_that_is_swapped_all_the_time_never_leads_out") {
        return;
    }
    let tree = Tree::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("f"), "outside").unwrap();
    std::fs::create_dir(tree.path("a")).unwrap();
    std::os::unix::fs::symlink(outside.path(), tree.path("b")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let (a, b) = (tree.path("a"), tree.path("b"));
                rustix::fs::renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags).unwrap();
            }
        });
        for _ in 0..2000 {
            let _ = tree.put("/a", Tar::new().file("f", "evil"));
            let mut out = Vec::new();
            let _ = tree.root().get_tar(Path::new("/a/f"), &mut out);
            assert!(!out.windows(7).any(|window| window == b"outside"));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(std::fs::read_to_string(outside.path().join("f")).unwrap(), "outside");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn a_stopped_container_is_looked_into_without_a_trace() {
    if !is_root("a_stopped_container_is_looked_into_without_a_trace") {
        return;
    }
    let store = TestStore::new();
    let image =
        image(&store, "bb", &Tar::new().dir("data/", 0o755).file("data/f", "image").file("x", "x").bytes());
    let key = "seacow-stopped".parse().unwrap();
    let rootfs = store.snapshots().prepare(&key, image.chain.as_ref(), &Default::default()).unwrap();
    let volume = store.volumes().create("seacow-vol", Default::default(), false).unwrap();
    std::fs::write(volume.path.join("v"), "volume").unwrap();
    let file = store.dir.path().join("file");
    std::fs::write(&file, "bound").unwrap();
    let bind = |source: &Path, destination: &str, read_only| Bind {
        source: source.to_owned(),
        destination: destination.into(),
        read_only,
    };
    let binds =
        [bind(&volume.path, "/data", false), bind(&file, "/etc/hosts", true), bind(&file, "/new/file", true)];
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let (got, exported, refused) = store
        .with_mounted(&rootfs, &binds, |root| {
            let (mut got, mut exported) = (Vec::new(), Vec::new());
            root.get_tar(Path::new("/data"), &mut got).unwrap();
            root.put_tar(
                Path::new("/data"),
                &Tar::new().file("put", "p").bytes()[..],
                &PutOptions::default(),
            )
            .unwrap();
            let onto = Tar::new().file("file", "evil").bytes();
            let refused = root.put_tar(Path::new("/new"), &onto[..], &PutOptions::default());
            root.export(&mut exported).unwrap();
            (got, exported, refused)
        })
        .unwrap();
    assert_eq!(list(&got), ["data/", "data/v"]);
    assert_eq!(std::fs::read_to_string(volume.path.join("put")).unwrap(), "p");
    assert!(refused.is_err(), "a mount point cannot be replaced");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "bound");
    // The volume's files are not the container's.
    let expected = [
        ".dockerenv",
        "data/",
        "dev/",
        "etc/",
        "etc/hostname",
        "etc/hosts",
        "etc/resolv.conf",
        "new/",
        "new/file",
        "proc/",
        "sys/",
        "x",
    ];
    assert_eq!(list(&exported), expected);
    assert_eq!(before, mounts(), "nothing of it was seen outside");
}

#[test]
fn an_export_of_a_running_root_leaves_mounts_out() {
    if !is_root("an_export_of_a_running_root_leaves_mounts_out") {
        return;
    }
    // This very process is a running one.
    let pid = i32::try_from(std::process::id()).unwrap();
    let root = ContainerRoot::of_process(pid).unwrap();
    assert_eq!(root.stat(Path::new("/etc/passwd")).unwrap().name, "passwd");
    let mut out = Vec::new();
    root.get_tar(Path::new("/etc/passwd"), &mut out).unwrap();
    assert_eq!(list(&out), ["passwd"]);
    assert!(ContainerRoot::of_process(i32::MAX).is_err());
}
