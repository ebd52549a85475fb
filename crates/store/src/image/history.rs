//! `docker history`.

use seacow_spec::Digest;
use seacow_spec::docker::image::HistoryItem;

use super::{ImageError, Images};

impl Images {
    /// The steps an image was made by, newest first. A step has an id only where the image it made
    /// is in this store.
    ///
    /// # Errors
    /// There is no such image.
    pub fn history(&self, id: &Digest) -> Result<Vec<HistoryItem>, ImageError> {
        let catalog = self.shared.catalog();
        let record = catalog.images.get(id).ok_or_else(|| ImageError::NotFound(id.to_string()))?;
        let stack = record.chain.as_ref().and_then(|chain| catalog.stack(chain)).unwrap_or_default();
        let mut layers = stack.iter().rev();
        let mut items: Vec<HistoryItem> = record
            .config
            .history
            .iter()
            .map(|step| HistoryItem {
                id: "<missing>".into(),
                created: step.created.map_or(0, |at| at.unix_seconds()),
                created_by: step.created_by.clone(),
                comment: step.comment.clone(),
                tags: None,
                size: match step.empty_layer {
                    true => 0,
                    false => layers.next().and_then(|l| i64::try_from(l.size).ok()).unwrap_or(0),
                },
            })
            .collect();
        items.reverse();
        // Each step backwards is the parent's newest one.
        let mut next = Some(record);
        for item in &mut items {
            let Some(image) = next else { break };
            item.id = image.id.to_string();
            let names = catalog.names(&image.id);
            if !names.is_empty() {
                item.tags =
                    Some(names.iter().filter(|n| n.digest().is_none()).map(|n| n.familiar()).collect());
            }
            next = image.parent.as_ref().and_then(|parent| catalog.images.get(parent));
        }
        Ok(items)
    }
}
