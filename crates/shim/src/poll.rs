//! epoll, and registrations that change only when they have to.
//!
//! A registration names what is meant, not a pointer: ids are never used twice while something
//! with the same id lives, so that an event of a batch that was overtaken by an earlier one of the
//! same batch finds nobody and is dropped.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

/// Events taken per wake-up; more of them wait for the next turn.
const BATCH: usize = 16;

/// Number of a container of this shim: 0 is the one that it was started for.
pub(crate) type MemberId = u16;
/// Number of a process of the container as this shim counts them: 0 is init, execs follow.
pub(crate) type ProcessId = u32;
/// Number of a connection or of an attached client.
pub(crate) type PeerId = u32;
/// These numbers share a word with a tag: 4 bits and 12, 24, 24.
pub(crate) const MAX_MEMBER_ID: MemberId = (1 << 12) - 1;
pub(crate) const MAX_PROCESS_ID: ProcessId = (1 << 24) - 1;
pub(crate) const MAX_PEER_ID: PeerId = (1 << 24) - 1;

/// What a readiness event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// Somebody connects to `shim.sock`.
    Listener,
    /// A signal for the shim itself.
    Signals,
    /// What is kept of a fork has ended.
    Snapshot,
    /// The OOM killer may have struck.
    OutOfMemory,
    /// Children nobody told us of.
    Children,
    /// A daemon.
    Connection(PeerId),
    /// A process ended (its pidfd).
    Exit(ProcessId),
    /// Standard input takes more.
    Stdin(ProcessId),
    /// Standard output, or the terminal.
    Stdout(ProcessId),
    /// Standard error.
    Stderr(ProcessId),
    /// A client attached to a process.
    Client(ProcessId, PeerId),
}

impl Token {
    fn pack(self, member: MemberId) -> u64 {
        let (tag, process, peer) = match self {
            Self::Listener => (0, 0, 0),
            Self::Signals => (1, 0, 0),
            Self::OutOfMemory => (2, 0, 0),
            Self::Connection(peer) => (3, 0, peer),
            Self::Exit(process) => (4, process, 0),
            Self::Children => (5, 0, 0),
            Self::Stdin(process) => (6, process, 0),
            Self::Stdout(process) => (7, process, 0),
            Self::Stderr(process) => (8, process, 0),
            Self::Client(process, peer) => (9, process, peer),
            Self::Snapshot => (10, 0, 0),
        };
        let member = u64::from(member & MAX_MEMBER_ID);
        tag << 60 | member << 48 | u64::from(process & MAX_PROCESS_ID) << 24 | u64::from(peer & MAX_PEER_ID)
    }

    fn unpack(word: u64) -> Option<(MemberId, Self)> {
        let low = |word: u64| u32::try_from(word & u64::from(MAX_PEER_ID)).unwrap_or(0);
        let (process, peer) = (low(word >> 24), low(word));
        let member = u16::try_from(word >> 48 & u64::from(MAX_MEMBER_ID)).unwrap_or(0);
        let token = match word >> 60 {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::OutOfMemory,
            3 => Self::Connection(peer),
            4 => Self::Exit(process),
            5 => Self::Children,
            6 => Self::Stdin(process),
            7 => Self::Stdout(process),
            8 => Self::Stderr(process),
            9 => Self::Client(process, peer),
            10 => Self::Snapshot,
            _ => return None,
        };
        Some((member, token))
    }
}

/// Something is ready: whose, what, and how.
pub(crate) type Ready = (MemberId, Token, EventFlags);

/// The one epoll instance, as one of the shim's containers uses it.
#[derive(Debug)]
pub(crate) struct Poll {
    epoll: Rc<OwnedFd>,
    member: MemberId,
}

