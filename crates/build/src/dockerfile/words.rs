//! Splitting the text after an instruction's name: words, flags, `name=value` pairs, JSON lists.
//!
//! Quotes and escapes stay in the words; [`crate::expand`] takes them off when the step is reached.

use super::SyntaxError;

/// What Docker's `[\t\v\f\r ]+` splits at.
fn is_blank(ch: char) -> bool {
    matches!(ch, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}

/// Splits at runs of blanks.
pub(super) fn blank_separated(text: &str) -> Vec<String> {
    text.split(is_blank).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The first word and the rest without the blanks between.
pub(super) fn first_word(text: &str) -> (&str, &str) {
    match text.find(is_blank) {
        Some(at) => (&text[..at], text[at..].trim_start_matches(is_blank)),
        None => (text, ""),
    }
}

/// Takes leading `--flag[=value]` words off; `--` alone ends them.
pub(super) fn take_flags(text: &str) -> (Vec<String>, &str) {
    let mut flags = Vec::new();
    let mut rest = text.trim_start();
    while rest.starts_with("--") {
        let (flag, after) = take_flag(rest);
        rest = after.trim_start();
        if flag == "--" {
            break;
        }
        flags.push(flag);
    }
    (flags, rest)
}

/// One flag with quotes and backslashes taken off, and what follows it.
fn take_flag(text: &str) -> (String, &str) {
    let mut flag = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, ch)) = chars.next() {
        match quote {
            None if ch.is_whitespace() => return (flag, &text[at..]),
            None if ch == '\'' || ch == '"' => quote = Some(ch),
            Some(open) if ch == open => quote = None,
            _ if ch == '\\' => flag.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => flag.push(ch),
        }
    }
    (flag, "")
}

/// Splits at blanks outside quotes; the quotes and escapes stay in the words.
pub(super) fn quoted(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(ch) = chars.next() {
        if quote.is_none() && ch.is_whitespace() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        // Nothing can be escaped between single quotes.
        if ch == escape && quote != Some('\'') {
            // An escape at the end of the line escapes nothing.
            if let Some(escaped) = chars.next() {
                word.push(ch);
                word.push(escaped);
            }
            continue;
        }
        match quote {
            None if ch == '\'' || ch == '"' => quote = Some(ch),
            Some(open) if ch == open => quote = None,
            _ => {}
        }
        word.push(ch);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// `name value` or `name=value …`, which of them the first word decides.
pub(super) fn pairs(
    text: &str,
    instruction: &'static str,
    escape: char,
) -> Result<Vec<(String, String)>, SyntaxError> {
    let words = quoted(text, escape);
    let Some(first) = words.first() else { return Err(SyntaxError::AtLeastOne(instruction)) };
    if !first.contains('=') {
        let (name, value) = first_word(text);
        if value.is_empty() {
            return Err(SyntaxError::TwoArguments(instruction));
        }
        return Ok(vec![(name.to_owned(), value.to_owned())]);
    }
    words
        .into_iter()
        .map(|word| match word.split_once('=') {
            None => Err(SyntaxError::NoEquals(word)),
            Some(("", _)) => Err(SyntaxError::BlankName(instruction)),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        })
        .collect()
}

/// A JSON list of strings; `None` when the text is none.
pub(super) fn json_list(text: &str) -> Result<Option<Vec<String>>, SyntaxError> {
    if !text.trim_start().starts_with('[') {
        return Ok(None);
    }
    let Ok(items) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    items
        .into_iter()
        .map(|item| match item {
            serde_json::Value::String(text) => Ok(text),
            _ => Err(SyntaxError::NotStrings),
        })
        .collect::<Result<_, _>>()
        .map(Some)
}

/// Splits at commas outside double quotes, as CSV does; the quotes are taken off.
pub(super) fn comma_separated(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut inside = false;
    for ch in text.chars() {
        match (ch, fields.last_mut()) {
            ('"', _) => inside = !inside,
            (',', _) if !inside => fields.push(String::new()),
            (_, Some(field)) => field.push(ch),
            (_, None) => {}
        }
    }
    fields
}
