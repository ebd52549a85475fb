//! Tar to layer to the same tar; what is on the disk in between; commits of upper directories.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use seacow_spec::{ChainId, Digest};
use seacow_store::{Layer, LayerError, Store, UpperMode, digest};

use crate::common::{Tar, TestStore, is_root};

fn apply(store: &Store, parent: Option<&ChainId>, tar: &[u8]) -> Layer {
    store.layers().begin(parent).unwrap().apply_tar(tar).unwrap().commit(None).unwrap()
}

fn export(store: &Store, layer: &Layer) -> Vec<u8> {
    let mut out = Vec::new();
    store.layers().export(layer.chain_id(), &mut out).unwrap();
    out
}

fn fs(store: &TestStore, layer: &Layer) -> PathBuf {
    store.data().join("layers").join(layer.chain_id().hex()).join("fs")
}

/// The layer is the tar's digest, and gives the tar back byte by byte.
fn round_trip(store: &TestStore, tar: &[u8]) -> Layer {
    let layer = apply(store, None, tar);
    assert_eq!(*layer.diff_id(), digest(tar));
    assert_eq!(layer.info().tar_size, tar.len() as u64);
    assert!(export(store, &layer) == tar, "the exported tar differs");
    layer
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 1024];
    let len = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(len);
    Some(value)
}

#[test]
fn every_type_of_entry_is_unpacked_as_it_was() {
    if !is_root("every_type_of_entry_is_unpacked_as_it_was") {
        return;
    }
    let store = TestStore::new();
    let mut tar = Tar::new()
        .dir("etc/", 0o751)
        .file("etc/passwd", "root:x:0:0")
        .hard_link("etc/passwd2", "etc/passwd")
        .symlink("etc/link", "../../../../outside")
        .symlink("abs", "/etc/passwd")
        .node(tar::EntryType::Char, "null", 1, 3)
        .node(tar::EntryType::Block, "loop7", 7, 7)
        .node(tar::EntryType::Fifo, "pipe", 0, 0);
    let mut header = Tar::header(tar::EntryType::Regular, 0o6755, 3);
    header.set_uid(1234);
    header.set_gid(5678);
    header.set_mtime(1_234_567_890);
    tar.0.append_data(&mut header, "suid", &b"abc"[..]).unwrap();
    let long = format!("{}/{}", "d".repeat(200), "n".repeat(255));
    tar = tar.file(&long, "long").dir("etc/", 0o711);
    let layer = round_trip(&store, &tar.bytes());
    let root = fs(&store, &layer);

    let meta = |path: &str| std::fs::symlink_metadata(root.join(path)).unwrap();
    assert_eq!(meta("etc").mode() & 0o7777, 0o711);
    assert_eq!(meta("etc").mtime(), 1_700_000_000);
    assert_eq!(meta("etc/passwd").ino(), meta("etc/passwd2").ino());
    assert_eq!(std::fs::read_link(root.join("etc/link")).unwrap(), Path::new("../../../../outside"));
    let (null, block) = (meta("null"), meta("loop7"));
    assert!(null.file_type().is_char_device() && block.file_type().is_block_device());
    assert_eq!((rustix::fs::major(null.rdev()), rustix::fs::minor(null.rdev())), (1, 3));
    assert_eq!(null.mode() & 0o7777, 0o640);
    assert!(meta("pipe").file_type().is_fifo());
    let suid = meta("suid");
    assert_eq!(
        (suid.mode() & 0o7777, suid.uid(), suid.gid(), suid.mtime()),
        (0o6755, 1234, 5678, 1_234_567_890)
    );
    assert_eq!(std::fs::read(root.join(long)).unwrap(), b"long");
    assert_eq!(layer.info().size, 10 + 3 + 4);
}

#[test]
fn packed_streams_are_the_same_layer() {
    if !is_root("packed_streams_are_the_same_layer") {
        return;
    }
    let store = TestStore::new();
    let tar = Tar::new().file("a", vec![b'x'; 300_000]).bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let plain = apply(&store, None, &tar);
    let gzip = apply(&store, None, &gzip.finish().unwrap());
    let zstd = apply(&store, None, &zstd::encode_all(&tar[..], 3).unwrap());
    assert_eq!(plain.chain_id(), gzip.chain_id());
    assert_eq!(plain.chain_id(), zstd.chain_id());
    assert_eq!(store.names("layers").len(), 1);
    assert_eq!(store.names("drafts").len(), 0);
}

