//! One line of the json-file format, and how clients get it.

use std::borrow::Cow;

use seacow_spec::Timestamp;
use serde::Deserialize;

/// A logged line, or part of a long one.
#[derive(Deserialize)]
pub(super) struct Entry<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    time: Timestamp,
}

/// Which entries are sent, and in what form.
#[derive(Clone, Debug)]
pub(super) struct Format {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) timestamps: bool,
    pub(super) details: bool,
    pub(super) framed: bool,
    pub(super) since: Option<Timestamp>,
    pub(super) until: Option<Timestamp>,
}

/// What became of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Sent, or not wanted.
    Next,
    /// It and all after it are later than what is wanted.
    PastUntil,
}

impl Format {
    /// Appends the line to `out` as the client gets it. A line that is no entry is left out: a
    /// crash may have torn the last one.
    pub(super) fn append(&self, line: &[u8], out: &mut Vec<u8>) -> Outcome {
        let Ok(entry) = serde_json::from_slice::<Entry<'_>>(line) else { return Outcome::Next };
        if self.until.is_some_and(|until| entry.time > until) {
            return Outcome::PastUntil;
        }
        let (stream, wanted) = match entry.stream.as_ref() {
            "stderr" => (2, self.stderr),
            _ => (1, self.stdout),
        };
        if !wanted || self.since.is_some_and(|since| entry.time < since) {
            return Outcome::Next;
        }
        let begin = out.len();
        if self.framed {
            out.extend_from_slice(&[stream, 0, 0, 0, 0, 0, 0, 0]);
        }
        let body = out.len();
        if self.timestamps {
            out.extend_from_slice(entry.time.fixed().as_bytes());
            out.push(b' ');
        }
        if self.details {
            out.push(b' ');
        }
        out.extend_from_slice(entry.log.as_bytes());
        if self.framed {
            let length = u32::try_from(out.len() - body).unwrap_or(u32::MAX);
            if let Some(field) = out.get_mut(begin + 4..begin + 8) {
                field.copy_from_slice(&length.to_be_bytes());
            }
        }
        Outcome::Next
    }
}
