//! `.dockerignore`, with the semantics of Go's `patternmatcher`.
//!
//! Patterns are taken in order and the last one that matches decides; `!pattern` takes back in. A
//! pattern that matches a parent directory matches everything below it. `**` crosses slashes.
//! Old quirks are kept: `**file` is "ends in file", `dir/**` is "begins with dir/".

use crate::gopath;

/// A pattern that cannot be read; the texts are Docker's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PatternError {
    /// `!` alone.
    #[error("illegal exclusion pattern: \"!\"")]
    LoneExclamation,
    /// A stray bracket or escape.
    #[error("error checking context: {pattern}: {source}")]
    Malformed {
        /// As written.
        pattern: String,
        /// Why.
        source: gopath::BadPattern,
    },
}

/// A list of patterns.
#[derive(Debug, Default)]
pub struct Matcher {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    takes_back: bool,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Tokens(Vec<Token>),
}

#[derive(Debug)]
enum Token {
    Literal(char),
    /// `?`
    Any,
    /// `*`
    Star,
    /// `**` at the end
    All,
    /// `**/` inside: nothing, or anything that ends in a slash
    Deep,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Matcher {
    /// Reads a `.dockerignore` file.
    ///
    /// # Errors
    /// A malformed pattern.
    pub fn parse(file: &[u8]) -> Result<Self, PatternError> {
        let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
        let text = String::from_utf8_lossy(file);
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self::new(&lines.filter_map(normalise).collect::<Vec<_>>())
    }

    /// From patterns.
    ///
    /// # Errors
    /// A malformed pattern.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self, PatternError> {
        let texts = patterns.iter().map(|pattern| pattern.as_ref().trim()).filter(|text| !text.is_empty());
        Ok(Self { patterns: texts.map(Pattern::new).collect::<Result<_, _>>()? })
    }

    /// Whether any pattern takes back in what an earlier one excludes.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.takes_back)
    }

    /// Whether the path (relative, slashes, no leading `./`) is excluded.
    pub fn excludes(&self, path: &str) -> bool {
        if path == "." || path.is_empty() {
            return false;
        }
        let mut excluded = false;
        for pattern in &self.patterns {
            // A pattern that could not change the outcome is not looked at.
            if pattern.takes_back == excluded && pattern.matches_or_parent(path) {
                excluded = !pattern.takes_back;
            }
        }
        excluded
    }
}

/// What the reader of the file does to a line before the matcher sees it.
fn normalise(line: &str) -> Option<String> {
    let line = line.trim();
    let (mark, pattern) = match line.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", line),
    };
    if pattern.is_empty() {
        return (!mark.is_empty()).then(|| mark.to_owned());
    }
    let clean = gopath::clean(pattern);
    let relative = if clean.len() > 1 { clean.strip_prefix('/').unwrap_or(&clean) } else { &clean };
    Some(format!("{mark}{relative}"))
}

impl Pattern {
    fn new(text: &str) -> Result<Self, PatternError> {
        let clean = gopath::clean(text);
        let (takes_back, body) = match clean.strip_prefix('!') {
            Some("") => return Err(PatternError::LoneExclamation),
            Some(rest) => (true, rest),
            None => (false, clean.as_str()),
        };
        gopath::matches(body, ".")
            .map_err(|source| PatternError::Malformed { pattern: text.to_owned(), source })?;
        Ok(Self { takes_back, kind: Kind::new(body) })
    }

    fn matches_or_parent(&self, path: &str) -> bool {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        self.kind.matches(path)
            || parents.filter(|parent| !parent.is_empty()).any(|parent| self.kind.matches(parent))
    }
}

impl Kind {
    fn new(pattern: &str) -> Self {
        let plain = |text: &str| !text.contains(['*', '?', '[', ']', '\\']);
        if plain(pattern) {
            return Self::Exact(pattern.to_owned());
        }
        match (pattern.strip_prefix("**"), pattern.strip_suffix("**")) {
            (Some(rest), _) if plain(rest) => Self::Suffix(rest.to_owned()),
            (_, Some(rest)) if plain(rest) => Self::Prefix(rest.to_owned()),
            _ => Self::Tokens(tokens(pattern)),
        }
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => path == text,
            Self::Prefix(text) => path.starts_with(text.as_str()),
            Self::Suffix(text) => {
                path.ends_with(text.as_str()) || text.strip_prefix('/').is_some_and(|rest| path == rest)
            }
            Self::Tokens(tokens) => run(tokens, &path.chars().collect::<Vec<_>>()),
        }
    }
}

