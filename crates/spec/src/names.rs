//! Container names: which are allowed, and invented ones.

/// Docker's text names this pattern.
pub const PATTERN: &str = "[a-zA-Z0-9][a-zA-Z0-9_.-]";

const ADJECTIVES: [&str; 40] = [
    "amber", "balmy", "brave", "brisk", "calm", "cheerful", "clever", "coral", "curious", "dapper", "deep",
    "eager", "fluent", "gentle", "glassy", "happy", "hidden", "jolly", "keen", "lively", "lucid", "mellow",
    "nimble", "patient", "placid", "proud", "quick", "quiet", "salty", "serene", "sleek", "steady", "sunny",
    "swift", "tidal", "tender", "vivid", "warm", "wise", "witty",
];

const SURNAMES: [&str; 40] = [
    "banks",
    "bass",
    "beebe",
    "bowditch",
    "carson",
    "clark",
    "cook",
    "cousteau",
    "darwin",
    "dampier",
    "drake",
    "earle",
    "ekman",
    "fitzroy",
    "forbes",
    "haeckel",
    "halley",
    "heezen",
    "humboldt",
    "maury",
    "munk",
    "murray",
    "nansen",
    "piccard",
    "rodolia",
    "ross",
    "sars",
    "scoresby",
    "stommel",
    "steller",
    "sverdrup",
    "tharp",
    "thomson",
    "tyrwhitt",
    "vancouver",
    "vema",
    "walsh",
    "wallace",
    "wegener",
    "wilkes",
];

/// Whether `name` (without a leading `/`) may name a container: at least two characters of
/// [`PATTERN`].
pub fn is_valid(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.len() > 1
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// An adjective and the name of someone who went to sea for knowledge; from the second attempt on
/// with a number, so that a caller who tries again finds a free one.
///
/// # Errors
/// The kernel's random number generator failed.
pub fn invent(attempt: u32) -> std::io::Result<String> {
    let mut random = [0u8; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
    let adjective = ADJECTIVES[usize::from(random[0]) % ADJECTIVES.len()];
    let surname = SURNAMES[usize::from(random[1]) % SURNAMES.len()];
    if attempt == 0 {
        return Ok(format!("{adjective}_{surname}"));
    }
    Ok(format!("{adjective}_{surname}{}", u16::from_le_bytes([random[2], random[3]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_rule() {
        for good in ["web", "a1", "a.b-c_d", "0x"] {
            assert!(is_valid(good), "{good}");
        }
        for bad in ["", "a", "/web", "a/b", "-a", "_a", "ä1", "a b"] {
            assert!(!is_valid(bad), "{bad}");
        }
        for attempt in 0..100 {
            assert!(is_valid(&invent(attempt).unwrap()));
        }
    }
}
