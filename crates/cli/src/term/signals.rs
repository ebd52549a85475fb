//! Signals as a queue that a thread reads.

use std::io;

use signal_hook::consts::{
    SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH,
};
use signal_hook::iterator::Signals;

/// Signals that people and supervisors send to a program. docker's client catches every one it
/// can; but faults (`SEGV`, `BUS`) are this program's own, and `TTIN`/`TTOU` are how the shell
/// stops a program in the background. Each costs two system calls on the way to the container.
const PASSED_ON: [i32; 9] = [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCONT, SIGTSTP];

/// Signals being caught. They are delivered to [`Caught::next`] instead of ending the program.
#[derive(Debug)]
pub(crate) struct Caught(Signals);

/// Catches what a container should get instead of us; `window`: changes of the terminal's size, too.
pub(crate) fn catch(passed_on: bool, window: bool) -> io::Result<Caught> {
    let mut signals: Vec<i32> = Vec::new();
    if passed_on {
        signals.extend(PASSED_ON);
    }
    if window {
        signals.push(SIGWINCH);
    }
    Ok(Caught(Signals::new(signals)?))
}

impl Caught {
    /// Waits for the next signal; `None` once the handle was closed.
    pub(crate) fn next(&mut self) -> Option<i32> {
        self.0.forever().next()
    }
}

/// `INT`, as docker's client names signals to the engine.
pub(crate) fn signal_name(number: i32) -> String {
    let name = seacow_spec::signal::name(number);
    name.strip_prefix("SIG").unwrap_or(&name).to_owned()
}
