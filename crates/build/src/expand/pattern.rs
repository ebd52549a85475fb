//! Shell patterns of `${x#p}`, `${x%p}` and `${x/p/t}`: `*`, `?`, no brackets.

use super::Cause;

#[derive(Clone, Copy)]
enum Token {
    Star,
    Any,
    Literal(char),
}

/// A parsed pattern.
pub(super) struct Pattern(Vec<Token>);

impl Pattern {
    /// Reads a pattern; `\` may escape `*`, `?`, `\`, `}` and `/`.
    pub(super) fn parse(text: &str) -> Result<Self, Cause> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(ch) = chars.next() {
            tokens.push(match ch {
                '*' => Token::Star,
                '?' => Token::Any,
                '\\' => match chars.next() {
                    Some(ch @ ('*' | '?' | '\\' | '}' | '/')) => Token::Literal(ch),
                    _ => return Err(Cause::Pattern(text.to_owned())),
                },
                _ => Token::Literal(ch),
            });
        }
        Ok(Self(tokens))
    }

    /// Without the shortest or longest matching head.
    pub(super) fn trim_prefix(&self, value: &str, greedy: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let cut = pick(self.ends(&chars), greedy).unwrap_or(0);
        chars[cut..].iter().collect()
    }

    /// Without the shortest or longest matching tail.
    pub(super) fn trim_suffix(&self, value: &str, greedy: bool) -> String {
        let backwards = Self(self.0.iter().rev().copied().collect());
        let reversed: String = value.chars().rev().collect();
        backwards.trim_prefix(&reversed, greedy).chars().rev().collect()
    }

    /// With the first or every match (leftmost, longest) replaced.
    pub(super) fn replace(&self, value: &str, replacement: &str, all: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let (mut out, mut at, mut replaced) = (String::new(), 0, false);
        while at <= chars.len() {
            let length = if replaced && !all { None } else { pick(self.ends(&chars[at..]), true) };
            if let Some(length) = length {
                out.push_str(replacement);
                replaced = true;
                if length > 0 {
                    at += length;
                    continue;
                }
            }
            out.extend(chars.get(at));
            at += 1;
        }
        out
    }

    /// All lengths of a head of `chars` that the pattern matches, ascending.
    fn ends(&self, chars: &[char]) -> Vec<usize> {
        let mut reached = vec![0];
        for token in &self.0 {
            reached = match token {
                Token::Star => (reached.first().copied().unwrap_or(0)..=chars.len()).collect(),
                Token::Any => reached.into_iter().filter(|n| *n < chars.len()).map(|n| n + 1).collect(),
                Token::Literal(ch) => {
                    reached.into_iter().filter(|n| chars.get(*n) == Some(ch)).map(|n| n + 1).collect()
                }
            };
            if reached.is_empty() {
                break;
            }
        }
        reached
    }
}

fn pick(ascending: Vec<usize>, last: bool) -> Option<usize> {
    if last { ascending.last().copied() } else { ascending.first().copied() }
}
