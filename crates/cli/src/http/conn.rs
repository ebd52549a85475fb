//! One connection: a socket and the bytes read ahead from it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::head::{Head, parse_head};
use super::request::Upload;
use super::{HttpError, MAX_HEAD};

/// Where connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dial {
    Unix(PathBuf),
    Tcp(String),
    /// A helper process whose stdin and stdout are the connection (`ssh HOST … dial-stdio`).
    Process(Vec<String>),
}

/// The byte stream below HTTP.
#[derive(Debug, Clone)]
pub(crate) enum Socket {
    Unix(Arc<UnixStream>),
    Tcp(Arc<TcpStream>),
    Process(Arc<Helper>),
}

/// A helper process and the two pipes that make it a connection.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Mutex<Child>,
    /// `None` once the write side was shut.
    stdin: Mutex<Option<ChildStdin>>,
    stdout: ChildStdout,
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Ok(mut stdin) = self.stdin.lock() {
            drop(stdin.take());
        }
        if let Ok(mut child) = self.child.lock() {
            // The helper ends by itself when its stdin closes; whether it did is of no interest.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Dial {
    pub(crate) fn connect(&self) -> io::Result<Socket> {
        match self {
            Dial::Unix(path) => Ok(Socket::Unix(Arc::new(UnixStream::connect(path)?))),
            Dial::Tcp(address) => {
                let stream = TcpStream::connect(address.as_str())?;
                // Small requests and keystrokes: waiting for more to send only delays them.
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(Arc::new(stream)))
            }
            Dial::Process(argv) => {
                let (program, args) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
                let mut child = Command::new(program)
                    .args(args)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::inherit())
                    .spawn()?;
                let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
                    return Err(io::ErrorKind::BrokenPipe.into());
                };
                Ok(Socket::Process(Arc::new(Helper {
                    child: Mutex::new(child),
                    stdin: Mutex::new(Some(stdin)),
                    stdout,
                })))
            }
        }
    }
}

impl Socket {
    /// Says "no more input" to the peer and keeps reading.
    pub(crate) fn shut_write(&self) -> io::Result<()> {
        match self {
            Socket::Unix(s) => s.shutdown(Shutdown::Write),
            Socket::Tcp(s) => s.shutdown(Shutdown::Write),
            Socket::Process(p) => {
                drop(p.stdin.lock().map_err(|_| io::ErrorKind::BrokenPipe)?.take());
                Ok(())
            }
        }
    }

    /// Ends both directions, waking whoever is reading.
    pub(crate) fn shut(&self) -> io::Result<()> {
        match self {
            Socket::Unix(s) => s.shutdown(Shutdown::Both),
            Socket::Tcp(s) => s.shutdown(Shutdown::Both),
            Socket::Process(p) => {
                self.shut_write()?;
                p.child.lock().map_err(|_| io::ErrorKind::BrokenPipe)?.kill()
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(s) => (&**s).read(buf),
            Socket::Tcp(s) => (&**s).read(buf),
            Socket::Process(p) => rustix::io::read(&p.stdout, buf).map_err(io::Error::from),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(s) => (&**s).write(buf),
            Socket::Tcp(s) => (&**s).write(buf),
            Socket::Process(p) => match p.stdin.lock().map_err(|_| io::ErrorKind::BrokenPipe)?.as_mut() {
                Some(stdin) => stdin.write(buf),
                None => Err(io::ErrorKind::BrokenPipe.into()),
            },
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection at a message boundary, or inside a body (see [`super::Body`]).
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) socket: Socket,
    ahead: Vec<u8>,
    at: usize,
    /// Carried at least one exchange: the peer may have closed it meanwhile.
    pub(crate) reused: bool,
    /// The request body that is being sent, if it is a streamed one.
    pub(super) upload: Option<Upload>,
}

/// Bytes asked from the socket at a time: a head and a small answer in one system call, and few
/// pages touched.
const READ_AHEAD: usize = 4 << 10;

impl Conn {
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, ahead: Vec::new(), at: 0, reused: false, upload: None }
    }

    /// Bytes that were read from the socket and not consumed yet.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.ahead[self.at..]
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.at += n;
        if self.at >= self.ahead.len() {
            self.ahead.clear();
            self.at = 0;
        }
    }

    /// Waits until there is something to read, an end included; false if that takes longer, or when
    /// a signal came.
    pub(crate) fn readable_within(&self, time: Duration) -> io::Result<bool> {
        if !self.buffered().is_empty() {
            return Ok(true);
        }
        let fd = match &self.socket {
            Socket::Unix(s) => s.as_fd(),
            Socket::Tcp(s) => s.as_fd(),
            Socket::Process(p) => p.stdout.as_fd(),
        };
        let time = Timespec::try_from(time).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)) {
            Err(rustix::io::Errno::INTR) => Ok(false),
            other => Ok(other? > 0),
        }
    }

    /// Reads more bytes behind the buffered ones. `Ok(0)` is EOF.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        if self.at > 0 {
            self.ahead.drain(..self.at);
            self.at = 0;
        }
        let have = self.ahead.len();
        self.ahead.resize(have + READ_AHEAD, 0);
        let read = loop {
            match self.socket.read(&mut self.ahead[have..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.ahead.truncate(have + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Reads into `buf`, the buffered bytes first.
    pub(crate) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.buffered().is_empty() && buf.len() >= READ_AHEAD {
            return self.socket.read(buf);
        }
        if self.buffered().is_empty() && self.fill()? == 0 {
            return Ok(0);
        }
        let n = buf.len().min(self.buffered().len());
        buf[..n].copy_from_slice(&self.buffered()[..n]);
        self.consume(n);
        Ok(n)
    }

    /// One line without its line end, at most `MAX_HEAD` long.
    pub(crate) fn read_line(&mut self) -> Result<Vec<u8>, HttpError> {
        let mut searched = 0;
        loop {
            if let Some(i) = self.buffered()[searched..].iter().position(|b| *b == b'\n') {
                let end = searched + i;
                let mut line = self.buffered()[..end].to_vec();
                self.consume(end + 1);
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            searched = self.buffered().len();
            if searched > MAX_HEAD {
                return Err(HttpError::HeadTooLong);
            }
            if self.fill().map_err(HttpError::Receive)? == 0 {
                return Err(if searched == 0 {
                    HttpError::Closed
                } else {
                    HttpError::Malformed("the connection ended inside a line")
                });
            }
        }
    }

    /// Reads a response head; interim `1xx` answers other than 101 are skipped.
    pub(crate) fn read_head(&mut self) -> Result<Head, HttpError> {
        loop {
            let head = self.read_one_head()?;
            if head.status >= 200 || head.status == 101 {
                return Ok(head);
            }
        }
    }

    fn read_one_head(&mut self) -> Result<Head, HttpError> {
        let mut searched = 0;
        let end = loop {
            let from = searched.max(3) - 3;
            if let Some(i) = find(&self.buffered()[from..], b"\r\n\r\n") {
                break from + i + 4;
            }
            searched = self.buffered().len();
            if searched > MAX_HEAD {
                return Err(HttpError::HeadTooLong);
            }
            match self.fill() {
                Ok(0) if searched == 0 => return Err(HttpError::Closed),
                Ok(0) => return Err(HttpError::Malformed("the connection ended inside the head")),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset && searched == 0 => {
                    return Err(HttpError::Closed);
                }
                Err(e) => return Err(HttpError::Receive(e)),
            }
        };
        let head = parse_head(&self.buffered()[..end])?;
        self.consume(end);
        Ok(head)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
