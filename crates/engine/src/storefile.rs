//! The store file: made where it is wanted, attached before the store opens, tended while it runs.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use seacow_store::storefile::{Progress, Status};
use seacow_store::{StoreFile, StoreFileError};

use crate::boot::BootError;
use crate::config::StoreFileSize;
use crate::container::Record;
use crate::error::EngineError;
use crate::{Config, Inner, blocking};

/// Pause between two looks at it: the host may fill while nobody looks, by what its disk takes in this
/// time at most, and less than the store leaves free there.
const LOOK: Duration = Duration::from_secs(1);

/// Makes a store file in the data root and moves into it what is there. For when no engine runs.
///
/// # Errors
/// A container runs, or the store cannot. The data root is as it was then.
pub fn create(
    config: &Config,
    size: StoreFileSize,
    progress: &mut dyn FnMut(&Progress),
) -> Result<(), EngineError> {
    let running = running(config);
    if running > 0 {
        return Err(BootError::ContainersRun(running).into());
    }
    let size = match size {
        StoreFileSize::OfDisk => None,
        StoreFileSize::Bytes(bytes) => Some(bytes),
    };
    Ok(StoreFile::create(&config.data_root, size, progress).map_err(BootError::from)?)
}

/// What the data root's store file is and takes; `None` without one.
///
/// # Errors
/// It cannot be looked at.
pub fn status(config: &Config) -> Result<Option<Status>, EngineError> {
    Ok(StoreFile::status(&config.data_root).map_err(BootError::from)?)
}

/// Shims that answer: their containers use the files that would be moved.
fn running(config: &Config) -> usize {
    let Ok(entries) = std::fs::read_dir(config.exec_dirs()) else { return 0 };
    let sockets = entries.filter_map(Result::ok).map(|entry| entry.path().join("shim.sock"));
    sockets.filter(|socket| UnixStream::connect(socket).is_ok()).count()
}

/// Attaches the data root's store file, if it has one or is to have one; from then on it is the data
/// root.
pub(crate) fn attach(config: &mut Config) -> Result<Option<Arc<StoreFile>>, EngineError> {
    if let Some(size) = config.store_file
        && !StoreFile::exists(&config.data_root)
    {
        match create(config, size, &mut |step| {
            tracing::info!("moved {}: {} of {} bytes", step.what, step.done, step.total)
        }) {
            Err(EngineError::Boot(BootError::StoreFile(StoreFileError::Needless(root)))) => {
                tracing::info!("{} shares extents without a store file", root.display());
            }
            made => made?,
        }
    }
    if !StoreFile::exists(&config.data_root) {
        return Ok(None);
    }
    let file = StoreFile::attach(&config.data_root).map_err(BootError::from)?;
    config.data_root = file.root();
    Ok(Some(Arc::new(file)))
}

/// Volumes of containers that were made before their files were moved are where the others are now.
pub(crate) fn follow(file: &StoreFile, record: &mut Record) {
    let root = file.root();
    let Some(home) = root.parent() else { return };
    let (old, new) = (home.join("volumes"), root.join("volumes"));
    let (old_layers, new_layers) = (home.join("layers"), root.join("layers"));
    for mount in &mut record.mounts {
        for path in mount.lowers.iter_mut().chain([&mut mount.source]) {
            if let Ok(rest) = path.strip_prefix(&old_layers) {
                *path = new_layers.join(rest);
            }
        }
        if let Ok(rest) = mount.source.strip_prefix(&old) {
            mount.source = new.join(rest);
        }
        if let Ok(rest) = Path::new(&mount.point.source).strip_prefix(&old) {
            mount.point.source = new.join(rest).display().to_string();
        }
    }
}

/// Looks after the store file for as long as the engine lives.
pub(crate) async fn tend(file: Arc<StoreFile>, engine: Weak<Inner>) {
    let mut complained = false;
    while engine.strong_count() > 0 {
        let tended = Arc::clone(&file);
        match blocking::run("tend the store file", move || tended.tend()).await {
            Ok(Ok(done)) => {
                complained = false;
                if done.grown > 0 {
                    tracing::info!(bytes = done.grown, "the store file has grown");
                }
            }
            // Once, not every second.
            Ok(Err(error)) if !complained => {
                complained = true;
                tracing::warn!(%error, "tend the store file");
            }
            Ok(Err(_)) => {}
            Err(_) => return,
        }
        tokio::time::sleep(LOOK).await;
    }
}
