//! An engine with roots, bridge, table and cgroup of its own, and a busybox image; everything is
//! gone when it is dropped.
//!
//! Needs: root, `/bin/busybox`, and a built `seacow-shim` (`SEACOW_SHIM`, or beside the test).

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod helper;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use seacow_engine::config::PoolSizes;
use seacow_engine::{AttachOptions, Caller, ClientSocket, Config, Engine};
use seacow_spec::docker::container::{ContainerConfig, CreateRequest};
use seacow_spec::docker::host_config::HostConfig;
use seacow_spec::oci::image::ImageConfig;
use seacow_store::{Store, StoreOptions};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Where an engine lives; outlives engines that are killed and started again.
pub struct Place {
    pub dir: tempfile::TempDir,
    pub name: String,
}

/// The shim to test with, or a loud reason why there will be no test.
pub fn shim() -> Option<PathBuf> {
    let beside = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("seacow-shim");
    let path = std::env::var_os("SEACOW_SHIM").map_or(beside, PathBuf::from);
    let missing = if !rustix::process::geteuid().is_root() {
        "root"
    } else if !path.exists() {
        "a built seacow-shim (cargo build -p seacow-shim, or SEACOW_SHIM)"
    } else if !Path::new("/bin/busybox").exists() {
        "/bin/busybox"
    } else {
        return Some(path);
    };
    eprintln!("SKIPPED: this test needs {missing}");
    None
}

impl Place {
    pub fn new() -> Option<Self> {
        shim()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new().prefix("seacow-engine-").tempdir().unwrap();
        let place = Self { name: format!("sce{}n{number}", std::process::id() % 1_000_000), dir };
        place.make_image();
        Some(place)
    }

    pub fn config(&self, pool: PoolSizes) -> Config {
        config(self.dir.path(), &self.name, pool)
    }

    pub fn exec_dirs(&self) -> Vec<String> {
        names(&self.dir.path().join("e/c"))
    }

    /// Where records are that the database does not have.
    pub fn notes_dir(&self) -> PathBuf {
        self.dir.path().join("e/records")
    }

    pub fn notes(&self) -> Vec<String> {
        names(&self.notes_dir())
    }

    pub fn log_dirs(&self) -> Vec<String> {
        names(&self.dir.path().join("d/containers"))
    }

    pub fn snapshots(&self) -> Vec<String> {
        names(&self.dir.path().join("d/snapshots"))
    }

    pub fn snapshot(&self, id: &str) -> PathBuf {
        self.dir.path().join("d/snapshots").join(id)
    }

    /// Cgroups of this place's containers that still exist, in any hierarchy.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        cgroups(&self.name)
    }

    /// Waits until nothing is left of any container.
    pub async fn is_left_clean(&self) {
        eventually("exec directories are gone", || self.exec_dirs().is_empty()).await;
        eventually("log directories are gone", || self.log_dirs().is_empty()).await;
        eventually("snapshots are gone", || self.snapshots().is_empty()).await;
        eventually("cgroups are gone", || self.cgroups().is_empty()).await;
        eventually("shims are gone", || self.shims().is_empty()).await;
    }

    /// Shims of this place.
    pub fn shims(&self) -> Vec<rustix::process::Pid> {
        let ours = self.dir.path().join("e/c").display().to_string();
        let pids = names(Path::new("/proc")).into_iter().filter_map(|name| name.parse::<i32>().ok());
        let is_ours = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.contains("--dir") && line.contains(&ours)
        };
        pids.filter(is_ours).filter_map(rustix::process::Pid::from_raw).collect()
    }

    fn make_image(&self) {
        let config = self.config(PoolSizes::OFF);
        let store = Store::open(StoreOptions::new(&config.data_root, &config.exec_root)).unwrap();
        let defaults = ContainerConfig {
            cmd: Some(vec!["sh".into()]),
            env: Some(vec!["PATH=/bin:/usr/bin".into(), "FROM_IMAGE=yes".into()]),
            ..Default::default()
        };
        let config = ImageConfig {
            architecture: "amd64".into(),
            os: "linux".into(),
            config: Some(defaults),
            ..Default::default()
        };
        let image = store.images().import(busybox().as_slice(), config).unwrap();
        store.images().tag(&image.id, &"bb".parse().unwrap()).unwrap();
    }
}

/// The same settings in a helper process.
pub fn config(dir: &Path, name: &str, pool: PoolSizes) -> Config {
    let mut config = Config::new(dir.join("d"), dir.join("e"), shim().unwrap());
    config.bridge = name.to_owned();
    config.nft_table = format!("seacow-test-{name}");
    config.cgroup_parent = format!("/seacow-test-{name}");
    config.pool = pool;
    // Engines that start at the same time would choose the same free subnet.
    let number = name.bytes().fold(0u16, |sum, byte| sum.wrapping_mul(31).wrapping_add(u16::from(byte)));
    let [high, low] = number.to_be_bytes();
    config.subnet = Some(format!("10.{}.{low}.1/24", 128 + high / 2).parse().unwrap());
    config
}

