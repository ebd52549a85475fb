//! From the engine's JSON to what people and scripts read: tables, Go templates, human units.

pub(crate) mod json;
pub(crate) mod listing;
pub(crate) mod table;
pub(crate) mod template;
pub(crate) mod time;
pub(crate) mod units;
mod zone;

pub(crate) use json::Json;

/// The first 12 digits of an id, without its algorithm.
pub(crate) fn short_id(id: &str) -> &str {
    let id = id.split_once(':').map_or(id, |(_, hex)| hex);
    id.get(..12).unwrap_or(id)
}

/// Cuts to `width` characters, the last of them `…` if something was cut.
pub(crate) fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting() {
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("abc"), "abc");
        assert_eq!(ellipsis("0123456789", 10), "0123456789");
        assert_eq!(ellipsis("0123456789a", 10), "012345678…");
    }
}
