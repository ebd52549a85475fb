//! A container's life by the API, over a kept connection: create, start, removal while it runs, and
//! how long after that its last trace is gone.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::Value;

use crate::bench::api::Api;
use crate::bench::image::NAME;
use crate::bench::lab::Lab;
use crate::bench::options::Options;
use crate::bench::peers::Engine;
use crate::bench::report::Report;
use crate::bench::stats::{Measured, PAUSE};
use crate::bench::traces::{Traces, links};

/// What is timed, and what ours may take, in ms.
const STEPS: [(&str, f64); 5] = [
    ("create", 0.5),
    ("start, right after create", 0.7),
    ("start, after a pause", 0.7),
    ("rm -f of a running container", 1.0),
    ("from there until its last trace is gone", 200.0),
];
const CREATE: usize = 0;
const START_AT_ONCE: usize = 1;
const START_LATER: usize = 2;
const REMOVE: usize = 3;
const GONE: usize = 4;

/// Prints a table for each step and judges the bars.
pub(crate) fn measure(lab: &Lab, options: &Options, report: &mut Report) -> Result<()> {
    let mut engines = [Lives::new(Ok(lab.seacow()?)), Lives::new(lab.docker().map(|docker| docker as _))];
    for round in 0..=options.rounds {
        for lives in &mut engines {
            lives.both(round > 0);
        }
    }
    for (step, (what, most)) in STEPS.into_iter().enumerate() {
        let rows: Vec<Measured> = engines.iter().map(|lives| lives.rows[step].clone()).collect();
        report.table(&format!("API, bridge: {what}; ratio: to dockerd"), &rows, Some(1));
        report.at_most(&format!("API: {what}"), rows[0].median(), most, "ms");
    }
    Ok(())
}

/// One engine's containers.
struct Lives<'a> {
    engine: Option<&'a dyn Engine>,
    rows: [Measured; STEPS.len()],
}

impl<'a> Lives<'a> {
    fn new(engine: Result<&'a dyn Engine, String>) -> Self {
        let mut rows =
            STEPS.map(|_| Measured::new(engine.as_ref().map_or("dockerd", |engine| engine.name())));
        if let Err(reason) = &engine {
            rows.iter_mut().for_each(|row| row.samples = Err(reason.clone()));
        }
        Self { engine: engine.ok(), rows }
    }

    /// One container that is started at once, and one that is started later.
    fn both(&mut self, count: bool) {
        let Some(engine) = self.engine else { return };
        if let Err(error) = self.at_once(engine, count).and_then(|()| self.later(engine, count)) {
            self.engine = None;
            self.rows.iter_mut().for_each(|row| row.samples = Err(format!("{error:#}")));
        }
    }

    fn at_once(&mut self, engine: &dyn Engine, count: bool) -> Result<()> {
        let mut api = Api::open(engine.socket())?;
        std::thread::sleep(PAUSE);
        let before = links(engine.pid());
        let (id, created) = api.create(NAME, "bridge")?;
        let started = api.start(&id)?;
        std::thread::sleep(PAUSE);
        let traces = traces(engine, &mut api, &id, &before)?;
        std::thread::sleep(PAUSE);
        let removed = api.remove(&id)?;
        let gone = traces.await_gone()?;
        for (step, time) in [(CREATE, created), (START_AT_ONCE, started), (REMOVE, removed), (GONE, gone)] {
            self.push(step, time, count);
        }
        Ok(())
    }

    fn later(&mut self, engine: &dyn Engine, count: bool) -> Result<()> {
        let mut api = Api::open(engine.socket())?;
        std::thread::sleep(PAUSE);
        let (id, created) = api.create(NAME, "bridge")?;
        std::thread::sleep(PAUSE);
        let started = api.start(&id)?;
        self.push(CREATE, created, count);
        self.push(START_LATER, started, count);
        api.remove(&id).map(drop)
    }

    fn push(&mut self, step: usize, time: std::time::Duration, count: bool) {
        if let Ok(samples) = &mut self.rows[step].samples
            && count
        {
            samples.push(time);
        }
    }
}

/// What is seen of the running container. Ours names links after the endpoint; another engine's is the
/// one that was not there `before`.
fn traces(engine: &dyn Engine, api: &mut Api, id: &str, before: &BTreeSet<String>) -> Result<Traces> {
    let inspect = api.inspect(id)?;
    let pid = api.pid(id)?;
    let now = links(engine.pid());
    let endpoint = inspect.pointer("/NetworkSettings/Networks/bridge/EndpointID").and_then(Value::as_str);
    let own = endpoint.and_then(|id| Some(format!("sc{}", id.get(..12)?)));
    let link = own.filter(|own| now.contains(own)).or_else(|| now.difference(before).next().cloned());
    Traces::of(engine.pid(), id, pid, link, engine.directories(id, &inspect))
}
