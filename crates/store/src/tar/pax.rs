//! PAX records: `"<length> <key>=<value>\n"`, the length counting itself.

/// Prefix of extended attributes' keys.
pub(crate) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Splits a block of records. `None` when it is malformed.
pub(crate) fn parse(mut block: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    while !block.is_empty() {
        let space = block.iter().position(|b| *b == b' ')?;
        let digits = block.get(..space).filter(|d| !d.is_empty() && d.len() < 10)?;
        let len = decimal(digits)? as usize;
        let record = block.get(space + 1..len)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|b| *b == b'=').filter(|at| *at > 0)?;
        records.push((&record[..equals], &record[equals + 1..]));
        block = &block[len..];
    }
    Some(records)
}

/// Adds one record.
pub(crate) fn push(block: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + digits(rest);
    if rest + digits(len) != len {
        len = rest + digits(len);
    }
    block.extend_from_slice(len.to_string().as_bytes());
    block.push(b' ');
    block.extend_from_slice(key);
    block.push(b'=');
    block.extend_from_slice(value);
    block.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// Plain decimal digits.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `[-]seconds[.fraction]` as whole seconds and nanoseconds after them.
pub(crate) fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut nanos = 0u32;
    for at in 0..9 {
        nanos = nanos * 10 + fraction.as_bytes().get(at).map_or(0, |b| u32::from(b - b'0'));
    }
    if negative && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        for len in [0, 1, 80, 85, 86, 87, 88, 89, 90, 980, 985, 990, 995, 1000, 9990] {
            let value = vec![b'v'; len];
            let mut block = Vec::new();
            push(&mut block, b"path", &value);
            push(&mut block, b"uid", b"1");
            assert_eq!(parse(&block).unwrap(), [(&b"path"[..], &value[..]), (b"uid", b"1")], "{len}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [&b"7 a=b"[..], b"99 a=b\n", b" a=b\n", b"5 ab\n", b"6 =bc\n", b"x a=b\n", b"0 a=b\n"] {
            assert!(parse(bad).is_none(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn times_before_the_epoch() {
        assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time(b"12"), Some((12, 0)));
        assert_eq!(time(b"1.0000000019"), Some((1, 1)));
        assert_eq!(time(b"1.x"), None);
        assert_eq!(time(b""), None);
    }
}
