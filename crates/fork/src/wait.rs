//! Waiting for a tracee, no longer than allowed.

use std::time::{Duration, Instant};

use seacow_sys::Errno;
use seacow_sys::ptrace::{self, Stop};
use seacow_sys::signal::ChildNews;

use crate::error::{Error, Result};

/// How often a tracee is looked at before we sleep: on another processor it stops within microseconds.
const BUSY: u32 = 12;
/// How long we sleep at most, should the news of a stop have gone elsewhere.
const NAP: Duration = Duration::from_millis(2);

/// Waits for the next stop of a tracee. (`waitid` knows no time limit, and a signal handler or a timer
/// of our own would be the caller's business.)
pub(crate) fn next_stop(tid: i32, deadline: Instant, step: &'static str) -> Result<Stop> {
    for _ in 0..BUSY {
        if let Some(stop) = look(tid)? {
            return Ok(stop);
        }
        std::hint::spin_loop();
    }
    // Only now: a tracee on our own processor runs when we sleep, and no sooner.
    let mut news = ChildNews::begin().map_err(Error::own("wait for news"))?;
    loop {
        if let Some(stop) = look(tid)? {
            return Ok(stop);
        }
        if Instant::now() >= deadline {
            return Err(Error::Deadline { step });
        }
        news.wait(NAP);
    }
}

fn look(tid: i32) -> Result<Option<Stop>> {
    match ptrace::poll(tid) {
        Ok(stop) => Ok(stop),
        Err(Errno::CHILD | Errno::SRCH) => Ok(Some(Stop::Ended)),
        Err(errno) => Err(Error::trace("wait", tid)(errno)),
    }
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
