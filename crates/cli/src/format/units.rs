//! Sizes and durations as docker's `go-units` words them.

/// Go's `%.{precision}g`.
fn general(value: f64, precision: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{:.*e}", precision.saturating_sub(1), value);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let decimals = usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0);
    trim(&format!("{value:.decimals$}"))
}

fn scaled(mut size: f64, base: f64, units: &[&str], precision: usize) -> String {
    let mut unit = 0;
    while size >= base && unit + 1 < units.len() {
        size /= base;
        unit += 1;
    }
    format!("{}{}", general(size, precision), units[unit])
}

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Powers of 1000, four digits: `1.985MB`.
pub(crate) fn human_size(size: f64) -> String {
    scaled(size, 1000.0, &DECIMAL, 4)
}

/// Powers of 1000, three digits: lists of images and containers.
pub(crate) fn human_size_3(size: f64) -> String {
    scaled(size, 1000.0, &DECIMAL, 3)
}

/// Powers of 1024, four digits: memory.
pub(crate) fn bytes_size(size: f64) -> String {
    scaled(size, 1024.0, &BINARY, 4)
}

/// "2 minutes", "About an hour": a duration in seconds, roughly.
pub(crate) fn human_duration(seconds: f64) -> String {
    let whole = seconds as i64;
    let minutes = (seconds / 60.0) as i64;
    let hours = (seconds / 3600.0 + 0.5) as i64;
    match () {
        () if whole < 1 => "Less than a second".to_owned(),
        () if whole == 1 => "1 second".to_owned(),
        () if whole < 60 => format!("{whole} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", (seconds / 3600.0) as i64 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(human_size(0.0), "0B");
        assert_eq!(human_size(1_985_123.0), "1.985MB");
        assert_eq!(human_size_3(1_985_123.0), "1.99MB");
        assert_eq!(human_size_3(2_138_112.0), "2.14MB");
        assert_eq!(human_size_3(117_000_000.0), "117MB");
        assert_eq!(human_size(1000.0), "1kB");
        assert_eq!(bytes_size(25_171_591_168.0), "23.44GiB");
        assert_eq!(human_size_3(999_900.0), "1e+03kB");
    }

    #[test]
    fn durations() {
        for (seconds, text) in [
            (0.4, "Less than a second"),
            (1.9, "1 second"),
            (59.0, "59 seconds"),
            (61.0, "About a minute"),
            (150.0, "2 minutes"),
            (3700.0, "About an hour"),
            (7200.0, "2 hours"),
            (86400.0 * 3.0, "3 days"),
            (86400.0 * 20.0, "2 weeks"),
            (86400.0 * 90.0, "3 months"),
            (86400.0 * 365.0 * 3.0, "3 years"),
        ] {
            assert_eq!(human_duration(seconds), text);
        }
    }
}
