//! `.dockerignore`: docker's own pattern language (not git's).
//!
//! A pattern matches a path or any directory above it. The last pattern that matches decides; `!`
//! brings back. `*` and `?` stay within a directory, `**` does not.

use crate::opts::volume::clean;

/// The patterns of one file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Vec<Token>,
    /// The text before the first wildcard, to find directories worth entering.
    text: String,
    keeps: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(char),
    /// `?`
    One,
    /// `*`
    Some,
    /// `**` at the end
    All,
    /// `**/`
    Directories,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Ignore {
    pub(crate) fn parse(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut ignore = Self::default();
        for line in text.lines() {
            if !line.starts_with('#') {
                ignore.add(line.trim());
            }
        }
        ignore
    }

    pub(crate) fn add(&mut self, line: &str) {
        let (keeps, pattern) = match line.strip_prefix('!') {
            Some(rest) => (true, rest.trim()),
            None => (false, line),
        };
        if pattern.is_empty() {
            return;
        }
        let pattern = clean(pattern);
        let pattern = pattern.strip_prefix('/').filter(|p| !p.is_empty()).unwrap_or(&pattern);
        self.rules.push(Rule { pattern: tokens(pattern), text: pattern.to_owned(), keeps });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the file at this path (relative, with slashes) is not to be sent.
    pub(crate) fn leaves_out(&self, path: &str) -> bool {
        if path.is_empty() || path == "." {
            return false;
        }
        let path: Vec<char> = path.chars().collect();
        let mut left_out = false;
        for rule in &self.rules {
            if rule.keeps == left_out && rule.matches_or_parent(&path) {
                left_out = !rule.keeps;
            }
        }
        left_out
    }

    /// Whether something below a directory that is left out may have been brought back.
    pub(crate) fn may_keep_below(&self, directory: &str) -> bool {
        let below = format!("{directory}/");
        self.rules.iter().filter(|r| r.keeps).any(|r| {
            let fixed = r.text.split(['*', '?', '[', '\\']).next().unwrap_or("");
            r.text.starts_with(&below) || (fixed.len() < r.text.len() && below.starts_with(fixed))
        })
    }
}

impl Rule {
    fn matches_or_parent(&self, path: &[char]) -> bool {
        if matches(&self.pattern, path) {
            return true;
        }
        path.iter().enumerate().any(|(i, c)| *c == '/' && matches(&self.pattern, &path[..i]))
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let chars: Vec<char> = pattern.chars().collect();
    let mut out = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        match chars[i] {
            '*' if chars.get(i + 1) == Some(&'*') => {
                i += 1;
                if chars.get(i + 1) == Some(&'/') {
                    i += 1;
                }
                out.push(if i + 1 == chars.len() { Token::All } else { Token::Directories });
            }
            '*' => out.push(Token::Some),
            '?' => out.push(Token::One),
            '\\' if i + 1 < chars.len() => {
                i += 1;
                out.push(Token::Char(chars[i]));
            }
            '[' => match class(&chars[i..]) {
                Some((token, length)) => {
                    out.push(token);
                    i += length - 1;
                }
                None => out.push(Token::Char('[')),
            },
            c => out.push(Token::Char(c)),
        }
        i += 1;
    }
    out
}

/// `[a-z]`, `[^a-z]`; the token and its length in the pattern.
fn class(chars: &[char]) -> Option<(Token, usize)> {
    let mut i = 1;
    let negated = chars.get(i) == Some(&'^');
    i += usize::from(negated);
    let mut ranges = Vec::new();
    while let Some(c) = chars.get(i).filter(|c| **c != ']' || ranges.is_empty()) {
        let end = match (chars.get(i + 1), chars.get(i + 2)) {
            (Some('-'), Some(end)) if *end != ']' => {
                i += 2;
                *end
            }
            _ => *c,
        };
        ranges.push((*c, end));
        i += 1;
    }
    chars.get(i)?;
    Some((Token::Class { negated, ranges }, i + 1))
}

fn matches(pattern: &[Token], path: &[char]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return path.is_empty() };
    match first {
        Token::Char(c) => path.first() == Some(c) && matches(rest, &path[1..]),
        Token::One => path.first().is_some_and(|c| *c != '/') && matches(rest, &path[1..]),
        Token::Class { negated, ranges } => {
            let inside = |c: &char| ranges.iter().any(|(a, b)| a <= c && c <= b);
            path.first().is_some_and(|c| inside(c) != *negated) && matches(rest, &path[1..])
        }
        Token::Some => {
            let end = path.iter().position(|c| *c == '/').unwrap_or(path.len());
            (0..=end).any(|i| matches(rest, &path[i..]))
        }
        Token::All => true,
        Token::Directories => {
            matches(rest, path)
                || path.iter().enumerate().any(|(i, c)| *c == '/' && matches(rest, &path[i + 1..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(patterns: &str, path: &str) -> bool {
        Ignore::parse(patterns).leaves_out(path)
    }

    #[test]
    fn docker_s_examples() {
        assert!(out("*/temp*", "dir/temporary.txt") && out("*/temp*", "dir/temp/x"));
        assert!(!out("*/temp*", "temp") && !out("*/temp*", "a/b/temp"));
        assert!(out("*/*/temp*", "a/b/temp.txt") && out("temp?", "tempa") && !out("temp?", "temp"));
        assert!(out("**/*.go", "x.go") && out("**/*.go", "a/b/x.go") && !out("**/*.go", "x.gox"));
        assert!(out("/foo/bar", "foo/bar/baz") && out("foo//bar/./", "foo/bar"));
        assert!(out("a/**", "a/b/c") && !out("a/**", "b"));
        assert!(out("[a-c].txt", "b.txt") && !out("[^a-c].txt", "b.txt"));
        assert!(out("\\*.md", "*.md") && !out("\\*.md", "a.md"));
    }

    #[test]
    fn the_last_word_counts() {
        let patterns = "*.md\n!README*.md\nREADME-secret.md\n";
        assert!(!out(patterns, "README.md") && out(patterns, "README-secret.md") && out(patterns, "x.md"));
        assert!(out("# comment\n  \n *.md ", "a.md") && !out("#a", "#a"));
        assert!(!out("*\n!b/c", "b/c") && out("*\n!b/c", "b/d"));
    }

    #[test]
    fn where_to_look_for_what_is_kept() {
        let ignore = Ignore::parse("*\n!b/c/d\n!**/keep");
        assert!(ignore.may_keep_below("b") && ignore.may_keep_below("b/c") && ignore.may_keep_below("x"));
        let ignore = Ignore::parse("*\n!b/c");
        assert!(ignore.may_keep_below("b") && !ignore.may_keep_below("a"));
    }
}
