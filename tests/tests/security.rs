//! The boundary.

use seacow_tests::{Engine, Kind};

#[test]
fn docker_s_defaults() {
    let engine = Engine::start();
    let sh = |script: &str| engine.docker(&["run", "--rm", "bb", "sh", "-c", script]).ok();
    let status =
        sh("grep -E '^(CapBnd|CapEff|CapPrm|CapAmb|Seccomp|NoNewPrivs):' /proc/self/status | tr '\\t' ' '");
    for line in [
        "CapPrm: 00000000a80425fb",
        "CapEff: 00000000a80425fb",
        "CapBnd: 00000000a80425fb",
        "CapAmb: 0000000000000000",
        "Seccomp: 2",
        "NoNewPrivs: 0",
    ] {
        assert!(status.lines().any(|l| l == line), "{line} not in {status}");
    }
    assert_ne!(sh("mount -t tmpfs none /tmp 2>/dev/null; echo $?"), "0");
    assert_eq!(sh("echo x 2>/dev/null > /proc/sysrq-trigger || echo no"), "no");
    assert_eq!(sh("echo x 2>/dev/null > /proc/sys/kernel/core_pattern || echo no"), "no");
    assert_eq!(
        sh(
            "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c; ls /sys/firmware 2>/dev/null | wc -l"
        ),
        "0\n0"
    );
    assert_eq!(sh("touch /sys/x 2>/dev/null || echo no"), "no");
    assert_eq!(
        sh("ls /dev | sort | tr '\\n' ' '").replace("console ", "").replace("core ", ""),
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    assert_eq!(
        sh(
            "mknod /tmp/disk b 254 0 2>/dev/null && cat /tmp/disk >/dev/null 2>&1 && echo readable || echo no"
        ),
        "no"
    );
    assert_eq!(sh("unshare -U true 2>/dev/null && echo made || echo no"), "no");
}

#[test]
fn more_and_less_on_request() {
    let engine = Engine::start();
    let eff = |args: &[&str]| {
        let mut all = vec!["run", "--rm"];
        all.extend(args);
        all.extend(["bb", "sh", "-c", "grep CapEff /proc/self/status | cut -f2"]);
        engine.docker(&all).ok()
    };
    assert_eq!(eff(&["--cap-drop", "ALL"]), "0000000000000000");
    assert_eq!(eff(&["--cap-drop", "ALL", "--cap-add", "CHOWN"]), "0000000000000001");
    assert_eq!(eff(&["--cap-add", "NET_ADMIN"]), "00000000a80435fb");
    assert_eq!(eff(&["-u", "user"]), "0000000000000000");
    engine.docker(&["run", "--rm", "--cap-add", "NONSENSE", "bb", "true"]).code(125);
    let status = |args: &[&str], field: &str| {
        let mut all = vec!["run", "--rm"];
        all.extend(args);
        let script = format!("grep ^{field}: /proc/self/status | cut -f2");
        all.extend(["bb", "sh", "-c", &script]);
        engine.docker(&all).ok()
    };
    assert_eq!(status(&["--security-opt", "no-new-privileges"], "NoNewPrivs"), "1");
    assert_eq!(status(&["--security-opt", "seccomp=unconfined"], "Seccomp"), "0");
}

#[test]
fn nothing_of_the_engine_is_open_in_the_container() {
    let engine = Engine::start();
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    assert_eq!(engine.docker(&["exec", "box", "ls", "/proc/1/fd"]).ok(), "0\n1\n2");
    let open = engine.docker(&["exec", "box", "ls", "/proc/self/fd"]).ok();
    assert!(open.split_whitespace().count() <= 4, "{open}");
    // CVE-2024-21626: a working directory through a leaked descriptor.
    for fd in 3..20 {
        let dir = format!("/proc/self/fd/{fd}");
        let done = engine.docker(&["run", "--rm", "-w", &dir, "bb", "ls", "../../../../etc/debian_version"]);
        assert_ne!(done.code, 0, "{done:?}");
    }
}

/// CVE-2019-5736: a container that names `/proc/self/exe` as its program gets hold of the binary that
/// entered it, and overwrites it on the host once nobody runs it any more.
#[test]
fn the_engine_s_binary_cannot_be_overwritten_from_inside() {
    let engine = Engine::start();
    if engine.skip_on_docker() {
        return;
    }
    let shim = seacow_tests::dist().join("seacow-shim");
    let before = std::fs::read(&shim).unwrap();
    let file = engine.exec_root().join("evil");
    std::fs::write(&file, "#!/proc/self/exe\n").unwrap();
    engine.docker(&["create", "--name", "box", "bb", "/evil"]).ok();
    engine.docker(&["cp", &file.display().to_string(), "box:/evil"]).ok();
    assert_ne!(engine.docker(&["start", "-a", "box"]).code, 0);
    // Holds on to whatever enters, and writes to it again and again.
    let attack = "while :; do for p in /proc/[0-9]*; do (exec 9<$p/exe; echo owned >/proc/self/fd/9) 2>/dev/null; done; done";
    engine.docker(&["run", "-d", "--name", "two", "bb", "sh", "-c", attack]).ok();
    for _ in 0..20 {
        engine.docker(&["exec", "two", "/proc/self/exe", "--version"]);
        engine.docker(&["exec", "two", "true"]).ok();
    }
    engine.docker(&["rm", "-f", "two"]).ok();
    assert!(std::fs::read(&shim).unwrap() == before, "the shim's binary was changed from inside a container");
    // What runs in place of the file cannot be written to by anybody.
    engine.docker(&["run", "-d", "--name", "three", "bb", "sleep", "1000"]).ok();
    let pid = engine.inspect("three", "{{.State.Pid}}");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().to_owned();
    let runs = std::fs::read_link(format!("/proc/{parent}/exe")).unwrap();
    assert!(runs.to_string_lossy().starts_with("/memfd:"), "{}", runs.display());
}

/// Options for a host with SELinux pass on one without, as with dockerd, and so does the daemon's flag.
#[test]
fn labels_are_for_hosts_that_have_them() {
    if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        return println!("SKIPPED: SELinux is on here");
    }
    let engine = Engine::start_with(&["--selinux-enabled"]);
    for option in ["label=disable", "label=type:container_t", "label=level:s0:c1,c2"] {
        engine.docker(&["run", "--rm", "--security-opt", option, "bb", "true"]).ok();
    }
    let info = engine.docker(&["info", "--format", "{{.SecurityOptions}}"]).ok();
    assert!(!info.contains("selinux"), "{info}");
    engine.docker(&["run", "--rm", "-v", "named:/v:z", "-v", "/tmp:/t:ro,Z", "bb", "true"]).ok();
}

