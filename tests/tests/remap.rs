//! `--userns-remap`: root of a container is nobody on the host, and nobody inside notices.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use seacow_tests::{Engine, Kind, eventually};

/// What the user `daemon`, whom every Debian has, is granted while a test runs.
const UIDS: &str = "daemon:700000:65536\n";
const GIDS: &str = "daemon:800000:65536\n";
/// Root of the containers, outside.
const ROOT: (u32, u32) = (700_000, 800_000);

/// Starts an engine that remaps. It sees files of grants of its own, in a mount namespace of its own:
/// the machine's are none of the test's business.
struct Remapped {
    engine: Engine,
    dir: PathBuf,
}

impl Remapped {
    fn start() -> Self {
        Self::start_with(&["--userns-remap=daemon"])
    }

    fn start_with(flags: &[&str]) -> Self {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("seacow-t{}-userns{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("subuid"), UIDS).unwrap();
        std::fs::write(dir.join("subgid"), GIDS).unwrap();
        let script =
            "mount --bind $0/subuid /etc/subuid && mount --bind $0/subgid /etc/subgid && exec \"$@\"";
        let dir_text = dir.display().to_string();
        let words = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, &dir_text];
        Self { engine: Engine::start_through(&words, flags), dir }
    }
}

impl std::ops::Deref for Remapped {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for Remapped {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// Who a process is on the host: user and group.
fn outside(pid: &str) -> (u32, u32) {
    let status = std::fs::metadata(format!("/proc/{pid}")).unwrap();
    (status.uid(), status.gid())
}

#[test]
fn root_inside_is_nobody_outside() {
    let engine = Remapped::start();
    let info = engine.docker(&["info", "--format", "{{.SecurityOptions}}"]).ok();
    assert!(info.contains("name=userns"), "{info}");
    let script = "id -u; id -g; tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; stat -c %u:%g / /bin/sh /etc/passwd /etc/hosts /proc/1 /dev/shm";
    let out = engine.docker(&["run", "--rm", "bb", "sh", "-c", script]).ok();
    let owners = ["0:0"; 6].join("\n");
    assert_eq!(out, format!("0\n0\n 0 {} 65536\n 0 {} 65536\n{owners}", ROOT.0, ROOT.1));
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    assert_eq!(outside(&engine.inspect("box", "{{.State.Pid}}")), ROOT);
    assert_eq!(engine.docker(&["exec", "box", "id", "-u"]).ok(), "0");
    // The user of the image, inside and outside.
    let user = engine.docker(&["run", "-d", "-u", "user", "bb", "sleep", "1000"]).ok();
    assert_eq!(engine.docker(&["exec", &user, "id", "-u"]).ok(), "1000");
    assert_eq!(outside(&engine.inspect(&user, "{{.State.Pid}}")), (ROOT.0 + 1000, ROOT.1 + 1000));
    assert_eq!(engine.inspect("box", "{{.HostConfig.UsernsMode}}"), "");
}

#[test]
fn files_are_the_container_s_own() {
    let engine = Remapped::start();
    // Copied up, made, given away, deleted, replaced: everything an overlay does.
    let script = "set -e; echo x >> /etc/passwd; echo new > /made; mkdir -p /deep/er; echo u > /deep/er/file
        chown 1000:1000 /deep/er/file; rm -r /home/user; mkdir /home/user; mv /tmp /tmp2; mkdir /tmp; ln -s made /link
        echo 127.0.0.9 nine >> /etc/hosts; su user -c 'echo mine > /tmp2/mine'
        stat -c '%n %u:%g' /made /deep/er/file /link /home/user /tmp2/mine /etc/passwd";
    engine.docker(&["run", "--name", "box", "bb", "sh", "-c", "chmod 1777 /tmp"]).ok();
    engine.docker(&["commit", "box", "open"]).ok();
    engine.docker(&["rm", "box"]).ok();
    let seen = engine.docker(&["run", "--name", "box", "open", "sh", "-c", script]).ok();
    let expected = "/made 0:0\n/deep/er/file 1000:1000\n/link 0:0\n/home/user 0:0\n/tmp2/mine 1000:1000\n/etc/passwd 0:0";
    assert_eq!(seen, expected);
    // A commit has the container's ids, for whoever runs it: with a remap and without.
    engine.docker(&["commit", "box", "image"]).ok();
    let stat = [
        "stat",
        "-c",
        "%n %u:%g",
        "/made",
        "/deep/er/file",
        "/link",
        "/home/user",
        "/tmp2/mine",
        "/etc/passwd",
    ];
    for options in [&[][..], &["--userns=host"]] {
        let again = engine.docker(&[&["run", "--rm"], options, &["image"], &stat].concat()).ok();
        assert_eq!(again, expected, "{options:?}");
    }
    // An export too, of a container that runs and of one that does not.
    engine.docker(&["run", "-d", "--name", "runs", "image", "sleep", "1000"]).ok();
    for name in ["box", "runs"] {
        let tar = engine.docker(&["export", name]);
        let list = list(&engine, &engine.docker_command(&["export", name]));
        assert_eq!(tar.code, 0);
        for (path, owner) in [("made", "0/0"), ("deep/er/file", "1000/1000"), ("tmp2/mine", "1000/1000")] {
            let line = list.lines().find(|line| line.ends_with(&format!(" {path}")));
            let line = line.unwrap_or_else(|| panic!("{name}: no {path} in {list}"));
            assert!(line.contains(owner), "{name}: {line}");
        }
    }
    let diff = engine.docker(&["diff", "box"]).ok();
    assert!(
        diff.lines().any(|line| line == "A /made") && diff.lines().any(|line| line == "C /etc/passwd"),
        "{diff}"
    );
}

/// Files of a tar that a client writes to its output, with numbers as owners.
fn list(engine: &Engine, command: &std::process::Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for word in command.get_args() {
        line.push_str(&format!(" '{}'", word.to_string_lossy()));
    }
    let config = engine.exec_root().join("config");
    let script = format!("DOCKER_CONFIG={} {line} | tar -tv --numeric-owner", config.display());
    let listed = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    String::from_utf8(listed.stdout).unwrap()
}

#[test]
fn copies_have_the_container_s_ids() {
    let engine = Remapped::start();
    let dir = engine.exec_root().join("files");
    std::fs::create_dir_all(dir.join("tree")).unwrap();
    std::fs::write(dir.join("tree/file"), "from outside").unwrap();
    let tree = dir.join("tree").display().to_string();
    engine.docker(&["create", "--name", "stopped", "bb", "stat", "-c", "%u:%g", "/tree/file"]).ok();
    engine.docker(&["run", "-d", "--name", "runs", "-v", "named:/volume", "bb", "sleep", "1000"]).ok();
    for name in ["stopped", "runs"] {
        engine.docker(&["cp", &tree, &format!("{name}:/tree")]).ok();
    }
    assert_eq!(engine.docker(&["start", "-a", "stopped"]).ok(), "0:0");
    let look = |path: &str| engine.docker(&["exec", "runs", "stat", "-c", "%u:%g", path]).ok();
    assert_eq!((look("/tree"), look("/tree/file")), ("0:0".into(), "0:0".into()));
    engine.docker(&["cp", &tree, "runs:/volume/tree"]).ok();
    assert_eq!(look("/volume/tree/file"), "0:0");
    // And out again: of root, who is nobody on the host, nothing is left.
    engine.docker(&["exec", "runs", "sh", "-c", "echo x > /mine; chown 1000:1000 /mine"]).ok();
    for (name, path, owner) in [
        ("runs", "/tree", "0/0"),
        ("stopped", "/tree", "0/0"),
        ("runs", "/mine", "1000/1000"),
        ("runs", "/volume", "0/0"),
    ] {
        let tar = list(&engine, &engine.docker_command(&["cp", &format!("{name}:{path}"), "-"]));
        assert!(tar.lines().all(|line| line.contains(owner)), "{name} {path}: {tar}");
    }
}

#[test]
fn volumes_are_the_container_s_and_binds_are_the_host_s() {
    let engine = Remapped::start();
    let script = "set -e; echo v > /v/file; mkdir /v/dir; chown 1000 /v/dir; stat -c %u:%g /v /v/file /v/dir";
    let run = ["run", "--rm", "-v", "named:/v", "bb", "sh", "-c", script];
    assert_eq!(engine.docker(&run).ok(), "0:0\n0:0\n1000:0");
    let look = ["bb", "stat", "-c", "%u:%g", "/v/file", "/v/dir"];
    if engine.kind() == Kind::Seacow {
        // The same volume without a remap: Docker has another one of that name there.
        let seen =
            engine.docker(&[&["run", "--rm", "--userns=host", "-v", "named:/v"], &look[..]].concat()).ok();
        assert_eq!(seen, "0:0\n1000:0");
    }
    // What the image has there.
    let script = "stat -c %u:%g /etc /etc/passwd";
    assert_eq!(engine.docker(&["run", "--rm", "-v", "/etc", "bb", "sh", "-c", script]).ok(), "0:0\n0:0");
    // A directory of the host stays what it is: root's is nobody's in there.
    let host = engine.exec_root().join("host");
    std::fs::create_dir_all(&host).unwrap();
    std::fs::write(host.join("secret"), "x").unwrap();
    std::fs::set_permissions(host.join("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let bind = format!("{}:/h", host.display());
    let script = "stat -c %u:%g /h; cat /h/secret || touch /h/new";
    let tried = engine.docker(&["run", "--rm", "-v", &bind, "bb", "sh", "-c", script]);
    assert_eq!(tried.out.trim(), "65534:65534", "{tried:?}");
    assert_eq!(tried.err.matches("Permission denied").count(), 2, "{tried:?}");
    // One that is made for the container is its root's.
    let new = engine.exec_root().join("new/deep");
    let bind = format!("{}:/h", new.display());
    engine.docker(&["run", "--rm", "-v", &bind, "bb", "touch", "/h/file"]).ok();
    for path in [new.clone(), new.join("file"), engine.exec_root().join("new")] {
        let status = std::fs::metadata(&path).unwrap();
        assert_eq!((status.uid(), status.gid()), ROOT, "{}", path.display());
    }
}

#[test]
fn nothing_is_unpacked_or_copied_for_a_remap() {
    let engine = Remapped::start();
    if engine.skip_on_docker() {
        return;
    }
    engine.docker(&["run", "--name", "box", "bb", "sh", "-c", "echo x > /made"]).ok();
    let id = engine.inspect("box", "{{.Id}}");
    let made = std::fs::metadata(engine.data_root().join("snapshots").join(id).join("upper/made")).unwrap();
    assert_eq!((made.uid(), made.gid()), (0, 0));
    assert_eq!(engine.docker(&["diff", "box"]).ok(), "A /made");
}

/// The live root of this machine, whose files are shown with other owners than they have.
#[test]
fn the_image_host_is_root_s_inside() {
    let engine = Remapped::start();
    if engine.skip_on_docker() {
        return;
    }
    let script = "id -u; stat -c %u:%g / /etc/passwd; echo x >> /etc/passwd && echo changed";
    let before = std::fs::read("/etc/passwd").unwrap();
    assert_eq!(engine.docker(&["run", "--rm", "host", "sh", "-c", script]).ok(), "0\n0:0\n0:0\nchanged");
    assert!(std::fs::read("/etc/passwd").unwrap() == before);
}

/// Makes a user, so only on a machine that may be thrown away.
#[test]
fn the_default_user_is_made_once() {
    if std::env::var_os("SEACOW_TEST_THROWAWAY").is_none() {
        return println!("SKIPPED: needs a machine that may be thrown away");
    }
    let read = |file: &str| std::fs::read_to_string(file).unwrap();
    let mut engine = Engine::start_with(&["--userns-remap=default"]);
    let granted = read("/etc/subuid").lines().filter(|line| line.starts_with("dockremap:")).count();
    assert_eq!((granted, read("/etc/passwd").matches("\ndockremap:").count()), (1, 1));
    let map = ["run", "--rm", "bb", "sh", "-c", "tr -s ' ' < /proc/self/uid_map"];
    let first = engine.docker(&map).ok();
    assert!(first.starts_with(" 0 ") && first.ends_with(" 65536"), "{first}");
    engine.stop_daemon();
    engine.restart_daemon();
    assert_eq!(engine.docker(&map).ok(), first);
    assert_eq!(read("/etc/passwd").matches("\ndockremap:").count(), 1);
}

/// Another driver's root is a directory, and no overlay.
#[test]
fn with_whole_copies_as_well() {
    if std::env::var("SEACOW_TEST_ENGINE").as_deref() == Ok("docker") {
        return println!("SKIPPED: dockerd has another driver of that kind");
    }
    let engine = Remapped::start_with(&["--userns-remap=daemon", "--storage-driver=copy"]);
    let script =
        "set -e; echo x > /made; chown 1000:1000 /made; rm /etc/group; stat -c %u:%g / /made /bin/sh";
    assert_eq!(
        engine.docker(&["run", "--name", "box", "bb", "sh", "-c", script]).ok(),
        "0:0\n1000:1000\n0:0"
    );
    engine.docker(&["commit", "box", "image"]).ok();
    let look = ["run", "--rm", "--userns=host", "image", "stat", "-c", "%u:%g", "/made"];
    assert_eq!(engine.docker(&look).ok(), "1000:1000");
}

/// Ours as a command, and those that `SEACOW_TEST_RUNTIMES` names.
fn other_runtimes() -> Vec<String> {
    let mut runtimes = vec![seacow_tests::dist().join("seacow-runtime")];
    match std::env::var_os("SEACOW_TEST_RUNTIMES") {
        Some(list) => runtimes.extend(std::env::split_paths(&list)),
        None => println!("SKIPPED: SEACOW_TEST_RUNTIMES names no other runtime than our own"),
    }
    runtimes.into_iter().map(|path| path.into_os_string().into_string().unwrap()).collect()
}

/// They are given the namespaces, and files and volumes with the maps applied.
#[test]
fn other_runtimes_have_the_same_ids() {
    let engine = Remapped::start();
    if engine.skip_on_docker() {
        return;
    }
    for (number, runtime) in other_runtimes().iter().enumerate() {
        println!("---- {runtime}");
        let run = |options: &[&str], command: &[&str]| {
            let all = [&["run", "--rm", "--runtime", runtime], options, &["bb"], command].concat();
            engine.docker(&all).ok()
        };
        let script = "id -u; tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map; stat -c %u:%g / /bin/sh /etc/passwd /dev/shm; cat /etc/hosts >/dev/null && echo x >/etc/new && stat -c %u:%g /etc/new";
        let out = run(&[], &["sh", "-c", script]);
        let owners = ["0:0"; 5].join("\n");
        assert_eq!(out, format!("0\n 0 {} 65536\n 0 {} 65536\n{owners}", ROOT.0, ROOT.1));
        assert_eq!(
            run(&["-w", "/made/for/me", "-u", "user"], &["sh", "-c", "pwd; id -u"]),
            "/made/for/me\n1000"
        );
        // A volume keeps the container's ids, for containers of either kind.
        let volume = format!("volume{number}:/v");
        run(&["-v", &volume], &["sh", "-c", "echo x >/v/file; chown 1000:1000 /v/file"]);
        assert_eq!(run(&["-v", &volume], &["stat", "-c", "%u:%g", "/v/file"]), "1000:1000");
        let ours =
            engine.docker(&["run", "--rm", "-v", &volume, "bb", "stat", "-c", "%u:%g", "/v/file"]).ok();
        assert_eq!(ours, "1000:1000");
        // Its network is its own, with an address, and its root's.
        assert!(run(&[], &["ip", "-4", "addr", "show", "eth0"]).contains("inet "));
        assert_eq!(
            run(&["--cap-add", "NET_ADMIN"], &["sh", "-c", "ip link set lo down && echo down"]),
            "down"
        );
        engine.docker(&["run", "-d", "--name", "box", "--runtime", runtime, "bb", "sleep", "1000"]).ok();
        assert_eq!(outside(&engine.inspect("box", "{{.State.Pid}}")), ROOT);
        assert_eq!(
            engine.docker(&["exec", "box", "sh", "-c", "id -u; touch /mine; stat -c %u /mine"]).ok(),
            "0\n0"
        );
        engine.docker(&["stop", "-t", "0", "box"]).ok();
        engine.docker(&["start", "box"]).ok();
        engine.docker(&["exec", "box", "ls", "/mine"]).ok();
        engine.docker(&["rm", "-f", "box"]).ok();
    }
}

/// Whoever joins a namespace joins the user namespace that owns it, made by whichever runtime.
#[test]
fn other_runtimes_join_the_namespaces_of_another_container() {
    let engine = Remapped::start();
    if engine.skip_on_docker() {
        return;
    }
    let donors = [None, Some(seacow_tests::dist().join("seacow-runtime"))];
    for donor in donors.iter().map(|path| path.as_ref().map_or("seacow", |path| path.to_str().unwrap())) {
        let start =
            ["run", "-d", "--name", "donor", "--ipc=shareable", "--runtime", donor, "bb", "sleep", "1000"];
        engine.docker(&start).ok();
        let of_donor =
            |kind: &str| engine.docker(&["exec", "donor", "readlink", &format!("/proc/self/ns/{kind}")]).ok();
        for runtime in other_runtimes() {
            let run = |mode: &str, script: &str| {
                let words =
                    ["run", "--rm", "--runtime", &runtime, "-v", "shared:/v", mode, "bb", "sh", "-c", script];
                engine.docker(&words).ok()
            };
            for kind in ["network", "ipc", "pid"] {
                let name = if kind == "network" { "net" } else { kind };
                let script = format!(
                    "readlink /proc/self/ns/user; readlink /proc/self/ns/{name}; tr -s ' ' < /proc/self/uid_map; \
                     stat -c %u:%g /bin/sh /v; echo x > /made && stat -c %u:%g /made"
                );
                let seen = run(&format!("--{kind}=container:donor"), &script);
                let expected =
                    format!("{}\n{}\n 0 {} 65536\n0:0\n0:0\n0:0", of_donor("user"), of_donor(name), ROOT.0);
                assert_eq!(seen, expected, "{runtime} in the {kind} of a container of {donor}");
            }
            // As long as it lives, and an exec of it, whatever becomes of the other.
            let words = ["run", "-d", "--name", "guest", "--runtime", &runtime, "--pid=container:donor"];
            engine.docker(&[&words[..], &["bb", "sleep", "1000"]].concat()).ok();
            let ids = ["exec", "guest", "sh", "-c", "id -u; readlink /proc/self/ns/user"];
            assert_eq!(engine.docker(&ids).ok(), format!("0\n{}", of_donor("user")));
            assert_eq!(outside(&engine.inspect("guest", "{{.State.Pid}}")), ROOT);
            engine.docker(&["rm", "-f", "guest"]).ok();
        }
        // One with the host's ids stays out of reach, and one that does not run is named.
        engine.docker(&["rm", "-f", "donor"]).ok();
        engine.docker(&["create", "--name", "donor", "bb", "true"]).ok();
        for runtime in other_runtimes() {
            engine
                .docker(&["run", "--rm", "--runtime", &runtime, "--ipc=container:donor", "bb", "true"])
                .fails(125, "donor");
        }
        engine.docker(&["rm", "-f", "donor"]).ok();
    }
}

#[test]
fn what_a_remapped_container_cannot_have() {
    let engine = Remapped::start();
    let refused = |options: &[&str], words: &str| {
        engine.docker(&[&["run", "--rm"], options, &["bb", "true"]].concat()).fails(125, words);
        let host = [&["run", "--rm", "--userns=host"], options, &["bb", "true"]].concat();
        engine.docker(&host).ok();
    };
    refused(
        &["--privileged"],
        "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode",
    );
    refused(
        &["--network=host"],
        "cannot share the host's network namespace when user namespaces are enabled",
    );
    refused(&["--pid=host"], "cannot share the host PID namespace when user namespaces are enabled");
    // Docker lets this pass: what is in there belongs to users whom the container does not have.
    engine.docker(&["run", "--rm", "--ipc=host", "bb", "ls", "/dev/shm", "/dev/mqueue"]).ok();
    // The host's ids on request.
    let map = ["run", "--rm", "--userns=host", "bb", "sh", "-c", "cat /proc/self/uid_map | tr -s ' '"];
    assert_eq!(engine.docker(&map).ok(), " 0 0 4294967295");
    let body = r#"{"Image":"bb","Cmd":["true"],"HostConfig":{"UsernsMode":"keep-id"}}"#;
    engine.api("POST", "/containers/create", body).refuses(400, "user namespace mode");
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn namespaces_of_another_container() {
    let engine = Remapped::start();
    let start = |name: &str, options: &[&str]| {
        engine.docker(&[&["run", "-d", "--name", name], options, &["bb", "sleep", "1000"]].concat()).ok();
    };
    start("donor", &["--ipc=shareable"]);
    let of_donor = engine.docker(&["exec", "donor", "readlink", "/proc/self/ns/user"]).ok();
    for mode in ["--network=container:donor", "--ipc=container:donor", "--pid=container:donor"] {
        let script = "readlink /proc/self/ns/user; id -u; stat -c %u:%g /bin/sh; echo x > /made";
        let seen = engine.docker(&["run", "--rm", mode, "bb", "sh", "-c", script]).ok();
        assert_eq!(seen, format!("{of_donor}\n0\n0:0"), "{mode}");
    }
    if engine.skip_on_docker() {
        return;
    }
    // A remapped one may not reach into one with the host's ids, nor into two at once.
    start("plain", &["--userns=host"]);
    let run = |options: &[&str]| engine.docker(&[&["run", "--rm"], options, &["bb", "true"]].concat());
    run(&["--network=container:plain"]).fails(125, "which has the host's ids");
    start("other", &[]);
    run(&["--network=container:donor", "--pid=container:other"]).fails(125, "different user namespaces");
    run(&["--userns=host", "--network=container:donor"]).ok();
}

#[test]
fn limits_terminals_networks_and_streams_work_as_ever() {
    let engine = Remapped::start();
    let run = |options: &[&str], script: &str| {
        engine.docker(&[&["run", "--rm"], options, &["bb", "sh", "-c", script]].concat())
    };
    assert_eq!(run(&["-m", "64m", "--pids-limit", "50"], "echo ok; exit 3").code(3).out, "ok\n");
    run(&[], "ping -c1 -W5 127.0.0.1 && ip route | grep -q default").ok();
    run(&["--network=none"], "test $(ls /sys/class/net) = lo").ok();
    // Every group there is, and no more: the kernel refuses others.
    assert_eq!(run(&[], "cat /proc/sys/net/ipv4/ping_group_range").ok(), "0\t65535");
    run(&["--read-only", "--tmpfs", "/t"], "touch /t/x && ! touch /x 2>/dev/null").ok();
    run(&["--init"], "cat /proc/1/comm").ok();
    run(&["--cap-add=SYS_ADMIN", "--security-opt=apparmor=unconfined"], "mount -t tmpfs none /tmp").ok();
    run(&["--device=/dev/zero:/dev/mine"], "head -c1 /dev/mine | wc -c").ok();
    let args = ["run", "-i", "--rm", "bb", "wc", "-c"];
    assert_eq!(engine.docker_with_input(&args, &[b'x'; 100_000]).ok().trim(), "100000");
    run(&[], "echo to > /dev/stdout; echo err > /dev/stderr").ok();
    let terminal = seacow_tests::Terminal::run(
        engine.name(),
        &engine.docker_command(&["run", "-it", "--rm", "bb", "sh"]),
    );
    terminal.shows("/ #");
    terminal.type_text("tty; echo hi > /dev/console; exit 5");
    terminal.press("Enter");
    terminal.shows("[exit 5]");
}

#[test]
fn builds_stops_and_restarts() {
    let mut engine = Remapped::start();
    let dir = engine.exec_root().join("context");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("file"), "copied").unwrap();
    let text = "FROM bb\nCOPY file /file\nRUN echo made > /made && chown 1000 /made && stat -c %u /file\nUSER user\n";
    std::fs::write(dir.join("Dockerfile"), text).unwrap();
    engine.docker(&["build", "-t", "built", &dir.display().to_string()]).ok();
    let stat = ["run", "--rm", "built", "stat", "-c", "%u:%g", "/file", "/made"];
    assert_eq!(engine.docker(&stat).ok(), "0:0\n1000:0");
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    engine.docker(&["stop", "-t", "0", "box"]).ok();
    engine.docker(&["start", "box"]).ok();
    assert_eq!(outside(&engine.inspect("box", "{{.State.Pid}}")), ROOT);
    if engine.kind() == Kind::Docker {
        return;
    }
    // Remapped it stays, whoever runs the engine; it can be entered, and is left as it was made.
    engine.engine.kill_daemon();
    engine.engine.restart_daemon();
    assert_eq!(engine.docker(&["exec", "box", "sh", "-c", "id -u; echo x > /after"]).ok(), "0");
    engine.docker(&["rm", "-f", "box"]).ok();
    eventually("nothing runs", || engine.docker(&["ps", "-q"]).ok().is_empty());
}

#[test]
fn users_that_cannot_be_remapped_to() {
    // The daemon says why and ends.
    let refuse = |user: &str, words: &str| {
        let dir = std::env::temp_dir();
        let mut command = std::process::Command::new(seacow_tests::dist().join("seacowd"));
        let name = format!("seacow-t{}-refused", std::process::id());
        command.arg(format!("--data-root={}", dir.join(format!("{name}-d")).display()));
        command.arg(format!("--exec-root={}", dir.join(format!("{name}-e")).display()));
        let done = command
            .arg(format!("--bridge=sc{}", std::process::id()))
            .arg(format!("--userns-remap={user}"))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && told.contains(words), "{user}: {told}");
        for part in ["d", "e"] {
            drop(std::fs::remove_dir_all(dir.join(format!("{name}-{part}"))));
        }
    };
    refuse("nobody-is-called-so", "Error during uid lookup for \"nobody-is-called-so\"");
    refuse("a:b:c", "Invalid user/group specification in --userns-remap: \"a:b:c\"");
    refuse("4000000000", "Uid 4000000000 has no entry in /etc/passwd");
    refuse("daemon:no-such-group", "no such group");
    // Without the grants of the other tests.
    refuse("daemon", "Can't create ID mappings: no subuid ranges found for user \"daemon\"");
}
