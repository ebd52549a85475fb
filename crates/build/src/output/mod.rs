//! The build's stream of messages, with the texts that Docker's clients know, or as events for our
//! own client.
//!
//! Stages that are built at the same time speak at the same time. Docker's clients are told them one
//! after the other all the same: the first stage that is not done speaks, the others' messages wait.
//!
//! | module | what |
//! |---|---|
//! | `printer` | whose turn it is, and what waits |
//! | `text` | characters that come in pieces |

mod printer;
mod text;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use seacow_spec::Digest;
use seacow_spec::docker::build::{BuildEvent, JsonMessage};

use crate::executor::{StepOutput, Stream};
pub(crate) use printer::{Lane, Printer};
use text::Characters;

/// The client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub struct Disconnected;

/// Where messages go: the daemon writes each as JSON and `\r\n`.
pub trait Sink: Send {
    /// Takes one message.
    ///
    /// # Errors
    /// The client is gone; the build stops.
    fn send(&mut self, message: JsonMessage) -> Result<(), Disconnected>;
}

/// Keeps the messages.
#[derive(Clone, Debug, Default)]
pub struct Kept(Arc<Mutex<Vec<JsonMessage>>>);

impl Kept {
    /// What was sent so far.
    pub fn messages(&self) -> Vec<JsonMessage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Sink for Kept {
    fn send(&mut self, message: JsonMessage) -> Result<(), Disconnected> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        Ok(())
    }
}

/// The end of a command's output that is repeated where the failure is told.
const TAIL: usize = 8 << 10;

/// What one stage says.
pub(crate) struct Output<'a> {
    printer: &'a Printer,
    lane: Lane,
    characters: [Characters; 2],
    step: Option<OpenStep>,
    tail: String,
}

/// The step that is being carried out.
struct OpenStep {
    number: u64,
    begun: Instant,
    cached: bool,
}

pub(crate) type Sent = Result<(), Disconnected>;

/// A step that begins: where it stands among all steps, and in its stage.
pub(crate) struct Heading<'a> {
    pub number: usize,
    pub of: usize,
    pub stage: &'a str,
    pub position: usize,
    pub of_stage: usize,
    pub code: &'a str,
}

impl<'a> Output<'a> {
    pub(crate) fn new(printer: &'a Printer, lane: Lane) -> Self {
        Self { printer, lane, characters: Default::default(), step: None, tail: String::new() }
    }

    /// Whether the client has gone meanwhile.
    pub(crate) fn is_disconnected(&self) -> bool {
        self.printer.is_disconnected()
    }

    /// A piece of normal output.
    pub(crate) fn say(&mut self, text: impl Into<String>) -> Sent {
        let text = text.into();
        if self.printer.tells_events() {
            let text = text.trim_end().to_owned();
            return if text.is_empty() { Ok(()) } else { self.event(BuildEvent::Note { text }) };
        }
        self.docker(text)
    }

    /// A text for Docker's clients, which ours makes of events.
    pub(crate) fn say_to_docker(&mut self, text: impl Into<String>) -> Sent {
        self.docker(text)
    }

    /// Docker's own text, which says nothing to our client that the events do not.
    fn docker(&mut self, text: impl Into<String>) -> Sent {
        if self.printer.tells_events() {
            return Ok(());
        }
        self.printer.send(self.lane, JsonMessage { stream: Some(text.into()), ..JsonMessage::default() })
    }

    /// An event, for our client only.
    pub(crate) fn event(&mut self, event: BuildEvent) -> Sent {
        self.printer.event(self.lane, event)
    }

    /// `Step 1/10 : FROM bb`, in the two messages that Docker makes of it.
    pub(crate) fn step(&mut self, heading: &Heading<'_>) -> Sent {
        self.docker(format!("Step {}/{} : {}", heading.number, heading.of, heading.code))?;
        self.docker("\n")?;
        self.tail.clear();
        let number = self.printer.next_step();
        self.step = Some(OpenStep { number, begun: Instant::now(), cached: false });
        self.event(BuildEvent::Begin {
            step: number,
            stage: heading.stage.to_owned(),
            position: heading.position,
            of: heading.of_stage,
            text: heading.code.to_owned(),
        })
    }

    /// ` ---> Using cache`.
    pub(crate) fn using_cache(&mut self) -> Sent {
        if let Some(step) = &mut self.step {
            step.cached = true;
        }
        self.docker(" ---> Using cache\n")
    }

    /// The step's end: ` ---> def1b56ec954`; nothing after the arrow where there is no image yet.
    pub(crate) fn image(&mut self, id: Option<&Digest>) -> Sent {
        self.docker(format!(" ---> {}\n", id.map_or("", |id| id.short())))?;
        self.end_step()
    }

    /// The step's end, where there is no image to tell.
    pub(crate) fn end_step(&mut self) -> Sent {
        let Some(step) = self.step.take() else { return Ok(()) };
        let micros = micros(step.begun);
        self.event(BuildEvent::End { step: step.number, cached: step.cached, micros })
    }

