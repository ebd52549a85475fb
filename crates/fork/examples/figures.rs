//! Figures of a fork: how long the source stands still, the first clone, further ones, their memory.
//! Needs root. `cargo run --release -p seacow-fork --example figures`, on a machine with nothing else to do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a measurement, run by hand")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::{How, PAUSE, Process, World, start, target};
use seacow_fork::Family;

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
    let mut source = start(&["/usr/bin/python3", "-c", PROGRAM], How { confined: true });
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
    rows.print();
    many(&source, &mut world, &networks);
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

fn many(source: &Process, world: &mut World, networks: &[std::os::fd::OwnedFd]) {
    let began = Instant::now();
    let mut family = Family::new(source.pid);
    family.fork(&target(source), PAUSE, || Ok(())).unwrap();
    let ready = began.elapsed();
    let before = free();
    let clones: Vec<Process> = networks.iter().map(|network| world.clone_of(&family, network)).collect();
    let took = began.elapsed();
    let used = before.saturating_sub(free()) / MANY as u64;
    println!(
        "{MANY} clones: {:.0} ms after the call, of which template {:.0} ms; {used} kB of the machine's memory each",
        took.as_secs_f64() * 1000.0,
        ready.as_secs_f64() * 1000.0
    );
    drop(clones);
    family.retire(PAUSE).unwrap();
}