impl Poll {
    /// A new one.
    ///
    /// # Errors
    /// The process or the system has no descriptors left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Rc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?), member: 0 })
    }

    /// The same, as the container of that number uses it.
    pub(crate) fn of(&self, member: MemberId) -> Self {
        Self { epoll: Rc::clone(&self.epoll), member }
    }

    /// Waits until something is ready, at most that long if given, and appends to `ready` what it is.
    ///
    /// # Errors
    /// As epoll_wait(2); an interruption is no error.
    pub(crate) fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> io::Result<()> {
        let empty = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
        let mut events = [empty; BATCH];
        // Rounded up to milliseconds on the way: to wake too early would be to wake again.
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        });
        let count = match epoll::wait(&*self.epoll, &mut events[..], timeout.as_ref()) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        ready.extend(events[..count].iter().filter_map(|event| {
            let (member, token) = Token::unpack(event.data.u64())?;
            Some((member, token, event.flags))
        }));
        Ok(())
    }
}

/// A descriptor, or what owns one, and what is currently waited for on it.
#[derive(Debug)]
pub(crate) struct Watched<F: AsFd = OwnedFd> {
    fd: F,
    token: Token,
    armed: Option<EventFlags>,
}

impl<F: AsFd> Watched<F> {
    /// Nothing is waited for yet.
    pub(crate) fn new(fd: F, token: Token) -> Self {
        Self { fd, token, armed: None }
    }

    /// Waits for `interest` from now on. `None` takes the descriptor out altogether, which is the
    /// only way not to be told of a hang-up again and again.
    ///
    /// # Errors
    /// The descriptor cannot be polled, or the kernel has no memory.
    pub(crate) fn arm(&mut self, poll: &Poll, interest: Option<EventFlags>) -> io::Result<()> {
        if self.armed == interest {
            return Ok(());
        }
        let data = EventData::new_u64(self.token.pack(poll.member));
        match (self.armed, interest) {
            (None, Some(flags)) => epoll::add(&*poll.epoll, &self.fd, data, flags)?,
            (Some(_), Some(flags)) => epoll::modify(&*poll.epoll, &self.fd, data, flags)?,
            (Some(_), None) => epoll::delete(&*poll.epoll, &self.fd)?,
            (None, None) => {}
        }
        self.armed = interest;
        Ok(())
    }

    /// What is watched.
    pub(crate) fn get(&self) -> &F {
        &self.fd
    }

    /// What is watched.
    pub(crate) fn get_mut(&mut self) -> &mut F {
        &mut self.fd
    }

    /// Takes the descriptor out of the poll and gives it back. Closing alone would not do: epoll
    /// watches open files, and the daemon or a child that has not executed yet may hold the same.
    pub(crate) fn release(mut self, poll: &Poll) -> F {
        // A descriptor that cannot be taken out was not in.
        let _ = self.arm(poll, None);
        self.fd
    }
}

impl<F: AsFd> AsFd for Watched<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Listener,
            Token::Signals,
            Token::OutOfMemory,
            Token::Children,
            Token::Snapshot,
            Token::Connection(MAX_PEER_ID),
            Token::Exit(0),
            Token::Stdin(1),
            Token::Stdout(MAX_PROCESS_ID),
            Token::Stderr(3),
            Token::Client(MAX_PROCESS_ID, MAX_PEER_ID),
        ] {
            for member in [0, 7, MAX_MEMBER_ID] {
                assert_eq!(Token::unpack(token.pack(member)), Some((member, token)));
            }
        }
        assert_eq!(Token::unpack(u64::MAX), None);
    }

    #[test]
    fn what_is_not_armed_is_not_reported() {
        let poll = Poll::new().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let mut watched = Watched::new(read, Token::Stdout(0));
        drop(write);
        let mut ready = Vec::new();
        watched.arm(&poll, Some(EventFlags::IN)).unwrap();
        poll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert_eq!(ready.len(), 1);
        assert_eq!((ready[0].0, ready[0].1), (0, Token::Stdout(0)));
        ready.clear();
        watched.arm(&poll, None).unwrap();
        poll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());
        watched.release(&poll);
    }
}
