//! Options of mounts and of the root, seen from inside.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod bundle;
mod common;

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use bundle::Bundle;
use seacow_spec::oci::runtime::Spec;

fn bind(spec: &mut Spec, source: &Path, destination: &str, options: &str) {
    let mut mount = common::mount(destination, "bind", options);
    mount.source = source.display().to_string();
    spec.mounts.push(mount);
}

fn host(command: &str, words: &[&Path]) {
    let mut parts = command.split(' ');
    let status = Command::new(parts.next().unwrap()).args(parts).args(words).status().unwrap();
    assert!(status.success(), "{command} {words:?}");
}

/// Takes a mount of the test's away.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        host("umount -l", &[&self.0]);
    }
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("seacow-mounts-").tempdir().unwrap()
}

#[test]
fn recursive_options_reach_the_mounts_below() {
    let source = directory();
    let below = source.path().join("below");
    std::fs::create_dir(&below).unwrap();
    host("mount -t tmpfs seacow-test", &[&below]);
    let _below = Mounted(below.clone());
    std::fs::copy("/bin/busybox", below.join("true")).unwrap();
    let script = "for m in plain rro rnoexec rboth rback; do \
          touch /$m/below/x 2>/dev/null && echo $m writes; /$m/below/true 2>/dev/null && echo $m runs; done; true";
    let Some(bundle) = Bundle::new("recursive", script, |spec| {
        for (name, options) in [
            ("plain", "rbind,ro,noexec"),
            ("rro", "rbind,rro"),
            ("rnoexec", "rbind,rnoexec,rw"),
            ("rboth", "rbind,rro,rnoexec,rnosuid,rnodev,rnoatime,rnosymfollow"),
            ("rback", "rbind,rro,rrw"),
        ] {
            bind(spec, source.path(), &format!("/{name}"), options);
        }
    }) else {
        return;
    };
    assert_eq!(
        bundle.ok(&["run", &bundle.id]),
        "plain writes\nplain runs\nrro runs\nrnoexec writes\nrback writes\nrback runs\n"
    );
}

#[test]
fn flags_of_mounts_and_file_systems() {
    let source = directory();
    std::fs::write(source.path().join("file"), "text\n").unwrap();
    symlink("file", source.path().join("link")).unwrap();
    let script = "cat /nolinks/link 2>&1; cat /links/link; \
          awk '{print $5, $6}' /proc/self/mountinfo | grep -E '^/(relative|strict|noatime|diratime) '; \
          grep '^/remounted ' -c /proc/self/mountinfo; \
          grep ' /synced ' /proc/self/mountinfo | grep -c ' rw,.*sync'; touch /frozen/x 2>&1";
    let Some(bundle) = Bundle::new("flags", script, |spec| {
        bind(spec, source.path(), "/nolinks", "bind,nosymfollow");
        bind(spec, source.path(), "/links", "bind,nosymfollow,symfollow");
        bind(spec, source.path(), "/relative", "bind,noatime,relatime");
        bind(spec, source.path(), "/strict", "bind,strictatime");
        bind(spec, source.path(), "/noatime", "bind,strictatime,noatime,nosuid");
        bind(spec, source.path(), "diratime", "bind,nodiratime,noatime,atime");
        spec.mounts.push(common::mount("/synced", "tmpfs", "sync,dirsync,iversion,nomand,lazytime,mode=700"));
        spec.mounts.push(common::mount("/frozen", "tmpfs", "rw"));
        spec.mounts.push(common::mount("/frozen", "tmpfs", "remount,ro"));
    }) else {
        return;
    };
    std::fs::copy("/bin/busybox", bundle.path().join("rootfs/bin/awk")).unwrap();
    let done = bundle.call(&["--log", "log", "run", &bundle.id]);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = std::fs::read_to_string(bundle.path().join("log")).unwrap();
    assert!(errors.contains("diratime") && errors.contains("is not absolute"), "{errors}");
    let lines: Vec<&str> = text.lines().collect();
    let expected = [
        "cat: can't open '/nolinks/link': Too many levels of symbolic links",
        "text",
        "/relative rw,relatime",
        "/strict rw",
        "/noatime rw,nosuid,noatime",
        "/diratime rw,nodiratime,relatime",
        "0",
        "1",
        "touch: /frozen/x: Read-only file system",
    ];
    assert_eq!(lines, expected, "{errors}");
}

