//! `GET /images/json`.

use std::collections::HashMap;

use seacow_spec::docker::image::ImageSummary;
use seacow_spec::{ChainId, Digest, Reference, Timestamp};
use seacow_store::image::Image;

use crate::error::EngineError;
use crate::filter::{FilterError, Filters};
use crate::{Engine, apitime};

/// Which images are wanted.
#[derive(Clone, Debug, Default)]
pub struct ListImages {
    /// Steps of builds too.
    pub all: bool,
    /// Count what images share.
    pub shared_size: bool,
    /// Only these.
    pub filters: Filters,
}

const KEYS: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];

impl Engine {
    /// Images, newest first.
    ///
    /// # Errors
    /// A filter is unknown or its value is not.
    pub async fn image_list(&self, options: ListImages) -> Result<Vec<ImageSummary>, EngineError> {
        let wanted = Wanted::new(self, &options)?;
        self.measure_frozen().await?;
        let mut images: Vec<_> =
            self.store().images().list().into_iter().filter(|image| wanted.includes(image)).collect();
        images.sort_by_key(|image| std::cmp::Reverse(created(image)));
        let shared = options.shared_size.then(|| self.shared_sizes());
        let rows = images.iter().filter_map(|image| {
            let mut row = wanted.row(image)?;
            if let Some(shared) = &shared {
                row.shared_size = shared.get(&image.id).copied().unwrap_or(0);
            }
            Some(row)
        });
        Ok(rows.collect())
    }

    /// Bytes of each image's layers that other images use too.
    pub(crate) fn shared_sizes(&self) -> HashMap<Digest, i64> {
        let (store, mut users) = (self.store(), HashMap::<ChainId, usize>::new());
        let images = store.images().list();
        let stacks: Vec<_> = images
            .iter()
            .map(|image| {
                image.chain.as_ref().and_then(|chain| store.layers().stack(chain).ok()).unwrap_or_default()
            })
            .collect();
        // A nameless step of a build does not share: it is a part of the image that was built.
        let counts = |image: &Image| !image.names.is_empty() || store.images().children(&image.id).is_empty();
        for (image, stack) in images.iter().zip(&stacks) {
            for layer in stack.iter().filter(|_| counts(image)) {
                *users.entry(layer.chain_id.clone()).or_default() += 1;
            }
        }
        let shared = |stack: &[std::sync::Arc<seacow_store::layer::LayerInfo>]| -> u64 {
            stack
                .iter()
                .filter(|layer| users.get(&layer.chain_id).is_some_and(|n| *n > 1))
                .map(|l| l.size)
                .sum()
        };
        images
            .iter()
            .zip(&stacks)
            .map(|(image, stack)| (image.id.clone(), i64::try_from(shared(stack)).unwrap_or(i64::MAX)))
            .collect()
    }
}

/// When an image was made, for sorting and for `Created`.
pub(super) fn created(image: &Image) -> Timestamp {
    image.config.created.unwrap_or(image.added)
}

/// The filters, read once.
struct Wanted<'a> {
    engine: &'a Engine,
    all: bool,
    filters: &'a Filters,
    dangling: Option<bool>,
    before: Option<Timestamp>,
    since: Option<Timestamp>,
}

impl<'a> Wanted<'a> {
    fn new(engine: &'a Engine, options: &'a ListImages) -> Result<Self, EngineError> {
        let filters = &options.filters;
        filters.only(KEYS)?;
        let of_image = |key: &str| -> Result<Option<Timestamp>, EngineError> {
            let Some(name) = filters.values(key).next() else { return Ok(None) };
            let image = engine.store().images().resolve(name).map_err(super::ImageError::from)?;
            Ok(Some(created(&image)))
        };
        let mut before = of_image("before")?;
        for text in filters.values("until") {
            let until = apitime::parse(text)?
                .ok_or_else(|| FilterError::BadValue("until".into(), text.to_owned()))?;
            before = Some(before.map_or(until, |before| before.min(until)));
        }
        Ok(Self {
            engine,
            all: options.all,
            filters,
            dangling: filters.boolean("dangling")?,
            before,
            since: of_image("since")?,
        })
    }

