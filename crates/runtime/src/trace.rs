//! Step times on standard error when `SEACOW_RUNTIME_TRACE` is set: how the start path is measured.

use std::io::Write;
use std::time::Instant;

/// A stopwatch that prints laps, or does nothing.
#[derive(Debug)]
pub(crate) struct Trace {
    who: &'static str,
    last: Option<Instant>,
}

impl Trace {
    /// Starts, when the environment asks for it.
    pub(crate) fn start(who: &'static str) -> Self {
        let wanted = std::env::var_os("SEACOW_RUNTIME_TRACE").is_some();
        Self { who, last: wanted.then(Instant::now) }
    }

    /// Restarts without printing: for the end of a wait.
    pub(crate) fn reset(&mut self) {
        if self.last.is_some() {
            self.last = Some(Instant::now());
        }
    }

    /// Prints the time since the last lap.
    pub(crate) fn lap(&mut self, step: &str) {
        if let Some(last) = self.last {
            let micros = last.elapsed().as_nanos() as f64 / 1000.0;
            let line = format!("trace {:<6} {step:<36} {micros:>9.1} us\n", self.who);
            // In one piece: parent and child write at the same time.
            let _ = std::io::stderr().write_all(line.as_bytes());
            self.last = Some(Instant::now());
        }
    }
}