#[test]
fn pax_xattrs_large_ids_and_fractions_of_seconds() {
    if !is_root("pax_xattrs_large_ids_and_fractions_of_seconds") {
        return;
    }
    let store = TestStore::new();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append_pax_extensions([
            ("SCHILY.xattr.security.capability", &capability[..]),
            ("SCHILY.xattr.user.note", b"a=b\nc"),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("uid", b"4294967294"),
            ("gid", b"3000000000"),
            ("mtime", b"-1.5"),
            ("path", "ünï".as_bytes()),
        ])
        .unwrap();
    let mut header = Tar::header(tar::EntryType::Regular, 0o755, 1);
    header.set_path("ascii").unwrap();
    header.set_cksum();
    builder.append(&header, &b"x"[..]).unwrap();
    let layer = round_trip(&store, &builder.into_inner().unwrap());
    let path = fs(&store, &layer).join("ünï");
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (4_294_967_294, 3_000_000_000));
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-2, 500_000_000));
    assert_eq!(xattr(&path, "security.capability").unwrap(), capability);
    assert_eq!(xattr(&path, "user.note").unwrap(), b"a=b\nc");
    assert_eq!(xattr(&path, "trusted.overlay.redirect"), None);
}

#[test]
fn whiteouts_become_overlayfs_s() {
    if !is_root("whiteouts_become_overlayfs_s") {
        return;
    }
    let store = TestStore::new();
    let below = apply(&store, None, &Tar::new().dir("d/", 0o755).file("d/a", "").file("f", "").bytes());
    let tar = Tar::new()
        .file("d/.wh..wh..opq", "")
        .file("d/new", "n")
        .file(".wh.f", "content that nobody reads")
        .file(".wh..wh.plnk", "")
        // Deleted below, new here: in both orders.
        .file(".wh.both", "")
        .file("both", "b")
        .file("both2", "b")
        .file(".wh.both2", "")
        .file(".wh.dir", "")
        .dir("dir/", 0o700)
        .bytes();
    let layer = apply(&store, Some(below.chain_id()), &tar);
    assert!(export(&store, &layer) == tar);
    let root = fs(&store, &layer);
    let is_whiteout = |path: &str| {
        let meta = std::fs::symlink_metadata(root.join(path)).unwrap();
        meta.file_type().is_char_device() && meta.rdev() == 0
    };
    assert!(is_whiteout("f") && !is_whiteout("both") && !is_whiteout("both2"));
    assert_eq!(xattr(&root.join("d"), "trusted.overlay.opaque").unwrap(), b"y");
    assert_eq!(xattr(&root.join("dir"), "trusted.overlay.opaque").unwrap(), b"y");
    assert!(!root.join(".wh..wh.plnk").exists());
}

#[test]
fn an_opaque_root_hides_every_name_below() {
    if !is_root("an_opaque_root_hides_every_name_below") {
        return;
    }
    let store = TestStore::new();
    let below = apply(&store, None, &Tar::new().file("a", "").dir("d/", 0o755).file("d/x", "").bytes());
    let tar = Tar::new().file(".wh..wh..opq", "").dir("d/", 0o755).file("b", "b").bytes();
    let layer = apply(&store, Some(below.chain_id()), &tar);
    let key = "seacow-opaque".parse().unwrap();
    let rootfs = store.snapshots().prepare(&key, Some(layer.chain_id()), &Default::default()).unwrap();
    store.in_mounted(&rootfs, &|root| {
        assert!(!root.join("a").exists() && root.join("b").exists());
        assert!(root.join("d").exists() && !root.join("d/x").exists());
    });
}

#[test]
fn what_a_tar_itself_replaces_is_still_given_back() {
    if !is_root("what_a_tar_itself_replaces_is_still_given_back") {
        return;
    }
    let store = TestStore::new();
    let tar = Tar::new()
        .file("f", "first")
        .file("f", "second, longer")
        .dir("d/", 0o755)
        .file("d/x", "in the directory")
        .file("d", "now a file")
        .symlink("l", "real")
        .dir("real/", 0o755)
        .file("l/through", "a link within the layer")
        .file("real/through", "again")
        .dir("l/", 0o755)
        .file("l/own", "own")
        .hard_link("h", "f")
        .file("f", "third")
        .bytes();
    let layer = round_trip(&store, &tar);
    let root = fs(&store, &layer);
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    assert_eq!(read("f"), "third");
    assert_eq!(read("h"), "second, longer");
    assert_eq!(read("d"), "now a file");
    assert_eq!(read("real/through"), "again");
    assert_eq!(read("l/own"), "own");
}

