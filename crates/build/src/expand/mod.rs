//! Variables and quotes in a Dockerfile's words.
//!
//! A *word* is expanded once, when its step is reached: `$NAME`, `${NAME}`, `${NAME:-word}`,
//! `${NAME:+word}`, `${NAME:?word}` (each also without the colon), `${NAME#pattern}`,
//! `${NAME%pattern}`, `${NAME/pattern/text}`; quotes are removed, the escape character takes the
//! next character literally. [`words`] splits the outcome at blanks that were not quoted (only
//! `EXPOSE` does that).

mod pattern;

use std::collections::BTreeMap;

use pattern::Pattern;

/// Names and values that a word can refer to.
pub type Variables = BTreeMap<String, String>;

/// `${…}` inside `${…}` deeper than this is refused, for the parser's stack.
const MAX_NESTING: usize = 64;

/// A word that cannot be expanded; the texts are Docker's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("failed to process {}: {cause}", crate::gofmt::quote(word))]
pub struct ExpandError {
    /// The word as it stands in the file.
    pub word: String,
    /// What is wrong with it.
    pub cause: Cause,
}

/// What is wrong with a word.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Cause {
    /// A quote or brace that is not closed.
    #[error("unexpected end of statement while looking for matching {0}")]
    Unclosed(&'static str),
    /// `${x` at the end of the word.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${x/y` at the end of the word.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${:x}`, `${{x}`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// `${x=y}` and the like.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// `${x:?message}` with x unset or empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The word after `?`, or a standard text.
        message: String,
    },
    /// A pattern after `#`, `%` or `/` with a stray escape.
    #[error("invalid pattern ({0}) in substitution")]
    Pattern(String),
    /// Too many `${…}` inside each other.
    #[error("substitutions are nested deeper than {MAX_NESTING} levels")]
    Nesting,
}

/// A word after its expansion.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expansion {
    /// As one string.
    pub text: String,
    /// Split at the blanks that were not quoted.
    pub words: Vec<String>,
    /// Variables without a value that were referred to without an alternative.
    pub unset: Vec<String>,
}

/// Expands `word`.
///
/// # Errors
/// Unclosed quotes or braces, unknown operators, `${x:?}` of an unset variable.
pub fn expand(word: &str, escape: char, variables: &Variables) -> Result<Expansion, ExpandError> {
    run(word, escape, variables, false)
}

/// Expands the variables of a here-document; quotes and escapes stay.
///
/// # Errors
/// As [`expand`].
pub fn document(text: &str, escape: char, variables: &Variables) -> Result<Expansion, ExpandError> {
    run(text, escape, variables, true)
}

/// Expands `word` to one string.
///
/// # Errors
/// As [`expand`].
pub fn word(word: &str, escape: char, variables: &Variables) -> Result<String, ExpandError> {
    expand(word, escape, variables).map(|expanded| expanded.text)
}

/// Expands `word` and splits the outcome at unquoted blanks.
///
/// # Errors
/// As [`expand`].
pub fn words(word: &str, escape: char, variables: &Variables) -> Result<Vec<String>, ExpandError> {
    expand(word, escape, variables).map(|expanded| expanded.words)
}

fn run(word: &str, escape: char, variables: &Variables, document: bool) -> Result<Expansion, ExpandError> {
    let unset = Vec::new();
    let mut scanner =
        Scanner { chars: word.chars().collect(), at: 0, escape, variables, depth: 0, document, unset };
    match scanner.until(None, document) {
        Ok(expanded) => {
            let unset = std::mem::take(&mut scanner.unset);
            Ok(Expansion { text: expanded.text.clone(), words: expanded.into_words(), unset })
        }
        Err(cause) => Err(ExpandError { word: word.to_owned(), cause }),
    }
}

/// The text so far, and the same text split into words.
#[derive(Default)]
struct Expanded {
    text: String,
    words: Vec<String>,
    word: String,
}

impl Expanded {
    /// A character from outside quotes: blanks split.
    fn split(&mut self, ch: char) {
        self.text.push(ch);
        if !ch.is_whitespace() {
            self.word.push(ch);
        } else if !self.word.is_empty() {
            self.words.push(std::mem::take(&mut self.word));
        }
    }

    /// A character that was quoted or escaped.
    fn keep(&mut self, ch: char) {
        self.text.push(ch);
        self.word.push(ch);
    }

    fn into_words(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.words.push(self.word);
        }
        self.words
    }
}

