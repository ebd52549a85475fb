//! Reading the Test Anything Protocol.

use std::collections::BTreeMap;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Skipped,
    Failed,
}

/// One test.
#[derive(Clone, Debug)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
}

/// Tests by the file or program that they are in.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) parts: BTreeMap<String, Vec<Test>>,
}

impl Results {
    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.parts.values().flatten().filter(|t| t.outcome == outcome).count()
    }

    /// Part and name of what failed; a name that failed several times comes once.
    pub(crate) fn failed(&self) -> Vec<(&str, &str)> {
        let mut all: Vec<(&str, &str)> = Vec::new();
        for (part, tests) in &self.parts {
            for test in tests.iter().filter(|t| t.outcome == Outcome::Failed) {
                let entry = (part.as_str(), test.name.as_str());
                if !all.contains(&entry) {
                    all.push(entry);
                }
            }
        }
        all
    }
}

/// Reads results from output that may have anything between them. A failure marked TODO is one
/// that the suite itself does not count.
pub(crate) fn read(text: &str) -> Vec<Test> {
    text.lines().filter_map(|line| test(line.trim_end_matches('\r'))).collect()
}

/// The number of tests a plan promised.
pub(crate) fn planned(text: &str) -> Option<usize> {
    text.lines().find_map(|line| line.trim_end().strip_prefix("1..")?.parse().ok())
}

fn test(line: &str) -> Option<Test> {
    let (passed, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    // The number, which some writers leave out.
    let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let rest = rest.strip_prefix("- ").unwrap_or(rest);
    let (name, remark) = match rest.split_once("# ") {
        Some((name, remark)) if is_remark(remark) => (name, remark.to_ascii_lowercase()),
        Some(_) | None => (rest, String::new()),
    };
    let outcome = if remark.starts_with("skip") || (!passed && remark.starts_with("todo")) {
        Outcome::Skipped
    } else if passed {
        Outcome::Passed
    } else {
        Outcome::Failed
    };
    let name = name.trim();
    // A name that is all remark: what is skipped is what matters.
    let name = if name.is_empty() { rest.trim_start_matches("# ") } else { name };
    Some(Test { name: name.to_owned(), outcome })
}

fn is_remark(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.starts_with("skip") || text.starts_with("todo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = "TAP version 13\n1..4\nok 1 - works\nnot ok 2 - breaks\r\nok 3 # SKIP no kvm\n\
                    not ok 4 - # TODO later\nnoise\nok 5 named # 1 # skip why\n";
        let found: Vec<_> = read(text).into_iter().map(|t| (t.name, t.outcome)).collect();
        let expected = [
            ("works", Outcome::Passed),
            ("breaks", Outcome::Failed),
            ("SKIP no kvm", Outcome::Skipped),
            ("TODO later", Outcome::Skipped),
            ("named # 1 # skip why", Outcome::Passed),
        ];
        assert_eq!(found, expected.map(|(name, outcome)| (name.to_owned(), outcome)));
        assert_eq!(planned(text), Some(4));
    }
}
