//! Bytes between a container and the terminal.

mod attach;
mod demux;
mod detach;
mod forward;
mod progress;

pub(crate) use attach::{Attached, Ended, Wires, send_resize};
pub(crate) use demux::{StdFd, copy_frames};
pub(crate) use detach::DetachKeys;
pub(crate) use forward::{Forwarder, Forwarding};
pub(crate) use progress::{MAX_MESSAGE, Progress, complete_messages, show, stream_error};
