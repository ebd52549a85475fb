//! Every kind of file, attribute and change, written through a mount, then committed, then seen again
//! by a container on top.

use std::fs::{File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use seacow_sys::Errno;

use super::{Subject, io, key, lines, must, prepare};
use crate::layer::UpperMode;
use crate::snapshot::{PrepareOptions, SnapshotKey};

/// All checks of this file.
pub(super) fn all(subject: &Subject<'_>) {
    names_go_and_come_back_as_something_else(subject);
    a_directory_made_anew_is_empty(subject);
    hard_links_stay_one_file(subject);
    attributes_and_capabilities_are_kept(subject);
    devices_pipes_and_sockets(subject);
    holes_stay_holes_and_sizes_have_64_bits(subject);
    renames_of_what_is_below(subject);
    what_is_moved_comes_whole(subject);
    owners_have_32_bits_and_modes_12(subject);
    the_longest_names(subject);
    times_have_nanoseconds(subject);
    a_change_of_the_owner_copies_no_data(subject);
    what_looks_unchanged_is_looked_into(subject);
}

/// Applies `change` in a fresh snapshot, compares its changes with `expected`, commits it in both ways
/// and has `seen` look at a container on top of the layer.
fn round(
    subject: &Subject<'_>,
    name: &str,
    change: &(dyn Fn(&Path) + Sync),
    expected: &[&str],
    seen: &(dyn Fn(&Path) + Sync),
) {
    let from = key(name);
    let rootfs = prepare(subject, &from);
    (subject.in_mounted)(&rootfs, change);
    assert_eq!(lines(subject, &from), expected, "{name}");
    // As it was when it is mounted again.
    (subject.in_mounted)(&must(subject.driver.get(&from)), seen);
    for mode in [UpperMode::Copy, UpperMode::Move] {
        let layer = must(subject.driver.commit(&from, mode));
        let on_top = key(&format!("{name}-ontop"));
        let options = PrepareOptions::default();
        let rootfs = must(subject.driver.prepare(&on_top, Some(layer.chain_id()), &options));
        (subject.in_mounted)(&rootfs, seen);
        assert_eq!(lines(subject, &on_top), Vec::<String>::new(), "{name}: a look is no change");
        must(subject.driver.remove(&on_top));
    }
    must(subject.driver.remove(&from));
}

fn names_go_and_come_back_as_something_else(subject: &Subject<'_>) {
    let change = |root: &Path| {
        io(std::fs::remove_file(root.join("file")));
        io(std::fs::create_dir(root.join("file")));
        io(std::fs::write(root.join("file/in"), "in"));
        io(std::fs::remove_dir_all(root.join("other")));
        io(std::fs::write(root.join("other"), "a file now"));
        io(std::fs::remove_file(root.join("dir/gone")));
        io(std::os::unix::fs::symlink("../nowhere", root.join("dir/gone")));
    };
    let seen = |root: &Path| {
        assert_eq!(io(std::fs::read_to_string(root.join("file/in"))), "in");
        assert_eq!(io(std::fs::read_to_string(root.join("other"))), "a file now");
        assert_eq!(io(std::fs::read_link(root.join("dir/gone"))), Path::new("../nowhere"));
        assert_eq!(io(std::fs::read_to_string(root.join("dir/kept"))), "kept");
    };
    let expected = ["C /dir", "C /dir/gone", "C /file", "A /file/in", "C /other"];
    // Overlayfs's directory is newer where an entry of it was replaced; that is seen as a change.
    round(subject, "replaced", &change, &expected, &seen);
}

/// An opaque directory on overlayfs.
fn a_directory_made_anew_is_empty(subject: &Subject<'_>) {
    let change = |root: &Path| {
        io(std::fs::remove_dir_all(root.join("dir")));
        io(std::fs::create_dir(root.join("dir")));
        io(std::fs::set_permissions(root.join("dir"), Permissions::from_mode(0o701)));
    };
    let seen = |root: &Path| {
        assert_eq!(io(std::fs::read_dir(root.join("dir"))).count(), 0);
        assert_eq!(io(std::fs::metadata(root.join("dir"))).mode() & 0o7777, 0o701);
    };
    round(subject, "opaque", &change, &["C /dir", "D /dir/gone", "D /dir/kept"], &seen);
}

fn hard_links_stay_one_file(subject: &Subject<'_>) {
    let change = |root: &Path| {
        io(std::fs::hard_link(root.join("file"), root.join("dir/link")));
        io(std::fs::write(root.join("a"), "one"));
        io(std::fs::hard_link(root.join("a"), root.join("b")));
        let b = io(File::options().append(true).open(root.join("b")));
        io(std::io::Write::write_all(&mut &b, b", two"));
    };
    let seen = |root: &Path| {
        for (one, two) in [("file", "dir/link"), ("a", "b")] {
            let (one, two) = (io(std::fs::metadata(root.join(one))), io(std::fs::metadata(root.join(two))));
            assert_eq!((one.ino(), one.nlink()), (two.ino(), two.nlink()));
            assert_eq!(one.nlink(), 2);
        }
        assert_eq!(io(std::fs::read_to_string(root.join("a"))), "one, two");
    };
    round(subject, "links", &change, &["A /a", "A /b", "C /dir", "A /dir/link", "C /file"], &seen);
}

/// A capability of version 2 with CAP_NET_BIND_SERVICE, permitted and effective.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn attributes_and_capabilities_are_kept(subject: &Subject<'_>) {
    let value = vec![0xa5; 200];
    let set = |path: &Path, name: &str, value: &[u8]| {
        must(rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()));
    };
    let change = |root: &Path| {
        set(&root.join("file"), "user.seacow", &value);
        set(&root.join("dir"), "user.seacow", b"of a directory");
        io(std::fs::write(root.join("program"), "#!"));
        set(&root.join("program"), "security.capability", &CAPABILITY);
    };
    let get = |path: &Path, name: &str| {
        let mut buffer = [0; 256];
        let len = must(rustix::fs::lgetxattr(path, name, &mut buffer[..]));
        buffer.get(..len).unwrap_or_default().to_vec()
    };
    let seen = |root: &Path| {
        assert_eq!(get(&root.join("file"), "user.seacow"), value);
        assert_eq!(get(&root.join("dir"), "user.seacow"), b"of a directory");
        assert_eq!(get(&root.join("program"), "security.capability"), CAPABILITY);
        let own = rustix::fs::lgetxattr(root.join("dir"), "trusted.overlay.opaque", &mut [0u8; 8][..]);
        assert!(own.is_err(), "the driver's own attributes do not show");
    };
    let from = key("attributes");
    let rootfs = prepare(subject, &from);
    (subject.in_mounted)(&rootfs, &change);
    let found = lines(subject, &from);
    // An attribute alone changes no time of a directory; dockerd does not list it, we may.
    assert!(found == ["C /dir", "C /file", "A /program"] || found == ["C /file", "A /program"], "{found:?}");
    must(subject.driver.remove(&from));
    let expected: Vec<&str> = found.iter().map(String::as_str).collect();
    round(subject, "attributes", &change, &expected, &seen);
}

