//! Tables, and bars with what was reached.

use super::stats::Measured;

/// What is collected over all sections.
#[derive(Debug, Default)]
pub(crate) struct Report {
    bars: Vec<Bar>,
}

#[derive(Debug)]
struct Bar {
    what: String,
    limit: String,
    /// Nothing when it could not be measured.
    measured: Option<String>,
    reached: bool,
}

impl Report {
    /// On what all of this was measured.
    pub(crate) fn print_machine(&self, disk: &str) {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        println!("Linux {}, {cpus} processors", read("/proc/sys/kernel/osrelease").trim());
        println!("{disk}");
        println!("load before: {}", read("/proc/loadavg").trim());
    }

    /// A table of times in milliseconds; the last column compares with row `base`.
    pub(crate) fn table(&self, title: &str, rows: &[Measured], base: Option<usize>) {
        println!("\n{title}");
        println!("{:<46} {:>8} {:>8} {:>8} {:>8}", "ms", "p10", "median", "p90", "ratio");
        let base = base.and_then(|row| rows.get(row)?.median());
        for row in rows {
            let samples = match &row.samples {
                Ok(samples) => samples,
                Err(reason) => {
                    println!("{:<46} not measured: {reason}", row.what);
                    continue;
                }
            };
            let at = |q| samples.quantile(q).unwrap_or(f64::NAN);
            let ratio = match (base, row.median()) {
                (Some(base), Some(median)) => format!("{:.1}x", base / median),
                _ => String::new(),
            };
            println!("{:<46} {:>8.2} {:>8.2} {:>8.2} {ratio:>8}", row.what, at(0.1), at(0.5), at(0.9));
        }
    }

    /// A bar on a value that must not be above `most`.
    pub(crate) fn at_most(&mut self, what: &str, value: Option<f64>, most: f64, unit: &str) {
        self.bars.push(Bar {
            what: what.into(),
            limit: format!("≤ {most} {unit}"),
            measured: value.map(|value| format!("{value:.2} {unit}")),
            reached: value.is_some_and(|value| value <= most),
        });
    }

    /// A bar on a value that must not be below `least`.
    pub(crate) fn at_least(&mut self, what: &str, value: Option<f64>, least: f64, unit: &str) {
        self.bars.push(Bar {
            what: what.into(),
            limit: format!("≥ {least} {unit}"),
            measured: value.map(|value| format!("{value:.1} {unit}")),
            reached: value.is_some_and(|value| value >= least),
        });
    }

    /// A bar that is reached by the time itself or by the ratio to a peer of the same run.
    pub(crate) fn time_or_ratio(
        &mut self,
        what: &str,
        (value, most): (Option<f64>, f64),
        (peer, least): (Option<f64>, f64),
    ) {
        let ratio = value.zip(peer).map(|(value, peer)| peer / value);
        let shown = ratio.map_or_else(|| "no peer".into(), |ratio| format!("{ratio:.0}x"));
        self.bars.push(Bar {
            what: what.into(),
            limit: format!("≤ {most} ms or ≥ {least}x"),
            measured: value.map(|value| format!("{value:.2} ms, {shown}")),
            reached: value.is_some_and(|value| value <= most) || ratio.is_some_and(|ratio| ratio >= least),
        });
    }

    /// All bars, and which of them were reached.
    pub(crate) fn print_bars(&self) {
        if self.bars.is_empty() {
            return;
        }
        println!("\n{:<46} {:<22} {:<22}", "bar", "limit", "measured");
        for bar in &self.bars {
            let (measured, verdict) = match (&bar.measured, bar.reached) {
                (None, _) => ("nothing", "not judged"),
                (Some(measured), true) => (measured.as_str(), "reached"),
                (Some(measured), false) => (measured.as_str(), "MISSED"),
            };
            println!("{:<46} {:<22} {measured:<22} {verdict}", bar.what, bar.limit);
        }
    }
}
