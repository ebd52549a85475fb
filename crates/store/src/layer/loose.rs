//! Layers that are unpacked before anybody knows on what they stand: an archive of images tells at its
//! end.
//!
//! Little depends on the parent: how the top directory looks where the tar does not say, directories that
//! the tar only implies, and what an opaque top hides. The first is set afterwards; where one of the others
//! is needed the layer is unpacked again, from the tar that its recipe gives back.

use std::fs::File;
use std::io::{Read, Write};

use seacow_spec::{ChainId, Digest};

use super::draft::{Contents, LayerDraft};
use super::{Layer, LayerError, Layers, apply, export};
use crate::error::At;
use crate::hash::Hashing;

/// The tar of a layer, in a draft's directory.
const TAR: &str = "tar";

/// A layer that is complete but for what is below it. Dropping it leaves nothing.
#[derive(Debug)]
pub(crate) struct Loose {
    draft: LayerDraft,
    contents: Contents,
    depends: Depends,
}

/// What a tar leaves to the layers below.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Depends {
    /// Looks of directories that it implies, or names that it hides.
    pub(super) much: bool,
    /// It says itself how the top directory looks.
    pub(super) has_top: bool,
}

impl Layers {
    /// Unpacks a tar (packed or not) on its own.
    ///
    /// # Errors
    /// As [`LayerDraft::apply_tar`].
    pub(crate) fn unpack_loose(&self, tar: impl Read + Send) -> Result<Loose, LayerError> {
        let draft = self.begin(None)?;
        let (contents, depends) = draft.unpack_tar(tar)?;
        Ok(Loose { draft, contents, depends })
    }

    /// The same content as that of a layer, on another parent.
    pub(crate) fn again(
        &self,
        known: &ChainId,
        parent: Option<&ChainId>,
        expected: &Digest,
    ) -> Result<Layer, LayerError> {
        let draft = self.begin(parent)?;
        let path = draft.dir.join(TAR);
        let mut tar = File::create_new(&path).at("create", &path)?;
        self.export(known, &mut tar)?;
        let reader = File::open(&path).at("open", &path)?;
        std::fs::remove_file(&path).at("remove", &path)?;
        draft.apply_tar(reader)?.commit(Some(expected))
    }
}

impl Loose {
    /// Makes it a layer on top of `parent`.
    ///
    /// # Errors
    /// Its digest is not the `expected` one, the parent does not exist, the stack is full, or the disk
    /// failed.
    pub(crate) fn commit(self, parent: Option<&ChainId>, expected: &Digest) -> Result<Layer, LayerError> {
        let Self { mut draft, contents, depends } = self;
        if contents.diff_id != *expected {
            return Err(LayerError::DigestMismatch { expected: expected.clone(), actual: contents.diff_id });
        }
        if parent.is_none() {
            return draft.finish(contents);
        }
        if depends.much {
            return again(draft, contents, parent);
        }
        draft.parent = draft.layers.pin_below(parent)?;
        if !depends.has_top {
            apply::apply_root_attrs(&draft.fs(), &draft.root_attrs()?)?;
        }
        draft.finish(contents)
    }
}

fn again(draft: LayerDraft, contents: Contents, parent: Option<&ChainId>) -> Result<Layer, LayerError> {
    draft.write_moves(&contents)?;
    let anew = draft.layers.begin(parent)?;
    let path = anew.dir.join(TAR);
    let mut tar = File::create_new(&path).at("create", &path)?;
    let chain = draft.chain_of(&contents.diff_id);
    let mut out = Hashing::new(&mut tar as &mut dyn Write);
    export::write_tar(&chain, &draft.dir, &mut out)?;
    drop(draft);
    let reader = File::open(&path).at("open", &path)?;
    std::fs::remove_file(&path).at("remove", &path)?;
    anew.apply_tar(reader)?.commit(Some(&contents.diff_id))
}
