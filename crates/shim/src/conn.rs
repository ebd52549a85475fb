//! One daemon: frames in, frames out, descriptors on the way.
//!
//! A daemon is not trusted to read. What it does not take is queued up to [`MAX_QUEUE`]; then the
//! connection is dropped, and the daemon finds everything in [`seacow_spec::shim::Status`] when it
//! comes back. Nothing here ever waits.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use seacow_spec::shim::{Decoder, FrameError, FromShim, ToShim, encode};
use seacow_sys::unix::{try_receive, try_send};

use crate::io::queue::Queue;
use crate::poll::{PeerId, Poll, Token, Watched};

/// Bytes queued for a daemon that does not read. The status of a shim that remembers
/// [`crate::serve::MAX_UNTOLD`] execs takes a quarter of it.
const MAX_QUEUE: usize = 1 << 20;
/// Descriptors that arrived and were not claimed by a frame yet. A frame claims at most one, and
/// this many frames in one read would be 32 attaches within [`CHUNK`] bytes.
const MAX_DESCRIPTORS: usize = 32;
/// Bytes per read, on the stack.
const CHUNK: usize = 4096;
/// Reads per wake-up, so that one daemon's large frame does not hold up a container's output.
const READS_PER_TURN: usize = 64;

/// Why a connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// The daemon closed it or died.
    #[error("closed by the daemon")]
    Closed,
    /// The socket failed.
    #[error("connection: {0}")]
    Socket(#[source] Errno),
    /// What arrived is not this protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// More descriptors than frames.
    #[error("{MAX_DESCRIPTORS} descriptors arrived that no frame asked for")]
    Descriptors,
    /// It does not read what it is sent.
    #[error("the daemon left {MAX_QUEUE} bytes unread")]
    NotReading,
}

/// A daemon's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Its number.
    pub(crate) id: PeerId,
    /// Whether its `Hello` was accepted. Events go only to connections that were.
    pub(crate) greeted: bool,
    /// Closed as soon as the queue is empty.
    pub(crate) leaving: bool,
    watched: Watched,
    decoder: Decoder,
    descriptors: VecDeque<OwnedFd>,
    queue: Queue,
}

impl Connection {
    /// Takes over a connected stream socket.
    pub(crate) fn new(id: PeerId, socket: OwnedFd) -> Self {
        Self {
            id,
            greeted: false,
            leaving: false,
            watched: Watched::new(socket, Token::Connection(id)),
            decoder: Decoder::default(),
            descriptors: VecDeque::new(),
            queue: Queue::default(),
        }
    }

    /// Waits for what it can make use of.
    ///
    /// # Errors
    /// The kernel has no memory.
    pub(crate) fn arm(&mut self, poll: &Poll) -> std::io::Result<()> {
        let mut interest = EventFlags::IN;
        if !self.queue.is_empty() {
            interest |= EventFlags::OUT;
        }
        self.watched.arm(poll, Some(interest))
    }

    /// Reads what has arrived.
    ///
    /// # Errors
    /// The connection must be dropped.
    pub(crate) fn receive(&mut self) -> Result<(), Lost> {
        for _ in 0..READS_PER_TURN {
            let mut bytes = [0; CHUNK];
            let received = match try_receive(self.watched.as_fd(), &mut bytes) {
                Ok(received) if received.len == 0 => return Err(Lost::Closed),
                Ok(received) => received,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(Lost::Socket(error)),
            };
            self.descriptors.extend(received.fds);
            if self.descriptors.len() > MAX_DESCRIPTORS {
                return Err(Lost::Descriptors);
            }
            self.decoder.push(bytes.get(..received.len).unwrap_or_default());
            if self.descriptors.len() >= MAX_DESCRIPTORS / 2 {
                // Their frames first; what else has arrived waits for the next turn.
                return Ok(());
            }
            if received.len < CHUNK && self.descriptors.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next whole request.
    ///
    /// # Errors
    /// The connection must be dropped.
    pub(crate) fn next_request(&mut self) -> Result<Option<ToShim>, Lost> {
        let request = self.decoder.next_message()?;
        if request.is_none() && self.decoder.is_empty() {
            // A descriptor comes with the first byte of its frame; these came with none.
            self.descriptors.clear();
        }
        Ok(request)
    }

    /// The descriptor that came with the request just taken. Descriptors are claimed in the order
    /// of the frames that need one: a read returns the bytes before a descriptor together with
    /// those after it, so the kernel does not say which of the frames it came with.
    pub(crate) fn claim_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop_front()
    }

    /// Queues a message and sends what goes out at once.
    ///
    /// # Errors
    /// The connection must be dropped.
    pub(crate) fn send(&mut self, message: &FromShim) -> Result<(), Lost> {
        let frame = encode(message)?;
        if self.queue.len() + frame.len() > MAX_QUEUE {
            return Err(Lost::NotReading);
        }
        self.queue.push(&frame);
        self.flush()
    }

    /// Sends what the daemon takes.
    ///
    /// # Errors
    /// The connection must be dropped.
    pub(crate) fn flush(&mut self) -> Result<(), Lost> {
        while !self.queue.is_empty() {
            match try_send(self.watched.as_fd(), self.queue.as_slice(), &[]) {
                Ok(sent) => self.queue.consume(sent),
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(Lost::Socket(error)),
            }
        }
        Ok(())
    }

    /// Whether nothing is left to be sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    /// Closes it.
    pub(crate) fn close(self, poll: &Poll) {
        drop(self.watched.release(poll));
    }
}