#[test]
fn implied_directories_look_like_those_below() {
    if !is_root("implied_directories_look_like_those_below") {
        return;
    }
    let store = TestStore::new();
    let below = apply(&store, None, &Tar::new().dir("./", 0o711).dir("secret/", 0o700).bytes());
    let layer = apply(&store, Some(below.chain_id()), &Tar::new().file("secret/new/f", "").bytes());
    let root = fs(&store, &layer);
    let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("."), mode("secret"), mode("secret/new")), (0o711, 0o700, 0o755));
    assert_eq!(std::fs::metadata(root.join("secret")).unwrap().mtime(), 1_700_000_000);
}

#[test]
fn gnu_tar_s_dialects_with_sparse_files_and_long_names() {
    if !is_root("gnu_tar_s_dialects_with_sparse_files_and_long_names") {
        return;
    }
    let store = TestStore::new();
    let dir = tempfile::tempdir().unwrap();
    let src = dir.path().join("src");
    std::fs::create_dir(&src).unwrap();
    let long = "l".repeat(250);
    std::fs::write(src.join(&long), "long").unwrap();
    std::os::unix::fs::symlink(&long, src.join("link")).unwrap();
    let sparse = std::fs::File::create(src.join("sparse")).unwrap();
    for at in 0..9u64 {
        // More pieces than one header of the old dialect describes.
        std::os::unix::fs::FileExt::write_at(&sparse, &[7; 4096], at << 16).unwrap();
    }
    sparse.set_len(4 << 20).unwrap();
    for args in [
        &["--format=gnu", "-S"][..],
        &["--format=pax", "-S", "--sparse-version=0.0"],
        &["--format=pax", "-S", "--sparse-version=0.1"],
        &["--format=pax", "-S", "--sparse-version=1.0"],
        &["--format=gnu"],
        &["--format=pax", "--xattrs"],
        &["--format=v7", "--exclude=l*"],
        &["--format=oldgnu", "--blocking-factor=1"],
    ] {
        let made =
            Command::new("tar").args(args).arg("-C").arg(&src).args(["-cf", "-", "."]).output().unwrap();
        assert!(made.status.success(), "{args:?}: {}", String::from_utf8_lossy(&made.stderr));
        let layer = round_trip(&store, &made.stdout);
        let path = fs(&store, &layer).join("sparse");
        assert!(std::fs::read(&path).unwrap() == std::fs::read(src.join("sparse")).unwrap(), "{args:?}");
        if args.contains(&"-S") {
            assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 1 << 17, "{args:?}");
            assert!(made.stdout.len() < 1 << 17);
        }
    }
}

/// Everything `docker commit` must bring: then the layer, saved and unpacked elsewhere, is the same.
fn change(root: &Path) {
    let root = |path: &str| root.join(path);
    std::fs::write(root("new"), "new").unwrap();
    std::fs::hard_link(root("new"), root("new2")).unwrap();
    std::fs::write(root("f"), "changed").unwrap();
    std::fs::set_permissions(root("f"), std::fs::Permissions::from_mode(0o4711)).unwrap();
    std::os::unix::fs::lchown(root("f"), Some(3_000_000), Some(7)).unwrap();
    std::fs::set_permissions(root("f"), std::fs::Permissions::from_mode(0o4711)).unwrap();
    std::fs::remove_file(root("gone")).unwrap();
    std::fs::remove_dir_all(root("d")).unwrap();
    std::fs::create_dir(root("d")).unwrap();
    std::fs::write(root("d/y"), "y").unwrap();
    std::os::unix::fs::symlink("x".repeat(150), root("link")).unwrap();
    std::fs::write(root("ünicode"), "u").unwrap();
    std::fs::write(root(&"n".repeat(255)), "long").unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, root("pipe"), fifo, mode, 0).unwrap();
    let char_device = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, root("null"), char_device, mode, rustix::fs::makedev(1, 3)).unwrap();
    rustix::fs::setxattr(root("new"), "user.k", b"v", rustix::fs::XattrFlags::empty()).unwrap();
    std::os::unix::net::UnixListener::bind(root("socket")).unwrap();
}

