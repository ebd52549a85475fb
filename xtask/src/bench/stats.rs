//! Samples, and rows of measurements that take turns.

use std::time::Duration;

use anyhow::Result;

/// Pause before each isolated measurement: long enough for deferred teardown and the refill of pools.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// Times of one thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    /// One more.
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Milliseconds at a quantile between 0 and 1; nothing without samples.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index within the samples"
        )]
        let index = (sorted.len().saturating_sub(1) as f64 * q).round() as usize;
        sorted.get(index).map(|time| time.as_secs_f64() * 1e3)
    }

    /// Milliseconds.
    pub(crate) fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }
}

/// A line of a table: what was measured, or why nothing was.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Told in the table.
    pub(crate) what: String,
    /// Times, or the reason why there are none.
    pub(crate) samples: Result<Samples, String>,
}

impl Measured {
    /// No samples yet.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), samples: Ok(Samples::default()) }
    }

    /// The median in milliseconds, if there is one.
    pub(crate) fn median(&self) -> Option<f64> {
        self.samples.as_ref().ok()?.median()
    }
}

/// One thing that is measured again and again, between the others.
pub(crate) struct Row<'a> {
    pub(crate) measured: Measured,
    measure: Box<dyn FnMut() -> Result<Duration> + 'a>,
}

impl<'a> Row<'a> {
    /// Something that works.
    pub(crate) fn new(what: impl Into<String>, measure: impl FnMut() -> Result<Duration> + 'a) -> Self {
        Self { measured: Measured::new(what), measure: Box::new(measure) }
    }

    /// Something that cannot be measured here, which the table says.
    pub(crate) fn absent(what: impl Into<String>, reason: impl Into<String>) -> Self {
        let mut row = Self::new(what, || anyhow::bail!("not measured"));
        row.measured.samples = Err(reason.into());
        row
    }

    /// The median in milliseconds, if there is one.
    pub(crate) fn median(&self) -> Option<f64> {
        self.measured.median()
    }

    fn once(&mut self, count: bool) {
        let Ok(samples) = &mut self.measured.samples else { return };
        match (self.measure)() {
            Ok(time) if count => samples.push(time),
            Ok(_) => {}
            Err(error) => self.measured.samples = Err(format!("{error:#}")),
        }
    }
}

/// What the rows came to.
pub(crate) fn measured(rows: &[Row<'_>]) -> Vec<Measured> {
    rows.iter().map(|row| row.measured.clone()).collect()
}

/// Measures every row once a round, each time after a pause. The first round warms up and does not
/// count.
pub(crate) fn interleave(rows: &mut [Row<'_>], rounds: usize) {
    for round in 0..=rounds {
        for row in rows.iter_mut().filter(|row| row.measured.samples.is_ok()) {
            std::thread::sleep(PAUSE);
            row.once(round > 0);
        }
    }
}

/// Measures every row `rounds` times in a row without a pause, in two blocks, so that a noisy
/// moment does not hit one row alone. The first of each block does not count.
pub(crate) fn back_to_back(rows: &mut [Row<'_>], rounds: usize) {
    const BLOCKS: usize = 2;
    for _ in 0..BLOCKS {
        for row in rows.iter_mut().filter(|row| row.measured.samples.is_ok()) {
            std::thread::sleep(PAUSE);
            for round in 0..=rounds.div_ceil(BLOCKS) {
                row.once(round > 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), None);
        for ms in [5, 1, 3, 2, 4] {
            samples.push(Duration::from_millis(ms));
        }
        assert_eq!(samples.median(), Some(3.0));
        assert_eq!((samples.quantile(0.0), samples.quantile(1.0)), (Some(1.0), Some(5.0)));
        assert_eq!(samples.quantile(0.9), Some(5.0));
    }

    #[test]
    fn a_row_that_fails_says_why_and_leaves_the_others_alone() {
        let mut good = 0;
        let mut rows = [
            Row::new("good", || {
                good += 1;
                Ok(Duration::from_millis(1))
            }),
            Row::new("bad", || anyhow::bail!("no such thing")),
        ];
        interleave(&mut rows, 2);
        assert_eq!(rows[0].median(), Some(1.0));
        assert_eq!(rows[1].measured.samples.as_ref().unwrap_err(), "no such thing");
        drop(rows);
        assert_eq!(good, 3);
    }
}