/// Whether this kernel has AppArmor on.
fn has_apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// What confines a process of a new container with these options.
fn confinement(engine: &Engine, options: &[&str]) -> String {
    let script = "cat /proc/self/attr/apparmor/current 2>/dev/null || cat /proc/self/attr/current 2>/dev/null || echo none";
    engine.docker(&[&["run", "--rm"], options, &["bb", "sh", "-c", script]].concat()).ok()
}

fn default_profile(engine: &Engine) -> &'static str {
    if engine.kind() == Kind::Docker { "docker-default" } else { "seacow-default" }
}

#[test]
fn without_apparmor_nothing_is_said_of_it() {
    let engine = Engine::start();
    if has_apparmor() {
        return println!("SKIPPED: AppArmor is on here");
    }
    let info = engine.docker(&["info", "--format", "{{.SecurityOptions}}"]).ok();
    assert!(!info.contains("name=apparmor"), "{info}");
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    assert_eq!(engine.inspect("box", "{{.AppArmorProfile}}"), "");
    engine.docker(&["run", "--rm", "--security-opt", "apparmor=unconfined", "bb", "true"]).ok();
}

/// Docker's words for what AppArmor does, and its deeds.
#[test]
fn apparmor_confines_by_default_and_on_request() {
    if !has_apparmor() {
        return println!("SKIPPED: needs AppArmor in the kernel");
    }
    let engine = Engine::start();
    let info = engine.docker(&["info", "--format", "{{.SecurityOptions}}"]).ok();
    assert!(info.contains("name=apparmor"), "{info}");
    let default = default_profile(&engine);
    let confined = format!("{default} (enforce)");
    assert_eq!(confinement(&engine, &[]), confined);
    assert_eq!(confinement(&engine, &["--security-opt", "apparmor=unconfined"]), "unconfined");
    assert_eq!(confinement(&engine, &["--privileged"]), "unconfined");
    let named = format!("apparmor={default}");
    assert_eq!(confinement(&engine, &["--privileged", "--security-opt", &named]), confined);
    // exec gets the container's; --privileged does not change it, as in Docker.
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    assert_eq!(engine.inspect("box", "{{.AppArmorProfile}}"), default);
    let own = ["cat", "/proc/self/attr/current"];
    assert_eq!(engine.docker(&[&["exec", "box"][..], &own].concat()).ok(), confined);
    assert_eq!(engine.docker(&[&["exec", "--privileged", "box"][..], &own].concat()).ok(), confined);
    // The engine ends confined containers: its signals pass.
    engine.docker(&["stop", "-t", "20", "box"]).ok();
    assert!(engine.docker(&["kill", "box"]).code != 0);
}