fn devices_pipes_and_sockets(subject: &Subject<'_>) {
    let node = |path: &Path, kind: FileType, device: (u32, u32)| {
        let device = rustix::fs::makedev(device.0, device.1);
        must(rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device));
    };
    let change = |root: &Path| {
        node(&root.join("null"), FileType::CharacterDevice, (1, 3));
        node(&root.join("disk"), FileType::BlockDevice, (259, 70_000));
        node(&root.join("pipe"), FileType::Fifo, (0, 0));
    };
    let seen = |root: &Path| {
        let null = io(std::fs::symlink_metadata(root.join("null")));
        assert!(null.file_type().is_char_device() && null.rdev() == rustix::fs::makedev(1, 3));
        let disk = io(std::fs::symlink_metadata(root.join("disk")));
        assert!(disk.file_type().is_block_device() && disk.rdev() == rustix::fs::makedev(259, 70_000));
        assert!(io(std::fs::symlink_metadata(root.join("pipe"))).file_type().is_fifo());
    };
    round(subject, "devices", &change, &["A /disk", "A /null", "A /pipe"], &seen);
    // A socket lives with the container, and no layer can have it.
    let key = key("socket");
    let rootfs = prepare(subject, &key);
    (subject.in_mounted)(&rootfs, &|root| {
        // Its path may be longer than an address takes.
        let dir = io(File::open(root));
        let at = format!("/proc/self/fd/{}/socket", std::os::fd::AsRawFd::as_raw_fd(&dir));
        drop(io(std::os::unix::net::UnixListener::bind(at)));
    });
    assert_eq!(lines(subject, &key), ["A /socket"]);
    (subject.in_mounted)(&must(subject.driver.get(&key)), &|root| {
        assert!(io(std::fs::symlink_metadata(root.join("socket"))).file_type().is_socket());
    });
    must(subject.driver.commit(&key, UpperMode::Copy));
    must(subject.driver.remove(&key));
}

