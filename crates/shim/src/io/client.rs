//! One attached client: the other end of a `docker attach` or `docker run`.
//!
//! All calls on its socket say `MSG_DONTWAIT`, because `O_NONBLOCK` belongs to the open file,
//! which the daemon or the client itself may share.

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg, shutdown};

use super::detach::Detach;
use super::queue::Queue;
use crate::poll::{PeerId, Poll, Watched};

/// Bytes that may wait for a client before the container's stream it is attached to is read no
/// further. One read's worth may come on top, and the last contents of the pipes at the end of a
/// process.
pub(crate) const CLIENT_BUFFER: usize = 64 << 10;
/// How long a client that owes nothing but to read the end may take without taking a byte. Long,
/// because it may be a person's pager: `docker run … | less`.
pub(crate) const FLUSH_STALL: Duration = Duration::from_secs(3600);
/// Input that is thrown away when a client is closed: no more than a Unix socket holds.
const DISCARD: usize = 1 << 20;

/// Which stream a piece of output is of, with Docker's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output, or the terminal.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

impl Stream {
    /// As log files have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn header(self, len: usize) -> [u8; 8] {
        let mut header = [self as u8, 0, 0, 0, 0, 0, 0, 0];
        header[4..].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
        header
    }
}

/// What a client is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    /// It may type.
    pub(crate) stdin: bool,
    /// It sees standard output.
    pub(crate) stdout: bool,
    /// It sees standard error.
    pub(crate) stderr: bool,
    /// Output is framed (no terminal).
    pub(crate) framed: bool,
}

/// Where a client is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Everything flows.
    Attached,
    /// It gets what is queued, then it is closed; at the latest at this time.
    Leaving(Instant),
    /// It hung up. What it typed before is still read.
    Gone,
}

/// What a read of a client's input brought.
#[derive(Debug)]
pub(crate) enum Input {
    /// So many bytes, appended to the buffer.
    Bytes,
    /// Nothing at the moment.
    Nothing,
    /// The end.
    End,
}

/// An attached client.
#[derive(Debug)]
pub(crate) struct Client {
    /// Its number.
    pub(crate) id: PeerId,
    /// What it is attached to; `stdin` becomes false at the end of its input.
    pub(crate) wants: Wants,
    /// Where it is in its life.
    pub(crate) phase: Phase,
    /// Input that came before its socket did.
    pub(crate) early: Queue,
    /// Its detach keys.
    pub(crate) detach: Detach,
    watched: Watched,
    queue: Queue,
}

impl Client {
    /// Takes over a connected stream socket, already wrapped for polling.
    pub(crate) fn new(id: PeerId, watched: Watched, wants: Wants, detach: Detach, early: &[u8]) -> Self {
        let mut queue = Queue::default();
        queue.push(early);
        Self { id, wants, phase: Phase::Attached, early: queue, detach, watched, queue: Queue::default() }
    }

    /// Whether it wants output of `stream` and is still there.
    pub(crate) fn follows(&self, stream: Stream) -> bool {
        self.phase == Phase::Attached
            && match stream {
                Stream::Stdout => self.wants.stdout,
                Stream::Stderr => self.wants.stderr,
            }
    }

    /// Whether so much waits for it that its streams must not be read further.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() >= CLIENT_BUFFER
    }

    /// Whether nothing waits for it.
    pub(crate) fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    /// Waits for what can be made use of; `input` says whether more input would be taken.
    ///
    /// # Errors
    /// The kernel has no memory.
    pub(crate) fn arm(&mut self, poll: &Poll, input: bool) -> std::io::Result<()> {
        let mut interest = EventFlags::empty();
        if input && self.wants.stdin && !matches!(self.phase, Phase::Leaving(_)) {
            interest |= EventFlags::IN;
        }
        if !self.queue.is_empty() {
            interest |= EventFlags::OUT;
        }
        // A hang-up is told whatever the interest, once is enough.
        let idle = self.phase == Phase::Gone && interest.is_empty();
        self.watched.arm(poll, (!idle).then_some(interest))
    }

    /// Sends output, or queues what it does not take.
    pub(crate) fn deliver(&mut self, stream: Stream, bytes: &[u8]) {
        let header = stream.header(bytes.len());
        let header: &[u8] = if self.wants.framed { &header } else { &[] };
        let mut sent = 0;
        if self.queue.is_empty() {
            sent = match self.send_now(header, bytes) {
                Some(sent) => sent,
                None => return,
            };
        }
        if sent < header.len() {
            self.queue.push(&header[sent..]);
            sent = header.len();
        }
        self.queue.push(&bytes[sent - header.len()..]);
    }

    /// How much was sent; `None` when the client is gone.
    fn send_now(&mut self, header: &[u8], bytes: &[u8]) -> Option<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let parts = [IoSlice::new(header), IoSlice::new(bytes)];
        loop {
            match sendmsg(&self.watched, &parts, &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => return Some(sent),
                Err(Errno::AGAIN) => return Some(0),
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.hang_up();
                    return None;
                }
            }
        }
    }

    /// Sends what it takes of what waits.
    pub(crate) fn flush(&mut self) {
        while !self.queue.is_empty() {
            match send(&self.watched, self.queue.as_slice(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.queue.consume(sent);
                    if let Phase::Leaving(deadline) = &mut self.phase {
                        *deadline = Instant::now() + FLUSH_STALL;
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => return self.hang_up(),
            }
        }
    }

    /// Reads input into the spare room of `buffer`, which is empty.
    pub(crate) fn read(&mut self, buffer: &mut Vec<u8>) -> Input {
        if !self.early.is_empty() {
            let count = self.early.len().min(buffer.capacity());
            buffer.extend_from_slice(&self.early.as_slice()[..count]);
            self.early.consume(count);
            return Input::Bytes;
        }
        loop {
            let spare = rustix::buffer::spare_capacity(buffer);
            match recv(&self.watched, spare, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Input::End,
                Ok(_) => return Input::Bytes,
                Err(Errno::AGAIN) => return Input::Nothing,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.hang_up();
                    return Input::End;
                }
            }
        }
    }

    /// It gets what is queued and is then closed.
    pub(crate) fn leave(&mut self) {
        if self.phase == Phase::Attached {
            self.phase = Phase::Leaving(Instant::now() + FLUSH_STALL);
        }
    }

    /// It is not there any more.
    pub(crate) fn hang_up(&mut self) {
        self.phase = Phase::Gone;
        self.queue.clear();
    }

    /// Closes it. Input that it sent and nobody read is read now: a Unix socket that is closed
    /// with unread input tells its peer "connection reset" instead of the end.
    pub(crate) fn close(self, poll: &Poll) {
        let socket: OwnedFd = self.watched.release(poll);
        let _ = shutdown(&socket, Shutdown::Both);
        let mut scratch = [0u8; 1024];
        let mut discarded = 0;
        while discarded < DISCARD {
            match recv(&socket, &mut scratch, RecvFlags::DONTWAIT) {
                Ok((read, _)) if read > 0 => discarded += read,
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}
