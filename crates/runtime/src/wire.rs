//! Messages between init (or an exec child) and its parent, over a stream socket pair.
//!
//! ```text
//! parent                                child
//!   │ ──── Mapped ──────────────────────▶ │  only in a user namespace: its maps are written
//!   │ ──── Settle ──────────────────────▶ │  cgroups exist: join them, finish the stage
//!   │ ──── Connect ─────────────────────▶ │  optional: the link is there, raise and address it
//!   │ ◀─── Connected ──────────────────── │
//!   │ ──── Configure + stdio ───────────▶ │  root file system, pivot_root
//!   │ ◀─── Mounted ────────────────────── │  only when the parent has hooks to run:
//!   │ ──── EnterRoot ───────────────────▶ │  they went well
//!   │ ◀─── Configured + terminal ──────── │
//!   │ ──── Detach + listener ───────────▶ │  optional: outlive the parent, hear Start from whoever
//!   │ ◀─── Detached ───────────────────── │  connects to the listener; the rest goes there
//!   │ ──── Program ─────────────────────▶ │  optional: another than it was configured with
//!   │ ──── Start ───────────────────────▶ │  user, capabilities, filter
//!   │ ◀─── Executing ──────────────────── │  the next thing is execve …
//!   │ ◀─── Listener + descriptor ──────── │  only when an agent decides calls (seccomp::notify)
//!   │ ──── Taken ───────────────────────▶ │
//!   │ ◀─── end of stream ──────────────── │  … which closed the socket: started
//!   │ ◀─── Failed ─────────────────────── │  at any time, instead
//! ```
//!
//! A frame is a little-endian `u32` length, one byte for the kind, and JSON of that length.

use std::os::fd::{BorrowedFd, OwnedFd};

use seacow_spec::error::ErrorReport;
use seacow_spec::shim::{Create, MAX_FRAME, NetworkConfig, Program};
use seacow_sys::{Errno, unix};
use serde::de::DeserializeOwned;

use crate::error::{Error, Step};

/// What the parent says.
#[derive(Debug)]
pub(crate) enum ToChild {
    Settle,
    Connect(Box<NetworkConfig>),
    Configure(Box<Create>, Vec<OwnedFd>),
    EnterRoot,
    Mapped,
    Detach { preserve_fds: u32, listener: Option<OwnedFd> },
    Program(Box<Program>),
    Start,
    Taken,
}

/// What the child says.
#[derive(Debug)]
pub(crate) enum FromChild {
    Mounted,
    Connected,
    NeedMaps,
    Made(i32),
    Tree(Option<OwnedFd>),
    Configured(Option<OwnedFd>),
    Detached,
    Executing,
    Listener(Option<OwnedFd>),
    Failed(ErrorReport),
}

const SETTLE: u8 = b's';
const CONNECT: u8 = b'n';
const CONFIGURE: u8 = b'c';
const ENTER_ROOT: u8 = b'e';
const MOUNTED: u8 = b'M';
const MAPPED: u8 = b'm';
const NEED_MAPS: u8 = b'U';
const MADE: u8 = b'P';
const TREE: u8 = b'T';
const DETACH: u8 = b'd';
const PROGRAM: u8 = b'p';
const START: u8 = b'g';
const TAKEN: u8 = b't';
const CONNECTED: u8 = b'N';
const CONFIGURED: u8 = b'C';
const DETACHED: u8 = b'D';
const EXECUTING: u8 = b'X';
const LISTENER: u8 = b'L';
const FAILED: u8 = b'F';
const HEADER: usize = 5;

pub(crate) fn send_settle(socket: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, SETTLE, &[], &[])
}

pub(crate) fn send_connect(socket: BorrowedFd<'_>, link: &NetworkConfig) -> Result<(), Error> {
    send(socket, CONNECT, &serde_json::to_vec(link).map_err(Error::Message)?, &[])
}

pub(crate) fn send_configure(
    socket: BorrowedFd<'_>,
    create: &Create,
    stdio: &[BorrowedFd<'_>],
) -> Result<(), Error> {
    send(socket, CONFIGURE, &serde_json::to_vec(create).map_err(Error::Message)?, stdio)
}

pub(crate) fn send_detach(
    socket: BorrowedFd<'_>,
    preserve_fds: u32,
    listener: BorrowedFd<'_>,
) -> Result<(), Error> {
    send(socket, DETACH, preserve_fds.to_string().as_bytes(), &[listener])
}

pub(crate) fn send_program(socket: BorrowedFd<'_>, program: &Program) -> Result<(), Error> {
    send(socket, PROGRAM, &serde_json::to_vec(program).map_err(Error::Message)?, &[])
}

pub(crate) fn send_start(socket: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, START, &[], &[])
}

pub(crate) fn send_connected(socket: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, CONNECTED, &[], &[])
}

pub(crate) fn send_configured(socket: BorrowedFd<'_>, terminal: Option<BorrowedFd<'_>>) -> Result<(), Error> {
    send(socket, CONFIGURED, &[], terminal.as_slice())
}

pub(crate) fn send_mounted(socket: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, MOUNTED, &[], &[])
}

pub(crate) fn send_enter_root(socket: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, ENTER_ROOT, &[], &[])
}

