//! Steps that were done elsewhere: `--cache-from` an image.
//!
//! The image's history tells by which steps its layers came about. Where it begins with what the stage
//! has so far, and goes on with the very step that is looked for, its layer is taken. The history is
//! whatever the image's maker wrote, so only images that the user names are believed.

use seacow_spec::docker::container::ContainerConfig;
use seacow_spec::oci::image::ImageConfig;
use std::sync::Arc;

use crate::build::Run;
use crate::error::BuildError;
use crate::executor::{Change, Image, Pull};
use crate::stage::StageState;

/// The step as one of the named images has it, as an image of this machine.
pub(super) fn find(
    run: &mut Run<'_, '_>,
    state: &StageState,
    step: &ContainerConfig,
) -> Result<Option<Image>, BuildError> {
    let command = step.cmd.as_deref().unwrap_or_default().join(" ");
    for name in &run.shared.options.cache_from {
        // One that is not here is no reason to fail.
        let Ok(source) = run.shared.executor.resolve(name, Pull::Missing, run.output) else { continue };
        let Some(change) = next(&source.config, state, &command) else { continue };
        let mut config = state.child(step, &change);
        if let Some(own) = source.config.history.get(lines_so_far(state)) {
            config.created = own.created;
            if let Some(last) = config.history.last_mut() {
                *last = own.clone();
            }
        }
        let id = run.shared.executor.inherit(&config, state.id(), &source.id)?;
        return Ok(Some(Image { id, config: Arc::new(config) }));
    }
    Ok(None)
}

fn lines_so_far(state: &StageState) -> usize {
    state.image.as_ref().map_or(0, |image| image.config.history.len())
}

/// What the image did by this step, if it got to where the stage is in the same way.
fn next(source: &ImageConfig, state: &StageState, command: &str) -> Option<Change> {
    let empty = ImageConfig::default();
    let so_far = state.image.as_ref().map_or(&empty, |image| &image.config);
    let lines = so_far.history.len();
    let same_line = |a: &seacow_spec::oci::image::History, b: &seacow_spec::oci::image::History| {
        a.created_by == b.created_by && a.empty_layer == b.empty_layer
    };
    let begins = source.history.len() > lines
        && source.history.iter().zip(&so_far.history).all(|(a, b)| same_line(a, b))
        && source.rootfs.diff_ids.starts_with(&so_far.rootfs.diff_ids);
    let step = source.history.get(lines).filter(|step| begins && step.created_by == command)?;
    if step.empty_layer {
        return Some(Change::Empty);
    }
    source.rootfs.diff_ids.get(so_far.rootfs.diff_ids.len()).cloned().map(Change::Layer)
}
