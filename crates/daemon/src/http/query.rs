//! Query strings: Docker's idea of a boolean, Go's words for a bad number.

use seacow_spec::ErrorClass;

use super::error::ApiError;

/// Most parameters a request may have; the longest real ones are lists of names to save.
const MAX_PARAMETERS: usize = 10_000;

/// Decoded parameters in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes `a=b&c=d+e%2F`.
    ///
    /// # Errors
    /// A `%` that two hex digits do not follow, or far too many parameters.
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            if pairs.len() == MAX_PARAMETERS {
                return Err(ApiError::invalid(format!("more than {MAX_PARAMETERS} query parameters")));
            }
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            pairs.push((unescape(key)?, unescape(value)?));
        }
        Ok(Self(pairs))
    }

    /// The first value of `key`, if it was given at all.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The first value of `key`, or the empty text.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.get(key).unwrap_or("")
    }

    /// The first value of `key` unless it is absent or empty.
    pub(crate) fn non_empty(&self, key: &str) -> Option<String> {
        self.get(key).filter(|value| !value.is_empty()).map(str::to_owned)
    }

    /// Every value of `key`.
    pub(crate) fn all(&self, key: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == key).map(|(_, value)| value.clone()).collect()
    }

    /// Names and values, in order.
    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Docker's boolean: everything is true but the empty text, `0`, `no`, `false` and `none`.
    pub(crate) fn bool(&self, key: &str) -> bool {
        let value = self.text(key).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// The same, with a default for when the parameter is absent (present but empty is false).
    pub(crate) fn bool_or(&self, key: &str, default: bool) -> bool {
        if self.get(key).is_some() { self.bool(key) } else { default }
    }

    /// A number, read as Go's `strconv.Atoi` reads it.
    ///
    /// # Errors
    /// Not a number: in Go's words, with the class that the caller's endpoint gives to it (Docker
    /// answers 400 in some places and 500 in others).
    pub(crate) fn atoi(&self, key: &str, class: ErrorClass) -> Result<Option<i64>, ApiError> {
        match self.get(key).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => go_number(value, "Atoi", class).map(Some),
        }
    }

    /// A number that must be there: an absent one is a bad number too.
    ///
    /// # Errors
    /// Not a number.
    pub(crate) fn required_atoi(&self, key: &str) -> Result<i64, ApiError> {
        go_number(self.text(key), "Atoi", ErrorClass::InvalidArgument)
    }
}

fn go_number(value: &str, function: &str, class: ErrorClass) -> Result<i64, ApiError> {
    value.parse().map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        ApiError::new(class, format!("strconv.{function}: parsing {value:?}: {why}"))
    })
}

/// Decodes `%XX` and `+`.
fn unescape(text: &str) -> Result<String, ApiError> {
    percent_decode(text, true)
}

/// Decodes `%XX`, and `+` when `form` is set. Bytes that are not UTF-8 are replaced: no name, id or
/// JSON of ours has such.
pub(crate) fn percent_decode(text: &str, form: bool) -> Result<String, ApiError> {
    if !text.contains(['%', '+']) {
        return Ok(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'%' => {
                let digits = bytes.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
                let value = digits
                    .filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()))
                    .and_then(|two| u8::from_str_radix(two, 16).ok());
                let Some(value) = value else {
                    let shown = String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 3)]).into_owned();
                    return Err(ApiError::invalid(format!("invalid URL escape {shown:?}")));
                };
                out.push(value);
                at += 3;
            }
            b'+' if form => {
                out.push(b' ');
                at += 1;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    Ok(String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_of_every_client() {
        let query = Query::parse("a=1&b=True&c=yes&d=0&e=False&f=&g=no&h=NONE&i=t&j").unwrap();
        for key in ["a", "b", "c", "i"] {
            assert!(query.bool(key), "{key}");
        }
        for key in ["d", "e", "f", "g", "h", "j", "absent"] {
            assert!(!query.bool(key), "{key}");
        }
        assert!(query.bool_or("absent", true));
        assert!(!query.bool_or("f", true));
    }

    #[test]
    fn escapes() {
        let query = Query::parse("ps_args=-o+pid,cmd&changes=CMD+%5B%22sh%22%5D&changes=ENV+X=1").unwrap();
        assert_eq!(query.text("ps_args"), "-o pid,cmd");
        assert_eq!(query.all("changes"), ["CMD [\"sh\"]", "ENV X=1"]);
        assert!(Query::parse("a=%zz").is_err());
        assert!(Query::parse("a=%2").is_err());
    }

    #[test]
    fn numbers_in_go_s_words() {
        let query = Query::parse("limit=abc&big=99999999999999999999&n=-1").unwrap();
        assert_eq!(
            query.atoi("limit", ErrorClass::Internal).unwrap_err(),
            ApiError::new(ErrorClass::Internal, "strconv.Atoi: parsing \"abc\": invalid syntax")
        );
        assert_eq!(
            query.atoi("big", ErrorClass::Internal).unwrap_err().message(),
            "strconv.Atoi: parsing \"99999999999999999999\": value out of range"
        );
        assert_eq!(query.atoi("n", ErrorClass::Internal), Ok(Some(-1)));
        assert_eq!(query.atoi("absent", ErrorClass::Internal), Ok(None));
        assert_eq!(
            query.required_atoi("h").unwrap_err().message(),
            "strconv.Atoi: parsing \"\": invalid syntax"
        );
    }
}
