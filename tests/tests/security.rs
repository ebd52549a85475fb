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

/// Docker's words for what AppArmor does, and its deeds; says so where the host has no AppArmor.
#[test]
fn apparmor_confines_by_default_and_on_request() {
    let engine = Engine::start();
    let status = |options: &[&str]| {
        let file =
            "cat /proc/self/attr/apparmor/current 2>/dev/null || cat /proc/self/attr/current 2>/dev/null";
        engine
            .docker(
                &[&["run", "--rm"], options, &["bb", "sh", "-c", &format!("{file} || echo none")]].concat(),
            )
            .ok()
    };
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let info = engine.docker(&["info", "--format", "{{.SecurityOptions}}"]).ok();
    if enabled.is_ok_and(|text| text.starts_with('Y')) {
        assert!(info.contains("name=apparmor"), "{info}");
    } else {
        println!("SKIPPED: no AppArmor in this kernel; only its absence is looked at");
        assert!(!info.contains("name=apparmor"), "{info}");
        engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
        assert_eq!(engine.inspect("box", "{{.AppArmorProfile}}"), "");
        engine.docker(&["run", "--rm", "--security-opt", "apparmor=unconfined", "bb", "true"]).ok();
        return;
    }
    let default = if engine.kind() == Kind::Docker { "docker-default" } else { "seacow-default" };
    let confined = format!("{default} (enforce)");
    assert_eq!(status(&[]), confined);
    assert_eq!(status(&["--security-opt", "apparmor=unconfined"]), "unconfined");
    assert_eq!(status(&["--privileged"]), "unconfined");
    let named = format!("apparmor={default}");
    assert_eq!(status(&["--privileged", "--security-opt", &named]), confined);
    let missing = engine.docker(&["run", "--rm", "--security-opt", "apparmor=seacow-no-such", "bb", "true"]);
    assert_ne!(missing.code, 0, "{missing:?}");
    // exec gets the container's; --privileged does not change it, as in Docker.
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    assert_eq!(engine.inspect("box", "{{.AppArmorProfile}}"), default);
    let own = ["cat", "/proc/self/attr/current"];
    assert_eq!(engine.docker(&[&["exec", "box"][..], &own].concat()).ok(), confined);
    assert_eq!(engine.docker(&[&["exec", "--privileged", "box"][..], &own].concat()).ok(), confined);
    // What only the profile forbids: every capability and no filter, and still no mount.
    let open = [
        "--cap-add",
        "ALL",
        "--security-opt",
        "seccomp=unconfined",
        "--security-opt",
        "systempaths=unconfined",
    ];
    let try_all = "
        mount -t tmpfs none /mnt 2>/dev/null && echo mounted
        (echo 0 >/proc/sys/kernel/panic) 2>/dev/null && echo wrote sys
        (echo h >/proc/sysrq-trigger) 2>/dev/null && echo wrote sysrq
        ls /sys/kernel/security 2>/dev/null | head -1
        echo end";
    let attempt = |more: &[&str]| {
        engine.docker(&[&["run", "--rm"], &open[..], more, &["bb", "sh", "-c", try_all]].concat()).ok()
    };
    assert_eq!(attempt(&[]), "end");
    assert!(attempt(&["--security-opt", "apparmor=unconfined"]).contains("mounted"));
    // The engine ends confined containers: its signals pass.
    engine.docker(&["stop", "-t", "20", "box"]).ok();
    assert!(engine.docker(&["kill", "box"]).code != 0);
}
