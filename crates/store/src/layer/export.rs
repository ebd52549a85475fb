//! A layer becomes its tar again.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use seacow_spec::ChainId;
use seacow_sys::rooted::Root;

use super::draft::{MOVES, RECIPE};
use super::place::Replaced;
use super::recipe::{RecipeReader, Step, whereabouts};
use super::{Layer, LayerError, LayerKind, Layers};
use crate::error::At;
use crate::hash::Hashing;
use crate::tar::Segment;

impl Layers {
    /// Writes the exact uncompressed tar that the layer came from, or that was computed for it.
    ///
    /// # Errors
    /// The layer does not exist, is the host's root, or is damaged: the digest is computed on the
    /// way, and what was written is worthless when it does not match.
    pub fn export(&self, chain: &ChainId, out: &mut dyn Write) -> Result<(), LayerError> {
        self.with_pinned(chain, |layer| self.export_pinned(layer, out))
    }

    fn export_pinned(&self, layer: &Layer, out: &mut dyn Write) -> Result<(), LayerError> {
        let chain = layer.chain_id();
        if layer.info().kind == LayerKind::Host {
            return Err(LayerError::HostBase);
        }
        let dir = self.shared.layout.layer(chain);
        let mut out = Hashing::new(out);
        write_tar(chain, &dir, &mut out)?;
        out.flush().map_err(LayerError::Output)?;
        let actual = out.into_digest();
        if actual == layer.info().diff_id {
            return Ok(());
        }
        Err(damaged(chain, format!("its tar has digest {actual}, not {}", layer.diff_id())))
    }
}

/// Writes the tar of which a directory has the files and the recipe.
pub(super) fn write_tar(
    chain: &ChainId,
    dir: &Path,
    out: &mut Hashing<&mut dyn Write>,
) -> Result<(), LayerError> {
    Export::open(chain, dir)?.run(out)
}

struct Export<'a> {
    chain: &'a ChainId,
    root: Root,
    recipe: RecipeReader,
    replaced: Vec<Replaced>,
    /// Contents written so far.
    contents: u64,
}

impl<'a> Export<'a> {
    fn open(chain: &'a ChainId, dir: &Path) -> Result<Self, LayerError> {
        let root = Root::open(dir).at("open", dir)?;
        let recipe = RecipeReader::open(&dir.join(RECIPE)).at("read", dir.join(RECIPE))?;
        let replaced = match File::open(dir.join(MOVES)) {
            Ok(file) => serde_json::from_reader(io::BufReader::new(file))
                .map_err(|error| damaged(chain, format!("{MOVES}: {error}")))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(crate::error::IoFailure::new("read", dir.join(MOVES), error).into()),
        };
        Ok(Self { chain, root, recipe, replaced, contents: 0 })
    }

    fn run(&mut self, out: &mut Hashing<&mut dyn Write>) -> Result<(), LayerError> {
        loop {
            match self.recipe.step().map_err(|error| damaged(self.chain, format!("{RECIPE}: {error}")))? {
                Step::Raw(bytes) => out.write_all(&bytes).map_err(LayerError::Output)?,
                Step::Content(path, segments) => self.content(&path, &segments, out)?,
                Step::End(total) if total == out.count() => return Ok(()),
                Step::End(total) => {
                    let reason = format!("its tar has {} bytes, not {total}", out.count());
                    return Err(damaged(self.chain, reason));
                }
            }
        }
    }

    fn content(
        &mut self,
        path: &Path,
        segments: &[Segment],
        out: &mut Hashing<&mut dyn Write>,
    ) -> Result<(), LayerError> {
        let place = whereabouts(path, self.contents, &self.replaced);
        self.contents += 1;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = self.root.open_without_symlinks(&place, flags, Mode::empty());
        let mut file =
            File::from(file.map_err(|errno| damaged(self.chain, format!("{}: {errno}", place.display())))?);
        for segment in segments {
            let part = |error: io::Error| damaged(self.chain, format!("{}: {error}", place.display()));
            if segment.offset > 0 || segments.len() > 1 {
                file.seek(io::SeekFrom::Start(segment.offset)).map_err(part)?;
            }
            let copied = io::copy(&mut (&mut file).take(segment.len), out).map_err(LayerError::Output)?;
            if copied != segment.len {
                return Err(damaged(self.chain, format!("{} is too short", place.display())));
            }
        }
        Ok(())
    }
}

fn damaged(chain: &ChainId, reason: String) -> LayerError {
    LayerError::Damaged { chain: chain.clone(), reason }
}
