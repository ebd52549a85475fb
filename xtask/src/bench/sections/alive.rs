//! Many containers alive at once: whether the last ones start as fast as the first, and what each
//! occupies.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::api::Api;
use crate::bench::image::NAME;
use crate::bench::lab::Lab;
use crate::bench::memory::{self, Machine};
use crate::bench::options::Options;
use crate::bench::peers::Engine;
use crate::bench::peers::seacow::Seacow;
use crate::bench::report::Report;
use crate::bench::stats::{Measured, Row, Samples, interleave, measured};

/// dockerd takes minutes for a thousand.
const DOCKER_CONTAINERS: usize = 50;
/// First and last starts that are compared; with fewer containers a tenth of them.
const ENDS: usize = 100;
/// How long the kernel gets to free what removed containers held, before memory is looked at.
const SETTLE: Duration = Duration::from_millis(500);
/// Isolated runs among the living.
const ROUNDS: usize = 10;

/// Memory of a waiting slot, its two processes together, kB.
#[derive(Clone, Copy, Default)]
struct Slot {
    /// What a further slot costs: the memory that is in no file.
    own: Option<f64>,
    /// PSS. Mostly the program's text, divided among the few processes of the pool.
    with_text: Option<f64>,
}

/// Prints what was found and judges the bars.
pub(crate) fn measure(lab: &Lab, options: &Options, report: &mut Report) -> Result<()> {
    let ours = lab.seacow()?;
    let (slots, count) = ours.full_pool()?;
    let of_slots = |sum: u64| kilobytes(sum, count);
    let slot =
        Slot { own: of_slots(memory::anonymous_pss_of(&slots)), with_text: of_slots(memory::pss_of(&slots)) };
    let alone = isolated(ours, "run --rm with no other container alive");
    let crowd = Crowd::start(ours, options.containers)?;
    let among = isolated(ours, &format!("run --rm with {} others alive", options.containers));
    report.table(
        &format!("{} containers alive; create and start by the API, back to back", options.containers),
        &[crowd.first.clone(), crowd.last.clone(), alone.clone(), among.clone()],
        None,
    );
    crowd.print(slot);
    print_lists(ours)?;
    crowd.judge(report, [&alone, &among], slot);
    crowd.remove(ours)?;
    match lab.docker() {
        Ok(docker) => {
            let crowd = Crowd::start(docker, DOCKER_CONTAINERS.min(options.containers))?;
            report.table(
                &format!("the same with dockerd, {} containers: more would take minutes", crowd.count),
                &[crowd.first.clone(), crowd.last.clone()],
                None,
            );
            crowd.print(Slot::default());
            crowd.remove(docker)
        }
        Err(reason) => {
            println!("\nthe same with dockerd: not measured: {reason}");
            Ok(())
        }
    }
}

/// `run --rm IMAGE true` by our client, as section `run` has it.
fn isolated(engine: &Seacow, what: &str) -> Measured {
    let mut rows = [Row::new(what, || engine.client.time(&["run", "--rm", NAME, "true"]))];
    interleave(&mut rows, ROUNDS);
    measured(&rows).remove(0)
}

/// How long lists take with all of them alive.
fn print_lists(engine: &Seacow) -> Result<()> {
    let (ids, elapsed) = Api::open(engine.socket())?.list()?;
    println!("{:<46} {:>8.2} ms for {}", "GET /containers/json", elapsed.as_secs_f64() * 1e3, ids.len());
    let elapsed = engine.client.time(&["ps", "--quiet"])?;
    println!("{:<46} {:>8.2} ms", "seacow ps -q", elapsed.as_secs_f64() * 1e3);
    Ok(())
}

/// Containers of one engine, and what they cost.
struct Crowd {
    name: &'static str,
    count: usize,
    first: Measured,
    last: Measured,
    took: Duration,
    /// kB each.
    machine: Option<f64>,
    available: Option<f64>,
    slab: Option<f64>,
    daemon: Option<f64>,
    shim: Option<f64>,
}

