//! Texts as Go's `fmt` prints them.
//!
//! Docker's history lines and cache keys hold Go's `%q` and `%v` of lists, so ours must too.

use std::fmt::Write as _;

/// `%q` of a string.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for ch in text.chars() {
        push_escaped(&mut out, ch, '"');
    }
    out.push('"');
    out
}

/// `%q` of a list of strings: `["a" "b"]`.
pub(crate) fn quote_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|item| quote(item)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `%v` of a list of strings: `[a b]`.
pub(crate) fn list(list: &[String]) -> String {
    format!("[{}]", list.join(" "))
}

/// `%q` of an integer, which Go takes for a character.
pub(crate) fn quote_rune(code: i64) -> String {
    let ch = u32::try_from(code).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    let mut out = String::from("'");
    push_escaped(&mut out, ch, '\'');
    out.push('\'');
    out
}

/// Go's `Duration.String` of nanoseconds: `1m30s`, `1.5s`, `200ms`, `0s`.
pub(crate) fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let left = nanos.unsigned_abs();
    let (unit, name) = match left {
        0 => return "0s".into(),
        1..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => return format!("{sign}{}", long_duration(left)),
    };
    format!("{sign}{}{name}", decimal(left, unit))
}

const SECOND: u64 = 1_000_000_000;

fn long_duration(left: u64) -> String {
    let (hours, minutes) = (left / (3600 * SECOND), left / (60 * SECOND) % 60);
    let seconds = decimal(left % (60 * SECOND), SECOND);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / unit` without trailing zeros; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let fraction = format!("{rest:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

fn push_escaped(out: &mut String, ch: char, delimiter: char) {
    match ch {
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        _ if ch == delimiter => {
            out.push('\\');
            out.push(ch);
        }
        _ if is_printable(ch) => out.push(ch),
        // Writing into a String cannot fail.
        '\0'..='\u{7f}' => _ = write!(out, "\\x{:02x}", u32::from(ch)),
        '\u{80}'..='\u{ffff}' => _ = write!(out, "\\u{:04x}", u32::from(ch)),
        _ => _ = write!(out, "\\U{:08x}", u32::from(ch)),
    }
}

/// Go's `unicode.IsPrint`, near enough: letters, marks, numbers, punctuation, symbols, ASCII space.
fn is_printable(ch: char) -> bool {
    if ch == ' ' {
        return true;
    }
    let format_or_private = matches!(ch,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..='\u{10ffff}');
    !ch.is_control() && !ch.is_whitespace() && !format_or_private
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_go_prints() {
        assert_eq!(quote("a\"b\\\n\u{1}é\u{a0}"), r#""a\"b\\\n\x01é\u00a0""#);
        assert_eq!(quote_list(&["sh".into(), "-c".into()]), r#"["sh" "-c"]"#);
        assert_eq!(quote_list(&[]), "[]");
        assert_eq!(quote_rune(3), r"'\x03'");
        assert_eq!(quote_rune(39), r"'\''");
        for (nanos, text) in [
            (0, "0s"),
            (1_500_000_000, "1.5s"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (200_000_000, "200ms"),
            (1_500, "1.5µs"),
            (-7, "-7ns"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }
}
