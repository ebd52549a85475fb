//! The lines of a Dockerfile around something, as failures and warnings show them.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// Lines that are shown before and after the marked ones.
const AROUND: usize = 2;
/// Marked lines at most; a here-document may have thousands.
const MOST: usize = 40;

/// The marked lines (counted from 1) with their neighbours:
/// ```text
/// Dockerfile:3
/// --------------------
///    2 |     RUN true
///    3 | >>> RUN exit 3
/// --------------------
/// ```
pub(crate) fn excerpt(name: &str, source: &str, marked: RangeInclusive<usize>) -> String {
    const RULE: &str = "--------------------\n";
    let (first, last) = (*marked.start(), *marked.end());
    let shown = first.saturating_sub(AROUND).max(1)..=last.min(first + MOST) + AROUND;
    let mut text = format!("{name}:{first}\n{RULE}");
    for (index, line) in source.lines().enumerate().skip(shown.start() - 1) {
        let number = index + 1;
        if !shown.contains(&number) {
            break;
        }
        let mark = if marked.contains(&number) { ">>>" } else { "   " };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", format!("{number:4} | {mark} {line}").trim_end());
    }
    text.push_str(RULE);
    text
}

#[cfg(test)]
mod tests {
    use super::excerpt;

    #[test]
    fn neighbours_and_marks() {
        let source = "FROM bb\nRUN 1\nRUN a \\\n  b\n\nCMD x\nCMD y\n";
        assert_eq!(
            excerpt("Dockerfile", source, 3..=4),
            "Dockerfile:3\n--------------------\n   1 |     FROM bb\n   2 |     RUN 1\n   3 | >>> RUN a \\\n\
             \x20  4 | >>>   b\n   5 |\n   6 |     CMD x\n--------------------\n"
        );
        assert!(excerpt("f", source, 1..=1).starts_with("f:1\n--------------------\n   1 | >>> FROM bb\n"));
        assert!(excerpt("f", "", 1..=1).ends_with("--------------------\n"));
    }
}