#[test]
fn a_tmpfs_like_the_directory_it_covers() {
    let script = "stat -c '%n %a %u' /covered /own /new; cat /full/a/file; readlink /full/link; \
                  stat -c '%a %u:%g' /full/a/file /full/a /full; ls /full/a; echo more > /full/a/more; \
                  touch /kept/x 2>&1; cat /kept/file";
    let Some(bundle) = Bundle::new("copyup", script, |spec| {
        for (destination, options) in [
            ("/covered", "size=1m"),
            ("/own", "mode=711"),
            ("/new", "size=1m"),
            ("/full", "tmpcopyup,nosuid"),
            ("/kept", "tmpcopyup,ro"),
        ] {
            spec.mounts.push(common::mount(destination, "tmpfs", options));
        }
    }) else {
        return;
    };
    let root = bundle.path().join("rootfs");
    for (name, mode) in
        [("covered", 0o750), ("own", 0o750), ("full", 0o751), ("full/a", 0o2775), ("kept", 0o755)]
    {
        std::fs::create_dir(root.join(name)).unwrap();
        std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    std::fs::write(root.join("full/a/file"), "there before\n").unwrap();
    std::fs::write(root.join("kept/file"), "kept\n").unwrap();
    chown(root.join("full/a/file"), Some(33), Some(44)).unwrap();
    std::fs::set_permissions(root.join("full/a/file"), PermissionsExt::from_mode(0o4640)).unwrap();
    symlink("a/file", root.join("full/link")).unwrap();
    let expected = "/covered 750 0\n/own 711 0\n/new 755 0\nthere before\na/file\n4640 33:44\n2775 0:0\n751 0:0\n\
                    file\ntouch: /kept/x: Read-only file system\nkept\n";
    assert_eq!(bundle.ok(&["run", &bundle.id]), expected);
    assert!(!root.join("full/a/more").exists());
}

#[test]
fn propagation_of_the_root() {
    for (word, field) in [
        ("", "-"),
        ("private", "-"),
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("unbindable", "unbindable"),
    ] {
        let script = "grep -E '^[0-9]+ [0-9]+ [0-9:]+ [^ ]+ / ' /proc/self/mountinfo";
        let Some(bundle) = Bundle::new("propagation", script, |spec| {
            spec.linux.as_mut().unwrap().rootfs_propagation = word.into();
        }) else {
            return;
        };
        let text = bundle.ok(&["run", &bundle.id]);
        let shown = text.split(' ').nth(6).unwrap();
        assert!(shown.starts_with(field), "{word}: {text}");
    }
    // What the host mounts below a root that is its slave appears.
    for (word, seen) in [("rslave", true), ("rprivate", false)] {
        let Some(bundle) = Bundle::new("slave", "exec sleep 60", |spec| {
            spec.linux.as_mut().unwrap().rootfs_propagation = word.into();
        }) else {
            return;
        };
        let root = bundle.path().join("rootfs");
        host("mount --bind", &[&root, &root]);
        let _root = Mounted(root.clone());
        host("mount --make-shared", &[&root]);
        bundle.ok(&["run", "-d", &bundle.id]);
        let later = root.join("srv");
        host("mount -t tmpfs seacow-test", &[&later]);
        std::fs::write(later.join("later"), "").unwrap();
        assert_eq!(bundle.call(&["exec", &bundle.id, "cat", "/srv/later"]).status.success(), seen, "{word}");
        bundle.ok(&["exec", &bundle.id, "ls", "/proc/self", "/dev/null"]);
        host("umount", &[&later]);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains("rootfs/proc"), "the container's mounts reached the host: {mounts}");
        bundle.ok(&["delete", "-f", &bundle.id]);
    }
}

#[test]
fn more_sources_than_one_message_holds() {
    let source = directory();
    let count = 150;
    let Some(bundle) = Bundle::new("many", "ls /many | wc -l; cat /many/149", |spec| {
        for number in 0..count {
            let file = source.path().join(number.to_string());
            std::fs::write(&file, format!("{number}\n")).unwrap();
            bind(spec, &file, &format!("/many/{number}"), "bind,shared");
        }
    }) else {
        return;
    };
    assert_eq!(bundle.ok(&["run", &bundle.id]), "150\n149\n");
}

#[test]
fn mounts_are_listed_in_the_order_of_the_configuration() {
    let source = directory();
    host("mount -t tmpfs seacow-test", &[source.path()]);
    let _source = Mounted(source.path().to_owned());
    host("mount --make-shared", &[source.path()]);
    let below = source.path().join("below");
    std::fs::create_dir(&below).unwrap();
    host("mount -t tmpfs seacow-test", &[&below]);
    let _below = Mounted(below.clone());
    std::fs::write(below.join("file"), "below\n").unwrap();
    let order = ["/a", "/b", "/b/below", "/c", "/d", "/e"];
    let script = "grep -oE ' /([a-e]|b/below) ' /proc/self/mountinfo; cat /b/below/file; \
                  grep -cE ' /(b|d) .* shared:' /proc/self/mountinfo; exec sleep 60";
    let Some(bundle) = Bundle::new("order", script, |spec| {
        spec.mounts.push(common::mount("/a", "tmpfs", ""));
        bind(spec, source.path(), "/b", "rbind,rshared,nosuid");
        spec.mounts.push(common::mount("/c", "tmpfs", ""));
        bind(spec, source.path(), "/d", "bind,shared,ro");
        bind(spec, source.path(), "/e", "bind,private");
    }) else {
        return;
    };
    let mut running = bundle.spawn(&["run", &bundle.id]);
    let lines = std::io::BufRead::lines(std::io::BufReader::new(running.stdout.take().unwrap()));
    let lines: Vec<String> =
        lines.map(|line| line.unwrap().trim().to_owned()).take(order.len() + 2).collect();
    assert_eq!(lines[..order.len()], order);
    assert_eq!(lines[order.len()..], ["below", "2"]);
    // The host still has what it had, and the container receives what comes.
    assert!(below.join("file").exists());
    let later = source.path().join("later");
    std::fs::create_dir(&later).unwrap();
    host("mount -t tmpfs seacow-test", &[&later]);
    let _later = Mounted(later);
    let inside = bundle.ok(&["exec", &bundle.id, "grep", "-c", "/later ", "/proc/self/mountinfo"]);
    assert_eq!(inside, "2\n");
    bundle.ok(&["kill", &bundle.id, "KILL"]);
    running.wait().unwrap();
    assert!(below.join("file").exists(), "the end of the container unmounts nothing of the host's");
}
