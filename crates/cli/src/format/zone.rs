//! The local time zone, read from the system's TZif files (RFC 8536).
//!
//! The C library's `localtime` would need `unsafe`; the file format is small.

use std::path::{Path, PathBuf};

/// Offset and name of a zone at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Zone {
    /// Seconds east of UTC.
    pub(super) offset: i32,
    pub(super) name: String,
}

impl Zone {
    fn utc() -> Self {
        Self { offset: 0, name: "UTC".to_owned() }
    }
}

/// Larger files are not time zones.
const MAX_FILE: u64 = 1 << 20;

/// The local zone at an instant; UTC when it cannot be found out.
pub(super) fn at(unix_seconds: i64) -> Zone {
    let file = match std::env::var("TZ") {
        Ok(name) if name.is_empty() || name == "UTC" => return Zone::utc(),
        Ok(name) => {
            let name = name.strip_prefix(':').unwrap_or(&name);
            if name.starts_with('/') {
                PathBuf::from(name)
            } else {
                Path::new("/usr/share/zoneinfo").join(name)
            }
        }
        Err(_) => PathBuf::from("/etc/localtime"),
    };
    let small = std::fs::metadata(&file).is_ok_and(|m| m.len() <= MAX_FILE);
    let zone =
        if small { std::fs::read(&file).ok().and_then(|bytes| lookup(&bytes, unix_seconds)) } else { None };
    zone.unwrap_or_else(Zone::utc)
}

/// Counts of a TZif header.
struct Header {
    isutcnt: usize,
    isstdcnt: usize,
    leapcnt: usize,
    timecnt: usize,
    typecnt: usize,
    charcnt: usize,
}

const HEADER: usize = 44;

fn header(bytes: &[u8]) -> Option<Header> {
    if bytes.get(..4)? != b"TZif" {
        return None;
    }
    let count = |i: usize| -> Option<usize> {
        let at = 20 + 4 * i;
        Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
    };
    Some(Header {
        isutcnt: count(0)?,
        isstdcnt: count(1)?,
        leapcnt: count(2)?,
        timecnt: count(3)?,
        typecnt: count(4)?,
        charcnt: count(5)?,
    })
}

fn lookup(bytes: &[u8], when: i64) -> Option<Zone> {
    let old = header(bytes)?;
    if bytes.get(4)? < &b'2' {
        return None;
    }
    // The first block has 32-bit times and is only for old readers: skip it.
    let skip = HEADER
        + old.timecnt * 5
        + old.typecnt * 6
        + old.charcnt
        + old.leapcnt * 8
        + old.isstdcnt
        + old.isutcnt;
    let bytes = bytes.get(skip..)?;
    let h = header(bytes)?;
    let times = bytes.get(HEADER..HEADER + h.timecnt * 8)?;
    let indices = bytes.get(HEADER + h.timecnt * 8..HEADER + h.timecnt * 9)?;
    let types = bytes.get(HEADER + h.timecnt * 9..HEADER + h.timecnt * 9 + h.typecnt * 6)?;
    let names_at = HEADER + h.timecnt * 9 + h.typecnt * 6;
    let names = bytes.get(names_at..names_at + h.charcnt)?;
    let transitions: Vec<i64> =
        times.chunks_exact(8).filter_map(|c| c.try_into().ok().map(i64::from_be_bytes)).collect();
    let passed = transitions.partition_point(|t| *t <= when);
    if passed == transitions.len() {
        let footer_at = names_at + h.charcnt + h.leapcnt * 12 + h.isstdcnt + h.isutcnt;
        let footer = std::str::from_utf8(bytes.get(footer_at..)?).ok()?.trim_matches('\n');
        if let Some(zone) = posix(footer, when) {
            return Some(zone);
        }
    }
    let index = if passed == 0 { 0 } else { usize::from(*indices.get(passed - 1)?) };
    let entry = types.get(index * 6..index * 6 + 6)?;
    let name = names.get(usize::from(entry[5])..)?.split(|b| *b == 0).next()?;
    Some(Zone {
        offset: i32::from_be_bytes(entry[..4].try_into().ok()?),
        name: go_name(&String::from_utf8_lossy(name)),
    })
}

