//! `docker load`.

use std::io;

use bytes::Bytes;
use futures_util::Stream;

use crate::Engine;
use crate::error::EngineError;
use crate::pipe::{self, Progress};

impl Engine {
    /// Loads every image of an archive. What is wrong with it comes with the progress.
    ///
    /// # Errors
    /// None before the archive is read.
    pub async fn image_load(
        &self,
        upload: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Progress, EngineError> {
        let reader = pipe::upload(upload);
        let engine = self.clone();
        Ok(pipe::progress(move |progress| {
            let images = engine.store().images();
            let loaded = images.load(reader, |loaded| {
                for name in &loaded.names {
                    // A client that went away does not undo what was loaded.
                    let _ = progress.stream(format!("Loaded image: {}\n", name.familiar()));
                }
                if loaded.names.is_empty() {
                    let _ = progress.stream(format!("Loaded image ID: {}\n", loaded.id));
                }
                if let Some(image) = images.get(&loaded.id) {
                    engine.image_event("load", &image, image.id.as_str());
                }
            });
            loaded.map(|_| ())
        }))
    }
}
