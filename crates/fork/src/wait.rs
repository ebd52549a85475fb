//! Waiting for a tracee, no longer than allowed.

use std::time::{Duration, Instant};

use seacow_sys::Errno;
use seacow_sys::ptrace::{self, Stop};

use crate::error::{Error, Result};

/// How often a tracee is looked at without a pause: stops come within a few microseconds.
const BUSY: u32 = 200;
/// Pauses after that.
const PAUSE: Duration = Duration::from_micros(30);

/// Waits for the next stop of a tracee. (`waitid` knows no time limit, and a signal handler or a timer
/// of our own would be the caller's business.)
pub(crate) fn next_stop(tid: i32, deadline: Instant, step: &'static str) -> Result<Stop> {
    for round in 0u32.. {
        match ptrace::poll(tid) {
            Ok(Some(stop)) => return Ok(stop),
            Ok(None) => {}
            Err(Errno::CHILD | Errno::SRCH) => return Ok(Stop::Ended),
            Err(errno) => return Err(Error::trace("wait", tid)(errno)),
        }
        if round < BUSY {
            std::thread::yield_now();
        } else if Instant::now() >= deadline {
            return Err(Error::Deadline { step });
        } else {
            std::thread::sleep(PAUSE);
        }
    }
    Err(Error::Deadline { step })
}

/// Waits until a new tracee, or one that was interrupted, stands still. Signals that come first are delivered.
pub(crate) fn until_still(tid: i32, deadline: Instant, step: &'static str) -> Result<Stop> {
    loop {
        let stop = next_stop(tid, deadline, step)?;
        match stop {
            Stop::Interrupted | Stop::Group(_) | Stop::Ended => return Ok(stop),
            Stop::Signal(signal) => ptrace::resume(tid, signal).map_err(Error::trace("resume", tid))?,
            Stop::Forked | Stop::Event(_) => ptrace::resume(tid, 0).map_err(Error::trace("resume", tid))?,
        }
    }
}
