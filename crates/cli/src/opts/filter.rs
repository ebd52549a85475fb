//! `--filter name=value` as the `filters` query parameter.

use std::collections::BTreeMap;

/// `{"name":{"value":true}}`, or nothing if there are no filters.
pub(crate) fn query(filters: &[String]) -> String {
    let mut map: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for filter in filters {
        let (name, value) = filter.split_once('=').unwrap_or((filter, ""));
        let name = name.trim().to_lowercase();
        map.entry(name).or_default().insert(value.trim().to_owned(), true);
    }
    if map.is_empty() { String::new() } else { serde_json::to_string(&map).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sets_of_values() {
        let filters = ["Status=exited".to_owned(), "label=a=b".to_owned(), "status=created".to_owned()];
        assert_eq!(
            super::query(&filters),
            r#"{"label":{"a=b":true},"status":{"created":true,"exited":true}}"#
        );
        assert_eq!(super::query(&[]), "");
    }
}