/// What only the profile forbids: every capability and no filter, and still no mount.
#[test]
fn apparmor_holds_where_nothing_else_does() {
    if !has_apparmor() {
        return println!("SKIPPED: needs AppArmor in the kernel");
    }
    let engine = Engine::start();
    let open = [
        "--cap-add",
        "ALL",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "systempaths=unconfined",
    ];
    // Zero is what the setting is; `h` prints help into the kernel's log.
    let try_all = "
        mount -t tmpfs none /tmp 2>/dev/null && echo mounted
        (echo 0 >/proc/sys/kernel/panic) 2>/dev/null && echo wrote sys
        (echo h >/proc/sysrq-trigger) 2>/dev/null && echo wrote sysrq
        ls /sys/kernel/security 2>/dev/null | head -1
        echo end";
    let attempt = |more: &[&str]| {
        engine.docker(&[&["run", "--rm"], &open[..], more, &["bb", "sh", "-c", try_all]].concat()).ok()
    };
    assert_eq!(attempt(&[]), "end");
    let unconfined = attempt(&["--security-opt", "apparmor=unconfined"]);
    assert!(unconfined.contains("mounted") && unconfined.contains("wrote sysrq"), "{unconfined}");
}

/// A profile of the administrator's, loaded while the test runs.
struct Profile(String);

impl Profile {
    fn load(name: &str, rules: &str) -> Self {
        let profile = Self(format!("profile {name} flags=(attach_disconnected) {{\n{rules}\n}}\n"));
        profile.parse("--replace");
        profile
    }

    fn parse(&self, verb: &str) {
        use std::io::Write as _;
        let mut parser = std::process::Command::new("apparmor_parser")
            .args([verb, "--skip-cache"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        parser.stdin.take().unwrap().write_all(self.0.as_bytes()).unwrap();
        assert!(parser.wait().unwrap().success(), "{}", self.0);
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        self.parse("--remove");
    }
}

#[test]
fn apparmor_profiles_of_one_s_own() {
    if !has_apparmor() {
        return println!("SKIPPED: needs AppArmor in the kernel");
    }
    let engine = Engine::start();
    let name = format!("{}-own", engine.name());
    let option = format!("apparmor={name}");
    let refused = engine.docker(&["run", "--name", "box", "--security-opt", &option, "bb", "true"]);
    refused.code(125);
    if engine.kind() == Kind::Seacow {
        refused.fails(125, &format!("AppArmor profile {name:?}")).fails(125, "No such file");
    }
    let profile = Profile::load(&name, "file,\ncapability,\nnetwork,\nsignal,\ndeny /etc/passwd rw,");
    // It is there now: the same container starts.
    engine.docker(&["start", "box"]).ok();
    assert_eq!(engine.inspect("box", "{{.AppArmorProfile}}"), name);
    assert_eq!(confinement(&engine, &["--security-opt", &option]), format!("{name} (enforce)"));
    let read = ["cat", "/etc/passwd"];
    let denied = engine.docker(&[&["run", "--rm", "--security-opt", &option, "bb"][..], &read].concat());
    denied.fails(1, "Permission denied");
    engine.docker(&[&["run", "--rm", "bb"][..], &read].concat()).ok();
    engine.docker(&["wait", "box"]).ok();
    drop(profile);
}
