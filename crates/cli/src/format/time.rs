//! Points in time: as docker prints them, and as its `--since` and `--until` read them.

use seacow_spec::time::Timestamp;

use super::units::human_duration;
use super::zone;
use crate::flags::parse_duration_ns;

/// Seconds since the epoch, now.
pub(crate) fn now() -> f64 {
    Timestamp::now().unix_nanos() as f64 / 1e9
}

/// "2 minutes ago" for seconds since the epoch.
pub(crate) fn ago(unix_seconds: i64) -> String {
    format!("{} ago", human_duration((now() - unix_seconds as f64).max(0.0)))
}

/// Go's `time.Time.String()` in the local time zone: `2026-11-21 06:40:53 +0000 UTC`.
pub(crate) fn go_string(unix_seconds: i64) -> String {
    let zone = zone::at(unix_seconds);
    let local = Timestamp::from_unix(unix_seconds + i64::from(zone.offset), 0);
    let (year, month, day, hour, minute, second) = local.civil();
    let numeric = offset(zone.offset, "");
    let name = if zone.name.is_empty() { numeric.clone() } else { zone.name };
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} {numeric} {name}")
}

/// The same with a fraction of nanoseconds, its zeros cut: `… 06:40:53.123 +0000 UTC`.
pub(crate) fn go_string_nanos(time: Timestamp) -> String {
    let whole = go_string(time.unix_seconds());
    let digits = format!("{:09}", time.subsec_nanos());
    let digits = digits.trim_end_matches('0');
    match whole.match_indices(' ').nth(1) {
        Some((second_space, _)) if !digits.is_empty() => {
            format!("{}.{digits}{}", &whole[..second_space], &whole[second_space..])
        }
        _ => whole,
    }
}

/// RFC 3339 in the local time zone, with `+01:00` or `Z`; `nanos` are printed with nine digits.
pub(crate) fn rfc3339_local(unix_seconds: i64, nanos: Option<u32>) -> String {
    let zone = zone::at(unix_seconds);
    let local = Timestamp::from_unix(unix_seconds + i64::from(zone.offset), 0);
    let (year, month, day, hour, minute, second) = local.civil();
    let fraction = nanos.map_or(String::new(), |n| format!(".{n:09}"));
    let suffix = if zone.offset == 0 { "Z".to_owned() } else { offset(zone.offset, ":") };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{suffix}")
}

/// Go's `time.ANSIC`-like form that `version` prints build times in: `Fri May 30 12:07:14 2025`.
pub(crate) fn ansic(time: Timestamp) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let (year, month, day, hour, minute, second) = time.civil();
    let weekday = time.unix_seconds().div_euclid(86_400).rem_euclid(7);
    let weekday = usize::try_from(weekday).ok().and_then(|i| DAYS.get(i)).unwrap_or(&"");
    let month = MONTHS.get(month as usize - 1).unwrap_or(&"");
    format!("{weekday} {month} {day:>2} {hour:02}:{minute:02}:{second:02} {year}")
}

fn offset(seconds: i32, colon: &str) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.abs() / 60;
    format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60)
}

/// What `--since` and `--until` send to the engine: seconds (with nanoseconds) since the epoch.
/// Accepts durations before now (`42m`), RFC 3339 and its shortened forms, and plain seconds.
pub(crate) fn engine_timestamp(value: &str) -> Result<String, String> {
    if value.is_empty() {
        return Ok(String::new());
    }
    if let Ok(nanos) = parse_duration_ns(value) {
        let then = Timestamp::now().plus_nanos(-i128::from(nanos));
        return Ok(format!("{}.{:09}", then.unix_seconds(), then.subsec_nanos()));
    }
    if let Some(then) = parse_date(value) {
        return Ok(format!("{}.{:09}", then.unix_seconds(), then.subsec_nanos()));
    }
    if value.split('.').all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit())) {
        return Ok(value.to_owned());
    }
    Err(format!("failed to parse value as time or duration: {value:?}"))
}

/// RFC 3339 with its time, seconds or zone left out; without a zone it is local time.
fn parse_date(value: &str) -> Option<Timestamp> {
    if let Ok(time) = value.parse::<Timestamp>() {
        return Some(time);
    }
    let (date, zone) = match value.strip_suffix('Z') {
        Some(date) => (date, Some("Z")),
        None => match value.rfind(['+', '-']).filter(|i| *i > 10) {
            Some(i) => (&value[..i], Some(&value[i..])),
            None => (value, None),
        },
    };
    let full = match date.len() {
        10 => format!("{date}T00:00:00"),
        13 => format!("{date}:00:00"),
        16 => format!("{date}:00"),
        _ => date.to_owned(),
    };
    let time: Timestamp = format!("{full}{}", zone.unwrap_or("Z")).parse().ok()?;
    if zone.is_some() {
        return Some(time);
    }
    // The offset is that of the same reading in UTC: off only within hours of a clock change.
    let offset = zone::at(time.unix_seconds()).offset;
    Some(time.plus_nanos(-i128::from(offset) * 1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_timestamps() {
        assert_eq!(engine_timestamp("1136073600").unwrap(), "1136073600");
        assert_eq!(engine_timestamp("1136073600.000000001").unwrap(), "1136073600.000000001");
        assert_eq!(engine_timestamp("2006-01-01T00:00:00Z").unwrap(), "1136073600.000000000");
        assert_eq!(engine_timestamp("2006-01-01T00:00Z").unwrap(), "1136073600.000000000");
        assert_eq!(engine_timestamp("2006-01-01T01:00:00.5+01:00").unwrap(), "1136073600.500000000");
        assert!(engine_timestamp("42m").unwrap().contains('.'));
        assert!(engine_timestamp("yesterday").is_err());
    }

    #[test]
    fn printed_times() {
        assert_eq!(ansic(Timestamp::from_unix(1_748_606_834, 0)), "Fri May 30 12:07:14 2025");
        assert_eq!(offset(-19_800, ":"), "-05:30");
    }
}
