//! The daemon's part of the pause: the source's files, captured on a thread that waits for nothing else.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use seacow_spec::ErrorReport;
use seacow_spec::shim::{Decoder, Pause, encode};
use seacow_store::layer::UpperMode;
use seacow_store::snapshot::SnapshotKey;

use super::reasons;
use crate::container::capture::Files;
use crate::container::{Container, ContainerError};
use crate::error::EngineError;
use crate::shim::ANSWER_TIMEOUT;
use crate::{Engine, blocking};

/// What the two speak on while the source stands still: our end and the shim's.
pub(super) fn socket() -> Result<(UnixStream, OwnedFd), EngineError> {
    let failed = |error| ContainerError::io("make", std::path::Path::new("a socket pair"), error);
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    ours.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(failed)?;
    Ok((ours, theirs.into()))
}

impl Engine {
    /// Captures the files when the shim says that the source stands still; `None` when it does not say so.
    pub(super) async fn capture_in_pause(
        &self,
        source: &Arc<Container>,
        mut words: UnixStream,
    ) -> Result<Option<Files>, EngineError> {
        let (engine, record) = (self.clone(), source.record());
        let captured = blocking::run("capture a container's files", move || {
            if !stands_still(&mut words) {
                return Ok(None);
            }
            let captured = match record.state.pid().map(|pid| reasons::of_mounts(&record, pid)) {
                Some(reasons) if reasons.is_empty() => capture(&engine, &record.id),
                Some(reasons) => Err(ContainerError::NotForkable(reasons).into()),
                None => Err(ContainerError::NotRunning(record.id.to_string()).into()),
            };
            let word = match &captured {
                Ok(_) => Pause::Frozen,
                Err(error) => Pause::Failed(ErrorReport::of(error)),
            };
            // A shim that does not hear it lets the source go on, and says so.
            if let Ok(word) = encode(&word) {
                let _ = words.write_all(&word);
            }
            captured.map(Some)
        });
        captured.await?
    }
}

fn capture(engine: &Engine, id: &seacow_spec::ContainerId) -> Result<Files, EngineError> {
    let (snapshots, key) = (engine.store().snapshots(), SnapshotKey::from(id));
    let base = snapshots.info(&key)?.base;
    Ok(Files { layer: snapshots.freeze(&key, UpperMode::Copy)?, base })
}

/// Waits for the shim's word; the end of the socket is that there is no pause.
fn stands_still(words: &mut UnixStream) -> bool {
    let mut decoder = Decoder::default();
    loop {
        let mut bytes = [0; 256];
        match words.read(&mut bytes) {
            Ok(count @ 1..) => decoder.push(bytes.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Ok(_) | Err(_) => return false,
        }
        match decoder.next_message::<Pause>() {
            Ok(None) => {}
            Ok(Some(Pause::Forking)) => return true,
            Ok(Some(Pause::Frozen | Pause::Failed(_))) | Err(_) => return false,
        }
    }
}