fn listing(tar: &[u8], program: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    std::fs::write(&path, tar).unwrap();
    let listed = Command::new(program).args(["-tf"]).arg(&path).env("LC_ALL", "C.UTF-8").output().unwrap();
    assert!(listed.status.success(), "{program}: {}", String::from_utf8_lossy(&listed.stderr));
    assert!(listed.stderr.is_empty(), "{program}: {}", String::from_utf8_lossy(&listed.stderr));
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn an_upper_directory_becomes_a_layer_in_docker_s_dialect() {
    if !is_root("an_upper_directory_becomes_a_layer_in_docker_s_dialect") {
        return;
    }
    let store = TestStore::new();
    let tar = Tar::new().file("f", "f").file("gone", "g").dir("d/", 0o755).file("d/x", "x").bytes();
    let base = apply(&store, None, &tar);
    let prepare = |name: &str| {
        let key = name.parse().unwrap();
        let rootfs = store.snapshots().prepare(&key, Some(base.chain_id()), &Default::default()).unwrap();
        store.in_mounted(&rootfs, &change);
        key
    };
    let copied = prepare("seacow-copied");
    let layer = store.snapshots().commit(&copied, UpperMode::Copy).unwrap();
    let moved = store.snapshots().commit(&copied, UpperMode::Move).unwrap();
    assert_eq!(moved.chain_id(), layer.chain_id(), "moved and copied are the same layer");

    let out = export(&store, &layer);
    assert_eq!(digest(&out), *layer.diff_id());
    let long = "n".repeat(255);
    let mut expected = vec![
        ".wh.gone",
        "d/",
        "d/.wh..wh..opq",
        "d/y",
        "f",
        "link",
        "new",
        "new2",
        &long,
        "null",
        "pipe",
        "ünicode",
    ];
    expected.sort_unstable_by_key(|name| name.trim_start_matches(".wh.").to_owned());
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable_by_key(|name| name.trim_start_matches(".wh.").to_owned());
        names
    };
    assert_eq!(sorted(listing(&out, "tar")), expected);
    // Nothing but ustar with PAX, and no names of users.
    assert_eq!(&out[257..265], b"ustar\x0000");

    // The same tar unpacked in another store is the same layer, and looks the same in a container.
    let other = TestStore::new();
    let base2 = apply(&other, None, &tar);
    let layer2 = apply(&other, Some(base2.chain_id()), &out);
    assert_eq!(layer2.chain_id(), layer.chain_id());
    assert_eq!(layer2.info().size, layer.info().size);
    let (a, b) = (look(&fs(&store, &layer)), look(&fs(&other, &layer2)));
    assert_eq!(a, b);
    assert!(a.iter().any(|line| line.starts_with("f 104711 3000000:7 ")), "{a:#?}");
}

/// Everything but times finer than seconds, when something was removed, and sockets.
fn look(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            if meta.is_dir() {
                dirs.push(path.clone());
            }
            if meta.file_type().is_socket() {
                continue;
            }
            let size = if meta.is_file() { meta.len() } else { 0 };
            let content = if meta.is_file() {
                digest(&std::fs::read(&path).unwrap()).to_string()
            } else {
                String::new()
            };
            let is_whiteout = meta.file_type().is_char_device() && meta.rdev() == 0;
            let changed = if is_whiteout { 0 } else { meta.mtime() };
            let links = if meta.is_dir() { 0 } else { meta.nlink() };
            lines.push(format!(
                "{} {:o} {}:{} {} {size} {} {content} {} {:?} {:?}",
                path.strip_prefix(root).unwrap().display(),
                meta.mode(),
                meta.uid(),
                meta.gid(),
                meta.rdev(),
                changed,
                links,
                std::fs::read_link(&path).ok(),
                (xattr(&path, "user.k"), xattr(&path, "trusted.overlay.opaque")),
            ));
        }
    }
    lines.sort();
    lines
}

#[test]
fn the_wrong_digest_leaves_nothing() {
    if !is_root("the_wrong_digest_leaves_nothing") {
        return;
    }
    let store = TestStore::new();
    let expected: Digest = digest(b"something else");
    let unpacked =
        store.layers().begin(None).unwrap().apply_tar(&Tar::new().file("a", "").bytes()[..]).unwrap();
    let error = unpacked.commit(Some(&expected)).unwrap_err();
    assert!(matches!(error, LayerError::DigestMismatch { .. }), "{error}");
    assert!(store.names("layers").is_empty() && store.names("drafts").is_empty());
    assert!(store.names("trash").is_empty());
}

