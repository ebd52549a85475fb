//! What somebody may have meant who mistyped a name.

/// The candidate that differs least, if it differs in no more than two letters and half of them.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const FAR: usize = 3;
    let word = word.to_lowercase();
    let with_distance = candidates.into_iter().map(|other| (distance(&word, &other.to_lowercase()), other));
    let (distance, best) = with_distance.min_by_key(|(distance, _)| *distance)?;
    (distance < FAR && distance <= word.chars().count() / 2).then_some(best)
}

/// Letters to add, take away or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn typos() {
        assert_eq!(nearest("FROMM", ["RUN", "FROM"]), Some("FROM"));
        assert_eq!(nearest("rum", ["RUN", "FROM"]), Some("RUN"));
        assert_eq!(nearest("COYP", ["COPY"]), Some("COPY"));
        assert_eq!(nearest("X", ["RUN"]), None);
        assert_eq!(nearest("nothing", ["RUN"]), None);
    }
}
