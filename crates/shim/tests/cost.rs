//! What a shim costs. Prints; asserts only the memory bound that the design promises.

mod common;

use std::time::{Duration, Instant};

use common::*;
use seacow_spec::shim::{Answer, Request};

/// Proportional set size of an idle shim, kilobytes, in an optimised build (docs: design).
const PSS_BOUND: u64 = 64;
const MANY: usize = 100;

/// Only the optimised static binary is held to its bound: SEACOW_SHIM names it.
fn is_small() -> bool {
    std::env::var_os("SEACOW_SHIM").is_some()
}

#[test]
fn a_hundred_idle_shims() {
    if !needs_root() {
        return;
    }
    let mut shims: Vec<Shim> = (0..MANY)
        .map(|_| Shim::run(&["sleep", "1000"], &Options { log: Some((1 << 20, 2)), ..Options::default() }))
        .collect();
    let mean = |shims: &[Shim]| {
        shims.iter().map(|shim| kilobytes(shim.child.id(), "smaps_rollup", "Pss:")).sum::<u64>()
            / shims.len() as u64
    };
    // Longer than a shim waits before it gives memory back.
    std::thread::sleep(Duration::from_millis(500));
    let fresh = mean(&shims);
    // Work must not stay in memory.
    for shim in &mut shims {
        let script = "head -c 300000 /dev/zero; sleep 0.01";
        let (_, client) = shim.conn.exec(exec(&["sh", "-c", script], Default::default()));
        assert_eq!(demultiplex(&mut client.unwrap()).0.len(), 300_000);
        shim.conn.status();
    }
    std::thread::sleep(Duration::from_millis(500));
    let after_work = mean(&shims);
    eprintln!("PSS of {MANY} idle shims, mean: {fresh} kB fresh, {after_work} kB after an exec each");
    if is_small() {
        assert!(fresh <= PSS_BOUND && after_work <= PSS_BOUND);
    }
    for shim in shims {
        shim.delete();
    }
}

#[test]
fn from_spawn_to_exit() {
    if !needs_root() {
        return;
    }
    let rounds = 50;
    let mut laps: Vec<[Duration; 5]> = Vec::new();
    for _ in 0..rounds {
        // Isolated starts: back-to-back loops hide RCU grace periods.
        std::thread::sleep(Duration::from_millis(10));
        let begin = Instant::now();
        let mut shim = Shim::spawn();
        let spawned = begin.elapsed();
        shim.prepare(&Options::default());
        let prepared = begin.elapsed();
        let create = shim.create_request(&["/bin/true"], &Options::default());
        assert!(matches!(shim.conn.ask(Request::Create(Box::new(create))), Answer::Created { .. }));
        let created = begin.elapsed();
        shim.start();
        let started = begin.elapsed();
        shim.conn.exit();
        laps.push([spawned, prepared, created, started, begin.elapsed()]);
        shim.delete();
    }
    for (at, name) in ["spawned and greeted", "prepared", "created", "started", "exited"].iter().enumerate() {
        let mut times: Vec<Duration> = laps.iter().map(|lap| lap[at]).collect();
        times.sort();
        eprintln!(
            "{name:>20}: p50 {:>7.3} ms, p90 {:>7.3} ms",
            ms(times[rounds / 2]),
            ms(times[rounds * 9 / 10])
        );
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[test]
fn throughput_of_output() {
    if !needs_root() {
        return;
    }
    let bytes: usize = 200 << 20;
    for (what, log) in [("client alone", None), ("client and log", Some((50 << 20, 2)))] {
        // Lines of 4 kB: what a chatty program's log is made of costs more per byte.
        let script = format!("yes {} | head -c {bytes}", "x".repeat(4000));
        let mut shim = Shim::create(&["sh", "-c", &script], &Options { log, ..Options::default() });
        let mut client = shim.conn.attach(attach(false));
        let begin = Instant::now();
        shim.start();
        assert_eq!(demultiplex(&mut client).0.len(), bytes);
        let seconds = begin.elapsed().as_secs_f64();
        eprintln!("{what}: {:.0} MB/s", bytes as f64 / 1e6 / seconds);
        shim.conn.exit();
        shim.delete();
    }
}
