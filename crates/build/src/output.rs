//! The build's stream of messages, with the texts that Docker's clients know.

use seacow_spec::Digest;
use seacow_spec::docker::build::JsonMessage;

use crate::executor::{StepOutput, Stream};

/// The client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub struct Disconnected;

/// Where messages go: the daemon writes each as JSON and `\r\n`.
pub trait Sink {
    /// Takes one message.
    ///
    /// # Errors
    /// The client is gone; the build stops.
    fn send(&mut self, message: JsonMessage) -> Result<(), Disconnected>;
}

impl Sink for Vec<JsonMessage> {
    fn send(&mut self, message: JsonMessage) -> Result<(), Disconnected> {
        self.push(message);
        Ok(())
    }
}

/// How much of a quiet build's output is kept for the case that it fails.
const QUIET_LIMIT: usize = 4 << 20;

/// The messages of one build. A *quiet* one (`-q`) keeps them back and shows them only when the
/// build fails.
pub(crate) struct Output<'a> {
    sink: &'a mut dyn Sink,
    quiet: Option<Kept>,
    pending: [Vec<u8>; 2],
    disconnected: bool,
}

/// What a quiet build has said so far.
#[derive(Default)]
struct Kept {
    messages: Vec<JsonMessage>,
    bytes: usize,
}

type Sent = Result<(), Disconnected>;

impl<'a> Output<'a> {
    pub(crate) fn new(sink: &'a mut dyn Sink, quiet: bool) -> Self {
        Self { sink, quiet: quiet.then(Kept::default), pending: Default::default(), disconnected: false }
    }

    /// Whether the client has gone meanwhile.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.disconnected
    }

    /// A piece of normal output.
    pub(crate) fn say(&mut self, text: impl Into<String>) -> Sent {
        self.send(JsonMessage { stream: Some(text.into()), ..JsonMessage::default() })
    }

    /// A piece of error output, red.
    pub(crate) fn warn(&mut self, text: &str) -> Sent {
        self.say(red(text))
    }

    /// `Step 1/10 : FROM bb`, in the two messages that Docker makes of it.
    pub(crate) fn step(&mut self, number: usize, of: usize, code: &str) -> Sent {
        self.say(format!("Step {number}/{of} : {code}"))?;
        self.say("\n")
    }

    /// ` ---> def1b56ec954`; nothing after the arrow where there is no image yet.
    pub(crate) fn image(&mut self, id: Option<&Digest>) -> Sent {
        self.say(format!(" ---> {}\n", id.map_or("", |id| id.short())))
    }

    /// ` ---> Running in 3b4fca832e5b`.
    pub(crate) fn running_in(&mut self, container: &str) -> Sent {
        self.say(format!(" ---> Running in {}\n", short(container)))
    }

    /// ` ---> Removed intermediate container 3b4fca832e5b`.
    pub(crate) fn removed(&mut self, container: &str) -> Sent {
        self.say(format!(" ---> Removed intermediate container {}\n", short(container)))
    }

    /// The image of a finished stage, for programs.
    pub(crate) fn aux(&mut self, id: &Digest) -> Sent {
        let aux = serde_json::json!({ "ID": id.as_str() });
        self.send(JsonMessage { aux: Some(aux), ..JsonMessage::default() })
    }

    /// The one line of a quiet build that succeeded.
    pub(crate) fn quiet_result(&mut self, id: &Digest) -> Sent {
        if self.quiet.take().is_none() {
            return Ok(());
        }
        self.say(format!("{id}\n"))
    }

    /// A quiet build failed: what it had to say is shown after all.
    pub(crate) fn reveal(&mut self) -> Sent {
        let kept = self.quiet.take().unwrap_or_default();
        kept.messages.into_iter().try_for_each(|message| self.sink.send(message))
    }

    /// A command ended: a character that it left unfinished is shown as it is.
    pub(crate) fn end_of_command(&mut self) -> Sent {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(self.pending_of(stream));
            if !rest.is_empty() {
                self.say_stream(stream, &String::from_utf8_lossy(&rest))?;
            }
        }
        Ok(())
    }

    fn say_stream(&mut self, stream: Stream, text: &str) -> Sent {
        match stream {
            Stream::Stdout => self.say(text),
            Stream::Stderr => self.warn(text),
        }
    }

    fn pending_of(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [stdout, stderr] = &mut self.pending;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }
}

impl Sink for Output<'_> {
    fn send(&mut self, message: JsonMessage) -> Sent {
        let Some(kept) = &mut self.quiet else {
            let sent = self.sink.send(message);
            self.disconnected |= sent.is_err();
            return sent;
        };
        kept.bytes += message.stream.as_ref().map_or(0, String::len);
        if kept.bytes <= QUIET_LIMIT {
            kept.messages.push(message);
        }
        Ok(())
    }
}

impl StepOutput for Output<'_> {
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Sent {
        let pending = self.pending_of(stream);
        pending.extend_from_slice(bytes);
        let whole = whole_characters(pending);
        let rest = pending.split_off(whole);
        let ready = std::mem::replace(pending, rest);
        if ready.is_empty() { Ok(()) } else { self.say_stream(stream, &String::from_utf8_lossy(&ready)) }
    }
}

/// How many bytes there are without a character that has only begun.
fn whole_characters(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for at in (tail..bytes.len()).rev() {
        let needs = match bytes[at] {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            0x80..=0xbf => continue,
            _ => return bytes.len(),
        };
        return if bytes.len() - at < needs { at } else { bytes.len() };
    }
    bytes.len()
}

fn red(text: &str) -> String {
    format!("\u{1b}[91m{text}\u{1b}[0m")
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_torn_apart() {
        let mut sent: Vec<JsonMessage> = Vec::new();
        let mut output = Output::new(&mut sent, false);
        for bytes in [&b"a\xc3"[..], b"\xa9b", b"\xe2\x82", b"\xff", b"\xf0\x9f"] {
            output.write(Stream::Stdout, bytes).unwrap();
        }
        output.write(Stream::Stderr, b"e\n").unwrap();
        output.end_of_command().unwrap();
        let texts: Vec<_> = sent.into_iter().filter_map(|message| message.stream).collect();
        assert_eq!(texts, ["a", "éb", "\u{fffd}\u{fffd}", "\u{1b}[91me\n\u{1b}[0m", "\u{fffd}"]);
    }

    #[test]
    fn quiet_builds_keep_quiet() {
        let mut sent: Vec<JsonMessage> = Vec::new();
        let mut output = Output::new(&mut sent, true);
        output.say("x").unwrap();
        output.quiet_result(&Digest::from_sha256(&[0; 32])).unwrap();
        assert_eq!(sent.len(), 1);
        let mut sent: Vec<JsonMessage> = Vec::new();
        let mut output = Output::new(&mut sent, true);
        output.say("x").unwrap();
        output.reveal().unwrap();
        assert_eq!(sent[0].stream.as_deref(), Some("x"));
    }
}
