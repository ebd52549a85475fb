//! The library, in-process: containers over overlays, from `Prepared` to the last cgroup.
//!
//! Without the usual harness: the library's callers are single-threaded.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; the lint sees only functions marked so"
)]

mod common;

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Fixture, mount, process, spec};
use seacow_runtime::cgroup::OomNews;
use seacow_runtime::init::{Created, Prepared, Running};
use seacow_runtime::{Error, Streams, exec};
use seacow_spec::ErrorClass;
use seacow_spec::oci::runtime::{
    Cpu, LinuxDevice, LinuxNamespace, LinuxResources, Memory, Mount, NamespaceKind, Pids, Process, Rlimit,
};
use seacow_spec::shim::{
    Create, Exec, LogConfig, Lower, OverlayUpper, Prepare, Rootfs, SeccompChoice, Stdio,
};
use seacow_sys::process::{Ended, wait};

type Case = (&'static str, fn(&mut Bench));

const CASES: &[Case] = &[
    ("output, exit code and an overlay that leaves the layer alone", overlay),
    ("namespaces, hostname and own pid 1", namespaces),
    ("masked and read-only paths", masks),
    ("capabilities, filter and a reset signal state", rights),
    ("filters are loaded before the start where nothing that follows needs them absent", filters_ahead),
    ("no_new_privs and other users", users),
    ("texts of what cannot be executed", refusals),
    ("working directory is made; a leaked descriptor cannot be entered", directories),
    ("user mounts: bind, read-only, file, tmpfs, through hostile links", mounts),
    ("propagation: shared, slave and private volumes", propagation),
    ("devices: what is not allowed cannot be opened", devices),
    ("limits land in the cgroup; impossible ones are refused", limits),
    ("the OOM killer is noticed", out_of_memory),
    ("terminal with size and console", terminal),
    ("exec: namespaces, cgroups, user, terminal, texts", exec_into),
    ("host network and pid namespaces, joined namespaces", shared_namespaces),
    ("init dies with its parent's word", dropped),
    ("read-only root, sysctls, limits of resources", readonly_root),
    ("a view of the host with a mask", host_view),
];

/// Set in the second run, which sees nothing but a version 2 tree.
const UNIFIED: &str = "SEACOW_TEST_UNIFIED";

fn main() {
    if let Some(why) = common::missing() {
        return eprintln!("SKIP all of runtime/tests/start.rs: {why}");
    }
    let unified = std::env::var_os(UNIFIED).is_some();
    if unified {
        hide_version_1();
    }
    let only = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let mut failed = 0;
    for (number, (name, case)) in CASES.iter().enumerate() {
        if only.as_ref().is_some_and(|o| !name.contains(o.as_str())) {
            continue;
        }
        let result = std::panic::catch_unwind(|| case(&mut Bench::new(number)));
        let layout = if unified { "v2: " } else { "" };
        println!("test {layout}{name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed += u32::from(result.is_err());
    }
    if !unified {
        let again =
            std::process::Command::new("/proc/self/exe").args(only).env(UNIFIED, "1").status().unwrap();
        failed += u32::from(!again.success());
    }
    std::process::exit(i32::from(failed != 0));
}

/// In a mount namespace of our own, `/sys/fs/cgroup` becomes the version 2 tree. Controllers that
/// version 1 holds stay there: what needs them is skipped, aloud.
fn hide_version_1() {
    use seacow_sys::{mount, ns};
    ns::unshare(ns::Kinds::MOUNT).unwrap();
    mount::make_all(mount::Propagation::Private).unwrap();
    let top = Path::new("/sys/fs/cgroup");
    mount::unmount_detach(top).unwrap();
    mount::mount_at("cgroup2", "cgroup2", top, mount::MountFlags::empty(), "").unwrap();
    let layout = seacow_runtime::cgroup::layout().unwrap();
    assert!(matches!(layout, seacow_runtime::cgroup::Layout::V2 { .. }), "{layout:?}");
}

/// Whether these controllers can limit a container here.
fn has_controllers(names: &[&str]) -> bool {
    let Ok(text) = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") else { return true };
    let missing: Vec<_> = names.iter().filter(|n| text.split_whitespace().all(|c| c != **n)).collect();
    if !missing.is_empty() {
        eprintln!("SKIP: no cgroup version 2 controller {missing:?}");
    }
    missing.is_empty()
}

/// One case's containers.
struct Bench {
    fixture: Fixture,
    number: usize,
    count: usize,
}

/// What is given to a container beside its process.
struct Order {
    prepare: Prepare,
    create: Create,
}

struct Outcome {
    code: i32,
    output: String,
}

impl Bench {
    fn new(number: usize) -> Self {
        Self { fixture: Fixture::new(), number, count: 0 }
    }

    /// A container over an overlay of the fixture's root.
    fn order(&mut self, process: Process) -> Order {
        self.count += 1;
        let id = format!("{:016x}{:016x}{:032x}", std::process::id(), self.number, self.count);
        let own = self.fixture.path().join(self.count.to_string());
        for name in ["upper", "work", "stage"] {
            std::fs::create_dir_all(own.join(name)).unwrap();
        }
        let upper = OverlayUpper {
            upper: own.join("upper"),
            work: own.join("work"),
            volatile: false,
            metacopy: false,
        };
        Order {
            prepare: Prepare {
                id: id.parse().unwrap(),
                namespaces: common::namespaces(),
                cgroups_path: format!("/seacow-test-{}/{id}", std::process::id()),
                mounts: common::kernel_mounts(),
                masked_paths: common::masked(),
                readonly_paths: common::readonly(),
                privileged: false,
                settings: Default::default(),
                runtime: None,
            },
            create: Create {
                spec: spec(process),
                user: String::new(),
                maps_root: false,
                extra_groups: Vec::new(),
                rootfs: Rootfs::Overlay {
                    lowers: vec![Lower::Dir(self.fixture.rootfs())],
                    upper: Some(upper),
                },
                stdio: Stdio::default(),
                log: LogConfig::None,
                seccomp: SeccompChoice::Default,
                state: Default::default(),
            },
        }
    }

    fn sh(&mut self, script: &str) -> Order {
        self.order(process(&["/bin/sh", "-c", script]))
    }

    fn begin(&self, order: &Order) -> Result<(Running, std::fs::File, Option<OwnedFd>), Error> {
        let (mut created, read) = self.create(order)?;
        let terminal = created.take_terminal();
        Ok((created.start()?, read, terminal))
    }

    fn create(&self, order: &Order) -> Result<(Created, std::fs::File), Error> {
        let own = self.fixture.path().join(self.count.to_string());
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let streams = if order.create.stdio.terminal {
            drop(write);
            Streams::Terminal
        } else {
            let stderr = write.try_clone().unwrap();
            let stdin = std::fs::File::open("/dev/null").unwrap().into();
            Streams::Files { stdin, stdout: write, stderr }
        };
        let mut prepared = Prepared::new(&order.prepare, &own.join("stage"))?;
        prepared.settle()?;
        Ok((prepared.configure(&order.create, streams)?, read.into()))
    }

    fn try_run(&self, order: &Order) -> Result<Outcome, Error> {
        let begun = self.begin(order);
        let done = begun.map(|(running, mut read, _)| {
            let mut output = String::new();
            read.read_to_string(&mut output).unwrap();
            let code = wait(running.pidfd.as_fd()).unwrap().code();
            Outcome { code, output }
        });
        let cgroups = seacow_runtime::cgroup::Cgroups::new(&order.prepare.cgroups_path).unwrap();
        cgroups.remove().unwrap();
        assert!(!cgroups.exists());
        done
    }

    fn run(&self, order: &Order) -> Outcome {
        self.try_run(order).unwrap_or_else(|e| panic!("{}", e.report()))
    }

    /// Runs a script and gives its trimmed output; it must succeed.
    fn output(&mut self, script: &str) -> String {
        let order = self.sh(script);
        let done = self.run(&order);
        assert_eq!(done.code, 0, "{}", done.output);
        done.output.trim().to_owned()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let ours = format!("seacow-test-{}", std::process::id());
            let _ = std::fs::remove_dir(hierarchy.path().join(&ours));
            if hierarchy.file_name() == *ours {
                let _ = std::fs::remove_dir(hierarchy.path());
            }
        }
    }
}

fn overlay(bench: &mut Bench) {
    let order = bench.sh("echo hello; echo changed > /etc/passwd; echo new > /new; exit 7");
    let done = bench.run(&order);
    assert_eq!((done.code, done.output.as_str()), (7, "hello\n"));
    let rootfs = bench.fixture.rootfs();
    assert!(!rootfs.join("new").exists());
    assert!(std::fs::read_to_string(rootfs.join("etc/passwd")).unwrap().starts_with("root"));
    assert_eq!(std::fs::read_to_string(bench.fixture.path().join("1/upper/new")).unwrap(), "new\n");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("seacow-runtime-"), "a mount leaked into the host: {mounts}");
}

