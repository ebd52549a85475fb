//! Freezing, and what comes in between.

mod common;

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use common::*;
use seacow_spec::ErrorClass;
use seacow_spec::shim::{Answer, Request, Stdio, Target};

/// Far less than the time that a shim gives processes to freeze.
const AT_ONCE: Duration = Duration::from_secs(5);

fn kill() -> Request {
    Request::Signal { target: Target::Init, signal: 9, all: false }
}

/// A container whose init does not get out before its many children do.
fn family() -> Shim {
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo up; wait";
    let mut shim = Shim::create(&["sh", "-c", script], &Options::default());
    let mut client = shim.conn.attach(attach(false));
    shim.start();
    read_until(&mut client, "up");
    shim
}

#[test]
fn a_pause_that_meets_a_kill_delays_nothing() {
    if !needs_root() {
        return;
    }
    for round in 0..20 {
        let mut shim = family();
        let begin = Instant::now();
        let first = if round % 2 == 0 { [kill(), Request::Pause] } else { [Request::Pause, kill()] };
        let [one, two] = first.map(|request| shim.conn.send(request, None));
        let (killed, paused) = if round % 2 == 0 { (one, two) } else { (two, one) };
        assert_eq!(shim.conn.answer(killed), Answer::Done);
        match shim.conn.answer(paused) {
            // It was frozen before the kill came.
            Answer::Done => assert_eq!(round % 2, 1),
            Answer::Failed(report) => assert_eq!(report.class, ErrorClass::Conflict, "{report}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(shim.conn.exit().code, 137);
        assert!(begin.elapsed() < AT_ONCE, "round {round}: {:?}", begin.elapsed());
        shim.delete();
    }
}

#[test]
fn a_pause_that_meets_somebody_else_s_kill_is_refused() {
    if !needs_root() {
        return;
    }
    for _ in 0..20 {
        let mut shim = family();
        let begin = Instant::now();
        seacow_sys::process::kill(shim.init, 9).unwrap();
        let refused = shim.conn.refused(Request::Pause);
        assert_eq!(refused.class, ErrorClass::Conflict, "{refused}");
        assert_eq!(shim.conn.exit().code, 137);
        assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
        shim.delete();
    }
}

#[test]
fn what_is_ending_is_not_paused() {
    let freezer = Path::new("/sys/fs/cgroup/freezer");
    if !needs_root() {
        return;
    }
    if !freezer.exists() {
        eprintln!("SKIP: needs cgroup version 1; in version 2 frozen processes die");
        return;
    }
    let stdio = Stdio { open_stdin: true, ..Stdio::default() };
    let mut shim =
        Shim::create(&["sh", "-c", "sleep 1000 & read x"], &Options { stdio, ..Options::default() });
    let mut client = shim.conn.attach(attach(true));
    shim.start();
    eventually("two processes", || shim.conn.pids().len() == 2);
    let child = *shim.conn.pids().iter().find(|pid| **pid != shim.init).unwrap();
    // A child that cannot die: init's way out is as long as we like.
    let held = freezer.join(shim.cgroups_path().trim_start_matches('/')).join("held");
    std::fs::create_dir(&held).unwrap();
    std::fs::write(held.join("cgroup.procs"), child.to_string()).unwrap();
    let state = held.join("freezer.state");
    std::fs::write(&state, "FROZEN").unwrap();
    eventually("the child is frozen", || std::fs::read_to_string(&state).unwrap().trim() == "FROZEN");
    client.write_all(b"\n").unwrap();
    eventually("init is on its way out", || is_exiting(shim.init));
    let begin = Instant::now();
    let refused = shim.conn.refused(Request::Pause);
    assert_eq!(refused.class, ErrorClass::Conflict, "{refused}");
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    std::fs::write(&state, "THAWED").unwrap();
    assert_eq!(shim.conn.exit().code, 0);
    shim.delete();
}

/// Whether a process has the flag PF_EXITING.
fn is_exiting(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let flags = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & 4 != 0)
}