struct Scanner<'a> {
    chars: Vec<char>,
    at: usize,
    escape: char,
    variables: &'a Variables,
    depth: usize,
    /// Quotes are text.
    document: bool,
    unset: Vec<String>,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let ch = self.peek()?;
        self.at += 1;
        Some(ch)
    }

    /// Reads up to the stop character (which is consumed) or the end. `raw` keeps escapes, for
    /// patterns that interpret them later.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<Expanded, Cause> {
        let mut out = Expanded::default();
        while let Some(ch) = self.next() {
            match ch {
                _ if Some(ch) == stop => return Ok(out),
                '$' => self.dollar()?.chars().for_each(|ch| out.split(ch)),
                '\'' | '"' if self.document => out.keep(ch),
                '\'' => self.single_quoted()?.chars().for_each(|ch| out.keep(ch)),
                '"' => self.double_quoted(raw)?.chars().for_each(|ch| out.keep(ch)),
                _ if ch == self.escape => {
                    if raw {
                        out.keep(ch);
                    }
                    // An escape at the very end escapes nothing and vanishes.
                    if let Some(escaped) = self.next() {
                        out.keep(escaped);
                    }
                }
                _ => out.split(ch),
            }
        }
        match stop {
            None => Ok(out),
            Some('/') => Err(Cause::MissingSlash),
            Some(_) => Err(Cause::MissingBrace),
        }
    }

    fn single_quoted(&mut self) -> Result<String, Cause> {
        let mut out = String::new();
        loop {
            match self.next().ok_or(Cause::Unclosed("single-quote"))? {
                '\'' => return Ok(out),
                ch => out.push(ch),
            }
        }
    }

    fn double_quoted(&mut self, raw: bool) -> Result<String, Cause> {
        let mut out = String::new();
        loop {
            let ch = self.next().ok_or(Cause::Unclosed("double-quote"))?;
            match ch {
                '"' => return Ok(out),
                '$' => out.push_str(&self.dollar()?),
                _ if ch == self.escape => {
                    if raw {
                        out.push(ch);
                    }
                    match self.peek() {
                        None => {}
                        // Only these can be escaped inside double quotes.
                        Some(next) if next == '"' || next == '$' || next == self.escape => {
                            self.at += 1;
                            out.push(next);
                        }
                        Some(_) => out.push(ch),
                    }
                }
                _ => out.push(ch),
            }
        }
    }

    /// After a `$`.
    fn dollar(&mut self) -> Result<String, Cause> {
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            let value = self.value(&name);
            return Ok(self.noted(name, value));
        }
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(Cause::Nesting);
        }
        let value = self.braces();
        self.depth -= 1;
        value
    }

    /// After `${`, up to and with the closing brace.
    fn braces(&mut self) -> Result<String, Cause> {
        match self.peek() {
            None => return Err(Cause::MissingBrace),
            Some('{' | '}' | ':') => return Err(Cause::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        let value = self.value(&name);
        match self.next() {
            None => Err(Cause::MissingBrace),
            Some('}') => Ok(self.noted(name, value)),
            Some(':') => {
                let operator = self.next().ok_or(Cause::MissingBrace)?;
                // With a colon an empty value counts as unset.
                let value = value.ok_or(false).and_then(|v| if v.is_empty() { Err(true) } else { Ok(v) });
                self.conditional(&name, operator, value, ":")
            }
            Some('/') => {
                let value = self.noted(name, value);
                self.replace(value)
            }
            Some(operator @ ('#' | '%')) => {
                let value = self.noted(name, value);
                self.trim(operator, value)
            }
            Some(operator) => self.conditional(&name, operator, value.ok_or(false), ""),
        }
    }

    /// `-`, `+`, `?`. `value` is `Err(set but empty)` where the condition does not hold.
    fn conditional(
        &mut self,
        name: &str,
        operator: char,
        value: Result<String, bool>,
        colon: &str,
    ) -> Result<String, Cause> {
        if !matches!(operator, '-' | '+' | '?') {
            return Err(Cause::Modifier(format!("{colon}{operator}")));
        }
        let word = self.until(Some('}'), false)?.text;
        match (operator, value) {
            ('-' | '?', Ok(value)) => Ok(value),
            ('-', Err(_)) | ('+', Ok(_)) => Ok(word),
            ('+', Err(_)) => Ok(String::new()),
            (_, Err(_)) if !word.is_empty() => Err(Cause::Required { name: name.into(), message: word }),
            (_, Err(empty)) => {
                let state = if empty { "empty" } else { "unset" };
                Err(Cause::Required { name: name.into(), message: format!("is not allowed to be {state}") })
            }
            (_, Ok(value)) => Ok(value),
        }
    }

    /// `${x#p}`, `${x##p}`, `${x%p}`, `${x%%p}`.
    fn trim(&mut self, operator: char, value: String) -> Result<String, Cause> {
        let word = self.until(Some('}'), true)?.text;
        let (greedy, word) = match word.strip_prefix(operator) {
            Some(rest) => (true, rest),
            None => (false, word.as_str()),
        };
        let pattern = Pattern::parse(word)?;
        Ok(match operator {
            '#' => pattern.trim_prefix(&value, greedy),
            _ => pattern.trim_suffix(&value, greedy),
        })
    }

    /// `${x/p/t}`, `${x//p/t}`.
    fn replace(&mut self, value: String) -> Result<String, Cause> {
        let all = self.peek() == Some('/');
        if all {
            self.at += 1;
        }
        let pattern = self.until(Some('/'), true)?.text;
        let replacement = self.until(Some('}'), true)?.text;
        Ok(Pattern::parse(&pattern)?.replace(&value, &replacement, all))
    }

    /// A name, a run of digits, or one special parameter (`$@`, `$?`, …).
    fn name(&mut self) -> String {
        let mut name = String::new();
        let numeric = self.peek().is_some_and(|ch| ch.is_ascii_digit());
        while let Some(ch) = self.peek() {
            if name.is_empty() && matches!(ch, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
                self.at += 1;
                return ch.into();
            }
            let belongs = if numeric { ch.is_ascii_digit() } else { ch.is_alphanumeric() || ch == '_' };
            if !belongs {
                break;
            }
            self.at += 1;
            name.push(ch);
        }
        name
    }

    fn value(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    /// The value; that there is none is noted.
    fn noted(&mut self, name: String, value: Option<String>) -> String {
        value.unwrap_or_else(|| {
            self.unset.push(name);
            String::new()
        })
    }
}

#[cfg(test)]
mod tests;
