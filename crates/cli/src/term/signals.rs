//! Signals as a queue that a thread reads.

use std::io;

use signal_hook::iterator::{Handle, Signals};

/// Signals that docker's client never passes on: they are the client's own business.
const OWN: [i32; 4] =
    [signal_hook::consts::SIGCHLD, signal_hook::consts::SIGPIPE, signal_hook::consts::SIGURG, SIGWINCH];

const SIGWINCH: i32 = signal_hook::consts::SIGWINCH;

/// Signals being caught. They are delivered to [`Caught::next`] instead of ending the program.
#[derive(Debug)]
pub(crate) struct Caught(Signals);

/// Catches what a container should get instead of us; `window`: changes of the terminal's size, too.
pub(crate) fn catch(passed_on: bool, window: bool) -> io::Result<Caught> {
    let mut signals: Vec<i32> = Vec::new();
    if passed_on {
        signals.extend((1..32).filter(|n| !OWN.contains(n) && !signal_hook::consts::FORBIDDEN.contains(n)));
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

    pub(crate) fn handle(&self) -> Handle {
        self.0.handle()
    }
}

/// `INT`, as docker's client names signals to the engine.
pub(crate) fn signal_name(number: i32) -> String {
    let name = seacow_spec::signal::name(number);
    name.strip_prefix("SIG").unwrap_or(&name).to_owned()
}