fn namespaces(bench: &mut Bench) {
    assert_eq!(bench.output("hostname; echo $$"), "seacow-test\n1");
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let inside = bench.output(&format!("readlink /proc/self/ns/{kind}"));
        let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(Path::new(&inside), outside, "{kind}");
    }
    assert_eq!(
        bench.output("grep -c ':/$' /proc/self/cgroup; wc -l < /proc/self/cgroup").split('\n').count(),
        2
    );
    assert!(bench.output("ip addr show lo").contains("inet 127.0.0.1/8"));
    assert_eq!(bench.output("ls /sys/class/net"), "lo");
    // Nothing of ours is open in it.
    let order = bench.order(process(&["ls", "/proc/self/fd"]));
    assert_eq!(bench.run(&order).output, "0\n1\n2\n3\n");
    // The kernel's threads and the host's processes are out of sight.
    // The shell, which counts without a child.
    assert_eq!(bench.output("set -- /proc/[0-9]*; echo $#"), "1");
}

fn masks(bench: &mut Bench) {
    assert_eq!(bench.output("cat /proc/keys /proc/timer_list | wc -c"), "0");
    assert_eq!(bench.output("ls -A /sys/firmware | wc -l"), "0");
    assert_eq!(bench.output("stat -c %t:%T /proc/keys"), "1:3");
    for path in
        ["/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/sys/kernel/uevent_seqnum", "/sys/firmware/x"]
    {
        let done = bench.sh(&format!("echo x > {path}"));
        let done = bench.run(&done);
        assert_ne!(done.code, 0, "{path} was writable");
    }
    let done = bench.sh("touch /sys/fs/cgroup/memory/x || touch /sys/fs/cgroup/x || mkdir /sys/fs/cgroup/y");
    assert_ne!(bench.run(&done).code, 0);
    let order = bench.sh("mount -o remount,rw /proc/sys");
    assert_ne!(bench.run(&order).code, 0);
}

