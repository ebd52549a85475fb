//! Go's `time.ParseDuration`, as `HEALTHCHECK --interval=1m30s` has it.

/// Reads a duration to nanoseconds.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut left = rest;
    let mut total: i128 = 0;
    while !left.is_empty() {
        let (nanos, after) = component(left)?;
        total = total.checked_add(nanos)?;
        left = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// One number with its unit, and what follows it.
fn component(text: &str) -> Option<(i128, &str)> {
    let number_len = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, rest) = text.split_at(number_len);
    let unit_len = rest.find(|ch: char| ch.is_ascii_digit() || ch == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_len);
    let scale: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 40 {
        return None;
    }
    let mut nanos = if whole.is_empty() { 0 } else { whole.parse::<i128>().ok()?.checked_mul(scale)? };
    let mut digit_scale = scale;
    for digit in fraction.bytes() {
        digit_scale /= 10;
        nanos += i128::from(digit - b'0') * digit_scale;
    }
    Some((nanos, rest))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("5s", Some(5_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5ms", Some(500_000)),
            ("-1s", Some(-1_000_000_000)),
            ("1µs", Some(1_000)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1..5s", None),
            ("5x", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(parse(text), nanos, "{text}");
        }
    }
}
