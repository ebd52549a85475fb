//! Figures of a fork: how long the source stands still, the first clone, further ones, their memory.
//! Needs root. `cargo run --release -p seacow-fork --example figures`, on a machine with nothing else to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a measurement, run by hand")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{How, PAUSE, Process, World, start, start_watched, target};
use seacow_fork::{Family, Surroundings};

/// A dictionary of 300,000 lists: some 90 MB of CPython's memory.
const PROGRAM: &str = "
import time
data = {i: [i, str(i), float(i)] for i in range(300000)}
n = 0
while True:
    n += 1
    data[n % 300000] = [n, str(n), float(n)]
    print(n)
    time.sleep(0.1)
";
const ROUNDS: usize = 11;
const CLONES: usize = 10;
const MANY: usize = 100;

fn main() {
    let mut source = start(&["/usr/bin/python3", "-c", PROGRAM], How { confined: true, ..How::default() });
    source.lines.number();
    println!("source: CPython, {} resident, confined, one thread", common::status(source.pid, "VmRSS"));
    let mut world = World::new();
    let networks: Vec<_> = (0..MANY).map(|_| World::network()).collect();
    let mut rows = Rows::default();
    for _ in 0..ROUNDS {
        let mut family = Family::new(source.pid);
        rows.fork("snapshot", &mut family, &source, &mut world, &networks);
        source.lines.number();
        rows.fork("kept template", &mut family, &source, &mut world, &networks);
        family.retire(PAUSE).unwrap();
        source.lines.number();
    }
    many(&source, Family::new(source.pid), &mut world, &networks);
    drop(source);
    shadows(&mut rows, &mut world, &networks);
    rows.print();
}

/// The same program with a shadow; and what starting costs with and without one.
fn shadows(rows: &mut Rows, world: &mut World, networks: &[std::os::fd::OwnedFd]) {
    let how = How { confined: true, ..How::default() };
    for _ in 0..ROUNDS {
        let (mut process, watch) = start_watched(&["/usr/bin/sleep", "100"], how);
        let began = Instant::now();
        let doubled = watch.double(&target(&process), &Surroundings::default()).unwrap();
        rows.add("shadow: executing costs, sleep".into(), began.elapsed());
        process.becomes(doubled.clone);
    }
    let (mut source, watch) = start_watched(&["/usr/bin/python3", "-c", PROGRAM], how);
    let began = Instant::now();
    let doubled = watch.double(&target(&source), &Surroundings::default()).unwrap();
    rows.add("shadow: executing costs, python".into(), began.elapsed());
    source.becomes(doubled.clone);
    doubled.watch.end().unwrap();
    source.lines.number();
    let mut family = Family::with_shadow(source.pid, doubled.shadow);
    for _ in 0..ROUNDS {
        rows.fork("shadow", &mut family, &source, world, networks);
        source.lines.number();
        let began = Instant::now();
        drop(world.clone_with_shadow(&family, &networks[0]));
        rows.add("shadow: further clone with a shadow, and its end".into(), began.elapsed());
    }
    many(&source, family, world, networks);
}

#[derive(Default)]
struct Rows {
    rows: Vec<(String, Vec<Duration>)>,
}

impl Rows {
    fn add(&mut self, name: String, took: Duration) {
        match self.rows.iter_mut().find(|row| row.0 == name) {
            Some(row) => row.1.push(took),
            None => self.rows.push((name, vec![took])),
        }
    }

    fn fork(
        &mut self,
        name: &str,
        family: &mut Family,
        source: &Process,
        world: &mut World,
        networks: &[std::os::fd::OwnedFd],
    ) {
        let began = Instant::now();
        let forked = family.fork(&target(source), PAUSE, || Ok(())).unwrap();
        let mut clones = vec![world.clone_of(family, &networks[0])];
        self.add(format!("{name}: source stands still"), forked.pause);
        self.add(format!("{name}: template ready"), forked.ready);
        self.add(format!("{name}: first clone runs"), began.elapsed());
        for network in networks.iter().take(CLONES).skip(1) {
            let began = Instant::now();
            clones.push(world.clone_of(family, network));
            self.add(format!("{name}: further clone"), began.elapsed());
        }
        family.tidy();
        for clone in &mut clones {
            clone.lines.number();
        }
    }

    fn print(&mut self) {
        println!("{:<40} {:>9} {:>9} {:>9}", "ms", "median", "min", "max");
        for (name, took) in &mut self.rows {
            took.sort();
            let ms = |index: usize| took[index].as_secs_f64() * 1000.0;
            println!("{name:<40} {:>9.2} {:>9.2} {:>9.2}", ms(took.len() / 2), ms(0), ms(took.len() - 1));
        }
    }
}

/// Kilobytes that the machine has free.
fn free() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("MemFree:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn many(source: &Process, mut family: Family, world: &mut World, networks: &[std::os::fd::OwnedFd]) {
    let began = Instant::now();
    let path = family.fork(&target(source), PAUSE, || Ok(())).unwrap().path;
    let ready = began.elapsed();
    let before = free();
    let clones: Vec<Process> = networks.iter().map(|network| world.clone_of(&family, network)).collect();
    let took = began.elapsed();
    let used = before.saturating_sub(free()) / MANY as u64;
    println!(
        "{MANY} clones ({path:?}): {:.0} ms after the call, of which template {:.0} ms; {used} kB of the machine's memory each",
        took.as_secs_f64() * 1000.0,
        ready.as_secs_f64() * 1000.0
    );
    drop(clones);
    family.retire(PAUSE).unwrap();
}