fn rights(bench: &mut Bench) {
    let order = bench.order(process(&["cat", "/proc/self/status"]));
    let status = bench.run(&order).output;
    for line in [
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "Seccomp:\t2",
        "NoNewPrivs:\t0",
        "SigIgn:\t0000000000000000",
        "SigBlk:\t0000000000000000",
        "Umask:\t0022",
    ] {
        assert!(status.contains(line), "{line} not in {status}");
    }
    // The filter: unshare of a user namespace answers EPERM.
    let order = bench.sh("unshare -U true");
    assert_ne!(bench.run(&order).code, 0);
    let mut order = bench.sh("unshare -U true && grep Seccomp: /proc/self/status");
    order.create.seccomp = SeccompChoice::Unconfined;
    let done = bench.run(&order);
    assert_eq!((done.code, done.output.trim()), (0, "Seccomp:\t0"));
    let mut order = bench.sh("mkdir /tmp/x");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    order.create.seccomp = SeccompChoice::Profile(serde_json::from_str(profile).unwrap());
    let done = bench.run(&order);
    assert!(done.output.contains("No space left"), "{}", done.output);
}

fn filters_ahead(bench: &mut Bench) {
    let order = bench.sh("grep -c . /etc/passwd >/dev/null; echo started");
    let (created, mut read) = bench.create(&order).unwrap();
    let status = format!("/proc/{}/status", created.pid());
    let deadline = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(&status).unwrap().contains("Seccomp:\t2") {
        assert!(Instant::now() < deadline, "the usual filter waits for the start");
        std::thread::yield_now();
    }
    let running = created.start().unwrap();
    let mut output = String::new();
    read.read_to_string(&mut output).unwrap();
    assert_eq!(output, "started\n");
    wait(running.pidfd.as_fd()).unwrap();
    running.cgroups.remove().unwrap();
    // What init needs itself and the program shall not have.
    let mut order = bench.sh("echo started");
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"action":"SCMP_ACT_KILL_PROCESS",
        "names":["recvmsg","sendmsg","openat2","setgroups","setresuid","setresgid","close_range"]}]}"#;
    order.create.seccomp = SeccompChoice::Profile(serde_json::from_str(profile).unwrap());
    let done = bench.run(&order);
    assert_eq!((done.code, done.output.as_str()), (0, "started\n"));
}

fn users(bench: &mut Bench) {
    let mut order =
        bench.sh("id; echo $HOME; grep -E 'CapEff|CapPrm|NoNewPrivs|Seccomp:' /proc/self/status; touch /x");
    order.create.user = "web".into();
    order.create.extra_groups = vec!["video".into(), "1234".into()];
    order.create.spec.process.as_mut().unwrap().no_new_privileges = true;
    let done = bench.run(&order);
    assert!(
        done.output.contains("uid=33(web) gid=33(web) groups=29(audio),44(video),1234"),
        "{}",
        done.output
    );
    assert!(done.output.contains("/srv\n") && done.output.contains("NoNewPrivs:\t1"), "{}", done.output);
    assert!(done.output.contains("CapEff:\t0000000000000000"), "{}", done.output);
    assert!(done.output.contains("Seccomp:\t2") && done.code != 0);
    // Ambient capabilities reach a user's program.
    let mut order = bench.sh("grep CapEff /proc/self/status; echo again > /dev/stdout");
    order.create.user = "1000:1000".into();
    let caps = order.create.spec.process.as_mut().unwrap().capabilities.as_mut().unwrap();
    (caps.inheritable, caps.ambient) = (vec!["CAP_NET_RAW".into()], vec!["CAP_NET_RAW".into()]);
    assert_eq!(bench.run(&order).output, "CapEff:\t0000000000002000\nagain\n");
}