/// Numeric names (`-03`) have no letters; Go then prints the offset again.
fn go_name(name: &str) -> String {
    name.trim_matches(['<', '>']).to_owned()
}

/// A POSIX rule (`CET-1CEST,M3.5.0,M10.5.0/3`) at an instant.
fn posix(rule: &str, when: i64) -> Option<Zone> {
    let mut parts = rule.split(',');
    let zones = parts.next()?;
    let (std_name, rest) = take_name(zones)?;
    let (std_offset, rest) = take_offset(rest)?;
    let standard = Zone { offset: -std_offset, name: go_name(std_name) };
    if rest.is_empty() {
        return Some(standard);
    }
    let (dst_name, rest) = take_name(rest)?;
    let dst_offset = if rest.is_empty() { std_offset - 3600 } else { take_offset(rest)?.0 };
    let daylight = Zone { offset: -dst_offset, name: go_name(dst_name) };
    let year = seacow_spec::time::Timestamp::from_unix(when, 0).civil().0;
    let begins = change(parts.next()?, year)? + i64::from(std_offset);
    let ends = change(parts.next()?, year)? + i64::from(dst_offset);
    let summer = if begins < ends { when >= begins && when < ends } else { when >= begins || when < ends };
    Some(if summer { daylight } else { standard })
}

fn take_name(text: &str) -> Option<(&str, &str)> {
    let end = if text.starts_with('<') {
        text.find('>')? + 1
    } else {
        text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len())
    };
    Some(text.split_at(end)).filter(|(name, _)| !name.is_empty())
}

/// `[+-]hh[:mm[:ss]]` in seconds.
fn take_offset(text: &str) -> Option<(i32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !"+-:".contains(c)).unwrap_or(text.len());
    let (offset, rest) = text.split_at(end);
    let (sign, digits) = match offset.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, offset.strip_prefix('+').unwrap_or(offset)),
    };
    let mut seconds = 0;
    for (part, unit) in digits.split(':').zip([3600, 60, 1]) {
        seconds += part.parse::<i32>().ok()? * unit;
    }
    Some((sign * seconds, rest))
}

/// `Mm.w.d[/time]` of a year, as seconds since the epoch of the local clock.
fn change(rule: &str, year: i64) -> Option<i64> {
    let (date, time) = rule.split_once('/').unwrap_or((rule, "2"));
    let mut numbers = date.strip_prefix('M')?.split('.').map(|n| n.parse::<i64>().ok());
    let (month, week, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    let first: seacow_spec::time::Timestamp = format!("{year:04}-{month:02}-01T00:00:00Z").parse().ok()?;
    let first_day = first.unix_seconds() / 86_400;
    // 1970-01-01 was a Thursday (4).
    let weekday = (first_day + 4).rem_euclid(7);
    let mut day_of_month = (day - weekday).rem_euclid(7) + (week - 1) * 7;
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let next: seacow_spec::time::Timestamp =
        format!("{next_year:04}-{next_month:02}-01T00:00:00Z").parse().ok()?;
    let length = next.unix_seconds() / 86_400 - first_day;
    while day_of_month >= length {
        day_of_month -= 7;
    }
    Some((first_day + day_of_month) * 86_400 + i64::from(take_offset(time)?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posix_rules() {
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        // 2026-03-29 01:00 UTC and 2026-10-25 01:00 UTC are the changes.
        assert_eq!(posix(berlin, 1_774_745_999).unwrap().name, "CET");
        assert_eq!(posix(berlin, 1_774_746_000).unwrap(), Zone { offset: 7200, name: "CEST".into() });
        assert_eq!(posix(berlin, 1_792_889_999).unwrap().name, "CEST");
        assert_eq!(posix(berlin, 1_792_890_000).unwrap(), Zone { offset: 3600, name: "CET".into() });
        assert_eq!(posix("<-03>3", 0).unwrap(), Zone { offset: -10800, name: "-03".into() });
        assert_eq!(posix("UTC0", 0).unwrap(), Zone::utc());
    }
}
