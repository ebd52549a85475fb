//! Raw mode, and getting out of it on every way the program can end.

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Mutex;

use rustix::termios::{self, LocalModes, OptionalActions, Termios};

/// The settings to go back to while the terminal is raw. Global, because whoever ends the program
/// (a signal's thread, `main`) must be able to restore it.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal is raw while this lives.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Makes stdin's terminal pass every key on, and stop echoing.
    pub(crate) fn enter() -> io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        let saved = termios::tcgetattr(stdin)?;
        let mut raw = saved.clone();
        raw.make_raw();
        if let Ok(mut slot) = SAVED.lock() {
            *slot = Some(saved);
        }
        termios::tcsetattr(stdin, OptionalActions::Drain, &raw)?;
        Ok(Self(()))
    }
}

/// The terminal does not show what is typed while this lives.
#[derive(Debug)]
pub(crate) struct NoEcho(());

impl NoEcho {
    pub(crate) fn enter() -> io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        let saved = termios::tcgetattr(stdin)?;
        let mut silent = saved.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        if let Ok(mut slot) = SAVED.lock() {
            *slot = Some(saved);
        }
        termios::tcsetattr(stdin, OptionalActions::Drain, &silent)?;
        Ok(Self(()))
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        restore();
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Leaves raw mode, if the terminal is in it.
pub(crate) fn restore() {
    let saved = SAVED.lock().ok().and_then(|mut slot| slot.take());
    if let Some(saved) = saved {
        // The terminal may be gone (hang-up): there is nobody to tell.
        let _ = termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &saved);
    }
}

/// Rows and columns of stdout's terminal; `None` if it is none.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    Some((size.ws_row, size.ws_col))
}

pub(crate) fn is_terminal(fd: impl AsFd) -> bool {
    termios::isatty(fd)
}

/// Ends as a program ends that writes to a closed pipe and does not know about it.
pub(crate) fn die_of_broken_pipe() -> ExitCode {
    // Rust ignores SIGPIPE at start-up; the shell is to see the usual end. If even that fails,
    // the status says the same.
    let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
    ExitCode::from(128 + 13)
}