fn refusals(bench: &mut Bench) {
    std::fs::write(bench.fixture.rootfs().join("bin/garbage"), "\x7fELFnot really").unwrap();
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bench.fixture.rootfs().join("bin/garbage"), mode).unwrap();
    let expected = [
        ("nosuchcmd", "exec: \"nosuchcmd\": executable file not found in $PATH", Some(127)),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied", Some(126)),
        ("/no/such", "exec: \"/no/such\": stat /no/such: no such file or directory", Some(127)),
        ("/etc", "exec: \"/etc\": is a directory: permission denied", Some(126)),
        ("garbage", "exec /bin/garbage: exec format error", Some(126)),
    ];
    for (command, text, code) in expected {
        let order = bench.order(process(&[command]));
        let report = bench.try_run(&order).err().unwrap().report();
        assert_eq!((report.to_string().as_str(), report.exit_code), (text, code));
        assert_eq!(report.class, ErrorClass::InvalidArgument);
    }
    let mut order = bench.sh("true");
    order.create.user = "foo".into();
    let report = bench.try_run(&order).err().unwrap().report();
    assert_eq!(report.to_string(), "unable to find user foo: no matching entries in passwd file");
    let mut order = bench.sh("true");
    order.create.rootfs = Rootfs::Directory("/nosuch/root".into());
    let report = bench.try_run(&order).err().unwrap().report();
    assert!(report.to_string().contains("/nosuch/root: No such file"), "{report}");
}

fn directories(bench: &mut Bench) {
    let mut order = bench.sh("pwd");
    order.create.spec.process.as_mut().unwrap().cwd = "/made/for/it".into();
    assert_eq!(bench.run(&order).output, "/made/for/it\n");
    // CVE-2024-21626: a directory of the host that is open in the runtime.
    let leaked = rustix::fs::open("/etc", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    for number in 3..64 {
        let mut order = bench.sh("ls /proc/self/cwd/..");
        order.create.spec.process.as_mut().unwrap().cwd = format!("/proc/self/fd/{number}");
        let done = bench.try_run(&order);
        assert!(done.is_err(), "descriptor {number} was entered: {}", done.unwrap().output);
    }
    assert_eq!(bench.output("ls /proc/self/fd | wc -l"), "4", "a leaked descriptor reached the container");
    drop(leaked);
}

fn bind(source: &Path, destination: &str, options: &str) -> Mount {
    Mount { source: source.display().to_string(), ..mount(destination, "bind", options) }
}

fn mounts(bench: &mut Bench) {
    let host = bench.fixture.path().join("volume");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("file"), "of the host\n").unwrap();
    // An image that wants its mounts to land elsewhere.
    let evil = bench.fixture.path().join("target");
    std::fs::create_dir(&evil).unwrap();
    symlink(&evil, bench.fixture.rootfs().join("data")).unwrap();
    symlink("../../../../..", bench.fixture.rootfs().join("up")).unwrap();
    let mut order = bench
        .sh("cat /made/dir/file /made/file; touch /made/dir/new || echo denied; touch /rw/x; \
         stat -f -c %T /scratch; cat /data/file; cat /up/below/file; echo x > /made/file");
    order.create.spec.mounts = vec![
        bind(&host, "/made/dir", "rbind,ro"),
        bind(&host.join("file"), "/made/file", "bind,ro"),
        bind(&host, "/rw", "rbind"),
        mount("/scratch", "tmpfs", "size=1m"),
        bind(&host, "/data", "rbind"),
        bind(&host, "/up/below", "rbind"),
    ];
    let done = bench.run(&order);
    let lines: Vec<&str> = done.output.lines().collect();
    assert_eq!(lines[..2], ["of the host", "of the host"], "{}", done.output);
    assert!(done.output.contains("Read-only file system") && done.output.contains("denied"));
    assert_eq!(done.output.matches("of the host").count(), 4, "{}", done.output);
    assert!(done.output.contains("tmpfs") && host.join("x").exists() && done.code != 0);
    assert_eq!(std::fs::read_dir(&evil).unwrap().count(), 0, "a mount point was made outside");
    assert!(!Path::new("/below").exists());
    let refused = [
        (bind(&host, "/proc/1/attr", "bind"), "inside /proc"),
        (bind(Path::new("/nosuch/source"), "/x", "rbind"), "bind source path /nosuch/source"),
    ];
    for (entry, text) in refused {
        let mut order = bench.sh("true");
        order.create.spec.mounts = vec![entry];
        let report = bench.try_run(&order).err().unwrap().report().to_string();
        assert!(report.contains(text), "{report}");
    }
    std::fs::remove_dir(bench.fixture.rootfs().join("proc")).unwrap();
    symlink("tmp", bench.fixture.rootfs().join("proc")).unwrap();
    let order = bench.sh("true");
    let report = bench.try_run(&order).err().unwrap().report().to_string();
    assert!(report.contains("/proc of the image is a symbolic link"), "{report}");
}

