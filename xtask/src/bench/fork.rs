//! `cargo xtask bench fork`: what a fork of a running CPython costs, by every way to its memory.
//!
//! Nobody else does this, so there are no peers: times are the engine's own answers, of a call over one kept
//! connection.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::api::Api;
use super::disk;
use super::memory::Machine;
use super::report::Report;
use super::stats::{Measured, PAUSE, Samples};
use crate::daemon::Daemon;
use crate::leaks::Snapshot;
use crate::{build, packages, shell};

const NAME: &str = "seacow-bench-fork";
const ROUNDS: usize = 7;
/// Clones of one call, of which the first has a row of its own.
const CLONES: u32 = 10;
const MANY: u32 = 100;
/// A dictionary of 300,000 lists: some 90 MB of CPython's memory.
const PROGRAM: &str = "
import time
data = {i: [i, str(i), float(i)] for i in range(300000)}
print('ready', flush=True)
n = 0
while True:
    n += 1
    data[n % 300000] = [n, str(n), float(n)]
    time.sleep(0.1)
";
/// How long a program may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Measures.
pub(super) fn run(args: &[String]) -> Result<()> {
    let (mut rounds, mut fresh) = (ROUNDS, false);
    for arg in args {
        match arg.as_str() {
            "--fresh-disk" => fresh = true,
            text => {
                rounds =
                    text.parse().with_context(|| format!("{text:?} is neither --fresh-disk nor a number"))?;
            }
        }
    }
    let dist = build::given_or_dist()?;
    shell::become_root()?;
    if !disk::is_fresh() {
        packages::ensure(&["python3-minimal", "e2fsprogs"], "what is forked, and its disk")?;
        if fresh {
            return disk::run_on_fresh("fork", args);
        }
    }
    let before = Snapshot::take();
    let mut report = Report::default();
    report.print_machine(&format!("image host: the source's files are the machine's; {}", disk::describe()?));
    {
        let daemon = Daemon::start(&dist, NAME)?;
        let mut bench = Bench { api: Api::open(daemon.socket())?, rows: Vec::new() };
        for _ in 0..rounds {
            for way in &WAYS {
                bench.round(way)?;
            }
        }
        report.table("CPython with 90 MB, 10 clones a call", &bench.rows, None);
        bench.bars(&mut report);
        for (network, bar) in [("none", 250.0), ("bridge", 400.0)] {
            bench.many(network, bar, &mut report)?;
        }
    }
    report.print_bars();
    before.check()
}

/// How a source is run, and what its first fork is called.
struct Way {
    network: &'static str,
    forkable: bool,
    first: &'static str,
}

const WAYS: [Way; 3] = [
    Way { network: "none", forkable: false, first: "snapshot, none" },
    Way { network: "bridge", forkable: false, first: "snapshot, bridge" },
    Way { network: "none", forkable: true, first: "shadow, none" },
];

struct Bench {
    api: Api,
    rows: Vec<Measured>,
}

