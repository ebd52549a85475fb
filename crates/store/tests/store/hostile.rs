//! Archives that mean harm. Each is refused with the entry's name, and nothing is left of it.

use std::io::{Read, Write};

use seacow_spec::{Classified, ErrorClass};
use seacow_store::{LayerError, Limits, Store};

use crate::common::{Tar, TestStore, is_root};

fn refuse(store: &TestStore, tar: &[u8]) -> LayerError {
    let error = store.layers().begin(None).unwrap().apply_tar(tar).unwrap_err();
    assert!(store.names("drafts").is_empty() && store.names("layers").is_empty());
    error
}

#[test]
fn names_that_climb_out() {
    if !is_root("names_that_climb_out") {
        return;
    }
    let store = TestStore::new();
    for name in ["../evil", "a/../../evil", "/../evil", "..", "./../.wh.evil"] {
        let error = refuse(&store, &Tar::new().raw(name, None, tar::EntryType::Regular).bytes());
        assert!(error.to_string().contains("leads out of the root"), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(error.class(), ErrorClass::InvalidArgument);
    }
    for target in ["../../etc/shadow", "/../etc/shadow", "..", ""] {
        let error = refuse(&store, &Tar::new().raw("link", Some(target), tar::EntryType::Link).bytes());
        assert!(error.to_string().contains("link"), "{error}");
        assert_eq!(error.class(), ErrorClass::InvalidArgument);
    }
    for name in [".wh...", ".wh..", ".wh."] {
        let error = refuse(&store, &Tar::new().raw(name, None, tar::EntryType::Regular).bytes());
        assert!(error.to_string().contains("hides no name"), "{error}");
    }
}

#[test]
fn links_planted_to_write_elsewhere() {
    if !is_root("links_planted_to_write_elsewhere") {
        return;
    }
    let store = TestStore::new();
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "safe").unwrap();
    let out = outside.path().to_str().unwrap();
    let deep = format!("{}{}", "../".repeat(40), &out[1..]);
    for tar in [
        // Through a symlink to a directory, absolute and relative.
        Tar::new().symlink("l", out).raw("l/victim", None, tar::EntryType::Regular),
        Tar::new().symlink("l", &deep).raw("l/victim", None, tar::EntryType::Regular),
        // Onto a symlink to the file itself.
        Tar::new().symlink("v", &format!("{out}/victim")).raw("v", None, tar::EntryType::Regular),
        // A hard link through a symlink.
        Tar::new().symlink("l", out).hard_link("h", "l/victim").file("h", "evil"),
        // A whiteout, an opaque mark, a directory's attributes through a symlink.
        Tar::new().symlink("l", out).raw("l/.wh.victim", None, tar::EntryType::Regular),
        Tar::new().symlink("l", out).raw("l/.wh..wh..opq", None, tar::EntryType::Regular),
        Tar::new().symlink("l", out).raw("l/", None, tar::EntryType::Directory).file("l/victim", "evil"),
        // A device and a fifo through a symlink.
        Tar::new().symlink("l", out).raw("l/fifo", None, tar::EntryType::Fifo),
    ] {
        // Refused or kept within the layer, as the case may be; the victim never changes.
        if let Ok(unpacked) = store.layers().begin(None).unwrap().apply_tar(&tar.bytes()[..]) {
            drop(unpacked.commit(None).unwrap());
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "safe");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}

#[test]
fn nonsense_headers() {
    if !is_root("nonsense_headers") {
        return;
    }
    let store = TestStore::new();
    let good = Tar::new().file("dir/file", "content").bytes();
    for (what, break_it) in [
        ("checksum", (|tar: &mut Vec<u8>| tar[0] ^= 1) as fn(&mut Vec<u8>)),
        ("ends in the middle", |tar| tar.truncate(700)),
        ("ends in the middle", |tar| tar.truncate(514)),
        ("type", |tar| set(tar, 156, b"Z")),
        ("not taken", |tar| set(tar, 156, b"M")),
        ("size is no number", |tar| set(tar, 124, b"zz")),
        ("size is no number", |tar| set(tar, 124, &[0xff; 12])),
        ("the limit of", |tar| {
            set(tar, 124, &[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])
        }),
        ("owner", |tar| set(tar, 108, &[0xff; 8])),
        ("zero block", |tar| {
            let block = tar[..512].to_vec();
            tar.splice(..0, [vec![0; 512], block].concat());
        }),
    ] {
        let mut tar = good.clone();
        break_it(&mut tar);
        let error = refuse(&store, &tar);
        assert!(error.to_string().contains(what), "{what}: {error}");
        assert_eq!(error.class(), ErrorClass::InvalidArgument, "{error}");
    }
    let error = refuse(&store, &zstd::encode_all(&good[..], 1).unwrap()[..40]);
    assert!(error.to_string().contains("read the archive") || error.to_string().contains("ends"), "{error}");
}

fn set(tar: &mut [u8], at: usize, bytes: &[u8]) {
    tar[at..at + bytes.len()].copy_from_slice(bytes);
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|b| u32::from(*b)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn extended_headers_without_end() {
    if !is_root("extended_headers_without_end") {
        return;
    }
    let store = TestStore::new();
    for kind in [tar::EntryType::XHeader, tar::EntryType::GNULongName, tar::EntryType::XGlobalHeader] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Tar::header(kind, 0o644, 2 << 20);
        header.set_cksum();
        builder.append(&header, &vec![b'a'; 2 << 20][..]).unwrap();
        let error = refuse(&store, &builder.into_inner().unwrap());
        assert!(error.to_string().contains("bytes of extended headers"), "{error}");
    }
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("path", &vec![b'a'; 5000][..])]).unwrap();
    let mut header = Tar::header(tar::EntryType::Regular, 0o644, 0);
    header.set_cksum();
    builder.append(&header, std::io::empty()).unwrap();
    let error = refuse(&store, &builder.into_inner().unwrap());
    assert_eq!(error.class(), ErrorClass::InvalidArgument, "{error}");
    // A name of 256 bytes, one more than file systems have.
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_pax_extensions([("path", &[b'a'; 256][..])]).unwrap();
    builder.append(&header, std::io::empty()).unwrap();
    let error = refuse(&store, &builder.into_inner().unwrap());
    assert!(error.to_string().contains("File name too long"), "{error}");
}