    /// The step failed, or was stopped.
    pub(crate) fn broken(&mut self) -> Sent {
        let Some(step) = self.step.take() else { return Ok(()) };
        let micros = micros(step.begun);
        self.event(BuildEvent::Broken { step: step.number, micros })
    }

    /// ` ---> Running in 3b4fca832e5b`.
    pub(crate) fn running_in(&mut self, container: &str) -> Sent {
        self.docker(format!(" ---> Running in {}\n", short(container)))
    }

    /// ` ---> Removed intermediate container 3b4fca832e5b`.
    pub(crate) fn removed(&mut self, container: &str) -> Sent {
        self.docker(format!(" ---> Removed intermediate container {}\n", short(container)))
    }

    /// The image of a finished stage, for programs.
    pub(crate) fn aux(&mut self, id: &Digest) -> Sent {
        let aux = serde_json::json!({ "ID": id.as_str() });
        self.printer.send(self.lane, JsonMessage { aux: Some(aux), ..JsonMessage::default() })
    }

    /// What the failed command wrote last.
    pub(crate) fn tail(&self) -> &str {
        &self.tail
    }

    /// A command ended: a character that it left unfinished is shown as it is.
    pub(crate) fn end_of_command(&mut self) -> Sent {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = self.characters_of(stream).finish();
            if !rest.is_empty() {
                self.say_stream(stream, rest)?;
            }
        }
        Ok(())
    }

    fn say_stream(&mut self, stream: Stream, text: String) -> Sent {
        self.remember(&text);
        let stderr = stream == Stream::Stderr;
        if let Some(step) = &self.step
            && self.printer.tells_events()
        {
            let step = step.number;
            return self.event(BuildEvent::Output { step, stderr, text });
        }
        self.docker(if stderr { red(&text) } else { text })
    }

    fn remember(&mut self, text: &str) {
        self.tail.push_str(text);
        if self.tail.len() > 2 * TAIL {
            let mut from = self.tail.len() - TAIL;
            while !self.tail.is_char_boundary(from) {
                from += 1;
            }
            self.tail.drain(..from);
        }
    }

    fn characters_of(&mut self, stream: Stream) -> &mut Characters {
        let [stdout, stderr] = &mut self.characters;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }
}

impl Sink for Output<'_> {
    fn send(&mut self, message: JsonMessage) -> Sent {
        self.printer.send(self.lane, message)
    }
}

impl StepOutput for Output<'_> {
    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Sent {
        let ready = self.characters_of(stream).push(bytes);
        if ready.is_empty() { Ok(()) } else { self.say_stream(stream, ready) }
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
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

    fn texts(sent: &Kept) -> Vec<String> {
        sent.messages().into_iter().filter_map(|message| message.stream).collect()
    }

    #[test]
    fn characters_are_not_torn_apart() {
        let sent = Kept::default();
        let printer = Printer::new(Box::new(sent.clone()), false, false, 0);
        let mut output = Output::new(&printer, Lane::Always);
        for bytes in [&b"a\xc3"[..], b"\xa9b", b"\xe2\x82", b"\xff", b"\xf0\x9f"] {
            output.write(Stream::Stdout, bytes).unwrap();
        }
        output.write(Stream::Stderr, b"e\n").unwrap();
        output.end_of_command().unwrap();
        assert!(output.tail().starts_with("aéb"));
        assert_eq!(texts(&sent), ["a", "éb", "\u{fffd}\u{fffd}", "\u{1b}[91me\n\u{1b}[0m", "\u{fffd}"]);
    }

    #[test]
    fn quiet_builds_keep_quiet() {
        let sent = Kept::default();
        let printer = Printer::new(Box::new(sent.clone()), true, false, 0);
        Output::new(&printer, Lane::Always).say("x").unwrap();
        printer.quiet_result(&Digest::from_sha256(&[0; 32])).unwrap();
        assert_eq!(texts(&sent).len(), 1);
        let sent = Kept::default();
        let printer = Printer::new(Box::new(sent.clone()), true, false, 0);
        Output::new(&printer, Lane::Always).say("x").unwrap();
        printer.reveal().unwrap();
        assert_eq!(texts(&sent), ["x"]);
    }

    #[test]
    fn stages_speak_in_their_order() {
        let sent = Kept::default();
        let printer = Printer::new(Box::new(sent.clone()), false, false, 3);
        let mut lanes: Vec<Output<'_>> =
            (0..3).map(|lane| Output::new(&printer, Lane::Stage(lane))).collect();
        lanes[2].say("c").unwrap();
        lanes[0].say("a1").unwrap();
        lanes[1].say("b").unwrap();
        printer.done(1);
        lanes[0].say("a2").unwrap();
        printer.done(0);
        lanes[2].say("d").unwrap();
        assert_eq!(texts(&sent), ["a1", "a2", "b", "c", "d"]);
    }
}
