//! The head of a response: status line and header fields.

use super::HttpError;

/// Status and header fields, names as the server wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// The words after the status code ("Not Found").
    pub(crate) reason: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The first field of this name, whatever its case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.field(name).is_some_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case(token)))
    }
}

/// Parses a complete head, the empty line included.
pub(super) fn parse_head(bytes: &[u8]) -> Result<Head, HttpError> {
    let text = std::str::from_utf8(bytes).map_err(|_| HttpError::Malformed("the head is not UTF-8"))?;
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or("");
    let mut words = status_line.splitn(3, ' ');
    if !words.next().unwrap_or("").starts_with("HTTP/1.") {
        return Err(HttpError::Malformed("the answer is not HTTP/1"));
    }
    let status = words
        .next()
        .and_then(|w| w.parse().ok())
        .filter(|s| (100..1000).contains(s))
        .ok_or(HttpError::Malformed("no status code"))?;
    let mut head = Head { status, reason: words.next().unwrap_or("").to_owned(), fields: Vec::new() };
    for line in lines.take_while(|l| !l.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(HttpError::Malformed("a header without a colon"))?;
        head.fields.push((name.to_owned(), value.trim().to_owned()));
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let head = parse_head(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade, x\r\nA:b\r\n\r\n").unwrap();
        assert_eq!((head.status, head.reason.as_str()), (101, "UPGRADED"));
        assert!(head.has_token("connection", "upgrade"));
        assert_eq!(head.field("a"), Some("b"));
        assert!(parse_head(b"SSH-2.0-x\r\n\r\n").is_err());
        assert!(parse_head(b"HTTP/1.1 abc\r\n\r\n").is_err());
    }
}