    fn includes(&self, image: &Image) -> bool {
        let labels =
            image.config.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
        self.before.is_none_or(|before| created(image) < before)
            && self.since.is_none_or(|since| created(image) > since)
            && self.filters.labels("label", &labels)
    }

    fn row(&self, image: &Image) -> Option<ImageSummary> {
        let names: Vec<_> = image.names.iter().filter(|name| self.matches(name)).collect();
        if names.is_empty() {
            let is_step =
                !image.names.is_empty() || !self.engine.store().images().children(&image.id).is_empty();
            let hidden =
                (is_step && !self.all) || self.dangling == Some(false) || self.filters.contains("reference");
            if hidden {
                return None;
            }
        } else if self.dangling == Some(true) {
            return None;
        }
        Some(summary(image, &names))
    }

    fn matches(&self, name: &Reference) -> bool {
        let (whole, repository) = (name.familiar(), name.familiar_name());
        !self.filters.contains("reference")
            || self
                .filters
                .values("reference")
                .any(|pattern| glob(pattern, &whole) || glob(pattern, &repository))
    }
}

/// One row with these of its names.
pub(crate) fn summary(image: &Image, names: &[&Reference]) -> ImageSummary {
    let of_kind = |digest: bool| {
        names.iter().filter(|name| name.digest().is_some() == digest).map(|name| name.familiar()).collect()
    };
    ImageSummary {
        containers: -1,
        created: created(image).unix_seconds(),
        id: image.id.to_string(),
        labels: image.config.config.as_ref().and_then(|config| config.labels.clone()),
        parent_id: image.parent.as_ref().map(Digest::to_string).unwrap_or_default(),
        repo_digests: of_kind(true),
        repo_tags: of_kind(false),
        shared_size: -1,
        size: i64::try_from(image.size).unwrap_or(i64::MAX),
        virtual_size: None,
    }
}

/// Go's `path.Match`: `*` and `?` do not cross a slash, `[a-z]` is a set.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    glob_bytes(pattern.as_bytes(), text.as_bytes())
}

fn glob_bytes(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.first(), text.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            let tail = &pattern[1..];
            (0..=text.len())
                .take_while(|&end| !text[..end].contains(&b'/'))
                .any(|end| glob_bytes(tail, &text[end..]))
        }
        (Some(b'?'), Some(&byte)) => byte != b'/' && glob_bytes(&pattern[1..], &text[1..]),
        (Some(b'['), Some(&byte)) => match set(&pattern[1..], byte) {
            Some((true, tail)) => glob_bytes(tail, &text[1..]),
            _ => false,
        },
        (Some(b'\\'), Some(byte)) => {
            pattern.get(1) == Some(byte) && glob_bytes(pattern.get(2..).unwrap_or_default(), &text[1..])
        }
        (Some(want), Some(byte)) => want == byte && glob_bytes(&pattern[1..], &text[1..]),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Whether `byte` is in the set that `pattern` begins with (after the bracket), and what follows it.
fn set(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let end = pattern.iter().skip(1).position(|b| *b == b']')? + 1;
    let (negated, members) = match pattern[..end].split_first() {
        Some((b'^', rest)) => (true, rest),
        _ => (false, &pattern[..end]),
    };
    let mut found = false;
    let mut at = 0;
    while let Some(&low) = members.get(at) {
        match (members.get(at + 1), members.get(at + 2)) {
            (Some(b'-'), Some(&high)) => {
                found |= (low..=high).contains(&byte);
                at += 3;
            }
            _ => {
                found |= low == byte;
                at += 1;
            }
        }
    }
    Some((found != negated, &pattern[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns_are_go_s() {
        for (pattern, text, matches) in [
            ("bb", "bb", true),
            ("b*", "bb:1", true),
            ("*", "user/bb", false),
            ("*/bb", "user/bb", true),
            ("bb:?", "bb:1", true),
            ("bb:[0-9]", "bb:7", true),
            ("bb:[^0-9]", "bb:7", false),
            ("bb:[0-9]", "bb:x", false),
            ("bb", "bb:1", false),
            ("\\*", "*", true),
            ("[", "[", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }
}
