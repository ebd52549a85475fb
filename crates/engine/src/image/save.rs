//! `docker save`.

use super::ImageError;
use crate::Engine;
use crate::error::EngineError;
use crate::pipe::{self, ByteStream};

impl Engine {
    /// Writes images as one archive.
    ///
    /// # Errors
    /// An image is unknown, or belongs to this machine.
    pub async fn image_save(&self, names: Vec<String>) -> Result<ByteStream, EngineError> {
        let engine = self.clone();
        let archive = pipe::download(move |writer| -> Result<(), ImageError> {
            let images = engine.store().images();
            let texts: Vec<&str> = names.iter().map(String::as_str).collect();
            images.save(&texts, writer)?;
            for name in texts {
                if let Ok(image) = images.resolve(name) {
                    engine.image_event("save", &image, image.id.as_str());
                }
            }
            Ok(())
        });
        Ok(archive.await?)
    }
}
