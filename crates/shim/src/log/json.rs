//! One entry of a json-file log, byte for byte as Docker's daemon writes it (`jsonlog` in moby):
//! `{"log":"text\n","stream":"stdout","time":"2026-11-21T06:35:01.5Z"}` and a newline.

use std::io::Write;

use seacow_spec::Timestamp;

use crate::io::client::Stream;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Appends an entry whose text is `text`, plus a newline unless it is the `unfinished` part of a
/// long or last line.
pub(crate) fn entry(out: &mut Vec<u8>, text: &[u8], unfinished: bool, stream: Stream, time: Timestamp) {
    out.extend_from_slice(b"{\"log\":\"");
    escape(out, text);
    if !unfinished {
        out.extend_from_slice(b"\\n");
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    // Writing to memory cannot fail.
    let _ = writeln!(out, "\",\"time\":\"{time}\"}}");
}

/// Escapes as Go's encoder does with HTML escaping on: `< > &`, U+2028 and U+2029 by number,
/// control characters except `\n` and `\r` too, and every byte that is not UTF-8 as `\ufffd`.
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while !rest.is_empty() {
        let (valid, bad) = match std::str::from_utf8(rest) {
            Ok(valid) => (valid, 0),
            // Go decodes one byte at a time: a cut-off sequence is one U+FFFD for each of its bytes.
            Err(error) => {
                let (valid, _) = rest.split_at(error.valid_up_to());
                (std::str::from_utf8(valid).unwrap_or_default(), 1)
            }
        };
        escape_valid(out, valid);
        if bad > 0 {
            out.extend_from_slice(b"\\ufffd");
        }
        rest = rest.get(valid.len() + bad..).unwrap_or_default();
    }
}

fn escape_valid(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let mut number = [b'\\', b'u', b'0', b'0', 0, 0];
        let (escaped, len): (&[u8], usize) = match byte {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            0..0x20 | b'<' | b'>' | b'&' => {
                number[4] = HEX[usize::from(byte >> 4)];
                number[5] = HEX[usize::from(byte & 15)];
                (&number, 1)
            }
            0xe2 if bytes[at..].starts_with("\u{2028}".as_bytes()) => (b"\\u2028", 3),
            0xe2 if bytes[at..].starts_with("\u{2029}".as_bytes()) => (b"\\u2029", 3),
            _ => continue,
        };
        out.extend_from_slice(&bytes[copied..at]);
        out.extend_from_slice(escaped);
        copied = at + len;
    }
    out.extend_from_slice(&bytes[copied..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8]) -> String {
        let mut out = Vec::new();
        escape(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_as_go_does() {
        for (text, expected) in [
            (&b"plain \xc3\xa9"[..], "plain é"),
            (b"a\"b\\c", r#"a\"b\\c"#),
            (b"\t\x00\x1b[0m\r\n\x7f", "\\u0009\\u0000\\u001b[0m\\r\\n\x7f"),
            (b"<a href=\"x\">&", r#"\u003ca href=\"x\"\u003e\u0026"#),
            ("x\u{2028}y\u{2029}\u{2027}".as_bytes(), "x\\u2028y\\u2029\u{2027}"),
            // A cut sequence: one replacement for each of its bytes.
            (b"a\xe2\x82b\xff", r"a\ufffd\ufffdb\ufffd"),
            (b"\xe2\x82", r"\ufffd\ufffd"),
            // Surrogates and overlong forms are not UTF-8.
            (b"\xed\xa0\x80\xc0\x80", r"\ufffd\ufffd\ufffd\ufffd\ufffd"),
            ("\u{10ffff}\u{fffd}".as_bytes(), "\u{10ffff}\u{fffd}"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn every_entry_is_json_that_says_what_was_logged() {
        let all: Vec<u8> = (0..=255).collect();
        let mut out = Vec::new();
        entry(&mut out, &all, false, Stream::Stderr, Timestamp::from_unix(1_795_224_085, 174_500_000));
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = format!("{}\n", String::from_utf8_lossy(&all));
        assert_eq!(value["log"], expected);
        assert_eq!(value["stream"], "stderr");
        assert_eq!(value["time"], "2026-11-21T01:21:25.1745Z");
        assert_eq!(out.last(), Some(&b'\n'));
    }
}