fn bounded(store: &TestStore, limits: Limits) -> Store {
    let mut options = store.options();
    options.data_root = store.dir.path().join("bounded");
    options.limits = limits;
    Store::open(options).unwrap()
}

#[test]
fn bombs_end_at_the_limit() {
    if !is_root("bombs_end_at_the_limit") {
        return;
    }
    let store = TestStore::new();
    let small = bounded(&store, Limits { max_bytes: 8 << 20, max_entries: 100, ..Limits::default() });
    // A gigabyte of zeros in a megabyte.
    let mut header = Tar::header(tar::EntryType::Regular, 0o644, 1 << 30);
    header.set_path("bomb").unwrap();
    header.set_cksum();
    let stream = (&header.as_bytes()[..]).chain(std::io::repeat(0).take(1 << 30));
    let mut packed = zstd::Encoder::new(Vec::new(), 1).unwrap();
    std::io::copy(&mut { stream }, &mut packed).unwrap();
    let packed = packed.finish().unwrap();
    assert!(packed.len() < 1 << 20);
    let error = small.layers().begin(None).unwrap().apply_tar(&packed[..]).unwrap_err();
    assert_eq!(error.to_string(), "archive entry \"bomb\": the archive exceeds the limit of 8388608 bytes");
    // Too many entries.
    let mut tar = Tar::new();
    for n in 0..101 {
        tar = tar.file(&format!("f{n}"), "");
    }
    let error = small.layers().begin(None).unwrap().apply_tar(&tar.bytes()[..]).unwrap_err();
    assert!(error.to_string().contains("limit of 100 entries"), "{error}");
    // Zeros after the end.
    let tail = Tar::new().file("a", "").bytes();
    let endless = (&tail[..]).chain(std::io::repeat(0));
    let error = small.layers().begin(None).unwrap().apply_tar(endless).unwrap_err();
    assert!(error.to_string().contains("bytes after its end"), "{error}");
    // A sparse file of many terabytes.
    let mut sparse = tempfile::NamedTempFile::new().unwrap();
    sparse.write_all(b"x").unwrap();
    sparse.as_file().set_len(1 << 42).unwrap();
    let (dir, name) = (sparse.path().parent().unwrap(), sparse.path().file_name().unwrap());
    let made =
        std::process::Command::new("tar").arg("-C").arg(dir).args(["-Scf", "-"]).arg(name).output().unwrap();
    let error = small.layers().begin(None).unwrap().apply_tar(&made.stdout[..]).unwrap_err();
    assert!(error.to_string().contains("no space left"), "{error}");
}