fn holes_stay_holes_and_sizes_have_64_bits(subject: &Subject<'_>) {
    const FAR: u64 = 8 << 20;
    let change = |root: &Path| {
        let file = io(File::create(root.join("sparse")));
        io(file.write_all_at(b"start", 0));
        io(file.write_all_at(b"end", FAR));
    };
    let seen = |root: &Path| {
        let file = io(File::open(root.join("sparse")));
        let meta = io(file.metadata());
        assert_eq!(meta.len(), FAR + 3);
        assert!(meta.blocks() * 512 <= 1 << 20, "{} blocks", meta.blocks());
        let mut end = [0; 4];
        io(file.read_exact_at(&mut end, FAR - 1));
        assert_eq!(&end, b"\0end");
    };
    round(subject, "sparse", &change, &["A /sparse"], &seen);
    // Not committed: its tar would have all the zeros.
    let key = key("large");
    let rootfs = prepare(subject, &key);
    let at = (5 << 30) + 4097;
    (subject.in_mounted)(&rootfs, &|root| {
        let file = io(File::create(root.join("large")));
        io(file.set_len(at + 1));
        io(file.write_all_at(b"x", at));
    });
    (subject.in_mounted)(&must(subject.driver.get(&key)), &|root| {
        let file = io(File::open(root.join("large")));
        assert_eq!(io(file.metadata()).len(), at + 1);
        let mut byte = [0];
        io(file.read_exact_at(&mut byte, at));
        assert_eq!(&byte, b"x");
    });
    let usage = must(subject.driver.usage(&key));
    assert_eq!(usage.size, at + 1);
    assert!(usage.new.bytes <= 1 << 20, "{usage:?}");
    must(subject.driver.remove(&key));
}

/// Where the driver's file system refuses to rename a directory of the image (`EXDEV`, as documented),
/// programs copy it; both must come out the same.
fn renames_of_what_is_below(subject: &Subject<'_>) {
    let change = |root: &Path| {
        io(std::fs::rename(root.join("file"), root.join("dir/moved")));
        match std::fs::rename(root.join("other"), root.join("renamed")) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::XDEV) => {
                io(std::fs::create_dir(root.join("renamed")));
                let one = io(std::fs::read(root.join("other/one")));
                io(std::fs::write(root.join("renamed/one"), one));
                io(std::fs::remove_dir_all(root.join("other")));
            }
            renamed => io(renamed),
        }
        io(std::fs::create_dir(root.join("renamed/deep")));
        io(std::fs::rename(root.join("renamed/deep"), root.join("renamed/deeper")));
    };
    let seen = |root: &Path| {
        assert_eq!(io(std::fs::read_to_string(root.join("dir/moved"))), "old");
        assert_eq!(io(std::fs::read_to_string(root.join("renamed/one"))), "1");
        assert!(root.join("renamed/deeper").is_dir());
        assert!(!root.join("file").exists() && !root.join("other").exists());
    };
    let expected = [
        "C /dir",
        "A /dir/moved",
        "D /file",
        "D /other",
        "A /renamed",
        "A /renamed/deeper",
        "A /renamed/one",
    ];
    round(subject, "renames", &change, &expected, &seen);
}

