//! Limits of containers and volumes, on file systems that keep them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use seacow_tests::{Done, Engine};

/// A file system in a file, for an engine's data root in a mount namespace of its daemon's own.
struct Disk {
    image: PathBuf,
    kind: &'static str,
}

impl Disk {
    /// Says so where there is no program that makes such a file system.
    fn make(kind: &'static str, test: &str) -> Option<Self> {
        let is_there = |dir: &str| Path::new(dir).join(format!("mkfs.{kind}")).exists();
        if !is_there("/sbin") && !is_there("/usr/sbin") {
            println!("SKIPPED: mkfs.{kind} is not installed");
            return None;
        }
        let image = std::env::temp_dir().join(format!("seacow-quota-{}-{test}", std::process::id()));
        std::fs::File::create(&image).unwrap().set_len(2 << 30).unwrap();
        let mut mkfs = Command::new(format!("mkfs.{kind}"));
        if kind == "xfs" {
            mkfs.args(["-m", "reflink=1"]);
        }
        let made = mkfs.arg("-q").arg(&image).stdout(Stdio::null()).status();
        let made = made.unwrap_or_else(|error| panic!("mkfs.{kind}: {error}"));
        assert!(made.success(), "mkfs.{kind}");
        Some(Self { image, kind })
    }

    fn engine(&self, options: &str, flags: &[&str]) -> Engine {
        let script = format!(
            "for word; do case $word in --data-root=*) root=${{word#*=}};; esac; done; mkdir -p $root && \
             mount -t {} -o loop{options} {} $root && exec \"$@\"",
            self.kind,
            self.image.display()
        );
        Engine::start_through(&["unshare", "--mount", "sh", "-c", &script, "sh"], flags)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.image));
    }
}

/// Fills a file in a new container: `count` MiB that nothing compresses.
fn fill(engine: &Engine, args: &[&str], path: &str, count: u32) -> Done {
    let script = format!("dd if=/dev/urandom of={path} bs=1M count={count} conv=fsync 2>&1");
    let mut words = vec!["run", "--rm"];
    words.extend(args);
    words.extend(["bb", "sh", "-c", &script]);
    engine.docker(&words)
}

#[track_caller]
fn is_full(done: &Done) {
    let full = ["Disk quota exceeded", "No space left on device"].iter().any(|text| done.out.contains(text));
    assert!(done.code != 0 && full, "{} {}", done.out, done.err);
}

fn limits_hold(engine: &Engine) {
    let status = engine.docker(&["info", "--format", "{{.DriverStatus}}"]).ok();
    assert!(
        status.contains("[Size Limits subvolumes of btrfs]")
            || status.contains("[Size Limits projects of xfs]"),
        "{status}"
    );
    // Containers.
    let limit = ["--storage-opt", "size=16m"];
    fill(engine, &limit, "/fits", 8).ok();
    is_full(&fill(engine, &limit, "/over", 32));
    fill(engine, &[], "/over", 32).ok();
    engine
        .docker(&["run", "-d", "--name", "one", "--storage-opt", "size=16m", "bb", "tail", "-f", "/dev/null"])
        .ok();
    assert_eq!(engine.inspect("one", "{{.HostConfig.StorageOpt.size}}"), "16m");
    let over = ["exec", "one", "dd", "if=/dev/urandom", "of=/over", "bs=1M", "count=32", "conv=fsync"];
    let done = engine.docker(&over);
    assert!(done.code != 0, "{}", done.out);
    engine.docker(&["exec", "one", "sh", "-c", "rm /over; echo kept > /kept"]).ok();
    engine.seacow(&["snapshot", "one"]).ok();
    engine.docker(&["stop", "-t", "0", "one"]).ok();
    engine.seacow(&["rollback", "one", "1"]).ok();
    engine.seacow(&["clone", "one", "--name", "two"]).ok();
    engine.docker(&["start", "one", "two"]).ok();
    for name in ["one", "two"] {
        assert_eq!(engine.docker(&["exec", name, "cat", "/kept"]).ok(), "kept");
        let mut again = over;
        again[1] = name;
        assert!(engine.docker(&again).code != 0, "{name}");
    }
    engine.docker(&["rm", "-f", "one", "two"]).ok();
    // Volumes.
    engine.docker(&["volume", "create", "-o", "size=16m", "vol"]).ok();
    let shown = "{{.Options.size}} {{.Status.Size}}";
    let shown = engine.docker(&["volume", "inspect", "vol", "--format", shown]).ok();
    assert!(shown == "16m 16777216" || shown == "16m 1.6777216e+07", "{shown}");
    fill(engine, &["-v", "vol:/vol"], "/vol/fits", 8).ok();
    is_full(&fill(engine, &["-v", "vol:/vol"], "/vol/over", 32));
    engine.docker(&["run", "--rm", "-v", "vol:/vol", "bb", "rm", "/vol/over"]).ok();
    engine.seacow(&["volume", "clone", "vol", "copy"]).ok();
    is_full(&fill(engine, &["-v", "copy:/vol"], "/vol/over", 32));
    let mount = "type=volume,src=made,dst=/vol,volume-opt=size=16m";
    is_full(&fill(engine, &["--mount", mount], "/vol/over", 32));
    engine.docker(&["volume", "rm", "vol", "copy", "made"]).ok();
    assert_eq!(engine.docker(&["volume", "ls", "-q"]).ok(), "");
}

