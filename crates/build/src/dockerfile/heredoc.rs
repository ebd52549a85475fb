//! Here-documents of `RUN`, `COPY` and `ADD`: `<<NAME`, `<<-NAME`, `<<"NAME"`, `3<<NAME`.
//!
//! A line announces them, in its words outside of JSON form; their texts follow below it, each until
//! a line that is the name alone.

use super::{SyntaxError, words};

/// A text in the Dockerfile itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, and the name of the file that `COPY` makes of it.
    pub name: String,
    /// The text, as it stands there.
    pub data: String,
    /// Variables are expanded: the name was not quoted.
    pub expand: bool,
    /// `<<-`: tabs at the beginnings of lines are no part of the text.
    pub chomp: bool,
}

impl Heredoc {
    /// Reads the text; the line on which it ends.
    pub(super) fn read<'a>(
        &mut self,
        lines: &mut impl Iterator<Item = (usize, &'a str)>,
    ) -> Result<usize, SyntaxError> {
        for (index, raw) in lines {
            let bare = raw.strip_suffix('\n').unwrap_or(raw);
            let bare = bare.strip_suffix('\r').unwrap_or(bare);
            let end = if self.chomp { bare.trim_start_matches('\t') } else { bare };
            if end == self.name {
                return Ok(index + 1);
            }
            self.data.push_str(raw);
        }
        Err(SyntaxError::Unterminated(self.name.clone()))
    }

    /// The text without the tabs that `<<-` takes away.
    pub fn text(&self) -> String {
        if !self.chomp {
            return self.data.clone();
        }
        self.data.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }
}

/// The here-documents that a line announces, empty yet.
pub(super) fn announced(line: &str, escape: char) -> Vec<Heredoc> {
    let text = line.trim();
    if !text.contains("<<") || !may_have(text) {
        return Vec::new();
    }
    words::quoted(text, escape).iter().filter_map(|word| of_word(word)).collect()
}

/// Only three instructions have them, also behind `ONBUILD`, and not in JSON form.
fn may_have(text: &str) -> bool {
    let (name, rest) = words::first_word(text);
    match name.to_ascii_uppercase().as_str() {
        "ONBUILD" => may_have(rest),
        "RUN" | "COPY" | "ADD" => {
            let (_, rest) = words::take_flags(rest);
            !matches!(words::json_list(rest), Ok(Some(_)) | Err(_))
        }
        _ => false,
    }
}

/// The here-document that a word announces.
pub(crate) fn of_word(word: &str) -> Option<Heredoc> {
    let after_fd = word.trim_start_matches(|ch: char| ch.is_ascii_digit());
    let rest = after_fd.strip_prefix("<<")?;
    let (chomp, quoted) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let name: String = quoted.chars().filter(|ch| !matches!(ch, '"' | '\'')).collect();
    if name.is_empty() || name.contains('<') {
        return None;
    }
    Some(Heredoc { expand: name == quoted, name, data: String::new(), chomp })
}

/// Whether a command is nothing but one here-document.
pub(crate) fn is_alone(command: &str) -> bool {
    let mut words = command.split_whitespace();
    words.next().is_some_and(|word| of_word(word).is_some()) && words.next().is_none()
}
