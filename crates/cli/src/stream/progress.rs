//! The progress streams of pull, push, build, load and import, as docker's client shows them.

use std::collections::HashMap;
use std::io::{Read, Write};

use seacow_spec::docker::build::{JsonMessage, ProgressDetail};
use serde_json::Value;

use crate::failure::Failure;
use crate::format::units::human_size;
use crate::http::{Body, HttpError};
use crate::term;

/// Where progress is shown, and how.
pub(crate) struct Progress<'a> {
    out: &'a mut dyn Write,
    /// Lines of layers are redrawn in place.
    terminal: bool,
    width: usize,
    /// Line of each layer, counted from the first.
    lines: HashMap<String, usize>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, terminal: bool) -> Self {
        let width = term::size().map_or(0, |(_, columns)| usize::from(columns));
        Self { out, terminal, width: if width == 0 { 200 } else { width }, lines: HashMap::new() }
    }

    fn message(&mut self, message: &JsonMessage) -> Result<(), Failure> {
        let below = self.move_to_line(message)?;
        self.draw(message)?;
        if below > 0 {
            write!(self.out, "\x1b[{below}B")?;
        }
        Ok(self.out.flush()?)
    }

    /// On a terminal, a layer's messages go to the layer's own line. Returns how far up that is.
    fn move_to_line(&mut self, message: &JsonMessage) -> Result<usize, Failure> {
        let Some(id) = message.id.as_ref().filter(|_| self.terminal && message.progress_detail.is_some())
        else {
            if message.progress_detail.is_none() && message.id.is_none() {
                self.lines.clear();
            }
            return Ok(0);
        };
        let next = self.lines.len();
        let line = match self.lines.get(id) {
            Some(line) => *line,
            None => {
                self.lines.insert(id.clone(), next);
                self.out.write_all(b"\n")?;
                next
            }
        };
        let up = self.lines.len() - line;
        write!(self.out, "\x1b[{up}A")?;
        Ok(up)
    }

    fn draw(&mut self, message: &JsonMessage) -> Result<(), Failure> {
        let bar = message.progress_detail.map(|p| bar(p, self.width)).unwrap_or_default();
        let in_place = self.terminal && message.stream.is_none() && message.progress_detail.is_some();
        if in_place {
            self.out.write_all(b"\x1b[2K\r")?;
        } else if !bar.is_empty() {
            // Without a terminal only the ends of the steps are shown.
            return Ok(());
        }
        let mut line = String::new();
        if let Some(id) = message.id.as_ref().filter(|id| !id.is_empty()) {
            line.push_str(&format!("{id}: "));
        }
        match (&message.stream, message.status.as_deref().unwrap_or("")) {
            (Some(stream), _) if !stream.is_empty() => line.push_str(stream),
            (_, status) if in_place => line.push_str(&format!("{status} {bar}\r")),
            (_, status) => line.push_str(&format!("{status}\n")),
        }
        Ok(self.out.write_all(line.as_bytes())?)
    }
}

/// docker's bar: `[==>      ]  1.2MB/45MB`.
fn bar(progress: ProgressDetail, width: usize) -> String {
    let (current, total) = (progress.current.unwrap_or(0), progress.total.unwrap_or(0));
    if current == 0 && total == 0 {
        return String::new();
    }
    let amount = human_size(current as f64);
    if total == 0 {
        return format!("{amount:>8}");
    }
    let mut out = String::new();
    if width > 110 {
        let filled = ((current as f64 / total as f64 * 100.0) as usize / 2).min(50);
        out.push_str(&format!("[{}>{}] ", "=".repeat(filled), " ".repeat(50 - filled)));
    }
    out.push_str(&format!("{amount:>8}"));
    if current <= total {
        out.push_str(&format!("/{}", human_size(total as f64)));
    }
    out
}