fn propagation(bench: &mut Bench) {
    use seacow_sys::mount::{Change, MountFlags, Propagation, change_at, mount_at, unmount_detach};
    let volume = bench.fixture.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    mount_at("tmpfs", "seacow-test", &volume, MountFlags::empty(), "").unwrap();
    let shared = Change { propagation: Some(Propagation::Shared), ..Change::default() };
    change_at(&volume, &shared).unwrap();
    for name in ["private", "shared", "slave", "later"] {
        std::fs::create_dir(volume.join(name)).unwrap();
    }
    let mut order =
        bench.sh("mount -t tmpfs inside /v/private/private && mount -t tmpfs inside /v/shared/shared && \
         mount -t tmpfs inside /v/slave/slave || exit 1; echo up; \
         while ! test -e /v/slave/later/file; do sleep 0.01; done; ls /v/private/later /v/shared/later");
    order.create.seccomp = SeccompChoice::Unconfined;
    let caps = order.create.spec.process.as_mut().unwrap().capabilities.as_mut().unwrap();
    for set in [&mut caps.bounding, &mut caps.effective, &mut caps.permitted] {
        set.push("CAP_SYS_ADMIN".into());
    }
    order.create.spec.mounts = vec![
        bind(&volume, "/v/private", "rbind"),
        bind(&volume, "/v/shared", "rbind,rshared"),
        bind(&volume, "/v/slave", "rbind,rslave"),
    ];
    let (running, mut read, _) = bench.begin(&order).unwrap();
    let mut up = [0; 3];
    read.read_exact(&mut up).unwrap();
    let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let reached = |name: &str| host.contains(&format!("{}/{name} ", volume.display()));
    assert_eq!([reached("private"), reached("shared"), reached("slave")], [false, true, false]);
    let later = volume.join("later");
    mount_at("tmpfs", "outside", &later, MountFlags::empty(), "").unwrap();
    std::fs::write(later.join("file"), "").unwrap();
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert_eq!(text, "/v/private/later:\n\n/v/shared/later:\nfile\n");
    wait(running.pidfd.as_fd()).unwrap();
    running.cgroups.remove().unwrap();
    drop(running.namespaces);
    unmount_detach(&volume).unwrap();
}

fn devices(bench: &mut Bench) {
    assert_eq!(bench.output("dd if=/dev/zero of=/dev/null bs=1 count=3 2>&1 | head -n1"), "3+0 records in");
    let order = bench.sh("mknod /tmp/mem c 1 1 && cat /tmp/mem | head -c1");
    let done = bench.run(&order);
    assert!(done.output.contains("Operation not permitted"), "{}", done.output);
    let mut order = bench.sh("stat -c '%t:%T %a %u' /dev/seacow-fuse; cat /dev/seacow-fuse; ls /dev/null");
    let linux = order.create.spec.linux.as_mut().unwrap();
    linux.devices = vec![LinuxDevice {
        path: "/dev/seacow-fuse".into(),
        kind: "c".into(),
        major: 10,
        minor: 229,
        file_mode: Some(0o640),
        uid: Some(33),
        gid: None,
    }];
    let done = bench.run(&order);
    assert!(done.output.starts_with("a:e5 640 33\n"), "{}", done.output);
    let mut order = bench.sh("ls /dev | wc -l; head -c0 /dev/kmsg");
    order.prepare.privileged = true;
    let done = bench.run(&order);
    assert!(done.output.lines().next().unwrap().parse::<u32>().unwrap() > 20, "{}", done.output);
}