impl Crowd {
    fn start(engine: &dyn Engine, count: usize) -> Result<Self> {
        let mut api = Api::open(engine.socket())?;
        std::thread::sleep(SETTLE);
        let (machine, daemons) = (Machine::now()?, memory::pss_of(&engine.daemons()));
        let start = Instant::now();
        let mut times = Vec::with_capacity(count);
        let mut ids = Vec::with_capacity(count);
        for number in 0..count {
            let (id, time) = one(&mut api).with_context(|| format!("container {} of {count}", number + 1))?;
            times.push(time);
            ids.push(id);
        }
        let took = start.elapsed();
        std::thread::sleep(SETTLE);
        let (after, daemons_after) = (Machine::now()?, memory::pss_of(&engine.daemons()));
        let shims = shims(&mut api, &ids)?;
        let ends = ENDS.min(count.div_ceil(10));
        Ok(Self {
            name: engine.name(),
            count,
            first: samples(&format!("first {ends}"), &times[..ends]),
            last: samples(&format!("last {ends}"), &times[count - ends..]),
            took,
            machine: kilobytes(after.used.saturating_sub(machine.used), count),
            available: kilobytes(machine.available.saturating_sub(after.available), count),
            slab: kilobytes(after.slab.saturating_sub(machine.slab), count),
            daemon: kilobytes(daemons_after.saturating_sub(daemons), count),
            shim: kilobytes(memory::pss_of(&shims), shims.len()),
        })
    }

    fn print(&self, slot: Slot) {
        let seconds = self.took.as_secs_f64();
        println!("{:<46} {seconds:>8.2} s for {} one after the other", "all of them", self.count);
        let line = |what: &str, kilobytes: Option<f64>| {
            if let Some(kilobytes) = kilobytes {
                println!("{what:<46} {kilobytes:>8.1} kB each");
            }
        };
        line("machine: neither free nor page cache", self.machine);
        line("machine: less MemAvailable", self.available);
        line("machine: slab, part of the above", self.slab);
        line(&format!("{} (PSS)", self.name), self.daemon);
        line("shim (PSS)", self.shim);
        line("waiting slot: shim and zygote (PSS, anonymous)", slot.own);
        line("waiting slot: shim and zygote (PSS)", slot.with_text);
    }

    fn judge(&self, report: &mut Report, [alone, among]: [&Measured; 2], slot: Slot) {
        let ratio = |before: &Measured, after: &Measured| Some(after.median()? / before.median()?);
        report.at_most("alive: last starts to first", ratio(&self.first, &self.last), 1.5, "x");
        report.at_most("alive: run --rm among all, to alone", ratio(alone, among), 1.5, "x");
        report.at_most("alive: machine memory each", self.machine.map(|kb| kb / 1024.0), 0.5, "MB");
        report.at_most("alive: daemon each", self.daemon, 10.0, "kB");
        report.at_most("alive: shim PSS", self.shim, 64.0, "kB");
        report.at_most("pool: slot, anonymous PSS", slot.own, 150.0, "kB");
    }

    fn remove(self, engine: &dyn Engine) -> Result<()> {
        let start = Instant::now();
        let count = Api::open(engine.socket())?.remove_all()?;
        let (what, seconds) = (format!("rm -f of all {count}, one after the other"), start.elapsed());
        println!("{what:<46} {:>8.2} s", seconds.as_secs_f64());
        Ok(())
    }
}

/// Creates and starts a container.
fn one(api: &mut Api) -> Result<(String, Duration)> {
    let (id, created) = api.create(NAME, "bridge")?;
    let started = api.start(&id)?;
    Ok((id, created + started))
}

/// The parents of the containers' first processes.
fn shims(api: &mut Api, ids: &[String]) -> Result<Vec<u32>> {
    ids.iter().map(|id| memory::parent(api.pid(id)?)).collect()
}

fn samples(what: &str, times: &[Duration]) -> Measured {
    let mut all = Samples::default();
    times.iter().for_each(|time| all.push(*time));
    Measured { what: what.into(), samples: Ok(all) }
}

#[expect(clippy::cast_precision_loss, reason = "kB of one machine")]
fn kilobytes(total: u64, count: usize) -> Option<f64> {
    (count > 0).then(|| total as f64 / count as f64)
}
