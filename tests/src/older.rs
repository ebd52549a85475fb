//! A shim of an earlier version: a real one behind a door that says so.
//!
//! The door stands where the shim's socket was. It passes everything on both ways, descriptors
//! included, and changes one thing: the version in the answer to a greeting.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// A door in front of a shim's socket. The shim's own comes back when it is dropped.
pub struct OlderShim {
    socket: PathBuf,
    behind: PathBuf,
    greeted: Arc<AtomicU32>,
}

impl OlderShim {
    /// Puts one before the shim of the exec directory `dir`; no daemon may be connected. It says that
    /// it speaks version 1.
    pub fn stand_in(dir: &Path) -> Self {
        let (socket, behind) = (dir.join("shim.sock"), dir.join("behind.sock"));
        std::fs::rename(&socket, &behind).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let greeted = Arc::new(AtomicU32::new(0));
        let door = Self { socket, behind: behind.clone(), greeted: Arc::clone(&greeted) };
        std::thread::spawn(move || {
            for daemon in listener.incoming().flatten() {
                // After the door was taken away.
                let Ok(shim) = UnixStream::connect(&behind) else { return };
                let (from, to) = (daemon.try_clone().unwrap(), shim.try_clone().unwrap());
                std::thread::spawn(move || requests(&from, &to));
                let greeted = Arc::clone(&greeted);
                std::thread::spawn(move || answers(shim, daemon, &greeted));
            }
        });
        door
    }

    /// How many daemons were told the version.
    pub fn greeted(&self) -> u32 {
        self.greeted.load(Ordering::Relaxed)
    }
}

impl Drop for OlderShim {
    fn drop(&mut self) {
        // Whoever is connected stays so. The shim's directory may be gone.
        let _ = std::fs::rename(&self.behind, &self.socket);
    }
}

/// From the daemon to the shim, until the daemon's end.
fn requests(from: &UnixStream, to: &UnixStream) {
    let mut bytes = [0; 16 << 10];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let Ok(got) =
            recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
        else {
            break;
        };
        let descriptors: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        if got.bytes == 0 || pass_on(to, &bytes[..got.bytes], &descriptors).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

fn pass_on(mut to: &UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) -> std::io::Result<()> {
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    }
    let sent = sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    to.write_all(&bytes[sent..])
}

/// From the shim to the daemon, until the shim's end.
fn answers(mut from: UnixStream, mut to: UnixStream, greeted: &AtomicU32) {
    const BEFORE: &[u8] = b"\"hello\":{\"version\":";
    let mut bytes = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let chunk = &mut bytes[..count];
        if let Some(at) = chunk.windows(BEFORE.len()).position(|window| window == BEFORE) {
            let version = at + BEFORE.len();
            assert!(chunk[version + 1] == b',', "a version of one digit: the frame keeps its length");
            chunk[version] = b'1';
            greeted.fetch_add(1, Ordering::Relaxed);
        }
        if to.write_all(chunk).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
}