fn limits(bench: &mut Bench) {
    frozen_and_killed(bench);
    if !has_controllers(&["memory", "cpu", "pids"]) {
        return;
    }
    let mut order = bench.sh("sleep 60");
    let resources = LinuxResources {
        memory: Some(Memory { limit: Some(64 << 20), swap: Some(-1), ..Memory::default() }),
        cpu: Some(Cpu { shares: Some(512), quota: Some(50_000), period: Some(100_000), ..Cpu::default() }),
        pids: Some(Pids { limit: 17 }),
        ..LinuxResources::default()
    };
    order.create.spec.linux.as_mut().unwrap().resources = Some(resources);
    let (running, _read, _) = bench.begin(&order).unwrap();
    let value = |controller: &str, v1: &str, v2: &str| {
        let dir = running.cgroups.dir_of(controller).unwrap();
        let file = if dir.join(v1).exists() { dir.join(v1) } else { dir.join(v2) };
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    };
    assert_eq!(value("memory", "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert_eq!(value("pids", "pids.max", "pids.max"), "17");
    assert!(["512", "20"].contains(&value("cpu", "cpu.shares", "cpu.weight").as_str()));
    assert!(["50000", "50000 100000"].contains(&value("cpu", "cpu.cfs_quota_us", "cpu.max").as_str()));
    // Everything runs in them, and nothing else.
    assert_eq!(running.cgroups.pids().unwrap(), [running.pid]);
    let pids = |limit| LinuxResources { pids: Some(Pids { limit }), ..LinuxResources::default() };
    running.cgroups.update(&pids(99)).unwrap();
    assert_eq!(value("pids", "pids.max", "pids.max"), "99");
    running.cgroups.kill_all().unwrap();
    wait(running.pidfd.as_fd()).unwrap();
    running.cgroups.remove().unwrap();

    let mut order = bench.sh("true");
    let mut resources = LinuxResources::default();
    resources.unified.insert("nosuch.file".into(), "1".into());
    order.create.spec.linux.as_mut().unwrap().resources = Some(resources);
    let report = bench.try_run(&order).err().unwrap().report();
    assert_eq!(report.class, ErrorClass::NotImplemented, "{report}");
}

fn frozen_and_killed(bench: &mut Bench) {
    let order = bench.sh("sleep 61 & exec sleep 60");
    let (running, _read, _) = bench.begin(&order).unwrap();
    running.cgroups.freeze().unwrap();
    assert!(running.cgroups.is_frozen().unwrap());
    running.cgroups.thaw().unwrap();
    assert!(!running.cgroups.is_frozen().unwrap());
    running.cgroups.freeze().unwrap();
    running.cgroups.kill_all().unwrap();
    assert_eq!(wait(running.pidfd.as_fd()).unwrap(), Ended::Killed(9));
    running.cgroups.remove().unwrap();
}

fn out_of_memory(bench: &mut Bench) {
    if !has_controllers(&["memory"]) {
        return;
    }
    let mut order = bench.sh("dd if=/dev/zero of=/dev/shm/x bs=1M count=60");
    let memory = Memory { limit: Some(16 << 20), ..Memory::default() };
    order.create.spec.linux.as_mut().unwrap().resources =
        Some(LinuxResources { memory: Some(memory), ..LinuxResources::default() });
    let (running, _read, _) = bench.begin(&order).unwrap();
    let mut watch = running.cgroups.watch_oom().unwrap().unwrap();
    wait(running.pidfd.as_fd()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut struck = watch.check().unwrap() == OomNews::Killed;
    while !struck && Instant::now() < deadline {
        let mut fds = [rustix::event::PollFd::new(&watch, watch.interest())];
        let step = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        rustix::event::poll(&mut fds, Some(&step)).unwrap();
        struck = watch.check().unwrap() == OomNews::Killed;
    }
    assert!(struck && running.cgroups.oom_kills().unwrap() > 0);
    drop(watch);
    running.cgroups.kill_all().unwrap();
    running.cgroups.remove().unwrap();
}

/// Everything a terminal shows until its program ends.
fn read_terminal(master: OwnedFd) -> String {
    let mut bytes = Vec::new();
    // The end is EIO.
    let _ = std::fs::File::from(master).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).replace("\r\n", "\n")
}

fn terminal(bench: &mut Bench) {
    let mut order = bench
        .sh("tty; stat -c %t /dev/console /proc/self/fd/0 -L; test -t 2 && echo err; echo ctl > /dev/tty");
    order.create.stdio = Stdio { terminal: true, rows: 31, cols: 97, ..Stdio::default() };
    order.create.user = "web".into();
    let (running, _, master) = bench.begin(&order).unwrap();
    let master = master.unwrap();
    assert_eq!(seacow_sys::pty::size(master.as_fd()).unwrap(), (31, 97));
    assert_eq!(read_terminal(master), "/dev/pts/0\n88\n88\nerr\nctl\n");
    assert_eq!(wait(running.pidfd.as_fd()).unwrap(), Ended::Exited(0));
    running.cgroups.remove().unwrap();
}

fn exec_into(bench: &mut Bench) {
    let order = bench.sh("echo up; exec sleep 60");
    let (running, mut read, _) = bench.begin(&order).unwrap();
    let mut byte = [0; 3];
    read.read_exact(&mut byte).unwrap();
    let container = exec::Container {
        pid: running.pid,
        pidfd: running.pidfd.as_fd(),
        cgroups: &running.cgroups,
        rare_namespaces: running.rare_namespaces,
    };
    let run = |request: &Exec| -> Result<(i32, String), Error> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let stdin = std::fs::File::open("/dev/null").unwrap().into();
        let streams = if request.stdio.terminal {
            Streams::Terminal
        } else {
            Streams::Files { stdin, stdout: write.try_clone().unwrap(), stderr: write.try_clone().unwrap() }
        };
        drop(write);
        let started = exec::start(container, request, streams)?;
        let output = match started.terminal {
            Some(master) => read_terminal(master),
            None => {
                let mut text = String::new();
                std::fs::File::from(read).read_to_string(&mut text).unwrap();
                text
            }
        };
        Ok((wait(started.pidfd.as_fd()).unwrap().code(), output))
    };
    let request = |args: &[&str]| Exec {
        exec_id: seacow_spec::id::ExecId::random().unwrap(),
        process: process(args),
        user: String::new(),
        extra_groups: Vec::new(),
        seccomp: SeccompChoice::Default,
        stdio: Stdio::default(),
        attach: None,
    };
    for kind in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        let link = format!("/proc/self/ns/{kind}");
        let of_init = std::fs::read_link(format!("/proc/{}/ns/{kind}", running.pid)).unwrap();
        let (_, output) = run(&request(&["readlink", &link])).unwrap();
        assert_eq!(Path::new(output.trim()), of_init, "{kind}");
    }
    let (_, cgroups) = run(&request(&["cat", "/proc/self/cgroup"])).unwrap();
    assert!(cgroups.lines().all(|l| l.ends_with(":/")), "{cgroups}");
    let (code, output) = run(&request(&[
        "sh",
        "-c",
        "ls /proc/self/fd | wc -l; grep -E 'CapEff|Seccomp:' /proc/self/status; exit 3",
    ]))
    .unwrap();
    assert_eq!((code, output.as_str()), (3, "4\nCapEff:\t00000000a80425fb\nSeccomp:\t2\n"));
    let mut as_web = request(&["sh", "-c", "id -u; echo $HOME; pwd"]);
    (as_web.user, as_web.process.cwd) = ("web".into(), "/srv".into());
    assert_eq!(run(&as_web).unwrap().1, "33\n/srv\n/srv\n");
    let mut on_tty = request(&["sh", "-c", "tty"]);
    on_tty.stdio = Stdio { terminal: true, rows: 5, cols: 6, ..Stdio::default() };
    assert_eq!(run(&on_tty).unwrap(), (0, "/dev/pts/0\n".into()));
    for (args, text, code) in [
        (["nosuch"], "exec: \"nosuch\": executable file not found in $PATH", 127),
        (["/etc/passwd"], "exec: \"/etc/passwd\": permission denied", 126),
    ] {
        let report = run(&request(&args)).unwrap_err().report();
        assert_eq!((report.to_string().as_str(), report.exit_code), (text, Some(code)));
    }
    let mut unknown = request(&["true"]);
    unknown.user = "foo".into();
    assert!(run(&unknown).unwrap_err().report().to_string().starts_with("unable to find user foo"));
    // Our own pid namespace for children is what it was.
    assert_eq!(
        std::fs::read_link("/proc/self/ns/pid").unwrap(),
        std::fs::read_link("/proc/self/ns/pid_for_children").unwrap()
    );
    seacow_sys::process::pidfd_signal(running.pidfd.as_fd(), 9).unwrap();
    wait(running.pidfd.as_fd()).unwrap();
    running.cgroups.remove().unwrap();
}

