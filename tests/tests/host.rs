//! The image `host`: the live root file system of this machine.

use seacow_tests::Engine;

#[test]
fn a_throw_away_copy_of_this_machine() {
    let engine = Engine::empty();
    if engine.skip_on_docker() {
        return;
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap();
    assert_eq!(engine.docker(&["run", "--rm", "host", "cat", "/etc/os-release"]).out, release);
    let marker = "/seacow-must-not-appear";
    engine
        .docker(&[
            "run",
            "--name",
            "box",
            "host",
            "sh",
            "-c",
            &format!("touch {marker}; rm /etc/os-release; echo x >> /etc/fstab; ls /"),
        ])
        .ok();
    assert!(!std::path::Path::new(marker).exists());
    assert_eq!(std::fs::read_to_string("/etc/os-release").unwrap(), release);
    let diff = engine.docker(&["diff", "box"]).ok();
    for line in ["C /etc", "C /etc/fstab", "D /etc/os-release", "A /seacow-must-not-appear"] {
        assert!(diff.lines().any(|l| l == line), "{line} not in {diff}");
    }
    assert_eq!(diff.lines().count(), 4, "{diff}");
}

#[test]
fn what_is_not_the_machine_s_own_is_left_out() {
    let engine = Engine::empty();
    if engine.skip_on_docker() {
        return;
    }
    let data = engine.data_root().display().to_string();
    assert_eq!(engine.docker(&["run", "--rm", "host", "ls", "-A", &data]).ok(), "");
    assert_eq!(engine.docker(&["run", "--rm", "host", "ls", "-A", "/tmp"]).ok(), "");
    // The program of the host runs on the container's own /proc and /dev.
    assert_eq!(
        engine.docker(&["run", "--rm", "host", "sh", "-c", "echo $$; test -c /dev/null && echo dev"]).ok(),
        "1\ndev"
    );
}

#[test]
fn builds_stand_on_it_but_do_not_travel() {
    let engine = Engine::empty();
    if engine.skip_on_docker() {
        return;
    }
    let dir = engine.exec_root().join("context");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("Dockerfile"), "FROM host\nRUN echo \"original text\" > /base_file.txt\n")
        .unwrap();
    let path = dir.display().to_string();
    engine.docker(&["build", "-t", "base-image", &path]).ok();
    assert!(engine.docker(&["build", "-t", "base-image", &path]).ok().contains("Using cache"));
    assert_eq!(engine.docker(&["run", "--rm", "base-image", "cat", "/base_file.txt"]).ok(), "original text");
    let tar = dir.join("out.tar").display().to_string();
    engine.docker(&["save", "-o", &tar, "base-image"]).fails(1, "belongs to it: it cannot be saved");
    engine.docker(&["save", "-o", &tar, "host"]).fails(1, "cannot be saved");
}

#[test]
fn not_for_everybody() {
    let engine = Engine::empty();
    if engine.skip_on_docker() {
        return;
    }
    let socket = engine.socket();
    let open = |path: &std::path::Path, mode: u32| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    open(&socket, 0o666);
    open(&engine.exec_root(), 0o755);
    let body = r#"{"Image":"host","Cmd":["true"]}"#;
    let out = std::process::Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "curl",
            "-s",
            "-H",
            "Content-Type: application/json",
        ])
        .arg("--unix-socket")
        .arg(&socket)
        .args(["-d", body, "http://x/containers/create"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("message") && text.contains("root"), "{text} {out:?}");
}
