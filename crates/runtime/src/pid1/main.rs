//! `seacow-init`: process 1 of a container that was started with `--init`.
//!
//! It runs the program as its child, passes signals on to it, reaps everybody whose parent has
//! ended, and ends with the program, with its exit status (128 + n after signal n). It is bound
//! into the container as `/sbin/docker-init`, where Docker has its own, and works under any OCI
//! runtime.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode};

use rustix::event::{PollFd, PollFlags, poll};
use seacow_sys::signal::SignalFd;
use seacow_sys::{command, process};

const SIGCHLD: i32 = 17;
/// What is not passed on: faults of our own (ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS), what cannot be
/// caught (KILL, STOP), a terminal's reproach for a process in its background (TTIN, TTOU).
const KEPT: [i32; 11] = [4, 5, 6, 7, 8, 9, 11, 19, 21, 22, 31];
/// Highest signal, SIGRTMAX.
const LAST: i32 = 64;
const USAGE: u8 = 2;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if words.first().is_some_and(|word| word == "--") {
        words.remove(0);
    }
    match words.split_first() {
        Some((program, arguments)) => run(program, arguments),
        None => fail(USAGE, "usage: seacow-init [--] PROGRAM [ARGUMENT…]"),
    }
}

fn run(program: &OsString, arguments: &[OsString]) -> ExitCode {
    let signals: Vec<i32> = (1..=LAST).filter(|signal| !KEPT.contains(signal)).collect();
    // Before there is a child whose end could be missed.
    let signals = match SignalFd::new(&signals) {
        Ok(signals) => signals,
        Err(errno) => return fail(1, &format!("watch signals: {errno}")),
    };
    let mut child = Command::new(program);
    command::take_foreground(child.args(arguments));
    match child.spawn() {
        Ok(child) => watch(&signals, i32::try_from(child.id()).unwrap_or(-1)),
        Err(error) => {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let code = if missing { NOT_FOUND } else { NOT_EXECUTABLE };
            fail(code, &format!("exec {}: {error}", program.display()))
        }
    }
}

/// Passes signals on until the child has ended.
fn watch(signals: &SignalFd, child: i32) -> ExitCode {
    loop {
        let mut fds = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        if let Err(errno) = rustix::io::retry_on_intr(|| poll(&mut fds, None)) {
            return fail(1, &format!("wait for signals: {errno}"));
        }
        while let Ok(Some(received)) = signals.next_signal() {
            if received.signal != SIGCHLD {
                // It may have ended a moment ago.
                let _ = process::kill(child, received.signal);
            }
        }
        // One notice may stand for several ends.
        let mut ended = None;
        while let Ok(Some((pid, how))) = process::try_wait_any() {
            if pid == child {
                ended = Some(how.code());
            }
        }
        if let Some(code) = ended {
            return ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX));
        }
    }
}

/// Not `eprintln!`, which panics when nobody reads standard error.
fn fail(code: u8, text: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "seacow-init: {text}");
    ExitCode::from(code)
}
