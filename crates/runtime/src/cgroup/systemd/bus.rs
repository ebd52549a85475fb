//! One connection to a service manager.
//!
//! ```text
//! us                                     systemd
//!   │ ── NUL AUTH EXTERNAL, DATA, BEGIN ──▶ │  who we are it knows from the socket
//!   │ ── StartTransientUnit ──────────────▶ │
//!   │ ◀── DATA, OK … ────────────────────── │
//!   │ ◀── return: /job/17 ───────────────── │
//!   │ ◀── signal JobRemoved /job/17 done ── │  now the processes are in the scope
//! ```
//!
//! Preferred is the manager's own private socket: one process less in between, no broker needed,
//! and its signals come unasked. A bus proper wants a greeting and a subscription first.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::BusError;
use super::message::{self, FIXED_HEADER, Method, Reader, Received, Writer};

/// How long systemd may take for one job. A busy machine takes seconds; runc allows 30 as well.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lines of the greeting are short.
const MAX_GREETING: usize = 4096;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Name of the manager on a bus; `None` on its private socket.
    manager: Option<&'static str>,
    /// Jobs that ended: path and result. They may be told before we wait for them.
    ended: VecDeque<(String, String)>,
}

/// Where a manager can be reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) socket: PathBuf,
    pub(super) is_private: bool,
}

impl Bus {
    /// Connects to the first address that answers.
    pub(super) fn connect(addresses: &[Address]) -> Result<Self, BusError> {
        let mut failed = BusError::NoAddress;
        for address in addresses {
            match Self::open(address) {
                Ok(bus) => return Ok(bus),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn open(address: &Address) -> Result<Self, BusError> {
        let connect = |path: &Path| {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = connect(&address.socket)
            .map_err(|source| BusError::Connect { socket: address.socket.clone(), source })?;
        let manager = (!address.is_private).then_some(SYSTEMD);
        let mut bus = Self { stream, serial: 0, manager, ended: VecDeque::new() };
        bus.greet()?;
        if !address.is_private {
            bus.subscribe()?;
        }
        Ok(bus)
    }

    /// The server knows us by the socket's credentials; an identity that we told could be wrong in a
    /// user namespace, where our 0 is its 1000.
    fn greet(&mut self) -> Result<(), BusError> {
        self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            let line = self.line()?;
            match line.split(' ').next() {
                Some("OK") => return Ok(()),
                Some("DATA") => {}
                _ => return Err(BusError::Refused(line)),
            }
        }
    }

    /// Byte by byte: what follows the line is a message already.
    fn line(&mut self) -> Result<String, BusError> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.receive(&mut byte)?;
            line.extend(byte);
            if line.len() > MAX_GREETING {
                return Err(BusError::Malformed("an endless greeting"));
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn subscribe(&mut self) -> Result<(), BusError> {
        let broker = |member, signature| Method {
            destination: Some(BUS),
            path: BUS_PATH,
            interface: BUS,
            member,
            signature,
        };
        self.ask(&broker("Hello", ""), Writer::default())?;
        let mut rule = Writer::default();
        rule.text(&format!("type='signal',interface='{MANAGER}',member='JobRemoved'"));
        self.ask(&broker("AddMatch", "s"), rule)?;
        self.call("Subscribe", "", Writer::default()).map(drop)
    }

    /// Calls a method of the manager; gives the answer's body.
    pub(super) fn call(&mut self, member: &str, signature: &str, body: Writer) -> Result<Vec<u8>, BusError> {
        let destination = self.manager;
        self.ask(&Method { destination, path: MANAGER_PATH, interface: MANAGER, member, signature }, body)
    }

    /// Calls a method that starts a job, and waits until that is done.
    pub(super) fn run_job(
        &mut self,
        unit: &str,
        member: &str,
        signature: &str,
        body: Writer,
    ) -> Result<(), BusError> {
        let answer = self.call(member, signature, body)?;
        let job = Reader::new(&answer).text()?;
        loop {
            while let Some((path, result)) = self.ended.pop_front() {
                if path != job {
                    continue;
                }
                return match result.as_str() {
                    "done" => Ok(()),
                    _ => Err(BusError::Job { unit: unit.to_owned(), result }),
                };
            }
            self.hear()?;
        }
    }

    fn ask(&mut self, method: &Method<'_>, body: Writer) -> Result<Vec<u8>, BusError> {
        self.serial += 1;
        let sent = self.serial;
        self.send(&message::call(method, sent, body)?)?;
        loop {
            match self.hear()? {
                Received::Return { serial, body } if serial == sent => return Ok(body),
                Received::Error { serial, name, message } if serial == sent => {
                    return Err(BusError::Answer { method: method.member.to_owned(), name, message });
                }
                Received::Return { .. }
                | Received::Error { .. }
                | Received::Signal { .. }
                | Received::Other => {}
            }
        }
    }

    /// Receives one message; remembers jobs that ended.
    fn hear(&mut self) -> Result<Received, BusError> {
        let mut fixed = [0; FIXED_HEADER];
        self.receive(&mut fixed)?;
        let total = message::total_length(&fixed)?;
        let mut whole = fixed.to_vec();
        whole.resize(total, 0);
        self.receive(whole.get_mut(FIXED_HEADER..).unwrap_or_default())?;
        let received = message::parse(&whole)?;
        if let Received::Signal { member, body } = &received
            && member == "JobRemoved"
        {
            let mut reader = Reader::new(body);
            // Number, path, unit, result.
            reader.u32()?;
            let path = reader.text()?;
            reader.text()?;
            self.ended.push_back((path, reader.text()?));
        }
        Ok(received)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), BusError> {
        self.stream.write_all(bytes).map_err(|source| BusError::Io { doing: "write to", source })
    }

    fn receive(&mut self, into: &mut [u8]) -> Result<(), BusError> {
        self.stream.read_exact(into).map_err(|source| BusError::Io { doing: "read from", source })
    }
}
