//! Pause, limits, signals to everybody.

mod common;

use std::io::Read;

use common::*;
use seacow_spec::ErrorClass;
use seacow_spec::lifecycle::State;
use seacow_spec::oci::runtime::{LinuxResources, Memory, Pids};
use seacow_spec::shim::{Answer, Request, Stdio, Target};

#[test]
fn a_paused_container_stands_still_and_goes_on() {
    if !needs_root() {
        return;
    }
    let mut shim =
        Shim::create(&["sh", "-c", "while :; do echo tick; sleep 0.01; done"], &Options::default());
    let mut client = shim.conn.attach(attach(false));
    shim.start();
    read_until(&mut client, "tick");
    shim.conn.done(Request::Pause);
    assert!(matches!(shim.conn.status().state, Some(State::Paused { pid, .. }) if pid == shim.init));
    client.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    // What was on its way comes; then nothing more does.
    let mut bytes = [0; 4096];
    while client.read(&mut bytes).is_ok() {}
    assert!(client.read(&mut bytes).is_err(), "it ticks");
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    shim.conn.done(Request::Resume);
    read_until(&mut client, "tick");
    assert_eq!(shim.conn.refused(Request::Resume).class, ErrorClass::Conflict);
    // A frozen process is killed at once all the same.
    shim.conn.done(Request::Pause);
    shim.conn.signal(9);
    assert_eq!(shim.conn.exit().code, 137);
    shim.delete();
}

#[test]
fn limits_change_while_it_runs() {
    if !needs_root() {
        return;
    }
    let mut shim = Shim::run(&["sleep", "1000"], &Options::default());
    let resources = LinuxResources {
        memory: Some(Memory { limit: Some(64 << 20), ..Default::default() }),
        pids: Some(Pids { limit: 3 }),
        ..Default::default()
    };
    shim.conn.done(Request::Update { resources: Box::new(resources) });
    let script = "for i in 1 2 3 4 5; do sleep 1 & done; wait";
    let (id, client) = shim.conn.exec(exec(&["sh", "-c", script], Stdio::default()));
    let (_, err) = demultiplex(&mut client.unwrap());
    assert!(String::from_utf8(err).unwrap().contains("fork"), "no limit of processes");
    assert_ne!(shim.conn.exec_exit(&id).code, 0);
    let (id, client) = shim.conn.exec(exec(&["tail", "/dev/zero"], Stdio::default()));
    demultiplex(&mut client.unwrap());
    assert_eq!(shim.conn.exec_exit(&id).code, 137);
    shim.delete();
}

#[test]
fn a_signal_to_all_reaches_children_and_execs() {
    if !needs_root() {
        return;
    }
    let script = "trap 'echo init; exit 3' USR1; touch /tmp/ready; sleep 1000 & while :; do wait; done";
    let mut shim = Shim::run(&["sh", "-c", script], &Options::default());
    let ready = shim.dir.path().join("upper/tmp/ready");
    let (_, client) = shim.conn.exec(exec(&["sleep", "1000"], Stdio::default()));
    drop(client.unwrap());
    eventually("three processes", || ready.exists() && shim.conn.pids().len() == 3);
    shim.conn.done(Request::Signal { target: Target::Init, signal: 10, all: true });
    assert_eq!(shim.conn.exit().code, 3);
    shim.delete();
}

#[test]
fn real_time_signals_and_impossible_ones() {
    if !needs_root() {
        return;
    }
    let mut shim = Shim::run(&["sleep", "1000"], &Options::default());
    let (id, client) = shim.conn.exec(exec(&["sleep", "1000"], Stdio::default()));
    drop(client.unwrap());
    let signal = |signal| Request::Signal { target: Target::Exec(id.clone()), signal, all: false };
    assert!(matches!(shim.conn.ask(signal(65)), Answer::Failed(_)));
    shim.conn.done(signal(0));
    shim.conn.done(signal(37));
    assert_eq!(shim.conn.exec_exit(&id).code, 128 + 37);
    assert_eq!(shim.conn.refused(signal(15)).class, ErrorClass::Conflict);
    shim.delete();
}

#[test]
fn a_supervisors_term_to_the_shim_is_passed_on() {
    if !needs_root() {
        return;
    }
    let script = "trap 'exit 4' TERM; echo up; while :; do sleep 0.02; done";
    let mut shim = Shim::create(&["sh", "-c", script], &Options::default());
    let mut client = shim.conn.attach(attach(false));
    shim.start();
    read_until(&mut client, "up");
    let pid = i32::try_from(shim.child.id()).unwrap();
    for signal in [1, 2, 15] {
        seacow_sys::process::kill(pid, signal).unwrap();
    }
    assert_eq!(shim.conn.exit().code, 4);
    shim.delete();
}