fn shared_namespaces(bench: &mut Bench) {
    let keep = |kinds: &[NamespaceKind]| -> Vec<LinuxNamespace> {
        common::namespaces().into_iter().filter(|n| kinds.contains(&n.kind)).collect()
    };
    let mut order = bench.sh("for n in net pid uts; do readlink /proc/self/ns/$n; done; ls /sys/fs/cgroup");
    order.prepare.namespaces = keep(&[NamespaceKind::Mount, NamespaceKind::Ipc]);
    order.create.spec.hostname.clear();
    let done = bench.run(&order);
    for kind in ["net", "pid", "uts"] {
        let host = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert!(done.output.contains(host.to_str().unwrap()), "{kind}: {}", done.output);
    }
    // A hostname would be the host's.
    let mut order = bench.sh("true");
    order.prepare.namespaces = keep(&[NamespaceKind::Mount]);
    assert_eq!(bench.try_run(&order).err().unwrap().report().class, ErrorClass::InvalidArgument);
    let mut order = bench.sh("true");
    order.prepare.namespaces = keep(&[NamespaceKind::Mount]);
    order.create.spec.hostname.clear();
    order.create.spec.linux.as_mut().unwrap().sysctl.insert("net.ipv4.ip_forward".into(), "1".into());
    let report = bench.try_run(&order).err().unwrap().report().to_string();
    assert!(report.contains("not in a separate kernel namespace"), "{report}");

    let first = bench.sh("sleep 60");
    let (running, _read, _) = bench.begin(&first).unwrap();
    let mut order = bench
        .sh("readlink /proc/self/ns/net; readlink /proc/self/ns/pid; set -- /proc/[0-9]*; echo $#; hostname");
    order.create.spec.hostname.clear();
    for namespace in &mut order.prepare.namespaces {
        let name = match namespace.kind {
            NamespaceKind::Network => "net",
            NamespaceKind::Pid => "pid",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            _ => continue,
        };
        namespace.path = format!("/proc/{}/ns/{name}", running.pid);
    }
    let done = bench.run(&order);
    for kind in ["net", "pid"] {
        let of_first = std::fs::read_link(format!("/proc/{}/ns/{kind}", running.pid)).unwrap();
        assert!(done.output.contains(of_first.to_str().unwrap()), "{kind}: {}", done.output);
    }
    // sleep, sh
    assert!(done.output.ends_with("\n2\nseacow-test\n"), "{}", done.output);
    running.cgroups.kill_all().unwrap();
    wait(running.pidfd.as_fd()).unwrap();
    running.cgroups.remove().unwrap();
}

