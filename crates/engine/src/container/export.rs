//! `docker export`: all files of a container as one tar.

use super::archive::FilesError;
use crate::Engine;
use crate::error::EngineError;
use crate::pipe::{self, ByteStream};

impl Engine {
    /// The container's files, without what is mounted.
    ///
    /// # Errors
    /// There is no such container, or its files cannot be read.
    pub async fn export(&self, reference: &str) -> Result<ByteStream, EngineError> {
        let container = self.0.containers.find(reference)?;
        let engine = self.clone();
        self.emit(container.event("export", &[]));
        let tar = pipe::download(move |writer| -> Result<(), EngineError> {
            let written = engine.look_into(&container, |root| root.export(writer))?;
            Ok(written.map_err(FilesError::Archive)?)
        });
        tar.await
    }
}