#[test]
fn a_full_disk_is_left_with_its_reserve() {
    if !is_root("a_full_disk_is_left_with_its_reserve") {
        return;
    }
    let store = TestStore::new();
    let full = bounded(&store, Limits { reserve: u64::MAX, ..Limits::default() });
    let tar = Tar::new().file("large", vec![1; 20 << 20]).bytes();
    let error = full.layers().begin(None).unwrap().apply_tar(&tar[..]).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable, "{error}");
    assert!(error.to_string().contains("\"large\": no space left"), "{error}");
}

/// Numbers that are always the same (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Thousands of broken archives: none panics, none leaves anything, and what is taken can be given
/// back byte by byte.
#[test]
fn mutated_archives() {
    if !is_root("mutated_archives") {
        return;
    }
    let store = TestStore::new();
    let small = bounded(&store, Limits { max_bytes: 4 << 20, max_entries: 200, ..Limits::default() });
    let mut pax = tar::Builder::new(Vec::new());
    pax.append_pax_extensions([
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"9000"),
        ("SCHILY.xattr.user.x", b"y"),
        ("mtime", b"12.5"),
    ])
    .unwrap();
    let mut content = b"1\n4096\n100\n".to_vec();
    content.resize(512 + 100, b'c');
    let mut header = Tar::header(tar::EntryType::Regular, 0o644, content.len() as u64);
    header.set_path("GNUSparseFile.0/sparse").unwrap();
    header.set_cksum();
    pax.append(&header, &content[..]).unwrap();
    let seeds = [
        pax.into_inner().unwrap(),
        Tar::new()
            .dir("d/", 0o755)
            .file("d/f", vec![b'x'; 700])
            .symlink("l", "d")
            .file("l/g", "through")
            .hard_link("h", "d/f")
            .file("d/.wh.z", "")
            .file(&"n".repeat(180), "long")
            .node(tar::EntryType::Fifo, "p", 0, 0)
            .bytes(),
    ];
    let mut dice = Dice(0x5eac_0a11);
    let mut taken = 0;
    for round in 0..800 {
        let mut tar = seeds[round % seeds.len()].clone();
        for _ in 0..=dice.below(3) {
            let at = dice.below(tar.len());
            match dice.below(4) {
                0 => tar[at] = dice.below(256) as u8,
                1 => tar[at] ^= 1 << dice.below(8),
                2 => {
                    // Whole blocks moved about.
                    let blocks = tar.len() / 512;
                    let (a, b) = (dice.below(blocks) * 512, dice.below(blocks) * 512);
                    for n in 0..512 {
                        tar.swap(a + n, b + n);
                    }
                }
                _ => tar.truncate(at.max(512)),
            }
        }
        // Checksums are made to hold, or nothing but them would be tested.
        for block in tar.chunks_exact_mut(512) {
            if &block[257..262] == b"ustar" {
                set(block, 257, b"ustar");
            }
        }
        let Ok(unpacked) = small.layers().begin(None).unwrap().apply_tar(&tar[..]) else { continue };
        taken += 1;
        let layer = unpacked.commit(None).unwrap();
        let mut out = Vec::new();
        small.layers().export(layer.chain_id(), &mut out).unwrap();
        assert!(out == tar, "round {round}");
    }
    assert!(taken > 50, "{taken}");
    small.layers().remove_unused().unwrap();
    small.settle();
    for dir in ["drafts", "trash", "layers"] {
        let left = std::fs::read_dir(small.data_root().join(dir)).unwrap().count();
        assert_eq!(left, 0, "{dir}");
    }
}

