//! Numbers of bytes as people write them.

/// `10m`, `1g`, `512k`, `100`, `1gb`: powers of 1024, as Docker reads them. `None` if it is none, or too large.
pub fn parse(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let trimmed = lower.strip_suffix('b').unwrap_or(&lower);
    let trimmed = trimmed.strip_suffix('i').unwrap_or(trimmed);
    let shift = match trimmed.as_bytes().last()? {
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        b't' => 40,
        _ => 0,
    };
    let digits = if shift == 0 { trimmed } else { trimmed.get(..trimmed.len() - 1)? };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn units() {
        for (text, bytes) in
            [("100", 100), ("1k", 1 << 10), ("2MB", 2 << 20), ("3gib", 3 << 30), ("1t", 1 << 40)]
        {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for bad in ["", "b", "k", "-1", "1x", "99999999999t", "1.5g"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