/// Shows a stream of messages until its end. `aux` gets the engine's results (image ids).
/// An error inside the stream is the stream's end.
pub(crate) fn show(
    body: &mut Body,
    mut progress: Option<Progress<'_>>,
    mut aux: impl FnMut(&Value),
) -> Result<(), Failure> {
    let mut buf = Vec::new();
    let mut piece = vec![0; 16 << 10];
    loop {
        let n = body.read(&mut piece).map_err(|e| match body.upload_failure() {
            Some(upload) => upload,
            None => HttpError::Receive(e),
        })?;
        buf.extend_from_slice(&piece[..n]);
        let used = complete_messages(&buf, &mut |message: JsonMessage| {
            if let Some(error) = message.error_detail.as_ref() {
                return Err(stream_error(error.code, &error.message));
            }
            if let Some(error) = message.error.as_ref() {
                return Err(stream_error(None, error));
            }
            if let Some(value) = &message.aux {
                aux(value);
                if message.stream.is_none() && message.status.is_none() {
                    return Ok(());
                }
            }
            progress.as_mut().map_or(Ok(()), |p| p.message(&message))
        })?;
        buf.drain(..used);
        if n == 0 {
            return match body.upload_failure() {
                Some(upload) => Err(upload.into()),
                None => Ok(()),
            };
        }
        if buf.len() > MAX_MESSAGE {
            return Err(Failure::refused("the engine's progress stream has an endless message"));
        }
    }
}

/// One message longer than this is none.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;

pub(crate) fn stream_error(code: Option<i32>, message: &str) -> Failure {
    match code.and_then(|c| u8::try_from(c).ok()).filter(|c| *c != 0) {
        Some(code) => Failure::Status { text: message.to_owned(), code },
        None => Failure::Refused(message.to_owned()),
    }
}

/// Hands over every complete message at the start of `buf`; returns how many bytes they took.
pub(crate) fn complete_messages(
    buf: &[u8],
    each: &mut impl FnMut(JsonMessage) -> Result<(), Failure>,
) -> Result<usize, Failure> {
    let mut stream = serde_json::Deserializer::from_slice(buf).into_iter::<JsonMessage>();
    let mut used = 0;
    while let Some(message) = stream.next() {
        match message {
            Ok(message) => {
                used = stream.byte_offset();
                each(message)?;
            }
            Err(e) if e.is_eof() => break,
            Err(e) => return Err(Failure::Refused(format!("malformed message in the engine's stream: {e}"))),
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show_all(terminal: bool, text: &str) -> String {
        let mut out = Vec::new();
        let mut progress = Progress::new(&mut out, terminal);
        progress.width = 120;
        complete_messages(text.as_bytes(), &mut |m| progress.message(&m)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn without_a_terminal() {
        let text = "{\"status\":\"Pulling from lib/bb\",\"id\":\"1\"}\r\n{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":4},\"id\":\"abc\"}\r\n{\"status\":\"Pull complete\",\"progressDetail\":{},\"id\":\"abc\"}\r\n{\"stream\":\"Step 1/2\"}";
        assert_eq!(show_all(false, text), "1: Pulling from lib/bb\nabc: Pull complete\nStep 1/2");
    }

    #[test]
    fn layers_keep_their_lines() {
        let text = "{\"status\":\"Waiting\",\"progressDetail\":{},\"id\":\"a\"}{\"status\":\"Waiting\",\"progressDetail\":{},\"id\":\"b\"}{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1000,\"total\":2000},\"id\":\"a\"}";
        let shown = show_all(true, text);
        assert!(shown.ends_with(&format!(
            "\x1b[2A\x1b[2K\ra: Downloading [{}>{}]      1kB/2kB\r\x1b[2B",
            "=".repeat(25),
            " ".repeat(25)
        )));
    }

    #[test]
    fn messages_may_arrive_in_pieces() {
        let mut seen = 0;
        let used = complete_messages(b"{\"stream\":\"a\"}\r\n{\"stre", &mut |_| {
            seen += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!((seen, used), (1, 14));
    }
}