/// `pattern` has been checked by `filepath.Match`.
fn tokens(pattern: &str) -> Vec<Token> {
    let mut chars = pattern.chars().peekable();
    let mut out = Vec::new();
    while let Some(ch) = chars.next() {
        out.push(match ch {
            '*' if chars.next_if_eq(&'*').is_some() => {
                _ = chars.next_if_eq(&'/');
                if chars.peek().is_none() { Token::All } else { Token::Deep }
            }
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => Token::Literal(chars.next().unwrap_or('\\')),
            '[' => class(&mut chars),
            _ => Token::Literal(ch),
        });
    }
    out
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Token {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while let Some(ch) = chars.next() {
        if ch == ']' {
            break;
        }
        let low = if ch == '\\' { chars.next().unwrap_or(ch) } else { ch };
        let high = match chars.next_if_eq(&'-') {
            Some(_) => match chars.next() {
                Some('\\') => chars.next().unwrap_or(low),
                Some(high) => high,
                None => low,
            },
            None => low,
        };
        ranges.push((low, high));
    }
    Token::Class { negated, ranges }
}

/// Whether the tokens take the whole path: one row of a table per token, from the last to the first.
fn run(tokens: &[Token], path: &[char]) -> bool {
    let mut next: Vec<bool> = (0..=path.len()).map(|at| at == path.len()).collect();
    for token in tokens.iter().rev() {
        let mut row = vec![false; path.len() + 1];
        // For `Deep`: whether a slash at or after this place leads on.
        let mut slash_ahead = false;
        for at in (0..=path.len()).rev() {
            let ch = path.get(at).copied();
            let after = ch.is_some() && next[at + 1];
            row[at] = match token {
                Token::Literal(own) => after && ch == Some(*own),
                Token::Any => after && ch != Some('/'),
                Token::Class { negated, ranges } => {
                    let inside =
                        ch.is_some_and(|ch| ranges.iter().any(|(low, high)| (*low..=*high).contains(&ch)));
                    after && inside != *negated
                }
                Token::Star => next[at] || ch.is_some_and(|ch| ch != '/') && row[at + 1],
                Token::All => next[at] || ch.is_some() && row[at + 1],
                Token::Deep => {
                    slash_ahead |= after && ch == Some('/');
                    next[at] || slash_ahead
                }
            };
        }
        next = row;
    }
    next[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excluded(patterns: &[&str], path: &str) -> bool {
        Matcher::new(patterns).unwrap().excludes(&gopath::clean(path))
    }

    #[test]
    fn single_patterns_as_docker_matches_them() {
        for (pattern, path, want) in [
            ("**", "file", true),
            ("**/", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/dir2/file", true),
            ("**/dir", "dir", true),
            ("**/dir", "dir/file", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir3/file", true),
            ("**file", "file", true),
            ("**file", "dir/dir/file", true),
            ("**file", "dir/afile", true),
            ("**/file", "dir/dir/file", true),
            ("**/file*", "dir/dir/file.txt", true),
            ("**/file*txt", "dir/dir/file.txt", true),
            ("**/file*.txt*", "dir/dir/file.txt", true),
            ("**/**/*.txt", "dir/dir/file.txt", true),
            ("**/**/*.txt2", "dir/dir/file.txt", false),
            ("**/**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/file.txt", true),
            ("a**/*.txt", "a/dir/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt**", "a/file.txt", true),
            ("a[b-d]e", "ae", false),
            ("a[b-d]e", "ace", true),
            ("a[b-d]e", "aae", false),
            ("a[^b-d]e", "aze", true),
            (".*", ".foo", true),
            (".*", "foo", false),
            ("abc.def", "abcZdef", false),
            ("abc?def", "abcZdef", true),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "dir/dir2/foo/bar", true),
            ("abc/**", "abc", false),
            ("abc/**", "abc/def/ghi", true),
            ("**/.foo", ".foo", true),
            ("**/.foo", "bar.foo", false),
            ("a(b)c/def", "a(b)c/def", true),
            ("a(b)c/def", "a(b)c/xyz", false),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("dist/*.whl", "dist/p-2.4+g08-py3.whl", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a*", "ab/c", true),
            ("a*/b", "a/c/b", false),
            ("a?b", "a☺b", true),
            ("docs/", "docs/x", true),
            ("./docs", "docs/x", true),
            ("a/../b", "b", true),
            ("*", ".", false),
        ] {
            assert_eq!(excluded(&[pattern], path), want, "{pattern} {path}");
        }
    }

    #[test]
    fn the_last_match_decides() {
        for (patterns, path, want) in [
            (&["!fileutils.go", "*.go"][..], "fileutils.go", true),
            (&["*.go", "!fileutils.go"], "fileutils.go", false),
            (&["docs", "!docs/README.md"], "docs/README.md", false),
            (&["docs/*", "!docs/README.md"], "docs/x.md", true),
            (&["**", "!util/docker/web"], "util/docker/web/foo", false),
            (&["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", true),
            (&["**", "!dist/*.whl"], "dist/a.whl", false),
        ] {
            assert_eq!(excluded(patterns, path), want, "{patterns:?} {path}");
        }
    }

    #[test]
    fn reads_the_file() {
        let matcher =
            Matcher::parse(b"\xef\xbb\xbf# note\n\n  /abs/path/ \n! abs/path/keep\r\n*.log\n").unwrap();
        assert!(matcher.has_exceptions());
        assert!(matcher.excludes("abs/path/x"));
        assert!(!matcher.excludes("abs/path/keep"));
        assert!(matcher.excludes("a.log"));
        assert!(!matcher.excludes("d/a.log"));
        assert!(!matcher.excludes("# note"));
        assert_eq!(Matcher::parse(b"!\n").unwrap_err(), PatternError::LoneExclamation);
        for bad in ["[", "a[", "[-]", "x\\"] {
            assert!(Matcher::new(&[bad]).is_err(), "{bad}");
        }
    }
}
