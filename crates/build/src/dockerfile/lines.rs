//! From bytes to logical lines: directives, comments, continuations, here-documents.

use super::heredoc::{self, Heredoc};
use super::{ParseError, SyntaxError};

/// Docker's scanner refuses lines longer than this.
pub(super) const MAX_LINE: usize = 64 * 1024 - 1;

/// One instruction with its continuation lines joined.
pub(super) struct LogicalLine {
    /// Where it begins, counted from 1.
    pub number: usize,
    /// Where it ends, here-documents included.
    pub last: usize,
    /// The joined text.
    pub text: String,
    /// The texts that follow it.
    pub heredocs: Vec<Heredoc>,
}

/// The whole file.
pub(super) struct Lines {
    pub escape: char,
    pub lines: Vec<LogicalLine>,
    /// First lines of instructions with an empty line in the middle.
    pub gaps: Vec<usize>,
    /// Value of `# check=`.
    pub check: Option<String>,
}

/// `# escape=` and its like, which count only at the top of the file.
struct Directives {
    escape: char,
    over: bool,
    seen: Vec<String>,
    check: Option<String>,
}

/// Splits a file into logical lines.
pub(super) fn split(source: &[u8]) -> Result<Lines, ParseError> {
    let source = source.strip_prefix(b"\xef\xbb\xbf").unwrap_or(source);
    let text = String::from_utf8_lossy(source);
    let mut directives = Directives { escape: '\\', over: false, seen: Vec::new(), check: None };
    let (mut lines, mut gaps) = (Vec::new(), Vec::new());

    // Here-documents keep their line ends as they are; everything else does not see them.
    let mut physical = text.split_inclusive('\n').enumerate();
    while let Some((index, raw)) = physical.next() {
        let number = index + 1;
        let raw = without_end(raw);
        check_length(raw, number)?;
        let line = raw.trim_start();
        directives.read(line).map_err(|error| error.at(number))?;
        if line.starts_with('#') {
            continue;
        }
        let (first, mut open) = without_continuation(line, directives.escape);
        let mut joined = first.to_owned();
        let (mut last, mut gap) = (number, false);
        while open {
            let Some((index, raw)) = physical.next() else { break };
            let raw = without_end(raw);
            check_length(raw, index + 1)?;
            let trimmed = raw.trim_start();
            if trimmed.starts_with('#') {
                continue;
            }
            if trimmed.is_empty() {
                gap = true;
                continue;
            }
            let (part, more) = without_continuation(raw, directives.escape);
            joined.push_str(part);
            (open, last) = (more, index + 1);
        }
        if joined.trim().is_empty() {
            continue;
        }
        gaps.extend(gap.then_some(number));
        let mut heredocs = heredoc::announced(&joined, directives.escape);
        for document in &mut heredocs {
            last = document.read(&mut physical).map_err(|error| error.at(number))?;
        }
        lines.push(LogicalLine { number, last, text: joined, heredocs });
    }
    Ok(Lines { escape: directives.escape, lines, gaps, check: directives.check })
}

fn without_end(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

fn check_length(line: &str, number: usize) -> Result<(), ParseError> {
    if line.len() > MAX_LINE { Err(SyntaxError::LineTooLong.at(number)) } else { Ok(()) }
}

/// The line without a final escape character (blanks may follow it), and whether it had one. A
/// doubled escape character is text, not a continuation.
fn without_continuation(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

impl Directives {
    fn read(&mut self, line: &str) -> Result<(), SyntaxError> {
        if self.over {
            return Ok(());
        }
        let Some((name, value)) = directive(line) else {
            self.over = true;
            return Ok(());
        };
        let name = name.to_ascii_lowercase();
        if !matches!(name.as_str(), "escape" | "syntax" | "check") {
            self.over = true;
            return Ok(());
        }
        if self.seen.contains(&name) {
            return Err(SyntaxError::RepeatedDirective(name));
        }
        if name == "escape" {
            self.escape = match value {
                "\\" => '\\',
                "`" => '`',
                _ => return Err(SyntaxError::BadEscape(value.to_owned())),
            };
        }
        if name == "check" {
            self.check = Some(value.to_owned());
        }
        self.seen.push(name);
        Ok(())
    }
}

/// `# name = value`.
fn directive(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = name.starts_with(|ch: char| ch.is_ascii_alphabetic())
        && name.chars().all(|ch| ch.is_ascii_alphanumeric());
    (is_name && !value.is_empty()).then_some((name, value))
}
