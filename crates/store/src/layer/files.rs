//! Files of a frozen layer that has a tree only: made in the form of all layers when somebody needs them.
//!
//! The drivers of trees freeze by cloning, and then nobody waits for a comparison of the trees. Whoever
//! reads layers as directories, to build on them, to make their tar, or with an overlay, has it made first.

use seacow_spec::ChainId;

use super::draft::FS;
use super::{LayerError, LayerInfo, LayerKind, Layers};
use crate::error::IoFailure;
use crate::layout::TREE;
use crate::snapshot::files_of_tree;

impl Layers {
    /// Makes the files of all layers of a stack that have none. Done already is fine.
    ///
    /// # Errors
    /// A layer does not exist, or the disk failed; then it has a tree as before.
    pub(crate) fn make_files(&self, top: &ChainId) -> Result<(), LayerError> {
        for layer in self.stack(top)?.iter().rev() {
            if self.has_tree_only(layer) {
                // Kept, as its parent is with it.
                self.with_pinned(&layer.chain_id, |_| Ok::<_, LayerError>(self.make_files_of(layer)?))?;
            }
        }
        Ok(())
    }

    /// The same for every layer: for a driver that knows no trees.
    pub(crate) fn make_all_files(&self) -> Result<(), LayerError> {
        self.list().iter().try_for_each(|layer| self.make_files(&layer.chain_id))
    }

    fn has_tree_only(&self, layer: &LayerInfo) -> bool {
        let dir = self.shared.layout.layer(&layer.chain_id);
        layer.kind == LayerKind::Files
            && layer.frozen.is_some()
            && !dir.join(FS).exists()
            && dir.join(TREE).exists()
    }

    /// Out of sight first: two may do it at once, and the first one's stays.
    fn make_files_of(&self, layer: &LayerInfo) -> Result<(), IoFailure> {
        let (shared, dir) = (&self.shared, self.shared.layout.layer(&layer.chain_id));
        let draft = shared.layout.new_draft()?;
        let made = files_of_tree(&shared.layout, layer, &draft.join(FS)).and_then(|()| {
            shared.disk.sync_fs(&draft)?;
            match shared.disk.rename(&draft.join(FS), &dir.join(FS)) {
                Err(_) if dir.join(FS).exists() => Ok(()),
                done => done,
            }?;
            shared.disk.sync_dir(&dir)
        });
        // What cannot be removed now is removed at the next open.
        let _ = shared.discard(&draft);
        made
    }
}
