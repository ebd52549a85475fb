//! `EXPOSE`: port specifications to the keys of `ExposedPorts`.

/// A port that cannot be read; the texts are Docker's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PortError {
    /// Nothing before the protocol.
    #[error("no port specified: {0}<empty>")]
    None(String),
    /// No number, or no range of numbers.
    #[error("invalid containerPort: {0}")]
    Port(String),
    /// Not tcp, udp, sctp.
    #[error("invalid proto: {0}")]
    Protocol(String),
}

/// `80`, `80/udp`, `8000-8010/tcp`; `host:80` and `ip:host:80` count as their last part.
///
/// # Errors
/// The text is no port.
pub(crate) fn exposed(spec: &str) -> Result<Vec<String>, PortError> {
    let (address, protocol) = spec.split_once('/').unwrap_or((spec, "tcp"));
    let protocol = if protocol.is_empty() { "tcp".into() } else { protocol.to_ascii_lowercase() };
    let port = address.rsplit(':').next().unwrap_or(address);
    if port.is_empty() {
        return Err(PortError::None(spec.to_owned()));
    }
    let bad = || PortError::Port(port.to_owned());
    let (first, last) = port.split_once('-').unwrap_or((port, port));
    let first: u16 = first.parse().map_err(|_| bad())?;
    let last: u16 = last.parse().map_err(|_| bad())?;
    if last < first {
        return Err(bad());
    }
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(PortError::Protocol(protocol));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        assert_eq!(exposed("80").unwrap(), ["80/tcp"]);
        assert_eq!(exposed("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(exposed("1-3/sctp").unwrap(), ["1/sctp", "2/sctp", "3/sctp"]);
        assert_eq!(exposed("127.0.0.1:8080:80").unwrap(), ["80/tcp"]);
        for (spec, want) in [
            ("x", "invalid containerPort: x"),
            ("70000", "invalid containerPort: 70000"),
            ("3-1", "invalid containerPort: 3-1"),
            ("80/icmp", "invalid proto: icmp"),
            ("/tcp", "no port specified: /tcp<empty>"),
        ] {
            assert_eq!(exposed(spec).unwrap_err().to_string(), want);
        }
    }
}
