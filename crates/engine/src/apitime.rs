//! Times as the API's query strings write them.

use seacow_spec::{Classified, ErrorClass, Timestamp};

/// A time that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TimeError {
    /// Neither of the accepted forms.
    #[error("failed to parse value as time or duration: {value:?}")]
    Malformed {
        /// The text.
        value: String,
    },
    /// The wrong way round.
    #[error("`since` time ({since}) cannot be after `until` time ({until})")]
    Order {
        /// Given as `since`.
        since: String,
        /// Given as `until`.
        until: String,
    },
}

impl Classified for TimeError {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

/// Reads `1795220488`, `1795220488.123456789`, RFC 3339, or a Go duration (`1h30m`) back from now.
/// Empty is none.
///
/// # Errors
/// None of these.
pub fn parse(text: &str) -> Result<Option<Timestamp>, TimeError> {
    if text.is_empty() {
        return Ok(None);
    }
    unix(text)
        .or_else(|| text.parse().ok())
        .or_else(|| duration_nanos(text).map(|nanos| Timestamp::now().plus_nanos(-nanos)))
        .map(Some)
        .ok_or_else(|| TimeError::Malformed { value: text.to_owned() })
}

fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = seconds.parse().ok()?;
    let digits = fraction.get(..fraction.len().min(9))?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{digits:0<9}").parse().ok()?;
    Some(Timestamp::from_unix(seconds, nanos))
}

/// Nanoseconds of a Go duration such as `1h2m3.5s`, `10ms`.
pub fn duration_nanos(text: &str) -> Option<i128> {
    let mut rest = text;
    let mut total = 0i128;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(number_len);
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // Nine digits are a nanosecond of an hour; more would not change the sum.
        let fraction = fraction.get(..fraction.len().min(9))?;
        let part = format!("{fraction:0<9}").parse::<i128>().ok()? * scale / 1_000_000_000;
        total = total.checked_add(whole.parse::<u64>().ok().map(i128::from)?.checked_mul(scale)? + part)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_forms() {
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("0").unwrap(), Some(Timestamp::UNIX_EPOCH));
        assert_eq!(parse("5.25").unwrap(), Some(Timestamp::from_unix(5, 250_000_000)));
        assert_eq!(parse("1970-01-01T00:00:05Z").unwrap(), Some(Timestamp::from_unix(5, 0)));
        let ago = parse("1h").unwrap().unwrap();
        let distance = Timestamp::now().unix_nanos() - ago.unix_nanos();
        assert!((3_600_000_000_000..3_601_000_000_000).contains(&distance));
    }

    #[test]
    fn durations() {
        assert_eq!(duration_nanos("1h2m3.5s"), Some(3_723_500_000_000));
        assert_eq!(duration_nanos("10ms"), Some(10_000_000));
        for bad in ["", "5", "h", "1x", "1h-2m"] {
            assert_eq!(duration_nanos(bad), None, "{bad}");
        }
        assert!(parse("yesterday").is_err());
    }
}
