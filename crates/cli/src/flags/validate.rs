//! The syntax of flag values: Go's `strconv`, `time.ParseDuration` and docker's `go-units`.

use super::{Flag, Kind};

/// Checks one value against its flag's kind and own check; the text is the refusal.
pub(super) fn check(flag: &Flag, value: &str) -> Result<(), String> {
    match flag.kind {
        Kind::Bool => parse_bool(value)
            .map(drop)
            .ok_or_else(|| format!("strconv.ParseBool: parsing {value:?}: invalid syntax"))?,
        Kind::Int => parse_int(value).map(drop)?,
        Kind::Uint => parse_uint(value, u64::MAX).map(drop)?,
        Kind::Uint16 => parse_uint(value, u64::from(u16::MAX)).map(drop)?,
        Kind::Duration => parse_duration_ns(value).map(drop)?,
        Kind::Bytes => parse_bytes(value).map(drop)?,
        Kind::SwapBytes if value != "-1" => parse_bytes(value).map(drop)?,
        Kind::Decimal => parse_cpus(value).map(drop)?,
        Kind::Filter => check_filter(value)?,
        Kind::Str | Kind::List | Kind::Strings | Kind::Map | Kind::SwapBytes | Kind::Named(_) => {}
    }
    flag.check.map_or(Ok(()), |check| check(value))
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseInt(value, 0, 64)`: the base follows from the prefix.
pub(crate) fn parse_int(value: &str) -> Result<i64, String> {
    let (negative, digits) = match value.as_bytes() {
        [b'-', ..] => (true, &value[1..]),
        [b'+', ..] => (false, &value[1..]),
        _ => (false, value),
    };
    let (radix, digits) = radix(digits);
    let syntax = || format!("strconv.ParseInt: parsing {value:?}: invalid syntax");
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(syntax());
    }
    let range = || format!("strconv.ParseInt: parsing {value:?}: value out of range");
    let magnitude = i128::from_str_radix(digits, radix).map_err(|_| range())?;
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| range())
}

fn parse_uint(value: &str, max: u64) -> Result<u64, String> {
    let (radix, digits) = radix(value);
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(format!("strconv.ParseUint: parsing {value:?}: invalid syntax"));
    }
    u64::from_str_radix(digits, radix)
        .ok()
        .filter(|n| *n <= max)
        .ok_or_else(|| format!("strconv.ParseUint: parsing {value:?}: value out of range"))
}

fn radix(digits: &str) -> (u32, &str) {
    match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    }
}

/// docker's `RAMInBytes`: a decimal number and a binary unit (`512m`, `1.5GiB`, `64 kb`).
pub(crate) fn parse_bytes(value: &str) -> Result<i64, String> {
    if value.is_empty() {
        return Ok(0);
    }
    let unit_at = value.rfind(|c: char| c.is_ascii_digit() || c == '.').map(|i| i + 1);
    let Some(split) = unit_at else { return Err(format!("invalid size: '{value}'")) };
    let (number, unit) = value.split_at(split);
    let number: f64 = match number.parse() {
        Ok(n) if !number.starts_with('+') => n,
        _ => return Err(format!("invalid size: '{value}'")),
    };
    if number < 0.0 {
        return Err(format!("invalid size: '{value}'"));
    }
    let suffix = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let bad = || format!("invalid suffix: '{}'", unit.strip_prefix(' ').unwrap_or(unit));
    let factor: f64 = match suffix.as_bytes() {
        [] | [b'b'] => 1.0,
        [prefix] | [prefix, b'b'] | [prefix, b'i', b'b'] => match prefix {
            b'k' => 1024.0,
            b'm' => 1024.0 * 1024.0,
            b'g' => 1024.0_f64.powi(3),
            b't' => 1024.0_f64.powi(4),
            b'p' => 1024.0_f64.powi(5),
            _ => return Err(bad()),
        },
        _ => return Err(bad()),
    };
    Ok((number * factor) as i64)
}

/// Go's `time.ParseDuration`, in nanoseconds.
pub(crate) fn parse_duration_ns(value: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {value:?}");
    let (negative, mut rest) = match value.as_bytes() {
        [b'-', ..] => (true, &value[1..]),
        [b'+', ..] => (false, &value[1..]),
        _ => (false, value),
    };
    if rest == "0" || value.is_empty() {
        return if value.is_empty() { Err(invalid()) } else { Ok(0) };
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let factor = match &rest[..unit_len] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(format!("time: missing unit in duration {value:?}")),
            unit => return Err(format!("time: unknown unit {unit:?} in duration {value:?}")),
        };
        total += number * factor;
        rest = &rest[unit_len..];
    }
    if total > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(if negative { -total } else { total } as i64)
}

/// `--cpus`: a decimal or a fraction, as billionths of a CPU.
pub(crate) fn parse_cpus(value: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {value} as a rational number");
    let number = match value.split_once('/') {
        Some((a, b)) => a.parse::<f64>().map_err(|_| bad())? / b.parse::<f64>().map_err(|_| bad())?,
        None => value.parse::<f64>().map_err(|_| bad())?,
    };
    if !number.is_finite() {
        return Err(bad());
    }
    let nanos = number * 1e9;
    if (nanos - nanos.round()).abs() > 1e-4 {
        return Err("value is too precise".to_owned());
    }
    Ok(nanos.round() as i64)
}

fn check_filter(value: &str) -> Result<(), String> {
    if value.is_empty() || value.contains('=') {
        return Ok(());
    }
    Err("bad format of filter (expected name=value)".to_owned())
}

/// Splits `key=value` occurrences into pairs; later ones win.
pub(crate) fn parse_key_value_map(values: &[String]) -> serde_json::Map<String, serde_json::Value> {
    let mut map = serde_json::Map::new();
    for value in values {
        let (key, value) = value.split_once('=').unwrap_or((value, ""));
        map.insert(key.to_owned(), value.into());
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("512m"), Ok(512 << 20));
        assert_eq!(parse_bytes("1.5GiB"), Ok(3 << 29));
        assert_eq!(parse_bytes("64 kb"), Ok(65536));
        assert_eq!(parse_bytes("10"), Ok(10));
        assert_eq!(parse_bytes("abc"), Err("invalid size: 'abc'".into()));
        assert_eq!(parse_bytes("1x"), Err("invalid suffix: 'x'".into()));
        assert_eq!(parse_bytes("-1"), Err("invalid size: '-1'".into()));
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration_ns("1m30s"), Ok(90_000_000_000));
        assert_eq!(parse_duration_ns("1.5h"), Ok(5_400_000_000_000));
        assert_eq!(parse_duration_ns("10"), Err("time: missing unit in duration \"10\"".into()));
        assert_eq!(parse_duration_ns("3x"), Err("time: unknown unit \"x\" in duration \"3x\"".into()));
        assert_eq!(parse_duration_ns("0"), Ok(0));
        assert!(parse_duration_ns("x").is_err());
    }

    #[test]
    fn cpus() {
        assert_eq!(parse_cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(parse_cpus("0.1"), Ok(100_000_000));
        assert_eq!(parse_cpus("1/2"), Ok(500_000_000));
        assert_eq!(parse_cpus("abc"), Err("failed to parse abc as a rational number".into()));
        assert_eq!(parse_cpus("0.0000000001"), Err("value is too precise".into()));
    }

    #[test]
    fn integers_take_go_prefixes() {
        assert_eq!(parse_int("0x10"), Ok(16));
        assert_eq!(parse_int("-3"), Ok(-3));
        assert!(parse_int("99999999999999999999").unwrap_err().ends_with("value out of range"));
    }
}