/// Directories of the image renamed, changed, taken apart, with another one in the old place; a file of
/// which only attributes were changed before it was renamed.
fn what_is_moved_comes_whole(subject: &Subject<'_>) {
    let (below, on_top) = (key("tree"), key("tree-moved"));
    let rootfs = prepare(subject, &below);
    (subject.in_mounted)(&rootfs, &|root| {
        io(std::fs::create_dir_all(root.join("tree/sub/deep")));
        for name in ["a", "b", "sub/c", "sub/d", "sub/deep/e", "program"] {
            io(std::fs::write(root.join("tree").join(name), name));
        }
        io(std::fs::set_permissions(root.join("tree/sub"), Permissions::from_mode(0o710)));
        let program = root.join("tree/program");
        must(rustix::fs::lsetxattr(&program, "security.capability", &CAPABILITY, XattrFlags::empty()));
    });
    let layer = must(subject.driver.commit(&below, UpperMode::Move));
    must(subject.driver.remove(&below));
    let options = PrepareOptions::default();
    let rootfs = must(subject.driver.prepare(&on_top, Some(layer.chain_id()), &options));
    let refused = std::sync::atomic::AtomicBool::new(false);
    (subject.in_mounted)(&rootfs, &|root| {
        if let Err(error) = std::fs::rename(root.join("tree"), root.join("moved")) {
            assert_eq!(Errno::from_io_error(&error), Some(Errno::XDEV), "{error}");
            refused.store(true, std::sync::atomic::Ordering::Relaxed);
            return;
        }
        io(std::fs::set_permissions(root.join("moved/program"), Permissions::from_mode(0o700)));
        io(std::fs::rename(root.join("moved/program"), root.join("dir/renamed")));
        io(std::fs::write(root.join("moved/a"), "changed"));
        io(std::fs::remove_file(root.join("moved/b")));
        io(std::fs::write(root.join("moved/new"), "new"));
        io(std::fs::rename(root.join("moved/sub"), root.join("out")));
        io(std::fs::rename(root.join("out/c"), root.join("out/f")));
        io(std::fs::rename(root.join("out"), root.join("further")));
        io(std::fs::create_dir(root.join("tree")));
        io(std::fs::write(root.join("tree/fresh"), "fresh"));
    });
    if refused.into_inner() {
        must(subject.driver.remove(&on_top));
        return;
    }
    let expected = [
        "C /dir",
        "A /dir/renamed",
        "A /further",
        "A /further/d",
        "A /further/deep",
        "A /further/deep/e",
        "A /further/f",
        "A /moved",
        "A /moved/a",
        "A /moved/new",
        "C /tree",
        "D /tree/a",
        "D /tree/b",
        "A /tree/fresh",
        "D /tree/program",
        "D /tree/sub",
    ];
    assert_eq!(lines(subject, &on_top), expected);
    let seen = |root: &Path| {
        let names = |dir: &str| {
            let entries = io(std::fs::read_dir(root.join(dir)));
            let mut names: Vec<_> =
                entries.map(|entry| io(entry).file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names("moved"), ["a", "new"]);
        assert_eq!(names("further"), ["d", "deep", "f"]);
        assert_eq!(names("tree"), ["fresh"]);
        let read = |path: &str| io(std::fs::read_to_string(root.join(path)));
        assert_eq!((read("moved/a"), read("further/f")), ("changed".into(), "sub/c".into()));
        assert_eq!((read("further/d"), read("further/deep/e")), ("sub/d".into(), "sub/deep/e".into()));
        assert_eq!(read("dir/renamed"), "program");
        assert_eq!(io(std::fs::metadata(root.join("further"))).mode() & 0o7777, 0o710);
        assert_eq!(io(std::fs::metadata(root.join("dir/renamed"))).mode() & 0o7777, 0o700);
        let mut buffer = [0; 32];
        let len =
            must(rustix::fs::lgetxattr(root.join("dir/renamed"), "security.capability", &mut buffer[..]));
        assert_eq!(buffer.get(..len), Some(&CAPABILITY[..]));
    };
    (subject.in_mounted)(&must(subject.driver.get(&on_top)), &seen);
    for mode in [UpperMode::Copy, UpperMode::Move] {
        let layer = must(subject.driver.commit(&on_top, mode));
        let again = key("tree-again");
        let rootfs = must(subject.driver.prepare(&again, Some(layer.chain_id()), &options));
        (subject.in_mounted)(&rootfs, &seen);
        assert_eq!(lines(subject, &again), Vec::<String>::new());
        must(subject.driver.remove(&again));
    }
    must(subject.driver.remove(&on_top));
}

fn owners_have_32_bits_and_modes_12(subject: &Subject<'_>) {
    const OWNER: u32 = 4_000_000_001;
    const GROUP: u32 = 3_000_000_002;
    let change = |root: &Path| {
        io(std::fs::write(root.join("far"), ""));
        io(std::os::unix::fs::chown(root.join("far"), Some(OWNER), Some(GROUP)));
        io(std::fs::set_permissions(root.join("far"), Permissions::from_mode(0o6755)));
        io(std::os::unix::fs::lchown(root.join("dir/kept"), Some(OWNER), Some(GROUP)));
        io(std::fs::set_permissions(root.join("other"), Permissions::from_mode(0o1777)));
    };
    let seen = |root: &Path| {
        for path in ["far", "dir/kept"] {
            let meta = io(std::fs::metadata(root.join(path)));
            assert_eq!((meta.uid(), meta.gid()), (OWNER, GROUP), "{path}");
        }
        assert_eq!(io(std::fs::metadata(root.join("far"))).mode() & 0o7777, 0o6755);
        assert_eq!(io(std::fs::metadata(root.join("other"))).mode() & 0o7777, 0o1777);
    };
    round(subject, "owners", &change, &["C /dir/kept", "A /far", "C /other"], &seen);
}

fn the_longest_names(subject: &Subject<'_>) {
    let (name, other) = ("n".repeat(255), "m".repeat(255));
    let change = |root: &Path| {
        let dir = root.join(&name);
        io(std::fs::create_dir(&dir));
        io(std::fs::write(dir.join(&name), "long"));
        io(std::os::unix::fs::symlink(&other, dir.join(&other)));
    };
    let seen = |root: &Path| {
        assert_eq!(io(std::fs::read_to_string(root.join(&name).join(&name))), "long");
        assert_eq!(io(std::fs::read_link(root.join(&name).join(&other))), Path::new(&other));
    };
    let expected = [format!("A /{name}"), format!("A /{name}/{other}"), format!("A /{name}/{name}")];
    round(subject, "names", &change, &expected.each_ref().map(String::as_str), &seen);
    // Deleted in the next layer: the whiteout has the same name.
    let key = key("names-gone");
    let rootfs = prepare(subject, &key);
    (subject.in_mounted)(&rootfs, &|root| {
        io(std::fs::write(root.join(&name), ""));
        io(std::fs::remove_file(root.join(&name)));
    });
    assert_eq!(lines(subject, &key), Vec::<String>::new());
    must(subject.driver.remove(&key));
}

fn times_have_nanoseconds(subject: &Subject<'_>) {
    let at = |sec: i64, nsec: i64| Timespec { tv_sec: sec, tv_nsec: nsec };
    let set = |path: &Path, time: Timespec| {
        let times = Timestamps { last_access: time, last_modification: time };
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        must(rustix::fs::utimensat(CWD, path, &times, flags));
    };
    let (past, future) = (at(1_000_000_000, 123_456_789), at(2_200_000_000, 999_999_999));
    let change = |root: &Path| {
        io(std::fs::write(root.join("new"), ""));
        set(&root.join("new"), future);
        set(&root.join("file"), past);
        set(&root.join("dir"), past);
    };
    let seen = |root: &Path| {
        let time = |name: &str| {
            let meta = io(std::fs::symlink_metadata(root.join(name)));
            (meta.mtime(), meta.mtime_nsec())
        };
        assert_eq!(time("new"), (future.tv_sec, future.tv_nsec));
        assert_eq!(time("file"), (past.tv_sec, past.tv_nsec));
        assert_eq!(time("dir"), (past.tv_sec, past.tv_nsec));
    };
    round(subject, "times", &change, &["C /dir", "C /file", "A /new"], &seen);
}

/// Content that no file system packs.
fn noise(at: usize) -> u8 {
    (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]
}

/// `chown -R` in a container must not double the image (moby#27588 and its like).
fn a_change_of_the_owner_copies_no_data(subject: &Subject<'_>) {
    const SIZE: usize = 4 << 20;
    let (below, on_top) = (key("big"), key("big-ontop"));
    let rootfs = prepare(subject, &below);
    (subject.in_mounted)(&rootfs, &|root| {
        let noise: Vec<u8> = (0..SIZE).map(noise).collect();
        io(std::fs::write(root.join("big"), noise));
        io(File::open(root.join("big")).and_then(|file| file.sync_all()));
    });
    let layer = must(subject.driver.commit(&below, UpperMode::Move));
    must(subject.driver.remove(&below));
    let prepare = |key: &SnapshotKey| {
        must(subject.driver.prepare(key, Some(layer.chain_id()), &PrepareOptions::default()))
    };
    let rootfs = prepare(&on_top);
    let before = must(subject.driver.usage(&on_top)).bytes;
    (subject.in_mounted)(&rootfs, &|root| {
        io(std::os::unix::fs::chown(root.join("big"), Some(1000), Some(1000)));
        io(std::fs::set_permissions(root.join("big"), Permissions::from_mode(0o600)));
        rustix::fs::syncfs(io(File::open(root)).as_fd()).unwrap_or(());
    });
    assert_eq!(lines(subject, &on_top), ["C /big"]);
    let usage = must(subject.driver.usage(&on_top));
    let grown = usage.bytes.saturating_sub(before);
    assert!(grown <= 128 << 10, "grown by {grown}: {usage:?}");
    (subject.in_mounted)(&must(subject.driver.get(&on_top)), &|root| {
        let content = io(std::fs::read(root.join("big")));
        assert_eq!(content.len(), SIZE);
        assert_eq!(content.get(3), Some(&noise(3)));
    });
    // And one block written takes about a block, where extents are shared.
    (subject.in_mounted)(&must(subject.driver.get(&on_top)), &|root| {
        let file = io(File::options().write(true).open(root.join("big")));
        io(file.write_all_at(&[7; 4096], 1 << 20));
        io(file.sync_all());
    });
    let usage = must(subject.driver.usage(&on_top));
    if subject.shares_extents {
        assert!(usage.copied_up.bytes <= 128 << 10, "{usage:?}");
    }
    let layer = must(subject.driver.commit(&on_top, UpperMode::Copy));
    must(subject.driver.remove(&on_top));
    let rootfs = must(subject.driver.prepare(&on_top, Some(layer.chain_id()), &PrepareOptions::default()));
    (subject.in_mounted)(&rootfs, &|root| {
        let content = io(std::fs::read(root.join("big")));
        assert_eq!(content.get(1 << 20..(1 << 20) + 4096), Some(&[7; 4096][..]));
        assert_eq!(content.get(4097), Some(&noise(4097)));
        assert_eq!(io(std::fs::metadata(root.join("big"))).uid(), 1000);
    });
    must(subject.driver.remove(&on_top));
}

/// Size and times can be set back; `docker diff` of old believed them (moby#5419).
fn what_looks_unchanged_is_looked_into(subject: &Subject<'_>) {
    let key = key("disguised");
    let rootfs = prepare(subject, &key);
    (subject.in_mounted)(&rootfs, &|root| {
        let path = root.join("file");
        let meta = io(std::fs::metadata(&path));
        io(std::fs::write(&path, "new"));
        let time = |sec, nsec| Timespec { tv_sec: sec, tv_nsec: nsec };
        let times = Timestamps {
            last_access: time(meta.atime(), meta.atime_nsec()),
            last_modification: time(meta.mtime(), meta.mtime_nsec()),
        };
        must(rustix::fs::utimensat(CWD, &path, &times, rustix::fs::AtFlags::empty()));
    });
    assert_eq!(lines(subject, &key), ["C /file"]);
    must(subject.driver.remove(&key));
}
