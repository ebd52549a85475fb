//! A tar becomes a layer.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;

use seacow_spec::Digest;
use seacow_sys::rooted::Root;

use super::LayerError;
use super::commit::Unpacked;
use super::draft::{Contents, EXTRA, LayerDraft, RECIPE};
use super::loose::Depends;
use super::place::{Place, PlacePolicy, Placed};
use super::recipe::RecipeWriter;
use crate::error::{At, IoFailure};
use crate::fsutil::attrs::{self, Attrs};
use crate::fsutil::ids::Ids;
use crate::fsutil::lower::Lowers;
use crate::hash::Hashing;
use crate::tar::{Bounds, Kind, Segment, TarError, TarReader, compress};

impl LayerDraft {
    /// Unpacks a tar, plain or packed with gzip, bzip2, xz or zstd, into the draft.
    ///
    /// Entries may be of every type; OCI whiteouts become overlayfs's. Names that climb out of the
    /// root are refused, leading slashes are dropped (as Docker does), symlinks are kept as they
    /// are and never lead out of the layer while it is unpacked.
    ///
    /// # Errors
    /// The stream is broken, hostile or too large, or the disk failed; the draft is gone then.
    pub fn apply_tar(self, reader: impl Read + Send) -> Result<Unpacked, LayerError> {
        let (contents, _) = self.unpack_tar(reader)?;
        Ok(Unpacked::new(self, contents))
    }

    pub(super) fn unpack_tar(&self, reader: impl Read + Send) -> Result<(Contents, Depends), LayerError> {
        self.make_root()?;
        let unpacked = compress::unpack(reader).map_err(TarError::from)?;
        self.unpack(Hashing::new(unpacked))
    }

    /// The top directory, looking like the one below until the tar says otherwise.
    fn make_root(&self) -> Result<(), LayerError> {
        let fs = self.fs();
        std::fs::create_dir(&fs).at("make directory", &fs)?;
        let attrs = self.root_attrs()?;
        Ok(apply_root_attrs(&fs, &attrs)?)
    }

    fn unpack<R: Read>(&self, mut stream: Hashing<R>) -> Result<(Contents, Depends), LayerError> {
        let limits = self.layers.shared.limits;
        let root = Root::open(&self.fs()).at("open", self.fs())?;
        let lowers = std::cell::RefCell::new(self.lowers()?);
        let implied = std::cell::Cell::new(false);
        let inherit = |path: &Path| {
            implied.set(true);
            inherited(&lowers, path)
        };
        let keep = Root::open(&self.dir).and_then(|dir| dir.entry(Path::new(EXTRA))).at("open", &self.dir)?;
        let ids = Ids::default();
        let policy = PlacePolicy {
            layer: true,
            keep: Some(keep),
            no_overwrite_dir_non_dir: false,
            owner: None,
            ids: &ids,
            inherit: &inherit,
            max_file: limits.max_bytes,
            reserve: limits.reserve,
        };
        let mut recipe = RecipeWriter::create(&self.dir.join(RECIPE))?;
        let bounds = Bounds { entries: limits.max_entries, bytes: limits.max_bytes };
        let mut tar = TarReader::new(&mut stream, bounds);
        let (size, placed) = run(&mut tar, Place::new(&root, Path::new(""), policy), &mut recipe, &self.dir)?;
        if placed.root_is_opaque {
            hide_all(&root, &mut lowers.borrow_mut()).at("hide what is below", self.fs())?;
        }
        let tar_size = recipe.finish()?;
        if stream.count() != tar_size {
            let reason = "its bytes and its recipe do not add up".to_owned();
            let actual = stream.into_digest();
            return Err(LayerError::Damaged { chain: self.chain_of(&actual), reason });
        }
        let diff_id: Digest = stream.into_digest();
        let depends = Depends { much: implied.get() || placed.root_is_opaque, has_top: placed.has_root };
        Ok((Contents { diff_id, tar_size, size, replaced: placed.replaced }, depends))
    }
}

/// Places every member and writes the recipe beside; gives the sum of the files' sizes.
fn run<R: Read>(
    tar: &mut TarReader<R>,
    mut place: Place<'_>,
    recipe: &mut RecipeWriter,
    dir: &Path,
) -> Result<(u64, Placed), LayerError> {
    let recipe_path = dir.join(RECIPE);
    let mut size = 0u64;
    while let Some(member) = tar.next_member()? {
        recipe.raw(&tar.take_raw()).at("write the recipe", &recipe_path)?;
        let path = place.place(&member, &mut |buffer| tar.read_content(buffer))?;
        if member.kind != Kind::File {
            continue;
        }
        size = size.saturating_add(member.size());
        match (path, &member.sparse) {
            (Some(path), None) if member.stored > 0 => {
                let whole = [Segment { offset: 0, len: member.stored }];
                recipe.content(&path, &whole).at("write the recipe", &recipe_path)?;
            }
            (Some(path), Some(map)) if member.stored > 0 => {
                recipe.content(&path, &map.segments).at("write the recipe", &recipe_path)?;
            }
            // A whiteout that carries content, which is nowhere but in the stream.
            (None, _) => copy_raw(tar, recipe).at("write the recipe", &recipe_path)??,
            (Some(_), _) => {}
        }
    }
    recipe.raw(&tar.drain()?).at("write the recipe", &recipe_path)?;
    Ok((size, place.finish()?))
}

fn copy_raw<R: Read>(
    tar: &mut TarReader<R>,
    recipe: &mut RecipeWriter,
) -> std::io::Result<Result<(), TarError>> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match tar.read_content(&mut buffer) {
            Ok(0) => return Ok(Ok(())),
            Ok(len) => recipe.raw(&buffer[..len])?,
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// A directory that the tar only implies keeps the look it has below.
fn inherited(lowers: &std::cell::RefCell<Lowers>, path: &Path) -> Option<Attrs> {
    let below = lowers.borrow_mut().find(path).ok().flatten().filter(|below| below.is_dir())?;
    super::draft::dir_attrs(&below.path).ok()
}

/// Overlayfs heeds no opaque mark on a root, so every name below gets its own whiteout.
fn hide_all(root: &Root, lowers: &mut Lowers) -> Result<(), seacow_sys::Errno> {
    for name in lowers.names(Path::new(""))? {
        let entry = root.entry(Path::new(OsStr::new(&name)))?;
        match entry.file_type()? {
            None => attrs::make_whiteout(&entry)?,
            Some(rustix::fs::FileType::Directory) => attrs::set_opaque(&entry)?,
            Some(_) => {}
        }
    }
    Ok(())
}

pub(super) fn apply_root_attrs(fs: &Path, attrs: &Attrs) -> Result<(), IoFailure> {
    Root::open(fs)
        .and_then(|root| root.entry(Path::new(".")))
        .and_then(|entry| attrs::apply(&entry, attrs))
        .at("set the attributes of", fs)
}
