//! The bare API, byte for byte: one request on one connection.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// What came back.
#[derive(Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header lines.
    pub head: String,
    /// Body, chunks joined.
    pub body: String,
}

impl Response {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Asserts status and error message.
    #[track_caller]
    pub fn refuses(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let message = self.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(words), "expected {words:?} in {message:?}");
    }
}

/// Sends one request and reads to the end of the connection.
pub(crate) fn request(socket: &Path, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Response {
    begin(socket, method, path, headers, body).answer()
}

/// A request whose answer has not been read.
#[derive(Debug)]
pub struct Begun {
    stream: UnixStream,
    sent: std::io::Result<()>,
}

pub(crate) fn begin(socket: &Path, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Begun {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(crate::patience(30))).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
    if !headers.iter().any(|header| header.starts_with("Connection:")) {
        head.push_str("Connection: close\r\n");
    }
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).unwrap();
    // A refusal may come before the whole body was taken.
    let sent = stream.write_all(body);
    Begun { stream, sent }
}

impl Begun {
    /// Reads the answer to the end of the connection.
    #[track_caller]
    pub fn answer(mut self) -> Response {
        let mut raw = Vec::new();
        let received = self.stream.read_to_end(&mut raw);
        assert!(
            received.is_ok() || (self.sent.is_err() && !raw.is_empty()),
            "{received:?} after {:?}",
            self.sent
        );
        parse(&raw)
    }
}

fn parse(raw: &[u8]) -> Response {
    let end = raw.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no header: {raw:?}"));
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = &raw[end + 4..];
    let mut joined = Vec::new();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        while let Some(line) = body.windows(2).position(|w| w == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
            if size == 0 {
                break;
            }
            joined.extend_from_slice(&body[line + 2..line + 2 + size]);
            body = &body[line + 4 + size..];
        }
    } else {
        joined.extend_from_slice(body);
    }
    Response { status, head, body: String::from_utf8_lossy(&joined).into_owned() }
}