fn dropped(bench: &mut Bench) {
    let order = bench.sh("true");
    let stage = bench.fixture.path().join("1/stage");
    let prepared = Prepared::new(&order.prepare, &stage).unwrap();
    let (pid, cgroups) = (prepared.pid(), prepared.cgroups().clone());
    drop(prepared);
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "init was not reaped");
    cgroups.remove().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("seacow-stage"));
}

fn readonly_root(bench: &mut Bench) {
    let mut order = bench.sh(
        "touch /x; touch /tmp/x; touch /dev/shm/y && echo shm; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
         cat /proc/sys/kernel/msgmax; ulimit -n; cat /proc/self/oom_score_adj; umask",
    );
    let spec = &mut order.create.spec;
    spec.root.as_mut().unwrap().readonly = true;
    spec.mounts = vec![mount("/tmp", "tmpfs", "mode=1777")];
    let linux = spec.linux.as_mut().unwrap();
    linux.sysctl.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
    linux.sysctl.insert("kernel.msgmax".into(), "9999".into());
    let process = spec.process.as_mut().unwrap();
    process.rlimits = vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 777, soft: 333 }];
    process.oom_score_adj = Some(123);
    process.user.umask = Some(0o027);
    let done = bench.run(&order);
    assert!(
        done.output.starts_with("touch: /x: Read-only file system\nshm\n0\n9999\n333\n123\n0027"),
        "{}",
        done.output
    );
    let mut order = bench.sh("true");
    order.create.spec.process.as_mut().unwrap().rlimits =
        vec![Rlimit { kind: "RLIMIT_NOSUCH".into(), hard: 1, soft: 1 }];
    assert!(bench.try_run(&order).err().unwrap().report().to_string().contains("RLIMIT_NOSUCH"));
}

fn host_view(bench: &mut Bench) {
    // The mask lies on a file system other than the root's.
    let tmp = tempfile::Builder::new().prefix("seacow-mask-").tempdir_in("/dev/shm").unwrap();
    let mask = tmp.path().join("mask");
    std::fs::create_dir_all(mask.join("tmp")).unwrap();
    rustix::fs::setxattr(mask.join("tmp"), "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
        .unwrap();
    let mut order = bench.sh(
        "ls /etc/debian_version; ls -A /tmp | wc -l; echo x > /etc/seacow-was-here; ls /etc/seacow-was-here",
    );
    if let Rootfs::Overlay { lowers, .. } = &mut order.create.rootfs {
        *lowers = vec![Lower::HostView { mask, root: "/".into() }];
    }
    let done = bench.run(&order);
    assert_eq!(done.output, "/etc/debian_version\n0\n/etc/seacow-was-here\n");
    assert!(!Path::new("/etc/seacow-was-here").exists());
}
