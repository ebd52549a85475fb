//! JSON as Go writes it, and Go's words for JSON that it cannot read.
//!
//! Clients and their tests match dockerd's messages, and dockerd passes on what Go's decoder says;
//! so a request that serde refuses for its syntax is looked at once more by [`syntax_error`], which
//! walks the text as Go's scanner does and names the same character in the same words.

use serde::Serialize;

/// Nesting beyond which neither serde nor this looks.
const MAX_DEPTH: usize = 128;

/// One JSON value as Go's encoder writes it: `<`, `>`, `&` and the two Unicode line separators are
/// escaped (for HTML), and a line feed ends it.
///
/// # Errors
/// The value cannot be JSON (a map with keys that are not text).
pub(crate) fn line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = encode(value)?;
    text.push(b'\n');
    Ok(text)
}

/// The same without the line feed.
///
/// # Errors
/// The value cannot be JSON.
pub(crate) fn encode(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let text = serde_json::to_string(value)?;
    if !text.contains(['<', '>', '&', '\u{2028}', '\u{2029}']) {
        return Ok(text.into_bytes());
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("\\u003c"),
            '>' => escaped.push_str("\\u003e"),
            '&' => escaped.push_str("\\u0026"),
            '\u{2028}' => escaped.push_str("\\u2028"),
            '\u{2029}' => escaped.push_str("\\u2029"),
            other => escaped.push(other),
        }
    }
    Ok(escaped.into_bytes())
}

/// What Go's decoder would say about the syntax of `text`; `None` when it would accept it.
pub(crate) fn syntax_error(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0 };
    match scanner.value(0) {
        Ok(()) => None,
        Err(Refusal::Eof) => Some("unexpected EOF".into()),
        Err(Refusal::Character(byte, context)) => {
            Some(format!("invalid character {} {context}", quoted(byte)))
        }
    }
}

/// Whether anything but white space, `}` or `]` follows the first value (Go's `Decoder.More`).
pub(crate) fn has_more(text: &[u8]) -> bool {
    let mut scanner = Scanner { text, at: 0 };
    scanner.value(0).is_ok() && scanner.next_significant().is_some_and(|byte| !matches!(byte, b'}' | b']'))
}

enum Refusal {
    Eof,
    Character(u8, String),
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn next_significant(&mut self) -> Option<u8> {
        while let Some(byte) = self.next() {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
        }
        None
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.text.get(self.at).copied();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn value(&mut self, depth: usize) -> Result<(), Refusal> {
        let first = self.next_significant().ok_or(Refusal::Eof)?;
        self.value_from(first, depth)
    }

    fn value_from(&mut self, first: u8, depth: usize) -> Result<(), Refusal> {
        if depth > MAX_DEPTH {
            return Ok(());
        }
        match first {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => self.number(first),
            other => Err(Refusal::Character(other, "looking for beginning of value".into())),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), Refusal> {
        let mut first = true;
        loop {
            match self.next_significant().ok_or(Refusal::Eof)? {
                b'"' => self.string()?,
                b'}' if first => return Ok(()),
                other => {
                    return Err(Refusal::Character(
                        other,
                        "looking for beginning of object key string".into(),
                    ));
                }
            }
            first = false;
            match self.next_significant().ok_or(Refusal::Eof)? {
                b':' => self.value(depth + 1)?,
                other => return Err(Refusal::Character(other, "after object key".into())),
            }
            match self.next_significant().ok_or(Refusal::Eof)? {
                b',' => {}
                b'}' => return Ok(()),
                other => return Err(Refusal::Character(other, "after object key:value pair".into())),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), Refusal> {
        match self.next_significant().ok_or(Refusal::Eof)? {
            b']' => return Ok(()),
            first => self.value_from(first, depth + 1)?,
        }
        loop {
            match self.next_significant().ok_or(Refusal::Eof)? {
                b',' => self.value(depth + 1)?,
                b']' => return Ok(()),
                other => return Err(Refusal::Character(other, "after array element".into())),
            }
        }
    }

    fn string(&mut self) -> Result<(), Refusal> {
        loop {
            match self.next().ok_or(Refusal::Eof)? {
                b'"' => return Ok(()),
                b'\\' => self.escape()?,
                control if control < 0x20 => {
                    return Err(Refusal::Character(control, "in string literal".into()));
                }
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), Refusal> {
        match self.next().ok_or(Refusal::Eof)? {
            b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => Ok(()),
            b'u' => {
                for _ in 0..4 {
                    let digit = self.next().ok_or(Refusal::Eof)?;
                    if !digit.is_ascii_hexdigit() {
                        return Err(Refusal::Character(digit, "in \\u hexadecimal character escape".into()));
                    }
                }
                Ok(())
            }
            other => Err(Refusal::Character(other, "in string escape code".into())),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), Refusal> {
        for expected in word.bytes().skip(1) {
            let byte = self.next().ok_or(Refusal::Eof)?;
            if byte != expected {
                let context = format!("in literal {word} (expecting {})", quoted(expected));
                return Err(Refusal::Character(byte, context));
            }
        }
        Ok(())
    }

    fn number(&mut self, first: u8) -> Result<(), Refusal> {
        let mut lead = first;
        if lead == b'-' {
            lead = self.digit("in numeric literal")?;
        }
        if lead != b'0' {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
            self.digits();
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn digit(&mut self, context: &str) -> Result<u8, Refusal> {
        let byte = self.next().ok_or(Refusal::Eof)?;
        if byte.is_ascii_digit() { Ok(byte) } else { Err(Refusal::Character(byte, context.into())) }
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }
}

/// A byte in single quotes, escaped as Go does.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".into(),
        b'"' => "'\"'".into(),
        b'\\' => r"'\\'".into(),
        b'\n' => r"'\n'".into(),
        b'\r' => r"'\r'".into(),
        b'\t' => r"'\t'".into(),
        0..0x20 | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..0xa0 => format!("'\\u{byte:04x}'"),
        other => format!("'{}'", char::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_s_words() {
        for (text, says) in [
            ("{bad", "invalid character 'b' looking for beginning of object key string"),
            ("{", "unexpected EOF"),
            ("{\"a\"", "unexpected EOF"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("{\"a\":}", "invalid character '}' looking for beginning of value"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("[1 2]", "invalid character '2' after array element"),
            ("nul!", "invalid character '!' in literal null (expecting 'l')"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
            ("\"\\u12x4\"", "invalid character 'x' in \\u hexadecimal character escape"),
            ("-x", "invalid character 'x' in numeric literal"),
            ("1.x", "invalid character 'x' after decimal point in numeric literal"),
            ("1ex", "invalid character 'x' in exponent of numeric literal"),
            ("hello", "invalid character 'h' looking for beginning of value"),
        ] {
            assert_eq!(syntax_error(text.as_bytes()).as_deref(), Some(says), "{text}");
        }
    }

    #[test]
    fn agrees_with_serde_about_what_is_right() {
        for text in ["{}", "[]", " {\"a\":[1,-2.5e+3,true,false,null,\"\\u00e4\\n\"]} ", "0", "\"ä\""] {
            assert_eq!(syntax_error(text.as_bytes()), None, "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
        }
        assert!(!has_more(b"{} \n"));
        assert!(has_more(b"{} {}"));
        assert!(!has_more(b"{} }"));
    }

    #[test]
    fn writes_like_go() {
        assert_eq!(line(&"a<b>&c").unwrap(), b"\"a\\u003cb\\u003e\\u0026c\"\n");
        assert_eq!(line(&"x").unwrap(), b"\"x\"\n");
    }
}
