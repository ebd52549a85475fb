//! The parent's end of a child that is not yet what it shall become.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use seacow_sys::process::{self, Ended};

use crate::error::{Error, Step};
use crate::seccomp::notify::Agent;
use crate::wire::{self, FromChild};

/// A child and the socket to it. Dropped without [`Child::release`], it is killed and reaped.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
    socket: OwnedFd,
    guard: Guard,
}

/// Kills and reaps on drop while it has a handle.
#[derive(Debug)]
struct Guard(Option<OwnedFd>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(pidfd) = self.0.take() {
            // It may be dead already; either way it is reaped.
            let _ = process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
            let _ = process::wait(pidfd.as_fd());
        }
    }
}

pub(crate) fn out_of_order() -> Error {
    Error::Invalid { what: "init answered out of order".into() }
}

impl Child {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd, socket: OwnedFd) -> Result<Self, Error> {
        let second = rustix::io::fcntl_dupfd_cloexec(&pidfd, 3).step(|| "duplicate a pidfd".into());
        match second {
            Ok(second) => Ok(Self { pid, pidfd, socket, guard: Guard(Some(second)) }),
            Err(error) => {
                drop(Guard(Some(pidfd)));
                Err(error)
            }
        }
    }

    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The child's next word, `None` at the end of its half; its failure becomes the error.
    pub(crate) fn answer(&self) -> Result<Option<FromChild>, Error> {
        answer(self.socket())
    }

    /// The error for a child that ended instead of answering.
    pub(crate) fn lost(&self, doing: &'static str) -> Error {
        let how = match process::peek(self.pidfd()) {
            Ok(Some(Ended::Exited(code))) => format!("exit status {code}"),
            Ok(Some(Ended::Killed(signal))) => format!("signal {signal}"),
            Ok(None) | Err(_) => "no status yet".into(),
        };
        Error::Lost { how, doing }
    }

    /// Waits until the program was executed: the child's last word, then the end of its half. `meanwhile` is
    /// called every few milliseconds.
    pub(crate) fn await_exec(
        &self,
        agent: Option<&Agent>,
        meanwhile: Option<Meanwhile<'_>>,
    ) -> Result<(), Error> {
        if await_exec(self.socket(), self.pid, agent, meanwhile)? {
            Ok(())
        } else {
            Err(self.lost("execute its program"))
        }
    }

    /// Lets the child live on without this handle.
    pub(crate) fn release(mut self) -> (i32, OwnedFd) {
        self.guard.0 = None;
        (self.pid, self.pidfd)
    }
}

fn answer(socket: BorrowedFd<'_>) -> Result<Option<FromChild>, Error> {
    match wire::receive_in_parent(socket)? {
        Some(FromChild::Failed(report)) => Err(Error::Child(report)),
        other => Ok(other),
    }
}

/// What a caller does while it waits.
pub(crate) type Meanwhile<'a> = &'a mut dyn FnMut();

/// How often.
const OFTEN: Timespec = Timespec { tv_sec: 0, tv_nsec: 3_000_000 };

/// The child's next word, with something to be done until it comes.
fn answer_with(socket: BorrowedFd<'_>, meanwhile: Option<Meanwhile<'_>>) -> Result<Option<FromChild>, Error> {
    if let Some(work) = meanwhile {
        let word =
            || rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&OFTEN)));
        while word().step(|| "wait for init".into())? == 0 {
            work();
        }
    }
    answer(socket)
}

/// Waits for the child's last word and the end of its half; false when it ended without a word. On
/// the way the agent gets the listener of its filter.
pub(crate) fn await_exec(
    socket: BorrowedFd<'_>,
    pid: i32,
    agent: Option<&Agent>,
    mut meanwhile: Option<Meanwhile<'_>>,
) -> Result<bool, Error> {
    // Reborrowed for each word.
    let mut next = || answer_with(socket, meanwhile.as_mut().map(|work| &mut **work as Meanwhile<'_>));
    match next()? {
        Some(FromChild::Executing) => {}
        Some(_) => return Err(out_of_order()),
        None => return Ok(false),
    }
    match (next()?, agent) {
        (None, _) => return Ok(true),
        (Some(FromChild::Listener(Some(listener))), Some(agent)) => {
            agent.hand_over(listener.as_fd(), pid)?;
            wire::send_taken(socket)?;
        }
        (Some(_), _) => return Err(out_of_order()),
    }
    match next()? {
        None => Ok(true),
        Some(_) => Err(out_of_order()),
    }
}