#[test]
fn a_damaged_layer_is_not_given_out_as_sound() {
    if !is_root("a_damaged_layer_is_not_given_out_as_sound") {
        return;
    }
    let store = TestStore::new();
    let layer = apply(&store, None, &Tar::new().file("a", "good").file("b", "b").bytes());
    std::fs::write(fs(&store, &layer).join("a"), "evil").unwrap();
    let error = store.layers().export(layer.chain_id(), &mut Vec::new()).unwrap_err();
    assert!(matches!(error, LayerError::Damaged { .. }), "{error}");
    std::fs::write(fs(&store, &layer).join("a"), "e").unwrap();
    let error = store.layers().export(layer.chain_id(), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("too short"), "{error}");
}

#[test]
fn layers_go_when_nobody_needs_them() {
    if !is_root("layers_go_when_nobody_needs_them") {
        return;
    }
    let mut store = TestStore::new();
    let one = apply(&store, None, &Tar::new().file("a", "").bytes());
    let two = apply(&store, Some(one.chain_id()), &Tar::new().file("b", "").bytes());
    assert!(store.layers().remove_unused().unwrap().is_empty(), "the handles keep them");
    let (first, second) = (one.chain_id().clone(), two.chain_id().clone());
    drop(one);
    assert!(store.layers().remove_unused().unwrap().is_empty(), "the upper keeps the lower");
    drop(two);
    assert_eq!(store.layers().remove_unused().unwrap(), [second, first.clone()]);
    assert!(store.names("layers").is_empty());

    // A snapshot keeps its layers, over a restart too.
    let key = "seacow-keeper".parse().unwrap();
    drop(apply(&store, None, &Tar::new().file("a", "").bytes()));
    store.snapshots().prepare(&key, Some(&first), &Default::default()).unwrap();
    store.open();
    assert!(store.layers().get(&first).is_some());
    store.snapshots().remove(&key).unwrap();
    store.open();
    assert!(store.layers().get(&first).is_none());
    assert!(store.names("layers").is_empty());
}

#[test]
fn a_stack_has_its_limit() {
    if !is_root("a_stack_has_its_limit") {
        return;
    }
    let store = TestStore::new();
    let mut top: Option<Layer> = None;
    let error = loop {
        let parent = top.as_ref().map(|layer| layer.chain_id().clone());
        match store.layers().begin(parent.as_ref()) {
            Ok(draft) => {
                let tar = Tar::new().file("a", store.layers().list().len().to_string()).bytes();
                top = Some(draft.apply_tar(&tar[..]).unwrap().commit(None).unwrap());
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error.to_string(), "max depth exceeded: an image has at most 127 layers");
    // The deepest stack can be mounted.
    let key = "seacow-deep".parse().unwrap();
    let top = top.unwrap();
    let rootfs = store.snapshots().prepare(&key, Some(top.chain_id()), &Default::default()).unwrap();
    store.in_mounted(&rootfs, &|root| assert_eq!(std::fs::read_to_string(root.join("a")).unwrap(), "126"));
}

/// `cargo test -p seacow-store --release -- --ignored a_whole_distribution`: this machine's own
/// programs and settings there and back.
#[test]
#[ignore = "slow by nature: some gigabytes"]
fn a_whole_distribution() {
    if !is_root("a_whole_distribution") {
        return;
    }
    let store = TestStore::new();
    let path = store.dir.path().join("system.tar");
    let status = Command::new("tar")
        .args(["--xattrs", "--warning=no-file-changed", "-C", "/", "-cf"])
        .arg(&path)
        .args(["usr", "etc", "var/lib/dpkg", "bin", "sbin", "lib"])
        .status()
        .unwrap();
    assert!(status.code().is_some_and(|code| code < 2));
    let began = std::time::Instant::now();
    let unpacked =
        store.layers().begin(None).unwrap().apply_tar(std::fs::File::open(&path).unwrap()).unwrap();
    let applied = began.elapsed();
    let layer = unpacked.commit(None).unwrap();
    let committed = began.elapsed();
    store.layers().export(layer.chain_id(), &mut std::io::sink()).unwrap();
    let recipe = fs(&store, &layer).parent().unwrap().join("recipe");
    println!(
        "{} MB: unpacked in {applied:?}, on the disk in {committed:?}, given back in {:?}; recipe {} kB",
        layer.info().tar_size / 1_000_000,
        began.elapsed() - committed,
        std::fs::metadata(recipe).unwrap().len() / 1000
    );
    let compared =
        Command::new("tar").arg("-C").arg(fs(&store, &layer)).arg("--compare").arg("-f").arg(&path).output();
    let compared = compared.unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
}