/// As Docker has it: what begins with a slash lies below the root, and nowhere else.
#[test]
fn absolute_names_stay_below() {
    if !is_root("absolute_names_stay_below") {
        return;
    }
    let store = TestStore::new();
    let name = format!("/seacow-hostile-{}", std::process::id());
    let tar =
        Tar::new().raw(&name, None, tar::EntryType::Regular).raw("//etc//x", None, tar::EntryType::Regular);
    let layer =
        store.layers().begin(None).unwrap().apply_tar(&tar.bytes()[..]).unwrap().commit(None).unwrap();
    assert!(!std::path::Path::new(&name).exists());
    let fs = store.data().join("layers").join(layer.chain_id().hex()).join("fs");
    assert!(fs.join(&name[1..]).exists() && fs.join("etc/x").exists());
}

/// A header that promises what no disk has, stored or as holes, with the limits that a daemon has.
#[test]
fn sizes_that_nothing_is_behind() {
    if !is_root("sizes_that_nothing_is_behind") {
        return;
    }
    let store = TestStore::new();
    let mut header = Tar::header(tar::EntryType::Regular, 0o644, 100 << 30);
    header.set_path("stored").unwrap();
    header.set_cksum();
    let error = refuse(&store, header.as_bytes());
    assert!(error.to_string().contains("\"stored\""), "{error}");
    let sparse = tempfile::NamedTempFile::new().unwrap();
    sparse.as_file().set_len(100 << 30).unwrap();
    let (dir, name) = (sparse.path().parent().unwrap(), sparse.path().file_name().unwrap());
    let made =
        std::process::Command::new("tar").arg("-C").arg(dir).args(["-Scf", "-"]).arg(name).output().unwrap();
    assert!(made.stdout.len() < 1 << 20);
    let error = refuse(&store, &made.stdout);
    assert!(error.to_string().contains("no space left"), "{error}");
    assert_eq!(error.class(), ErrorClass::Unavailable);
}

/// Zeros that are packed to almost nothing end at the limit, packed once or twice.
#[test]
fn gzip_bombs_end_at_the_limit() {
    if !is_root("gzip_bombs_end_at_the_limit") {
        return;
    }
    const SIZE: u64 = 96 << 20;
    let store = TestStore::new();
    let small = bounded(&store, Limits { max_bytes: 8 << 20, ..Limits::default() });
    let mut header = Tar::header(tar::EntryType::Regular, 0o644, SIZE);
    header.set_path("bomb").unwrap();
    header.set_cksum();
    let gzip = |from: &mut dyn Read| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::copy(from, &mut packed).unwrap();
        packed.finish().unwrap()
    };
    let once = gzip(&mut (&header.as_bytes()[..]).chain(std::io::repeat(0).take(SIZE)));
    let error = small.layers().begin(None).unwrap().apply_tar(&once[..]).unwrap_err();
    assert!(error.to_string().contains("exceeds the limit of 8388608 bytes"), "{error}");
    // What is inside is no tar.
    let twice = gzip(&mut &once[..]);
    let error = small.layers().begin(None).unwrap().apply_tar(&twice[..]).unwrap_err();
    assert_eq!(error.class(), ErrorClass::InvalidArgument, "{error}");
    // No header at all: zeros without end.
    let nothing = gzip(&mut std::io::repeat(0).take(SIZE));
    let error = small.layers().begin(None).unwrap().apply_tar(&nothing[..]).unwrap_err();
    assert!(error.to_string().contains("bytes after its end"), "{error}");
    assert_eq!(std::fs::read_dir(small.data_root().join("layers")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(small.data_root().join("drafts")).unwrap().count(), 0);
}