impl Drop for Place {
    fn drop(&mut self) {
        // Only a failed test leaves shims; they are told by our directory in their arguments.
        // Tasks of its engine may still start some.
        for _ in 0..50 {
            let shims = self.shims();
            if shims.is_empty() {
                break;
            }
            for pid in shims {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for id in self.exec_dirs() {
            let dir = self.dir.path().join("e/c").join(id);
            let _ = std::process::Command::new(shim().unwrap()).arg("--cleanup").arg(dir).status();
        }
        let _ = seacow_net::bridge::remove(&self.name, &format!("seacow-test-{}", self.name));
        for cgroup in cgroups_named(&self.name) {
            let _ = std::fs::remove_dir(cgroup);
        }
    }
}

fn hierarchies() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/sys/fs/cgroup").unwrap();
    let below = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir());
    below.chain([PathBuf::from("/sys/fs/cgroup")]).collect()
}

fn cgroups_named(name: &str) -> Vec<PathBuf> {
    let parents = hierarchies().into_iter().map(|path| path.join(format!("seacow-test-{name}")));
    parents.filter(|path| path.is_dir()).collect()
}

fn cgroups(name: &str) -> Vec<PathBuf> {
    let parents = cgroups_named(name).into_iter();
    let children =
        parents.flat_map(|parent| std::fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok));
    children.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A root file system of busybox and its applets.
fn busybox() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, kind: tar::EntryType, mode: u32, data: &[u8], link: Option<&str>| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(data.len() as u64);
        if let Some(link) = link {
            header.set_link_name(link).unwrap();
        }
        tar.append_data(&mut header, path, data).unwrap();
    };
    for dir in ["bin", "etc", "tmp", "root", "data", "proc", "sys", "dev"] {
        add(dir, tar::EntryType::Directory, if dir == "tmp" { 0o1777 } else { 0o755 }, &[], None);
    }
    add("bin/busybox", tar::EntryType::Regular, 0o755, &std::fs::read("/bin/busybox").unwrap(), None);
    for applet in [
        "sh", "true", "false", "cat", "echo", "sleep", "ls", "id", "env", "ip", "ping", "stty", "kill",
        "head", "dd", "hostname", "mount", "touch", "tail", "seq", "wc", "test", "yes", "grep", "nc",
    ] {
        add(&format!("bin/{applet}"), tar::EntryType::Symlink, 0o777, &[], Some("busybox"));
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n";
    add("etc/passwd", tar::EntryType::Regular, 0o644, passwd, None);
    add("etc/group", tar::EntryType::Regular, 0o644, b"root:x:0:\nuser:x:1000:\nextra:x:7:\n", None);
    add("data/from-image", tar::EntryType::Regular, 0o644, b"original\n", None);
    tar.into_inner().unwrap()
}

/// A request as clients make it.
pub fn request(command: &[&str]) -> CreateRequest {
    CreateRequest {
        config: ContainerConfig {
            image: "bb".into(),
            cmd: Some(command.iter().map(|word| (*word).to_owned()).collect()),
            attach_stdout: true,
            attach_stderr: true,
            ..Default::default()
        },
        host_config: HostConfig { network_mode: "default".into(), ..Default::default() },
        ..Default::default()
    }
}

pub fn with(
    mut request: CreateRequest,
    change: impl FnOnce(&mut ContainerConfig, &mut HostConfig),
) -> CreateRequest {
    change(&mut request.config, &mut request.host_config);
    request
}

pub async fn create(engine: &Engine, name: Option<&str>, request: CreateRequest) -> String {
    engine.create(name.map(str::to_owned), None, request, Caller::Peer(Some(0))).await.unwrap().id
}

/// Creates, attaches, starts, waits; as `docker run` does. Output and exit status.
pub async fn run(engine: &Engine, request: CreateRequest) -> (String, i64) {
    let id = create(engine, None, request).await;
    let wait = engine.wait(&id, "next-exit".parse().unwrap()).unwrap();
    let output =
        attach(engine, &id, AttachOptions { stdout: true, stderr: true, stream: true, ..Default::default() });
    engine.start(&id).await.unwrap();
    let code = wait.await.status_code;
    (text(&output.await.unwrap()), code)
}

/// Attaches and collects what comes until the end.
pub fn attach(engine: &Engine, id: &str, options: AttachOptions) -> tokio::task::JoinHandle<Vec<u8>> {
    let pending = engine.attach_begin(id, options).unwrap();
    let (mine, theirs) = UnixStream::pair().unwrap();
    pending.finish(ClientSocket { fd: theirs.into(), initial: Vec::new() }).unwrap();
    mine.shutdown(std::net::Shutdown::Write).unwrap();
    collect(mine)
}

/// Reads to the end.
pub fn collect(mut socket: UnixStream) -> tokio::task::JoinHandle<Vec<u8>> {
    tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

pub fn send(socket: &mut UnixStream, bytes: &[u8]) {
    socket.write_all(bytes).unwrap();
}

/// The payloads of multiplexed frames, both streams together.
pub fn text(frames: &[u8]) -> String {
    let mut out = Vec::new();
    let mut rest = frames;
    while let Some((header, tail)) = rest.split_first_chunk::<8>() {
        let length = u32::from_be_bytes(header[4..8].try_into().unwrap()) as usize;
        out.extend_from_slice(&tail[..length]);
        rest = &tail[length..];
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Waits for something that happens in the background.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