impl Bench {
    /// A source that has all its memory.
    fn source(&mut self, network: &str, forkable: bool) -> Result<String> {
        let mut host = json!({ "NetworkMode": network });
        if forkable {
            host["Annotations"] = json!({ "seacow.forkable": "true" });
        }
        let request = json!({ "Image": "host", "Cmd": ["python3", "-c", PROGRAM], "HostConfig": host });
        let (body, _) = self.api.call("POST", "/containers/create", &request.to_string())?;
        let answer: Value = serde_json::from_slice(&body)?;
        let id = answer.get("Id").and_then(Value::as_str).context("no Id")?.to_owned();
        self.api.start(&id)?;
        let until = Instant::now() + READY_WITHIN;
        loop {
            let (log, _) = self.api.call("GET", &format!("/containers/{id}/logs?stdout=1"), "")?;
            if String::from_utf8_lossy(&log).contains("ready") {
                break;
            }
            if Instant::now() > until {
                bail!("the source is not ready after {READY_WITHIN:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(PAUSE);
        Ok(id)
    }

    fn fork(&mut self, id: &str, count: u32) -> Result<Value> {
        let (body, _) = self.api.call("POST", &format!("/containers/{id}/fork?count={count}"), "")?;
        Ok(serde_json::from_slice(&body)?)
    }

    fn round(&mut self, way: &Way) -> Result<()> {
        let id = self.source(way.network, way.forkable)?;
        let made = self.fork(&id, CLONES)?;
        self.note(way.first, &made);
        std::thread::sleep(PAUSE);
        if !way.forkable {
            let made = self.fork(&id, CLONES)?;
            let kept = way.first.replace("snapshot", "kept template");
            self.note(&kept, &made);
        }
        self.api.remove_all()?;
        std::thread::sleep(PAUSE);
        Ok(())
    }

    /// Adds what one call took.
    fn note(&mut self, what: &str, made: &Value) {
        let time = |name: &str| made.pointer(&format!("/Times/{name}")).and_then(Value::as_u64).unwrap_or(0);
        let further = time("All").saturating_sub(time("First")) / u64::from(CLONES - 1);
        let rows = [
            ("source stands still", time("Pause")),
            ("memory ready", time("Template")),
            ("first clone runs", time("First")),
            ("each further clone", further),
        ];
        for (row, micros) in rows {
            let name = format!("{what}: {row}");
            let found = self.rows.iter().position(|known| known.what == name);
            let at = found.unwrap_or_else(|| {
                self.rows.push(Measured::new(name));
                self.rows.len() - 1
            });
            if let Ok(samples) = &mut self.rows[at].samples {
                samples.push(Duration::from_micros(micros));
            }
        }
    }

    fn bars(&self, report: &mut Report) {
        let median = |name: &str| self.rows.iter().find(|row| row.what == name)?.median();
        for (name, most) in [
            ("snapshot, none: source stands still", 3.0),
            ("snapshot, none: first clone runs", 70.0),
            ("kept template, none: first clone runs", 8.0),
            ("shadow, none: source stands still", 3.0),
            ("shadow, none: first clone runs", 6.0),
            ("snapshot, none: each further clone", 2.0),
            ("snapshot, bridge: each further clone", 3.5),
        ] {
            report.at_most(name, median(name), most, "ms");
        }
    }

    /// A hundred at once, and what they take of the machine's memory.
    fn many(&mut self, network: &str, bar: f64, report: &mut Report) -> Result<()> {
        let id = self.source(network, true)?;
        let before = Machine::now()?;
        let made = self.fork(&id, MANY)?;
        let all = made.pointer("/Times/All").and_then(Value::as_u64).context("no times")?;
        std::thread::sleep(PAUSE);
        let used = Machine::now()?.used.saturating_sub(before.used);
        let mut own = Samples::default();
        let ids = self.api.list()?.0;
        for clone in ids.iter().filter(|clone| **clone != id) {
            let pid = self.api.pid(clone)?;
            // Kilobytes, in the clothes of milliseconds.
            own.push(Duration::from_millis(private(pid)?));
        }
        self.api.remove_all()?;
        let number = |value: u64| u32::try_from(value).map(f64::from).ok();
        let each = number(used / u64::from(MANY)).map(|kilobytes| kilobytes / 1000.0);
        report.at_most(&format!("100 clones, {network}"), number(all).map(|micros| micros / 1e3), bar, "ms");
        report.at_most(&format!("the machine's memory for each, {network}"), each, 0.7, "MB");
        report.at_most(&format!("own memory of each, {network}"), own.median(), 300.0, "kB");
        Ok(())
    }
}

/// Kilobytes that only this process has.
fn private(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let lines =
        text.lines().filter(|line| line.starts_with("Private_Clean:") || line.starts_with("Private_Dirty:"));
    Ok(lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum())
}
