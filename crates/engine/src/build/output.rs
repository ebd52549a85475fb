//! An image's files for a client that wants them on its own disk: `build --output`.

use crate::container::archive::FilesError;
use crate::error::EngineError;
use crate::pipe::{self, ByteStream};
use crate::{Caller, Engine};

impl Engine {
    /// All files of an image as one tar.
    ///
    /// # Errors
    /// There is no such image, it is the host's, or its files cannot be read.
    pub async fn image_files(&self, name: &str, caller: Caller) -> Result<ByteStream, EngineError> {
        let image = self.store().images().resolve(name)?;
        if image.on_host && !caller.may_use_host_image() {
            return Err(crate::image::ImageError::HostForbidden.into());
        }
        let engine = self.clone();
        let tar = pipe::download(move |writer| -> Result<(), EngineError> {
            let view = engine.store().snapshots().view(image.chain.as_ref())?;
            let written = engine.store().with_mounted(&view, &[], |root| root.export(writer));
            Ok(written.and_then(|written| written).map_err(FilesError::Archive)?)
        });
        tar.await
    }
}