pub(crate) fn send_mapped(socket: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, MAPPED, &[], &[])
}

pub(crate) fn send_need_maps(socket: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, NEED_MAPS, &[], &[])
}

pub(crate) fn send_made(socket: BorrowedFd<'_>, pid: i32) -> Result<(), Error> {
    send(socket, MADE, pid.to_string().as_bytes(), &[])
}

pub(crate) fn send_tree(socket: BorrowedFd<'_>, tree: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, TREE, &[], &[tree])
}

pub(crate) fn send_detached(socket: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, DETACHED, &[], &[])
}

pub(crate) fn send_executing(socket: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, EXECUTING, &[], &[])
}

pub(crate) fn send_listener(socket: BorrowedFd<'_>, listener: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, LISTENER, &[], &[listener])
}

pub(crate) fn send_taken(socket: BorrowedFd<'_>) -> Result<(), Error> {
    send(socket, TAKEN, &[], &[])
}

pub(crate) fn send_failed(socket: BorrowedFd<'_>, report: &ErrorReport) -> Result<(), Error> {
    send(socket, FAILED, &serde_json::to_vec(report).map_err(Error::Message)?, &[])
}

/// The parent's next word; `None` when it has gone.
pub(crate) fn receive_in_child(socket: BorrowedFd<'_>) -> Result<Option<ToChild>, Error> {
    let Some((kind, body, mut fds)) = receive(socket)? else { return Ok(None) };
    Ok(Some(match kind {
        DETACH => ToChild::Detach { preserve_fds: parse(&body)?, listener: fds.pop() },
        SETTLE => ToChild::Settle,
        ENTER_ROOT => ToChild::EnterRoot,
        CONNECT => ToChild::Connect(parse(&body)?),
        MAPPED => ToChild::Mapped,
        CONFIGURE => ToChild::Configure(parse(&body)?, fds),
        PROGRAM => ToChild::Program(parse(&body)?),
        START => ToChild::Start,
        TAKEN => ToChild::Taken,
        _ => return Err(unknown(kind)),
    }))
}

/// The child's next word; `None` when it has executed its program, or ended.
pub(crate) fn receive_in_parent(socket: BorrowedFd<'_>) -> Result<Option<FromChild>, Error> {
    let Some((kind, body, mut fds)) = receive(socket)? else { return Ok(None) };
    Ok(Some(match kind {
        CONNECTED => FromChild::Connected,
        CONFIGURED => FromChild::Configured(fds.pop()),
        MOUNTED => FromChild::Mounted,
        NEED_MAPS => FromChild::NeedMaps,
        MADE => FromChild::Made(parse(&body)?),
        TREE => FromChild::Tree(fds.pop()),
        DETACHED => FromChild::Detached,
        EXECUTING => FromChild::Executing,
        LISTENER => FromChild::Listener(fds.pop()),
        FAILED => FromChild::Failed(parse(&body)?),
        _ => return Err(unknown(kind)),
    }))
}

fn unknown(kind: u8) -> Error {
    Error::Invalid { what: format!("unknown message kind {kind} between init and its parent") }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(Error::Message)
}

fn send(socket: BorrowedFd<'_>, kind: u8, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
    let len = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= MAX_FRAME)
        .ok_or_else(|| Error::step("send message to init", Errno::TOOBIG))?;
    let mut frame = Vec::with_capacity(HEADER + body.len());
    frame.extend_from_slice(&len.to_le_bytes());
    frame.push(kind);
    frame.extend_from_slice(body);
    let mut rest = frame.as_slice();
    let mut fds = fds.chunks(unix::MAX_FDS);
    while !rest.is_empty() {
        // So many descriptors go with one byte; the last of them with the rest.
        let now = fds.next().unwrap_or(&[]);
        let bytes = if fds.len() > 0 { rest.get(..1).unwrap_or(rest) } else { rest };
        let sent =
            unix::send(socket, bytes, now).step(|| "send message between init and its parent".into())?;
        rest = rest.get(sent..).unwrap_or(&[]);
    }
    Ok(())
}

type Frame = (u8, Vec<u8>, Vec<OwnedFd>);

fn receive(socket: BorrowedFd<'_>) -> Result<Option<Frame>, Error> {
    let mut header = [0; HEADER];
    let mut fds = Vec::new();
    if !fill(socket, &mut header, &mut fds)? {
        return Ok(None);
    }
    let [a, b, c, d, kind] = header;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    if len > MAX_FRAME {
        return Err(Error::step("receive message between init and its parent", Errno::TOOBIG));
    }
    let mut body = vec![0; len];
    if fill(socket, &mut body, &mut fds)? { Ok(Some((kind, body, fds))) } else { Ok(None) }
}

/// Reads until full; false at the end of the stream.
fn fill(socket: BorrowedFd<'_>, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<bool, Error> {
    let mut at = 0;
    while let Some(rest @ [_, ..]) = buffer.get_mut(at..) {
        let got = match unix::receive(socket, rest) {
            // The peer ended with our message unread.
            Err(Errno::CONNRESET) => return Ok(false),
            got => got.step(|| "receive message between init and its parent".into())?,
        };
        if got.len == 0 {
            return Ok(false);
        }
        at += got.len;
        fds.extend(got.fds);
    }
    Ok(true)
}
