//! Watching a process for the programs that it executes.

use std::time::{Duration, Instant};

use seacow_sys::Errno;
use seacow_sys::ptrace::{self, Options, Stop};

use super::{Shadow, Surroundings, double};
use crate::clone::Clone;
use crate::error::{Error, Result};
use crate::examine::Target;
use crate::source::Source;
use crate::wait::{next_stop, until_still};

/// What stopping takes at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process that is watched: it runs, and stops when it has executed a program. Dropped, it is let go.
///
/// Signals to it are told to us first and must be passed on: call [`Watch::look`] at every SIGCHLD.
#[derive(Debug)]
pub struct Watch {
    pid: i32,
    state: State,
}

/// Where a watched process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Runs,
    /// It stands where it has executed a program.
    Executed,
    /// It is not ours any more.
    LetGo,
}

/// What there was to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It runs on.
    Nothing,
    /// It stands where it has executed a program: [`Watch::double`] or [`Watch::pass`].
    Executed,
    /// It has ended; nobody has reaped it.
    Ended,
}

/// A process that goes on in the place of another.
#[derive(Debug)]
pub struct Doubled {
    /// The shadow.
    pub shadow: Shadow,
    /// The process, a child of the caller's, which runs.
    pub clone: Clone,
    /// It is watched for the next program.
    pub watch: Watch,
}

impl Watch {
    /// Begins. The process must be the caller's child.
    pub fn begin(pid: i32) -> Result<Self> {
        ptrace::seize(pid, Options::TRACE_EXEC).map_err(Error::trace("seize", pid))?;
        Ok(Self { pid, state: State::Runs })
    }

    /// Of a tracee that stands still already and has the options for it.
    pub(super) fn of(pid: i32) -> Self {
        Self { pid, state: State::Runs }
    }

    /// As the caller sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Looks what has happened, and lets it go on from everything but an executed program. Does not wait.
    pub fn look(&mut self) -> Result<Seen> {
        while self.state == State::Runs {
            match ptrace::poll(self.pid) {
                Ok(None) => return Ok(Seen::Nothing),
                Ok(Some(Stop::Ended)) | Err(Errno::CHILD | Errno::SRCH) => return Ok(Seen::Ended),
                Ok(Some(stop)) => self.on_stop(stop)?,
                Err(errno) => return Err(Error::trace("wait", self.pid)(errno)),
            }
        }
        Ok(Seen::Executed)
    }

    /// Waits until it has executed a program.
    pub fn wait(&mut self, at_most: Duration) -> Result<Seen> {
        let deadline = Instant::now() + at_most;
        while self.state == State::Runs {
            match next_stop(self.pid, deadline, "waiting for a program to be executed")? {
                Stop::Ended => return Ok(Seen::Ended),
                stop => self.on_stop(stop)?,
            }
        }
        Ok(Seen::Executed)
    }

    fn on_stop(&mut self, stop: Stop) -> Result<()> {
        let pid = self.pid;
        let done = match stop {
            Stop::Event(ptrace::EXECUTED) => {
                self.state = State::Executed;
                Ok(())
            }
            Stop::Signal(signal) => ptrace::resume(pid, signal),
            // It stays so until somebody continues it.
            Stop::Group(_) => ptrace::listen(pid),
            Stop::Interrupted | Stop::Forked | Stop::Event(_) => ptrace::resume(pid, 0),
            Stop::Ended => Ok(()),
        };
        match done {
            // Killed meanwhile.
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::trace("resume", pid)(errno)),
        }
    }

    /// Lets it go on without a shadow, watched.
    pub fn pass(&mut self) -> Result<()> {
        if self.state == State::Executed {
            self.state = State::Runs;
            ptrace::resume(self.pid, 0).map_err(Error::trace("resume", self.pid))?;
        }
        Ok(())
    }

    /// Gives it a shadow, where it stands: it is killed, and another process of the same memory (of its own
    /// pid namespace, a child of the caller's) goes on from the same state in its place. [`Error::NoShadow`]
    /// when that cannot be; whatever the error, it goes on then, neither watched nor with a shadow.
    ///
    /// `target.cgroup` tells whether it is alone: others of its pid namespace would end with it.
    pub fn double(mut self, target: &Target<'_>, around: &Surroundings<'_>) -> Result<Doubled> {
        let pid = self.pid;
        if self.state != State::Executed || target.pid != pid {
            return Err(Error::no_shadow("it has not just executed a program"));
        }
        let deadline = Instant::now() + PATIENCE;
        let source = Source::at_exec(pid, deadline)?;
        // From here on it is the source that lets go of it.
        self.state = State::LetGo;
        double::double(source, target, around, deadline)
    }

    /// Stops watching.
    pub fn end(mut self) -> Result<()> {
        self.release()
    }

    fn release(&mut self) -> Result<()> {
        let pid = self.pid;
        let gone = |result: std::result::Result<(), Errno>, step| match result {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::trace(step, pid)(errno)),
        };
        match std::mem::replace(&mut self.state, State::LetGo) {
            State::LetGo => return Ok(()),
            State::Executed => {}
            State::Runs => {
                gone(ptrace::interrupt(pid), "interrupt")?;
                match until_still(pid, Instant::now() + PATIENCE, "letting a process go")? {
                    Stop::Ended => return Ok(()),
                    // Detached, it stays stopped as it was.
                    Stop::Group(_) | Stop::Interrupted | Stop::Signal(_) | Stop::Forked | Stop::Event(_) => {}
                }
            }
        }
        gone(ptrace::detach(pid, 0), "let go")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Nobody is left to tell; it has ended then.
        let _ = self.release();
    }
}
