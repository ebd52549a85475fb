//! Limits of the daemon itself and of what it starts.

use seacow_tests::Engine;

#[test]
fn the_daemon_takes_all_open_files_it_may_and_containers_get_what_it_had_before() {
    let mut engine = Engine::start();
    // Docker does so from the version on whose Go restores the limit for children (1.20.4).
    if engine.skip_on_docker() {
        return;
    }
    engine.stop_daemon();
    engine.restart_daemon_through(&["prlimit", "--nofile=600:4000"]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", engine.daemon_pid())).unwrap();
    let files: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3..5], ["4000", "4000"]);
    let show = ["sh", "-c", "ulimit -Sn; ulimit -Hn"];
    let run = |options: &[&str]| engine.docker(&[&["run", "--rm"], options, &["bb"], &show].concat()).ok();
    assert_eq!(run(&[]), "600\n4000");
    // The cold way, which this option goes.
    assert_eq!(run(&["--network=host"]), "600\n4000");
    assert_eq!(run(&["--ulimit=nofile=100:200"]), "100\n200");
    engine.docker(&["run", "-d", "--name", "box", "bb", "sleep", "1000"]).ok();
    assert_eq!(engine.docker(&[&["exec", "box"][..], &show].concat()).ok(), "600\n4000");
}
