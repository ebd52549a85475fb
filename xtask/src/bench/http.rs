//! As much HTTP/1.1 as it takes to call an engine over one kept Unix connection: what is measured
//! with it is the engine, not the start of a client program.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// No call of the benchmark takes that long; what does hangs.
const TIMEOUT: Duration = Duration::from_secs(60);
/// No answer is longer; a list of thousands of containers is a few megabytes.
const MAX_BODY: u64 = 64 << 20;

/// A connection that is kept between calls.
pub(crate) struct Connection(BufReader<UnixStream>);

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Connection {
    /// Connects to `socket`.
    pub(crate) fn open(socket: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request, in one write, and reads the answer.
    pub(crate) fn call(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: \
             {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        self.answer().with_context(|| format!("{method} {path}"))
    }

    fn answer(&mut self) -> Result<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("not an HTTP answer: {first:?}"))?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            let Some((name, value)) = line.split_once(':') else { break };
            match name {
                "content-length" => length = value.trim().parse()?,
                "transfer-encoding" => chunked = value.trim() == "chunked",
                _ => {}
            }
        }
        let body = if chunked { self.chunks()? } else { self.exactly(length)? };
        Ok(Answer { status, body })
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            bail!("the engine closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }

    fn exactly(&mut self, length: u64) -> Result<Vec<u8>> {
        if length > MAX_BODY {
            bail!("an answer of {length} bytes");
        }
        let mut body = Vec::new();
        (&mut self.0).take(length).read_to_end(&mut body)?;
        Ok(body)
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let length = u64::from_str_radix(&self.line()?, 16)?;
            body.extend(self.exactly(length)?);
            self.line()?;
            if length == 0 || body.len() as u64 > MAX_BODY {
                return Ok(body);
            }
        }
    }
}
