//! `filters=` of the API: which rows of a list, or which events, a client wants.

use std::collections::{BTreeMap, BTreeSet};

use seacow_spec::{Classified, ErrorClass};

/// Wanted values by key. Values of one key are alternatives, keys must all hold; labels are the
/// exception, where every value must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

/// A filter that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FilterError {
    /// Not JSON of either form.
    #[error("invalid filter")]
    Malformed,
    /// A key that this list does not know.
    #[error("invalid filter '{0}'")]
    UnknownKey(String),
    /// A value that the key does not take.
    #[error("invalid filter '{0}={1}'")]
    BadValue(String, String),
    /// Docker takes one.
    #[error("more than one until filter specified")]
    SeveralTimes,
    /// Not a time.
    #[error(transparent)]
    Time(#[from] crate::apitime::TimeError),
}

impl Classified for FilterError {
    fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

impl Filters {
    /// Reads the JSON of the query string: `{"k":{"v":true}}`, as Go's clients write it, or
    /// `{"k":["v"]}`, as older ones and docker-py do. Empty text is no filter.
    ///
    /// # Errors
    /// The text is neither form.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        if let Ok(sets) = serde_json::from_str::<BTreeMap<String, BTreeMap<String, bool>>>(text) {
            let wanted = |set: BTreeMap<String, bool>| set.into_iter().filter(|(_, on)| *on).map(|(v, _)| v);
            return Ok(Self(sets.into_iter().map(|(k, set)| (k, wanted(set).collect())).collect()));
        }
        serde_json::from_str::<BTreeMap<String, BTreeSet<String>>>(text)
            .map(Self)
            .map_err(|_| FilterError::Malformed)
    }

    /// Adds a wanted value.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.0.entry(key.to_owned()).or_default().insert(value.to_owned());
        self
    }

    /// Refuses keys other than `known`.
    ///
    /// # Errors
    /// There is one.
    pub fn only(&self, known: &[&str]) -> Result<(), FilterError> {
        match self.0.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(FilterError::UnknownKey(key.clone())),
            None => Ok(()),
        }
    }

    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the key has a value.
    pub fn contains(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|values| !values.is_empty())
    }

    /// The key's values.
    pub fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Holds when the key is absent, or `source` is one of its values.
    pub fn exact(&self, key: &str, source: &str) -> bool {
        !self.contains(key) || self.values(key).any(|value| value == source)
    }

    /// Holds when the key is absent, or one of its values is how `source` begins.
    pub fn prefix(&self, key: &str, source: &str) -> bool {
        !self.contains(key) || self.values(key).any(|value| source.starts_with(value))
    }

    /// Holds when the key is absent, or one of its values, a regular expression, is found in
    /// `source`. A value that is no expression is compared as it is.
    pub fn pattern(&self, key: &str, source: &str) -> bool {
        !self.contains(key)
            || self.values(key).any(|value| match regex_lite::Regex::new(value) {
                Ok(expression) => expression.is_match(source),
                Err(_) => value == source,
            })
    }

    /// Holds when every value of the key, `name` or `name=value`, is among `labels`.
    pub fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(key).all(|wanted| has_label(wanted, labels))
    }

    /// Holds when no value of the key is among `labels` (`label!=` of the prune verbs).
    pub fn labels_absent(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        !self.values(key).any(|wanted| has_label(wanted, labels))
    }

    /// The time of `until`, of the prune verbs.
    ///
    /// # Errors
    /// There are several, or it is no time.
    pub fn until(&self) -> Result<Option<seacow_spec::Timestamp>, FilterError> {
        let mut values = self.values("until");
        let Some(text) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(FilterError::SeveralTimes);
        }
        let bad = || FilterError::BadValue("until".into(), text.to_owned());
        crate::apitime::parse(text)?.ok_or_else(bad).map(Some)
    }

    /// The single truth value of the key.
    ///
    /// # Errors
    /// It is not one of 1, t, true, 0, f, false, or there are several different ones.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, FilterError> {
        let mut found = None;
        for value in self.values(key) {
            let bad = || FilterError::BadValue(key.to_owned(), value.to_owned());
            let truth = match value.to_ascii_lowercase().as_str() {
                "1" | "t" | "true" => true,
                "0" | "f" | "false" => false,
                _ => return Err(bad()),
            };
            if found.replace(truth).is_some_and(|before| before != truth) {
                return Err(bad());
            }
        }
        Ok(found)
    }
}

fn has_label(wanted: &str, labels: &BTreeMap<String, String>) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|have| have == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_one() {
        let go = Filters::parse(r#"{"label":{"a=b":true,"c":false},"status":{"exited":true}}"#).unwrap();
        let python = Filters::parse(r#"{"label":["a=b"],"status":["exited"]}"#).unwrap();
        assert_eq!(go, python);
        assert_eq!(Filters::parse("").unwrap(), Filters::default());
        assert_eq!(Filters::parse("{bad"), Err(FilterError::Malformed));
    }

    #[test]
    fn unknown_keys_and_values_are_named() {
        let filters = Filters::default().with("nope", "x");
        assert_eq!(filters.only(&["id"]).unwrap_err().to_string(), "invalid filter 'nope'");
        let filters = Filters::default().with("dangling", "perhaps");
        assert_eq!(filters.boolean("dangling").unwrap_err().to_string(), "invalid filter 'dangling=perhaps'");
        assert_eq!(Filters::default().with("dangling", "1").boolean("dangling"), Ok(Some(true)));
    }

    #[test]
    fn one_time_or_none() {
        let until = |values: &[&str]| {
            values.iter().fold(Filters::default(), |filters, value| filters.with("until", value)).until()
        };
        assert_eq!(until(&[]), Ok(None));
        assert_eq!(until(&["5"]), Ok(Some(seacow_spec::Timestamp::from_unix(5, 0))));
        assert_eq!(until(&["1h", "2h"]), Err(FilterError::SeveralTimes));
        assert!(until(&["yesterday"]).is_err() && until(&[""]).is_err());
    }

    #[test]
    fn names_are_patterns_labels_are_all_of_them() {
        let filters = Filters::default().with("name", "^web").with("label", "a=b").with("label", "c");
        assert!(filters.pattern("name", "web1") && !filters.pattern("name", "myweb"));
        let mut labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        assert!(!filters.labels("label", &labels));
        labels.insert("c".into(), String::new());
        assert!(filters.labels("label", &labels));
    }
}
