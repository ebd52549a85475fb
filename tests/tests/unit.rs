//! The units of contrib/systemd, installed as an administrator would: stopping, replacing and
//! killing the daemon never touches a container, and the next daemon finds it again.
//!
//! Only on a machine that may be thrown away (`SEACOW_TEST_THROWAWAY`, `cargo xtask vm systemd`).

use std::fs;
use std::path::Path;
use std::process::Command;

use seacow_tests::{busybox_tar, dist, eventually};

fn run(program: &str, args: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(args).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text.trim().to_owned())
}

#[track_caller]
fn ok(program: &str, args: &[&str]) -> String {
    let (success, text) = run(program, args);
    assert!(success, "{program} {args:?}: {text}");
    text
}

#[track_caller]
fn docker(args: &[&str]) -> String {
    let client = std::env::var("SEACOW_DOCKER").unwrap_or_else(|_| "docker".into());
    let mut all = vec!["-H", "unix:///run/seacow/seacow.sock"];
    all.extend(args);
    ok(&client, &all)
}

#[track_caller]
fn systemctl(args: &[&str]) -> String {
    ok("systemctl", args)
}

/// Puts a file in its place as a package manager does, by rename.
fn place(from: &Path, to: &str) {
    let new = format!("{to}.new");
    fs::copy(from, &new).unwrap();
    fs::rename(new, to).unwrap();
}

fn install() {
    for program in ["seacowd", "seacow-shim", "seacow"] {
        place(&dist().join(program), &format!("/usr/bin/{program}"));
    }
    for unit in ["seacow.service", "seacow.socket"] {
        place(&dist().with_file_name(unit), &format!("/etc/systemd/system/{unit}"));
    }
    systemctl(&["daemon-reload"]);
}

/// Start time of a process: its pid alone could be somebody else's by now.
fn started(pid: &str) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .map(|(_, rest)| rest.split(' ').nth(19).unwrap_or_default().to_owned())
        .unwrap_or_default()
}

fn main_pid() -> String {
    systemctl(&["show", "-P", "MainPID", "seacow.service"])
}

#[test]
fn the_daemon_comes_and_goes_and_containers_stay() {
    if std::env::var_os("SEACOW_TEST_THROWAWAY").is_none() || !Path::new("/run/systemd/system").exists() {
        println!("SKIPPED: needs systemd on a machine that may be thrown away");
        return;
    }
    install();
    // The first request starts the daemon.
    systemctl(&["start", "seacow.socket"]);
    assert_eq!(docker(&["info", "--format", "{{.CgroupDriver}}"]), "systemd");
    docker(&["import", &busybox_tar().to_string_lossy(), "bb"]);
    let count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done";
    docker(&["run", "-d", "--name", "box", "bb", "sh", "-c", count]);
    let pid = docker(&["inspect", "--format", "{{.State.Pid}}", "box"]);
    let born = started(&pid);
    assert!(!born.is_empty());
    let lives_on = |after: &str| {
        assert_eq!(started(&pid), born, "after {after}");
        let seen = docker(&["inspect", "--format", "{{.State.Status}} {{.State.Pid}}", "box"]);
        assert_eq!(seen, format!("running {pid}"), "after {after}");
        assert_eq!(docker(&["exec", "box", "echo", "in"]), "in", "after {after}");
    };
    systemctl(&["stop", "seacow.service"]);
    assert_eq!(run("systemctl", &["is-active", "seacow.service"]).1, "inactive");
    assert_eq!(started(&pid), born, "after the stop");
    systemctl(&["start", "seacow.service"]);
    lives_on("stop and start");
    systemctl(&["restart", "seacow.service"]);
    lives_on("a restart");
    install();
    systemctl(&["restart", "seacow.service"]);
    lives_on("an upgrade");
    let before = main_pid();
    systemctl(&["kill", "--kill-whom=main", "-s", "KILL", "seacow.service"]);
    eventually("systemd starts another daemon", || {
        let now = main_pid();
        now != before && now != "0" && run("systemctl", &["is-active", "seacow.service"]).0
    });
    lives_on("a kill");
    // Nothing of what it said is missing.
    let logs = docker(&["logs", "box"]);
    let numbers: Vec<usize> = logs.lines().map(|line| line.parse().unwrap()).collect();
    assert!(
        numbers.len() > 3 && numbers.iter().enumerate().all(|(at, number)| at + 1 == *number),
        "{numbers:?}"
    );
    docker(&["rm", "-f", "box"]);
    docker(&["rmi", "bb"]);
    systemctl(&["stop", "seacow.socket", "seacow.service"]);
}