/// Devices, pipes and sockets of a layer are only ever looked at: nothing that counts, compares or saves
/// opens one.
#[test]
fn devices_and_pipes_are_never_opened() {
    if !is_root("devices_and_pipes_are_never_opened") {
        return;
    }
    let store = TestStore::new();
    let mut tar = Tar::new().node(tar::EntryType::Fifo, "pipe", 0, 0);
    // A watchdog, which opening would start; a tape, which opening would wind back; a disk.
    for (name, kind, major, minor) in [
        ("watchdog", tar::EntryType::Char, 10, 130),
        ("tape", tar::EntryType::Char, 9, 0),
        ("disk", tar::EntryType::Block, 8, 0),
    ] {
        tar = tar.node(kind, name, major, minor);
    }
    for n in 0..5000 {
        tar = tar.node(tar::EntryType::Block, &format!("many{n}"), 7, n);
    }
    let bytes = tar.bytes();
    let layer = store.layers().begin(None).unwrap().apply_tar(&bytes[..]).unwrap().commit(None).unwrap();
    let key = "seacow-devices".parse().unwrap();
    let rootfs = store.snapshots().prepare(&key, Some(layer.chain_id()), &Default::default()).unwrap();
    store.in_mounted(&rootfs, &|root| {
        std::fs::rename(root.join("pipe"), root.join("moved")).unwrap();
        std::fs::set_permissions(root.join("tape"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
    });
    assert_eq!(store.snapshots().changes(&key).unwrap().len(), 3);
    assert!(store.snapshots().usage(&key).unwrap().inodes >= 2);
    assert!(store.census().unwrap().total() > 0);
    drop(store.snapshots().freeze(&key, seacow_store::UpperMode::Copy).unwrap());
    let mut out = Vec::new();
    store.layers().export(layer.chain_id(), &mut out).unwrap();
    assert!(out == bytes);
    store.snapshots().remove(&key).unwrap();
}

/// `cargo test -p seacow-store --release --test store -- --ignored a_million_entries`: memory is bounded, and
/// one more than the limit is refused with nothing left.
#[test]
#[ignore = "slow by nature: a million files there and away again"]
fn a_million_entries() {
    if !is_root("a_million_entries") {
        return;
    }
    const COUNT: u64 = 1_000_000;
    let store = TestStore::new();
    let small = bounded(&store, Limits { max_entries: COUNT, ..Limits::default() });
    let entries = |count: u64| {
        let mut tar = Tar::new();
        for n in 0..count {
            tar = tar.file(&format!("{}/{n}", n % 1000), "");
        }
        tar.bytes()
    };
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let tar = entries(COUNT);
    let before = resident();
    let layer = small.layers().begin(None).unwrap().apply_tar(&tar[..]).unwrap().commit(None).unwrap();
    let grown = resident() - before;
    assert!(grown < 200_000, "{grown} kB");
    assert_eq!(layer.info().size, 0);
    drop(layer);
    small.layers().remove_unused().unwrap();
    let error = small.layers().begin(None).unwrap().apply_tar(&entries(COUNT + 1)[..]).unwrap_err();
    assert!(error.to_string().contains("limit of 1000000 entries"), "{error}");
    small.settle();
    for dir in ["drafts", "trash", "layers"] {
        assert_eq!(std::fs::read_dir(small.data_root().join(dir)).unwrap().count(), 0, "{dir}");
    }
}
