//! The writing half of a shim connection: whole frames, in order, each with its descriptor.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::Interest;

use super::{Shared, ShimError};
use crate::blocking::lock;

/// Bytes that may wait for a shim that does not read. More than one largest frame, so that no
/// single request is refused.
const MAX_QUEUED: usize = 2 * seacow_spec::shim::MAX_FRAME;

/// Frames that are not written yet.
#[derive(Default)]
pub(super) struct Writer {
    queue: VecDeque<Frame>,
    queued: usize,
    /// A task is waiting for room in the socket.
    flushing: bool,
}

struct Frame {
    bytes: Vec<u8>,
    written: usize,
    descriptor: Option<OwnedFd>,
}

/// Writes the frame, or as much as goes; a task writes the rest.
pub(super) fn enqueue(
    shared: &Arc<Shared>,
    bytes: Vec<u8>,
    descriptor: Option<OwnedFd>,
) -> Result<(), ShimError> {
    let mut writer = lock(&shared.writer);
    if writer.queued + bytes.len() > MAX_QUEUED {
        return Err(ShimError::Congested);
    }
    writer.queued += bytes.len();
    writer.queue.push_back(Frame { bytes, written: 0, descriptor });
    if writer.flushing {
        return Ok(());
    }
    match flush(&mut writer, |frame| write_some(shared, frame)) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            writer.flushing = true;
            tokio::spawn(flush_later(Arc::clone(shared)));
            Ok(())
        }
        Err(_) => Err(ShimError::Lost),
    }
}

/// Waits for room and writes, until nothing is left or the shim is gone.
async fn flush_later(shared: Arc<Shared>) {
    loop {
        if shared.stream.writable().await.is_err() {
            return;
        }
        let mut writer = lock(&shared.writer);
        // Through try_io, which forgets the readiness when the socket is full again.
        let outcome = flush(&mut writer, |frame| {
            shared.stream.try_io(Interest::WRITABLE, || write_some(&shared, frame))
        });
        match outcome {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(()) | Err(_) => {
                writer.flushing = false;
                return;
            }
        }
    }
}

fn flush(
    writer: &mut Writer,
    mut write: impl FnMut(&mut Frame) -> std::io::Result<usize>,
) -> std::io::Result<()> {
    while let Some(frame) = writer.queue.front_mut() {
        let n = write(frame)?;
        frame.written += n;
        writer.queued -= n;
        if frame.written == frame.bytes.len() {
            writer.queue.pop_front();
        }
    }
    Ok(())
}

/// One sendmsg. The descriptor travels with the frame's first byte.
fn write_some(shared: &Shared, frame: &mut Frame) -> std::io::Result<usize> {
    let rest = frame.bytes.get(frame.written..).unwrap_or_default();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let borrowed = frame.descriptor.as_ref().map(|fd| [fd.as_fd()]);
    if let Some(descriptors) = &borrowed {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let n = sendmsg(&shared.stream, &[IoSlice::new(rest)], &mut ancillary, flags)?;
    frame.descriptor = None;
    Ok(n)
}