/// A container and a volume see how much they may have, as the size of their file system.
fn what_is_limited_is_shown(engine: &Engine) {
    let run = ["run", "--rm", "--storage-opt", "size=32m", "-v", "shown:/vol", "bb", "df", "-k", "/", "/vol"];
    engine.docker(&["volume", "create", "-o", "size=16m", "shown"]).ok();
    let shown = engine.docker(&run).ok();
    let sizes: Vec<&str> = shown.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(sizes, ["32768", "16384"], "{shown}");
    engine.docker(&["volume", "rm", "shown"]).ok();
}

#[test]
fn subvolumes_of_btrfs_are_limited() {
    let Some(disk) = Disk::make("btrfs", "subvolumes") else { return };
    let engine = disk.engine("", &["--storage-driver=btrfs"]);
    if !engine.skip_on_docker() {
        limits_hold(&engine);
    }
}

#[test]
fn directories_on_btrfs_are_limited() {
    let Some(disk) = Disk::make("btrfs", "directories") else { return };
    let engine = disk.engine("", &[]);
    if !engine.skip_on_docker() {
        assert_eq!(engine.docker(&["info", "--format", "{{.Driver}}"]).ok(), "reflink");
        limits_hold(&engine);
    }
}

/// Where the kernel has it.
#[test]
fn projects_of_xfs_are_limited() {
    let Some(disk) = Disk::make("xfs", "projects") else { return };
    // Where it is a module, only its being there tells what it can do. Built in, there is nothing to load.
    let _ = Command::new("modprobe").arg("xfs").stderr(Stdio::null()).status();
    let quota = Path::new("/proc/fs/xfs/xqmstat").exists();
    let engine = disk.engine(if quota { ",prjquota" } else { "" }, &[]);
    if engine.skip_on_docker() {
        return;
    }
    if quota {
        limits_hold(&engine);
        return what_is_limited_is_shown(&engine);
    }
    println!("SKIPPED: this kernel's xfs has no quota; what is said of that is tested");
    let status = engine.docker(&["info", "--format", "{{.DriverStatus}}"]).ok();
    assert!(status.contains("[Size Limits none: this kernel's xfs has no quota"), "{status}");
    let why = "a limit of 1048576 bytes cannot be kept for a";
    engine.docker(&["run", "--rm", "--storage-opt", "size=1m", "bb", "true"]).fails(125, why);
    engine.docker(&["volume", "create", "-o", "size=1m", "vol"]).fails(1, "CONFIG_XFS_QUOTA");
}

#[test]
fn a_limit_that_cannot_be_kept_is_refused() {
    let engine = Engine::start_with(&["--storage-driver=copy"]);
    if engine.skip_on_docker() {
        return;
    }
    engine.docker(&["run", "--rm", "--storage-opt", "size=1m", "bb", "true"]).fails(125, "cannot limit");
    engine.docker(&["create", "--storage-opt", "inodes=1", "bb", "true"]).fails(1, "Unknown storage option");
    engine.docker(&["create", "--storage-opt", "size=much", "bb", "true"]).fails(1, "invalid size");
    engine.docker(&["volume", "create", "-o", "size=0", "vol"]).fails(1, "invalid size");
    let elsewhere =
        ["volume", "create", "-o", "size=1m", "-o", "type=none", "-o", "device=/tmp", "-o", "o=bind", "vol"];
    engine.docker(&elsewhere).fails(1, "quota size requested");
    assert_eq!(engine.docker(&["ps", "-aq"]).ok() + &engine.docker(&["volume", "ls", "-q"]).ok(), "");
}
