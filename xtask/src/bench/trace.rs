//! Where the time of a start goes, from outside (client started, client ended) and by the marks that
//! the engine sets on its way.
//!
//! The daemon logs its marks at level trace, one line each, with the time to the microsecond; they
//! are laid over the client's own times. Writing them costs some 10 µs each, so sums are a little
//! above what section `run` shows.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use super::image::NAME;
use super::lab::Lab;
use super::options::Options;
use super::peers::seacow::Seacow;
use super::stats::PAUSE;

const DAY: u64 = 86_400_000_000;
/// How long lines that a start left may take into the log.
const SETTLE: Duration = Duration::from_millis(20);

/// Traces warm and cold starts.
pub(crate) fn print(lab: &Lab, options: &Options) -> Result<()> {
    for (what, engine) in [("warm", lab.seacow()?), ("empty pool", lab.cold()?)] {
        println!(
            "\nseacow run --rm, bridge, {what}: µs since the client was started, {} rounds",
            options.rounds
        );
        println!("{:<46} {:>8} {:>8} {:>8}", "", "p10", "median", "p90");
        let mut steps: Vec<(String, Vec<u64>)> = trace(engine, options.rounds)?.into_iter().collect();
        steps.iter_mut().for_each(|(_, times)| times.sort_unstable());
        steps.sort_by_key(|(_, times)| times[times.len() / 2]);
        for (step, times) in steps {
            let at = |tenths: usize| times[(times.len() - 1) * tenths / 10];
            println!("{step:<46} {:>8} {:>8} {:>8}", at(1), at(5), at(9));
        }
    }
    Ok(())
}

fn trace(engine: &Seacow, rounds: usize) -> Result<BTreeMap<String, Vec<u64>>> {
    let mut steps: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for round in 0..=rounds {
        std::thread::sleep(PAUSE);
        let before = engine.log().len();
        let start = now()?;
        let elapsed = engine.client.time(&["run", "--rm", NAME, "true"])?;
        let end = u64::try_from(elapsed.as_micros())?;
        std::thread::sleep(SETTLE);
        if round == 0 {
            continue;
        }
        let log = engine.log();
        let marks = log.get(before..).unwrap_or_default().lines().filter_map(mark);
        let since = marks.map(|(at, step)| ((at + DAY - start) % DAY, step));
        // What comes later is the pool being filled again.
        for (at, step) in since.filter(|(at, _)| *at <= end) {
            steps.entry(step.to_owned()).or_default().push(at);
        }
        steps.entry("client: ended".into()).or_default().push(end);
    }
    Ok(steps)
}

/// Microseconds of the day (UTC), and what was reached then.
fn mark(line: &str) -> Option<(u64, &str)> {
    let (time, rest) = line.split_once('Z')?;
    let step = rest.trim_start().strip_prefix("TRACE ")?;
    let is_mark =
        ["create: ", "start: ", "prepare: ", "exit: "].iter().any(|prefix| step.starts_with(prefix));
    let mut clock = time.split_once('T')?.1.splitn(3, ':');
    let (hours, minutes) = (clock.next()?.parse::<u64>().ok()?, clock.next()?.parse::<u64>().ok()?);
    let (seconds, fraction) = clock.next()?.split_once('.')?;
    let seconds = hours * 3600 + minutes * 60 + seconds.parse::<u64>().ok()?;
    let micros = format!("{fraction:0<6}").get(..6)?.parse::<u64>().ok()?;
    is_mark.then_some((seconds * 1_000_000 + micros, step))
}

fn now() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970")?;
    Ok(u64::try_from(since.as_micros())? % DAY)
}

#[cfg(test)]
mod tests {
    use super::mark;

    #[test]
    fn marks_are_told_from_other_lines() {
        let line = "2026-11-21T00:01:02.000345Z TRACE create: snapshot made";
        assert_eq!(mark(line), Some((62_000_345, "create: snapshot made")));
        for other in ["2026-11-21T00:01:02.000345Z  INFO create: x", "TRACE create: x", "", "x"] {
            assert_eq!(mark(other), None, "{other}");
        }
        assert_eq!(mark("2026-11-21T00:01:02.000345Z TRACE start a shim id=1"), None);
    }
}
